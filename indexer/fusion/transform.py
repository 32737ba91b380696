"""Making spaces commensurate: centred on the catalog, reduced where wide, scaled to unit length."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from encoders import SpaceSpec

from ..modalities import BEHAVIOUR, LIKED

Floats = NDArray[np.float32]

WIDE = 512
REDUCED = 256
# PCA of fewer rows than this many times the dimensions kept would fit noise.
ROWS_PER_COMPONENT = 4


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
        kept = spec.reduce or (REDUCED if centred and d > WIDE else d)
        if kept < d and n >= ROWS_PER_COMPONENT * kept:
            components = leading_axes(samples[spec.item] - means[spec.item], kept)
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
        """A unit encoder vector (d_in,) of a query to its block (d,), of unit length; that of a
        liked item's behaviour is the shorter the less its being liked tells."""
        if self.centred:
            x = x - self.means[modality]
        elif modality == LIKED:
            # What made it of unit length is a dimension that no item has.
            return np.append(x[:-1], np.float32(0))
        # A ready-made vector that is compared as it is, is a unit block already.
        return unit(self._reduced(x)) if self.centred or self.components is not None else x

    def query_blocks(self, x: Floats, modality: str) -> Floats:
        """`query_block` of rows (n, d_in): (n, d), rows of zeros stay zero."""
        blocks = self._reduced(x - self.means[modality] if self.centred else x)
        blocks[~x.any(axis=1)] = 0
        return unit_rows(blocks)

    @property
    def predicts_items(self) -> bool:
        """Whether heads into the space estimate an item's own vector and not its direction: item
        vectors are the longer the more an item is liked, and rank by that."""
        return self.item == BEHAVIOUR and not self.centred

    def imputed(self, x: Floats, modality: str, strength: float) -> Floats:
        """Blocks (n, d) for items that lack their own, of unit rows (n, d_in) that came another
        way."""
        if self.predicts_items:
            return self.item_blocks(x)
        return np.float32(strength) * self.query_blocks(x, modality)

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


def leading_axes(centred: Floats, kept: int) -> Floats:
    """The `kept` leading principal axes of centred rows (n, d), as columns (d, kept)."""
    rows = centred.astype(np.float64)
    values, vectors = np.linalg.eigh(rows.T @ rows)
    leading = np.argsort(values)[::-1][:kept]
    return np.ascontiguousarray(vectors[:, leading], dtype=np.float32)
