"""Fusions as files: safetensors, and nothing that could run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from encoders import SpaceSpec

from ..errors import CorruptIndexError
from ..manifest import corrupt
from .attention import AttentionFusion
from .base import Fusion
from .concat import ConcatFusion
from .mean import MeanFusion
from .neural import NeuralFusion
from .perceptron import Perceptron
from .transform import Floats, SpaceTransform

FUSIONS: tuple[str, ...] = ("concat", "mean", "attention", "neural")


def dump_fusion(fusion: Fusion) -> bytes:
    """Transforms and what was learned, as safetensors; kind and weights are in the manifest."""
    tensors: dict[str, Floats] = {}
    for name, transform in fusion.transforms.items():
        for modality, mean in transform.means.items():
            tensors[f"mean/{name}/{modality}"] = mean
        if transform.components is not None:
            tensors[f"components/{name}"] = transform.components
    tensors |= {f"learned/{name}": value for name, value in fusion.tensors().items()}
    return bytes(save_tensors({n: np.ascontiguousarray(t) for n, t in tensors.items()}))


def load_fusion(
    data: bytes,
    kind: str,
    specs: Sequence[SpaceSpec],
    weights: Mapping[str, float],
    modalities: Mapping[str, Sequence[str]],
) -> Fusion:
    """Read what `dump_fusion` wrote.

    Args:
        data: its bytes.
        kind: one of `FUSIONS`.
        specs: the spaces, in order.
        weights: default weight of each.
        modalities: those that reach each space.

    Raises:
        CorruptIndexError: the tensors do not fit the spaces.
    """
    try:
        tensors = load_tensors(data)
    except Exception as error:
        raise _misfit(str(error)) from error
    transforms = {
        spec.name: _transform(tensors, spec, set(modalities[spec.name]), kind) for spec in specs
    }
    learned = {
        name.removeprefix("learned/"): value
        for name, value in tensors.items()
        if name.startswith("learned/")
    }
    try:
        fusion = _fusion(kind, transforms, weights, learned)
        # Shapes that do not fit together show here, and not in the middle of a search.
        fusion.fuse_items(
            {n: np.zeros((1, t.dimension), dtype=np.float32) for n, t in transforms.items()}
        )
    except (KeyError, ValueError, IndexError) as error:
        raise _misfit(f"{type(error).__name__}: {error}") from error
    return fusion


def _transform(
    tensors: Mapping[str, Floats], spec: SpaceSpec, modalities: set[str], kind: str
) -> SpaceTransform:
    prefix = f"mean/{spec.name}/"
    means = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    if set(means) != modalities:
        raise _misfit(f"means of {sorted(means)} for space {spec.name!r}")
    components = tensors.get(f"components/{spec.name}")
    return SpaceTransform(spec.item, means, components, is_centred(spec, kind))


def is_centred(spec: SpaceSpec, kind: str) -> bool:
    """Whether a space is centred on both sides: fusions other than `concat` know no other way."""
    return spec.compare == "centred" or kind != ConcatFusion.kind


def _fusion(
    kind: str,
    transforms: Mapping[str, SpaceTransform],
    weights: Mapping[str, float],
    learned: Mapping[str, Floats],
) -> Fusion:
    if kind == ConcatFusion.kind:
        return ConcatFusion(transforms, weights)
    if kind == MeanFusion.kind:
        projections = {name: learned[f"projection/{name}"] for name in transforms}
        return MeanFusion(transforms, weights, projections)
    if kind == AttentionFusion.kind:
        gates = [Perceptron.from_tensors(learned, side) for side in ("item", "query")]
        return AttentionFusion(transforms, weights, *gates)
    if kind == NeuralFusion.kind:
        mlp = Perceptron.from_tensors(learned, "mlp")
        return NeuralFusion(transforms, weights, learned["skip"], mlp, learned["gates"])
    raise ValueError(f"no fusion {kind!r}")


def _misfit(got: str) -> CorruptIndexError:
    return corrupt("fusion file", "the tensors of each space, as safetensors", got)
