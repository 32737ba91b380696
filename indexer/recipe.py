"""What a generation is derived with: spaces, heads, fusion and the policy for what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from encoders import SpaceSpec

from .errors import ProfileError
from .fusion import ConcatFusion, Fusion, MeanFusion
from .heads import AlignedReach
from .manifest import BehaviourEntry, CatalogEntry, HeadEntry, Manifest, SpaceEntry
from .missing import Policy
from .modalities import BEHAVIOUR
from .plan import Profile, check_profile, rows_of
from .ranking import RankingFiles
from .row_codecs import RowType, check_row_type

UNLEARNED = (ConcatFusion.kind, MeanFusion.kind)
"""Fusions that a generation fits by itself."""


@dataclass(frozen=True)
class Space:
    """A space of a recipe, the bit of an item's mask that names it, and what reaches it."""

    spec: SpaceSpec
    bit: int
    fingerprints: Mapping[str, str]
    heads: Mapping[str, AlignedReach]

    @property
    def name(self) -> str:
        """The space's name."""
        return self.spec.name


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what is derived from an edition of the catalog.

    `learned` is a fusion whose transforms and weights were learned together; None where `fusion`
    is one of `UNLEARNED`.
    """

    spaces: tuple[Space, ...]
    fusion: str
    learned: Fusion | None
    missing: Policy
    weights_from: Literal["preset", "given", "learned"]
    catalog: CatalogEntry
    device: str
    profile: Profile
    factory: str | None
    """FAISS's own name for the index, where a user gave one; it overrides the profile."""
    rows: RowType
    ranking: RankingFiles | None = None
    """Re-ranking heads; left out of what is derived where they were learned on another basis."""
    behaviour: BehaviourEntry | None = None
    """What the space of item vectors was learned from, where there is one."""

    @classmethod
    def of(
        cls,
        manifest: Manifest,
        fusion: Fusion | None,
        heads: Mapping[str, Mapping[str, AlignedReach]],
    ) -> Recipe:
        """The recipe of a generation; None for a fusion that a derivation is to fit."""
        return cls(
            spaces=tuple(
                Space(entry.spec, entry.bit, entry.fingerprints, heads[entry.spec.name])
                for entry in manifest.spaces
            ),
            fusion=manifest.fusion,
            learned=None if manifest.fusion in UNLEARNED else fusion,
            missing=manifest.missing,
            weights_from=manifest.weights_from,
            catalog=manifest.catalog,
            device=manifest.device,
            profile=manifest.index.profile,
            factory=manifest.index.factory if manifest.index.kind == "custom" else None,
            rows=manifest.index.rows,
            behaviour=manifest.behaviour,
        )

    def space_filled_by(self, modality: str) -> Space | None:
        """The space whose blocks come from a modality; None where there is none."""
        return next((space for space in self.spaces if space.spec.item == modality), None)

    def with_weights(
        self, weights: Mapping[str, float], source: Literal["given", "learned"]
    ) -> Recipe:
        """The same with other default weights for the spaces that are named."""
        spaces = tuple(
            replace(
                space,
                spec=space.spec.model_copy(
                    update={"weight": weights.get(space.name, space.spec.weight)}
                ),
            )
            for space in self.spaces
        )
        return replace(self, spaces=spaces, weights_from=source)

    def with_index(self, profile: str | None, factory: str | None, rows: str | None) -> Recipe:
        """The same with another index; None for all keeps what there is. A profile or factory
        string brings its type of rows with it, unless one is named.

        Raises:
            ProfileError: no such profile, or a profile and a factory string were given.
            RowTypeError: no such type of rows.
        """
        if profile is not None and factory is not None:
            raise ProfileError(
                "index",
                expected="a profile or a factory string",
                got=f"both, {profile!r} and {factory!r}",
                remedy="Leave out one of them.",
            )
        changed = self
        if profile is not None or factory is not None:
            known = check_profile(profile or "auto")
            changed = replace(self, profile=known, factory=factory, rows=rows_of(known))
        return changed if rows is None else replace(changed, rows=check_row_type(rows))

    def carried_from(self, before: Recipe, fusion: str | None) -> tuple[Recipe, list[str]]:
        """This recipe of a new build, with what an earlier one learned where it still fits.

        Args:
            before: the recipe of the earlier build.
            fusion: the one that is asked for; None for that of the earlier build.

        Returns:
            the recipe, and what could not be kept, for people to read.
        """
        known = {space.name: space.fingerprints for space in before.spaces}
        here = {space.name: space.fingerprints for space in self.spaces}
        notes: list[str] = []
        kept = replace(self, ranking=before.ranking)
        for space in before.spaces:
            for modality, reach in space.heads.items():
                if all(here.get(n) == known[n] for n in (space.name, reach.source)):
                    kept = kept._with_head(space.name, modality, reach)
                else:
                    notes.append(
                        f"the head from {reach.source} to {space.name} was dropped: the spaces or "
                        "their encoders have changed; run `catalens learn alignment` again"
                    )
        same = list(here.items()) == list(known.items())
        if same and before.weights_from != "preset":
            weights = {space.name: space.spec.weight for space in before.spaces}
            kept = kept.with_weights(weights, before.weights_from)
        if fusion is not None and fusion != before.fusion:
            return kept, notes
        if before.learned is None or same:
            return replace(kept, fusion=before.fusion, learned=before.learned), notes
        notes.append(
            f"the learned fusion {before.fusion} was dropped: the spaces have changed; run "
            "`catalens learn fusion` again"
        )
        return kept, notes

    def with_behaviour_of(self, before: Recipe) -> tuple[Recipe, list[str]]:
        """This recipe of a new build, with the space of item vectors of an earlier one.

        Returns:
            the recipe, and what could not be kept, for people to read.
        """
        space = before.space_filled_by(BEHAVIOUR)
        if space is None:
            return self, []
        if any(one.name == space.name for one in self.spaces):
            return self, [
                f"item vectors were dropped: the catalog has a space of the name {space.name} now"
            ]
        bit = 1 + max(one.bit for one in self.spaces)
        kept = replace(space, bit=bit, heads={})
        return replace(self, spaces=(*self.spaces, kept), behaviour=before.behaviour), []

    def _with_head(self, name: str, modality: str, reach: AlignedReach) -> Recipe:
        spaces = tuple(
            replace(space, heads={**space.heads, modality: reach}) if space.name == name else space
            for space in self.spaces
        )
        return replace(self, spaces=spaces)


def space_entry(space: Space, *, dimension: int, coverage: int, imputed: int) -> SpaceEntry:
    """A space as the manifest names it."""
    return SpaceEntry(
        spec=space.spec,
        fingerprints=dict(space.fingerprints),
        heads={
            modality: HeadEntry(
                source=reach.source,
                fingerprint=reach.head.fingerprint(),
                trust=reach.trust,
                strength=reach.strength,
            )
            for modality, reach in space.heads.items()
        },
        dimension=dimension,
        coverage=coverage,
        imputed=imputed,
        bit=space.bit,
    )
