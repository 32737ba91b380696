"""Blocks of many spaces to one vector, so that any query-side weights keep their meaning.

Each space is first made commensurate: centred on the catalog's mean, reduced by PCA where it is
wide, scaled to unit length. An item is then v = [sqrt(w_s) x_s]_s, with w_s the space's default
weight, and a query is q = [u_s / sqrt(w_s) y_s]_s, with u_s the weight the query asks for. So
<q, v> = sum_s u_s cos(y_s, x_s) for every u, and the geometry the index is trained on is that of
the default weights. A missing block is zero: in a centred space that is the similarity of an
average item, neither reward nor penalty.

In a space compared by plain cosine only items are centred, and not scaled again: <y, x - mean> is
the cosine less that of an average item, so the order is that of the cosine, and zero still means
average.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from encoders import SpaceSpec

from .errors import CorruptIndexError

Floats = NDArray[np.float32]

# Blocks start at multiples of this, so that the index's sub-quantizers of four dimensions
# never straddle two spaces.
BLOCK_ALIGNMENT = 4
_WIDE = 512
_REDUCED = 256
# PCA of fewer rows than this many times the dimensions kept would fit noise.
_ROWS_PER_COMPONENT = 4


def unit_rows(x: Floats) -> Floats:
    """Scale rows of (n, d) float32 to unit length; rows of zeros stay zero."""
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    scaled: Floats = np.divide(x, norms, out=np.zeros_like(x), where=norms > 1e-12)
    return scaled


def unit(x: Floats) -> Floats:
    """Scale a vector (d,) float32 to unit length; zeros stay zero."""
    norm = math.sqrt(float(x @ x))
    return x / np.float32(norm) if norm > 1e-12 else x


@dataclass(frozen=True)
class SpaceTransform:
    """Centring and reduction of one space.

    `means` maps each modality that reaches the space to its own mean (d_in,), because the towers
    of a shared space point to different regions (the modality gap, Liang et al. 2022,
    arXiv:2203.02053). `components` is (d_in, d) with orthonormal columns, or None. `centred` tells
    whether both sides are centred, or items alone.
    """

    item: str
    means: Mapping[str, Floats]
    components: Floats | None
    centred: bool

    @classmethod
    def fit(cls, samples: Mapping[str, Floats], spec: SpaceSpec) -> SpaceTransform:
        """Fit on unit rows (n_m, d_in) per modality.

        The mean counts one pseudo-observation at the origin, so that in a catalog of a single
        item that item is not its own mean.
        """
        means = {
            m: (x.sum(axis=0) / np.float32(len(x) + 1)).astype(np.float32)
            for m, x in samples.items()
        }
        centred = spec.compare == "centred"
        components = None
        n, d = samples[spec.item].shape
        kept = spec.reduce or (_REDUCED if centred and d > _WIDE else d)
        if kept < d and n >= _ROWS_PER_COMPONENT * kept:
            components = _leading(samples[spec.item] - means[spec.item], kept)
        return cls(spec.item, means, components, centred)

    @property
    def dimension(self) -> int:
        """Length of the blocks it makes."""
        if self.components is not None:
            return int(self.components.shape[1])
        return len(next(iter(self.means.values())))

    def item_blocks(self, x: Floats) -> Floats:
        """Unit encoder rows (n, d_in) of items to their blocks (n, d)."""
        blocks = self._reduced(x - self.means[self.item])
        return unit_rows(blocks) if self.centred else blocks

    def query_block(self, x: Floats, modality: str) -> Floats:
        """A unit encoder vector (d_in,) of a query to its block (d,), of unit length."""
        if self.centred:
            x = x - self.means[modality]
        # A ready-made vector that is compared as it is, is a unit block already.
        return unit(self._reduced(x)) if self.centred or self.components is not None else x

    def item_as_query(self, block: Floats) -> Floats:
        """The block (d,) of an item, as stored, to the block of a query for items like it."""
        return unit(block if self.centred else block + self.offset)

    @cached_property
    def offset(self) -> Floats:
        """The block (d,) of the average item before items are centred."""
        return self._reduced(self.means[self.item])

    def average_similarity(self, block: Floats) -> float:
        """Cosine of an average item to a query's unit block (d,): 0 in a centred space."""
        return 0.0 if self.centred else float(block @ self.offset)

    def _reduced(self, x: Floats) -> Floats:
        return x if self.components is None else x @ self.components


