"""The spaces of one index: a preset's that the catalog can fill, and its ready-made vectors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from encoders import Encoder, EncoderPool, EncoderSpec, Preset, SpaceSpec

from .columns import Columns
from .items import Item

VECTOR = "vector"


def kind_of_input(modality: str) -> str:
    """The modality an encoder knows: `vector` for `vector:<space>`, itself for the others."""
    return modality.partition(":")[0]


@dataclass(frozen=True)
class Reach:
    """One way into a space: the encoder for a modality and the name of its vectors."""

    space: str
    modality: str
    encoder: Encoder
    fingerprint: str


def specs_for(preset: Preset, columns: Columns, dimensions: dict[str, int]) -> list[SpaceSpec]:
    """The spaces that a catalog with these columns can fill, in the preset's order."""
    mapped = {m for m in ("text", "image", "audio") if getattr(columns, m)}
    specs = [space for space in preset.spaces if space.item in mapped]
    for name, dimension in dimensions.items():
        modality = f"{VECTOR}:{name}"
        encoder = EncoderSpec.model_validate({"kind": "vector", "dimension": dimension})
        specs.append(
            SpaceSpec(name=name, item=modality, encoders={modality: encoder}, compare="cosine")
        )
    return specs


def vector_dimensions(columns: Columns, first_items: Iterable[Item]) -> dict[str, int]:
    """Dimension of each vector column, by the first vector found in it."""
    found: dict[str, int] = {}
    for item in first_items:
        for name in columns.vector:
            inputs = item.inputs.get(f"{VECTOR}:{name}", ())
            if name not in found and inputs and inputs[0].content is not None:
                found[name] = len(inputs[0].content) // 4
    return found


def reaches(specs: Iterable[SpaceSpec], pool: EncoderPool) -> list[Reach]:
    """Load the encoders of all spaces; every way into every space."""
    found = []
    for spec in specs:
        for modality, encoder_spec in spec.encoders.items():
            encoder = pool.get(encoder_spec)
            fingerprint = encoder.fingerprint(kind_of_input(modality))
            found.append(Reach(spec.name, modality, encoder, fingerprint))
    return found
