"""The spaces of one index: a preset's that the catalog can fill, and its ready-made vectors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice

from pydantic import ValidationError

from encoders import Encoder, EncoderPool, EncoderSpec, Preset, SpaceSpec, fitted_class

from .catalog_errors import InvalidColumnsError
from .columns import Columns
from .errors import FingerprintMismatchError
from .items import Item, Reject
from .modalities import VECTOR, modalities
from .snapshot import Snapshot

_LEAST_PEEKED = 1_000
_MOST_PEEKED = 100_000


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
    """The spaces that a catalog with these columns can fill, in the preset's order.

    Raises:
        InvalidColumnsError: none, or a space of ready-made vectors with a name that cannot be.
    """
    mapped = [name for name in modalities() if columns.of(name)]
    specs = [space for space in preset.spaces if space.item in mapped]
    specs += [_ready_made(name, dimension) for name, dimension in dimensions.items()]
    if not specs:
        raise InvalidColumnsError(
            f"preset {preset.name!r}",
            expected=f"a space that is filled by one of {mapped}, the modalities of the columns",
            got=f"spaces filled by {[space.item for space in preset.spaces]}",
            remedy="Choose another preset, or map other columns.",
        )
    names = [spec.name for spec in specs]
    for name in dimensions:
        if names.count(name) > 1:
            raise InvalidColumnsError(
                f"vector space {name!r}",
                expected="a name that no space of the preset has",
                got=f"the spaces {names}",
                remedy="Give it another name: vector={'name': 'column'}.",
            )
    return specs


def _ready_made(name: str, dimension: int) -> SpaceSpec:
    modality = f"{VECTOR}:{name}"
    encoder = EncoderSpec.model_validate({"kind": "vector", "dimension": dimension})
    try:
        return SpaceSpec(name=name, item=modality, encoders={modality: encoder}, compare="cosine")
    except ValidationError as error:
        raise InvalidColumnsError(
            "name of a vector space",
            expected="letters, digits, '.', '_' and '-', at most 64",
            got=repr(name),
            remedy="Give it another name: vector={'name': 'column'}.",
        ) from error


def peek(
    columns: Columns, entries: Iterable[Item | Reject]
) -> tuple[dict[str, int], list[Item | Reject]]:
    """Read on until each vector column has shown its dimension, at least 1,000 entries.

    Returns:
        the commonest dimension of each vector column, and all that was read.

    Raises:
        InvalidColumnsError: a column without a vector in the first 100,000 entries.
    """
    read: list[Item | Reject] = []
    seen: dict[str, Counter[int]] = {name: Counter() for name in columns.vector}
    for entry in islice(entries, _MOST_PEEKED):
        read.append(entry)
        for name in columns.vector:
            for given in (
                entry.inputs.get(f"{VECTOR}:{name}", ()) if isinstance(entry, Item) else ()
            ):
                seen[name][len(given.content or b"") // 4] += 1
        if len(read) >= _LEAST_PEEKED and all(seen.values()):
            break
    for name, dimensions in seen.items():
        if not dimensions:
            raise InvalidColumnsError(
                f"vector column {columns.vector[name]!r}",
                expected=f"a vector in one of the first {_MOST_PEEKED:,} rows",
                got=f"none in {len(read):,}",
                remedy="Leave the column out, or move a row that has one to the front.",
            )
    return {name: dimensions.most_common(1)[0][0] for name, dimensions in seen.items()}, read


def reaches(specs: Iterable[SpaceSpec], load: Callable[[EncoderSpec, str], Encoder]) -> list[Reach]:
    """Every way into every space.

    Args:
        specs: the spaces.
        load: gives the encoder of a spec for a modality.
    """
    found = []
    for spec in specs:
        for modality, encoder_spec in spec.encoders.items():
            kind = kind_of_input(modality)
            encoder = load(encoder_spec, kind)
            found.append(Reach(spec.name, modality, encoder, encoder.fingerprint(kind)))
    return found


def checked_encoder(
    pool: EncoderPool, space: SpaceSpec, modality: str, expected: str, snapshot: Snapshot
) -> Encoder:
    """Load the encoder of a modality that an index knows by its fingerprint.

    Args:
        pool: loads it, or has it.
        space: that it leads into.
        modality: that it encodes.
        expected: its fingerprint.
        snapshot: has what it learned, where it is one that was fitted on the catalog.

    Raises:
        FingerprintMismatchError: the one here is another.
        CorruptIndexError: what it learned is not there, or damaged.
    """
    spec = space.encoders[modality]
    state = None if fitted_class(spec) is None else snapshot.state(expected)
    encoder = pool.get(spec, state)
    got = encoder.fingerprint(kind_of_input(modality))
    if got != expected:
        raise FingerprintMismatchError(
            f"encoder of {modality} for space {space.name!r}",
            expected=f"fingerprint {expected}, which the index was built with",
            got=got,
            remedy="Install the weights it was built with, or build the index again.",
        )
    return encoder