def _leading(centred: Floats, kept: int) -> Floats:
    """The `kept` leading principal axes of centred rows (n, d), as columns (d, kept)."""
    rows = centred.astype(np.float64)
    values, vectors = np.linalg.eigh(rows.T @ rows)
    leading = np.argsort(values)[::-1][:kept]
    return np.ascontiguousarray(vectors[:, leading], dtype=np.float32)


@dataclass(frozen=True)
class ConcatFusion:
    """Weighted concatenation of the blocks of several spaces.

    `weights` are the default weights w_s, in the order of `transforms`.
    """

    transforms: Mapping[str, SpaceTransform]
    weights: Mapping[str, float]

    @cached_property
    def blocks(self) -> dict[str, slice]:
        """Where each space's block lies in the fused vector, padding left out."""
        found, start = {}, 0
        for name, transform in self.transforms.items():
            found[name] = slice(start, start + transform.dimension)
            start += -(-transform.dimension // BLOCK_ALIGNMENT) * BLOCK_ALIGNMENT
        return found

    @cached_property
    def dimension(self) -> int:
        """Length of the fused vector, padding included."""
        last: int = list(self.blocks.values())[-1].stop
        return -(-last // BLOCK_ALIGNMENT) * BLOCK_ALIGNMENT

    def fuse_items(self, blocks: Mapping[str, Floats]) -> Floats:
        """Unit blocks (n, d_s) per space, zero rows where missing, to item vectors (n, D)."""
        n = len(next(iter(blocks.values())))
        fused = np.zeros((n, self.dimension), dtype=np.float32)
        for name, where in self.blocks.items():
            fused[:, where] = np.sqrt(self.weights[name]) * blocks[name]
        return fused

    def fuse_query(self, blocks: Mapping[str, Floats]) -> Floats:
        """Weighted query blocks u_s y_s (d_s,) per space to one query vector (D,).

        Spaces that are not named stay zero and do not count.
        """
        fused = np.zeros(self.dimension, dtype=np.float32)
        for name, block in blocks.items():
            weight = self.weights[name]
            fused[self.blocks[name]] = block if weight == 1 else block * np.float32(weight**-0.5)
        return fused

    def dump(self) -> bytes:
        """Serialise as safetensors."""
        tensors: dict[str, Floats] = {}
        for name, transform in self.transforms.items():
            for modality, mean in transform.means.items():
                tensors[f"mean/{name}/{modality}"] = mean
            if transform.components is not None:
                tensors[f"components/{name}"] = transform.components
        return bytes(save_tensors(tensors))

    @classmethod
    def load(cls, data: bytes, specs: Sequence[SpaceSpec]) -> ConcatFusion:
        """Read what `dump` wrote for these spaces.

        Raises:
            CorruptIndexError: the tensors do not fit the spaces.
        """
        try:
            tensors = load_tensors(data)
        except Exception as error:
            raise _corrupt(str(error)) from error
        transforms = {}
        for spec in specs:
            prefix = f"mean/{spec.name}/"
            means = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            if set(means) != set(spec.encoders):
                raise _corrupt(f"means of {sorted(means)} for space {spec.name!r}")
            components = tensors.get(f"components/{spec.name}")
            transforms[spec.name] = SpaceTransform(
                spec.item, means, components, spec.compare == "centred"
            )
        return cls(transforms, {spec.name: spec.weight for spec in specs})


def _corrupt(got: str) -> CorruptIndexError:
    return CorruptIndexError(
        "fusion file",
        expected="the tensors of each space, as safetensors",
        got=got,
        remedy="Build the index again from the catalog; nothing needs to be encoded again.",
    )
