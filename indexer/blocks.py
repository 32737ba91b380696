"""Stored embeddings to the blocks of items: what is there, and what is imputed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from .encode import QUERY_TOWER_SAMPLE
from .errors import CorruptIndexError
from .fusion import SpaceTransform, is_centred
from .fusion.transform import Floats
from .missing import IMPUTED, PRESENT
from .modalities import BEHAVIOUR
from .pooling import pooled
from .recipe import Recipe, Space
from .snapshot import Inputs, Snapshot

Bools = NDArray[np.bool_]
Transforms = Mapping[str, SpaceTransform]

# Rows that means and PCA are fitted on: 20,000 x 1,280 float32 are 100 MB, and the 256th
# component of a sample of that size is known to about 1 %.
_FIT_ROWS = 20_000


@dataclass(frozen=True)
class _Way:
    """A way into a space for items that lack its own modality."""

    modality: str
    strength: float


class Blocks:
    """The blocks of items, made from the embeddings that a store has; all that a snapshot knows
    may be asked."""

    def __init__(self, snapshot: Snapshot, recipe: Recipe) -> None:
        self._snapshot = snapshot
        self.recipe = recipe
        self._spaces = {space.name: space for space in recipe.spaces}
        self._ways: dict[str, list[_Way]] | None = None

    def real(self, transforms: Transforms, items: Sequence[Inputs]) -> dict[str, Floats]:
        """The blocks (m, d_s) that items have, zero rows where missing."""
        return self._real(transforms, items)[0]

    def take(
        self, transforms: Transforms, items: Sequence[tuple[int, Inputs]]
    ) -> tuple[dict[str, Floats], NDArray[np.uint8]]:
        """The blocks of items, given with their rows, and the state of each block.

        Returns:
            float32 (m, d_s) per space, zero rows where missing; uint8 (m, S).

        Raises:
            CorruptIndexError: an item's mask names a block for which there is no embedding.
        """
        inputs = [one for _, one in items]
        blocks, found = self._real(transforms, inputs)
        states = np.zeros((len(items), len(blocks)), dtype=np.uint8)
        for column, (name, here) in enumerate(found.items()):
            self._check(name, here, items)
            states[here, column] = PRESENT
        for column, name in enumerate(blocks):
            if self._imputes(name):
                holes = np.flatnonzero(states[:, column] != PRESENT)
                filled, which = self.imputed(transforms, name, [inputs[i] for i in holes.tolist()])
                blocks[name][holes[which]] = filled[which]
                states[holes[which], column] = IMPUTED
        return blocks, states

    def _imputes(self, name: str) -> bool:
        """Whether what items lack in a space is estimated: item vectors always, for else nobody
        would meet an item that nobody has touched."""
        return self.recipe.missing == "impute" or self._spaces[name].spec.item == BEHAVIOUR

    def imputed(
        self, transforms: Transforms, name: str, items: Sequence[Inputs]
    ) -> tuple[Floats, Bools]:
        """What would fill a space for items: float32 (m, d_s), each as long as its way is strong,
        and which of them anything would, bool (m,)."""
        filled = np.zeros((len(items), transforms[name].dimension), dtype=np.float32)
        done = np.zeros(len(items), dtype=bool)
        for way in self._ways_into(transforms)[name]:
            left = np.flatnonzero(~done)
            if not len(left):
                break
            space = self._spaces[name]
            x, found = self.reached(space, way.modality, [items[i] for i in left.tolist()])
            if found.any():
                filled[left[found]] = transforms[name].imputed(x[found], way.modality, way.strength)
                done[left[found]] = True
        return filled, done

    def reached(self, space: Space, modality: str, items: Sequence[Inputs]) -> tuple[Floats, Bools]:
        """Unit encoder vectors (m, d_in) of items in a space, from one modality that reaches it."""
        reach = space.heads.get(modality)
        if reach is None:
            return self._own(space, modality, items)
        x, found = self._own(self._spaces[reach.source], modality, items)
        return (reach.head(x), found) if found.any() else (x, found)

    def _own(self, space: Space, modality: str, items: Sequence[Inputs]) -> tuple[Floats, Bools]:
        return pooled(self._snapshot, space.fingerprints[modality], modality, items)

    def _real(
        self, transforms: Transforms, items: Sequence[Inputs]
    ) -> tuple[dict[str, Floats], dict[str, Bools]]:
        blocks, found = {}, {}
        for name, space in self._spaces.items():
            x, found[name] = self._own(space, space.spec.item, items)
            blocks[name] = np.zeros((len(items), transforms[name].dimension), dtype=np.float32)
            if found[name].any():
                blocks[name][found[name]] = transforms[name].item_blocks(x[found[name]])
        return blocks, found

    def _ways_into(self, transforms: Transforms) -> dict[str, list[_Way]]:
        """The ways into each space, the strongest first."""
        if self._ways is None:
            first = self._first()
            self._ways = {
                name: sorted(
                    [
                        *(_Way(m, reach.strength) for m, reach in space.heads.items()),
                        *self._towers(transforms[name], space, first),
                    ],
                    key=lambda way: -way.strength,
                )
                for name, space in self._spaces.items()
            }
        return self._ways

    def _towers(
        self, transform: SpaceTransform, space: Space, first: Sequence[Inputs]
    ) -> list[_Way]:
        """Other towers of a shared space: as strong as they agree with the items' own, on the
        items that went through both."""
        ways = []
        own, has = self._own(space, space.spec.item, first)
        for modality in space.fingerprints:
            if modality == space.spec.item:
                continue
            x, found = self._own(space, modality, first)
            both = has & found
            if both.any():
                there = transform.item_blocks(own[both])
                agreed = (transform.query_blocks(x[both], modality) * there).sum(axis=1)
                ways.append(_Way(modality, float(np.clip(agreed.mean(), 0.0, 1.0))))
        return [way for way in ways if way.strength > 0]

    def _first(self) -> list[Inputs]:
        return [i for _, i in islice(self._snapshot.scan_inputs(), QUERY_TOWER_SAMPLE)]

    def _check(self, space: str, found: Bools, items: Sequence[tuple[int, Inputs]]) -> None:
        """Each item whose record says it has a block must have its embedding in the store."""
        if found.all():
            return
        bit = self._spaces[space].bit
        for here, (row, inputs) in zip(found.tolist(), items, strict=True):
            if inputs.mask >> bit & 1 and not here:
                raise CorruptIndexError(
                    "store",
                    expected=f"an embedding in space {space!r} for row {row}",
                    got="none",
                    remedy="Build the index again from the catalog: what is lost is encoded again.",
                )


class BlockSource(Blocks):
    """The blocks of all items of an edition, and what is fitted on them.

    `recipe` is the recipe without the spaces that no item fills, but that of a learned fusion,
    which keeps what it was learned with.
    """

    def __init__(self, snapshot: Snapshot, recipe: Recipe) -> None:
        rows, masks = [], []
        for row, inputs in snapshot.scan_inputs():
            rows.append(row)
            masks.append(inputs.mask)
        self._rows = np.array(rows, dtype=np.int64)
        bits = np.array(masks, dtype=np.uint64)
        self._having = {
            space.name: self._rows[(bits >> np.uint64(space.bit)) & np.uint64(1) == 1]
            for space in recipe.spaces
        }
        filled = tuple(
            space
            for space in recipe.spaces
            if len(self._having[space.name]) or recipe.learned is not None
        )
        names = {space.name for space in filled}
        spaces = tuple(
            replace(
                space,
                heads={m: reach for m, reach in space.heads.items() if reach.source in names},
            )
            for space in filled
        )
        super().__init__(snapshot, replace(recipe, spaces=spaces))

    def __len__(self) -> int:
        return len(self._rows)

    def fit(self, space: Space) -> SpaceTransform:
        """The transform of a space, fitted on a sample of its items."""
        rows = self._sampled(self._having[space.name])
        inputs = self._snapshot.inputs(rows.tolist())
        samples = {space.spec.item: self._own(space, space.spec.item, inputs)[0]}
        for modality in space.fingerprints:
            if modality != space.spec.item:
                # Only the first items went through the towers that queries use.
                x, found = self._own(space, modality, self._first())
                samples[modality] = x[found] if found.any() else samples[space.spec.item]
        compare = "centred" if is_centred(space.spec, self.recipe.fusion) else "cosine"
        transform = SpaceTransform.fit(samples, space.spec.model_copy(update={"compare": compare}))
        # What a head gives is centred already.
        origin = np.zeros_like(transform.means[space.spec.item])
        return replace(transform, means={**transform.means, **dict.fromkeys(space.heads, origin)})

    def sample(self, transforms: Transforms) -> dict[str, Floats]:
        """Blocks (n, d_s) of a sample of all items, zero rows where missing."""
        rows = self._sampled(self._rows)
        return self.real(transforms, self._snapshot.inputs(rows.tolist()))

    def _sampled(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        if len(rows) <= _FIT_ROWS:
            return rows
        return np.sort(np.random.default_rng(0).choice(rows, _FIT_ROWS, replace=False))
