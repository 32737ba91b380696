"""What an export says of its index beside the items: enough to derive it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, NamedTuple

import numpy as np
import orjson
from pydantic import Field, StringConstraints, ValidationError

from encoders import HeadError

from .catalog_errors import InvalidColumnsError
from .columns import Columns
from .errors import CorruptIndexError, UnsupportedFormatError
from .fusion import Fusion, dump_fusion, load_fusion
from .generation import Generation, aligned_heads
from .heads import AlignedReach, dump_heads
from .manifest import BehaviourEntry, CatalogEntry, ReachedSpace, Strict
from .missing import Policy
from .plan import Profile
from .recipe import Recipe, Space
from .row_codecs import RowType
from .snapshot import Snapshot

EXPORT_FORMAT = 1
_Fingerprint = Annotated[str, StringConstraints(pattern="^[0-9a-f]{32}$")]


class _MisfitError(ValueError):
    """Parts of a description that do not fit together."""


class ExportedSpace(ReachedSpace):
    """A space as an export names it."""

    fingerprints: Annotated[dict[str, _Fingerprint], Field(min_length=1)]
    bit: Annotated[int, Field(ge=0, lt=64)]
    """Its bit in the mask of an item."""


class Description(Strict):
    """Spaces, encoders, catalog and the recipe of a generation, but for its tensors. The device is
    not among them: it is the machine's."""

    format: int
    catalens: str
    spaces: Annotated[list[ExportedSpace], Field(min_length=1)]
    fusion: str
    missing: Policy
    weights_from: Literal["preset", "given", "learned"]
    profile: Profile
    factory: str | None
    rows: RowType
    catalog: CatalogEntry
    behaviour: BehaviourEntry | None = None


class Described(NamedTuple):
    """A description as JSON, the tensors of fusion and heads as safetensors, and the same of what
    encoders have learned from the catalog, by their fingerprints."""

    description: bytes
    fusion: bytes
    heads: bytes
    states: Mapping[str, bytes]

    @classmethod
    def of(cls, generation: Generation, snapshot: Snapshot) -> Described:
        """What there is to say of a generation and of the snapshot that names it."""
        manifest = generation.manifest
        recipe = Recipe.of(manifest, generation.fusion, generation.heads)
        described = Description(
            format=EXPORT_FORMAT,
            catalens=manifest.catalens,
            spaces=[
                ExportedSpace(
                    spec=space.spec,
                    fingerprints=space.fingerprints,
                    heads=space.heads,
                    bit=space.bit,
                )
                for space in manifest.spaces
            ],
            fusion=recipe.fusion,
            missing=recipe.missing,
            weights_from=recipe.weights_from,
            profile=recipe.profile,
            factory=recipe.factory,
            rows=recipe.rows,
            catalog=recipe.catalog,
            behaviour=recipe.behaviour and recipe.behaviour.model_copy(update={"histories": False}),
        )
        return cls(
            orjson.dumps(described.model_dump(mode="json")),
            dump_fusion(generation.fusion),
            dump_heads(generation.heads),
            {
                fingerprint: state.dump()
                for space in manifest.spaces
                for fingerprint in space.fingerprints.values()
                if (state := snapshot.known_state(fingerprint)) is not None
            },
        )

    def recipe(self, device: str) -> Recipe:
        """The recipe that is described. Its fusion counts as learned, whatever its kind, so that
        what was fitted is taken as it is.

        Raises:
            UnsupportedFormatError: written by a newer version.
            ValueError: it is not what `of` gives; the message says in what.
        """
        told = _read(self.description)
        names = [space.spec.name for space in told.spaces]
        try:
            Columns.named(**told.catalog.columns)  # type: ignore[arg-type]
            fusion = load_fusion(
                self.fusion,
                told.fusion,
                [space.spec for space in told.spaces],
                {space.spec.name: space.spec.weight for space in told.spaces},
                {space.spec.name: space.modalities for space in told.spaces},
            )
            heads = aligned_heads(self.heads, told.spaces)
            _check_spaces(told.spaces, names)
            _check_shapes(told.spaces, fusion, heads)
        except (CorruptIndexError, InvalidColumnsError, HeadError, TypeError) as error:
            raise _MisfitError(str(error)) from error
        return Recipe(
            spaces=tuple(
                Space(space.spec, space.bit, space.fingerprints, heads[space.spec.name])
                for space in told.spaces
            ),
            fusion=told.fusion,
            learned=fusion,
            missing=told.missing,
            weights_from=told.weights_from,
            catalog=told.catalog,
            device=device,
            profile=told.profile,
            factory=told.factory,
            rows=told.rows,
            behaviour=told.behaviour,
        )


def _read(data: bytes) -> Description:
    value = orjson.loads(data)  # its error is a ValueError
    if isinstance(value, dict) and value.get("format") != EXPORT_FORMAT:
        raise UnsupportedFormatError(
            "export",
            expected=f"format {EXPORT_FORMAT}",
            got=f"format {value.get('format')}",
            remedy="Upgrade Catalens to the version that wrote it.",
        )
    try:
        return Description.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        raise _MisfitError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _check_spaces(spaces: Sequence[ExportedSpace], names: Sequence[str]) -> None:
    if len(set(names)) < len(names) or len({space.bit for space in spaces}) < len(spaces):
        raise _MisfitError(f"two spaces of one name or one bit among {list(names)}")
    known = {space.spec.name: space.fingerprints for space in spaces}
    for space in spaces:
        if space.fingerprints.keys() != space.spec.encoders.keys():
            raise _MisfitError(f"space {space.spec.name!r} lacks the fingerprint of an encoder")
        for modality, head in space.heads.items():
            if modality not in known.get(head.source, ()):
                raise _MisfitError(f"a head from {head.source!r}, which {modality} does not reach")


def _check_shapes(
    spaces: Sequence[ExportedSpace],
    fusion: Fusion,
    heads: Mapping[str, Mapping[str, AlignedReach]],
) -> None:
    """Take one vector every way that there is: what does not fit shows here, and not halfway."""
    blocks = {}
    for space in spaces:
        name, transform = space.spec.name, fusion.transforms[space.spec.name]
        blocks[name] = transform.item_blocks(_unit_row(len(transform.means[space.spec.item])))
        for modality, mean in transform.means.items():
            reach = heads[name].get(modality)
            x = _unit_row(len(mean))
            if reach is not None:
                source = fusion.transforms[reach.source]
                x = reach.head(_unit_row(len(source.means[modality])))
            if not np.isfinite(transform.query_blocks(x, modality)).all():
                raise _MisfitError(f"the tensors of space {name!r} are no finite numbers")
    if not np.isfinite(fusion.fuse_items(blocks)).all():
        raise _MisfitError("the tensors of the fusion are no finite numbers")


def _unit_row(dimension: int) -> np.ndarray:
    return np.full((1, dimension), dimension**-0.5, dtype=np.float32)
