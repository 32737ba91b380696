"""Item vectors learned from what users did, and a generation that has them as one more space."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from encoders import EncoderSpec, SpaceSpec

from .behaviour import ItemVectors, forget_vectors, keep_vectors
from .blocks import BlockSource
from .environment import WriteTransaction
from .fusion import ConcatFusion
from .heads import AlignedReach
from .interaction_errors import BehaviourOptionError, NoLikesError, SpaceNameError
from .interactions import (
    InteractionColumns,
    InteractionReport,
    Interactions,
    read_interactions,
)
from .learning.behaviour_choice import Choice, Trial, choose
from .learning.collaborative import (
    METHODS,
    PENALTIES,
    RANK,
    RANKS,
    Ease,
    ItemPairs,
    Method,
    latent_factors,
)
from .learning.imputing import learn_imputer
from .learning.preference import Scale, hold_out, likes_matrix
from .manifest import BehaviourEntry
from .modalities import BEHAVIOUR, LIKED
from .progress import Progress, Silent
from .rebuild import Opened, opened_for_writing
from .recipe import UNLEARNED, Recipe, Space
from .snapshot import Inputs, Snapshot, read_current

Floats = NDArray[np.float32]

MOST_RANK = 1_024


@dataclass(frozen=True)
class BehaviourSummary:
    """What `learn_behaviour` did.

    `chosen` has the penalty or rank, the space's default weight, and how well these ranked what
    users liked last; `items` counts those with vectors of their own, `imputed` those whose vector
    comes from their content, and `explained`, per space, the part of the vectors' variance that
    content there explains on items held out.
    """

    path: Path
    method: str
    users: int
    items: int
    imputed: int
    liked: float
    rank: int
    interactions: InteractionReport
    chosen: Choice
    explained: dict[str, float]
    notes: tuple[str, ...]
    recall: dict[str, float]
    seconds: float


def learn_behaviour(
    path: str | Path,
    interactions: str | Path | Iterable[object],
    *,
    user: str | None = None,
    item: str | None = None,
    value: str | None = None,
    time: str | None = None,
    method: str = "ease",
    rank: int = RANK,
    neutral: float = 0.0,
    liked: float | None = None,
    keep_histories: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> BehaviourSummary:
    """Learn item vectors from what users did, as one more space, `behaviour`.

    Liked items and histories then also ask for what others liked beside them. How strongly to
    regularise, and the default weight of the space, are chosen by how well they rank what users
    liked last. Items that nobody touched get a vector that is estimated from their content.

    Args:
        path: the index folder.
        interactions: JSON lines, CSV, TSV or Parquet, or an iterable of dicts.
        user, item, value, time: the columns; None for those of usual names. Without values each
            counts 1, without times the order of the dump is that of time.
        method: `ease`, `als` or `bpr`.
        rank: length of the item vectors; `als` and `bpr` try shorter ones as well.
        neutral: the value that says nothing; lower ones are dislikes.
        liked: the value from which on an item counts as liked in full; None for the median of the
            values above `neutral`. For ratings of 1 to 5 take neutral 2 and liked 4.
        keep_histories: whether the index keeps what each user did, for `recommend(user=...)`.
        seed: the same seed gives the same vectors on the same machine.
        progress: told of every stage; None tells nobody.

    Raises:
        BehaviourOptionError: no such method, a rank or values that cannot be.
        UnreadableCatalogError, EmptyCatalogError: the dump.
        InteractionsError: a column is missing, nothing is left, all are of one user, or nobody
            likes anything.
        NotAnIndexError, IndexLockedError, CorruptIndexError, StoreError: the index itself.
    """
    started, progress = monotonic(), progress or Silent()
    _check_options(method, rank, neutral, liked)
    columns = InteractionColumns(user, item, value, time)
    with opened_for_writing(path) as index:
        read = read_interactions(
            interactions,
            is_known=lambda one: index.snapshot.row_of(one) is not None,
            columns=columns,
            progress=progress,
        ).of_several_users()
        learning = _Learning(index, read, _scale(read, neutral, liked), seed, progress)
        vectors, chosen = learning.vectors(cast("Method", method), rank)
        heads, explained = learning.imputers(vectors)
        entry = BehaviourEntry(
            method=cast("Method", method),
            users=len(read.user_ids),
            interactions=len(read),
            neutral=learning.scale.neutral,
            liked=learning.scale.liked,
            histories=keep_histories,
        )
        recipe, notes = _with_space(index.recipe, vectors, chosen.weight, heads, entry)
        derived = _publish(index, recipe, vectors, read if keep_histories else None, progress)
    space = next(one for one in derived.spaces if one.spec.item == BEHAVIOUR)
    return BehaviourSummary(
        path=index.layout.root,
        method=method,
        users=len(read.user_ids),
        items=space.coverage,
        imputed=space.imputed,
        liked=learning.scale.liked,
        rank=vectors.items.shape[1] - 2,
        interactions=read.report,
        chosen=chosen,
        explained=explained,
        notes=notes,
        recall=derived.index.recall,
        seconds=monotonic() - started,
    )


def _check_options(method: str, rank: int, neutral: float, liked: float | None) -> None:
    if method not in METHODS:
        raise BehaviourOptionError(
            "method", expected=f"one of {', '.join(METHODS)}", got=repr(method), remedy="Take ease."
        )
    if not 1 <= rank <= MOST_RANK:
        raise BehaviourOptionError(
            "rank",
            expected=f"a number from 1 to {MOST_RANK:,}",
            got=repr(rank),
            remedy=f"The default is {RANK}.",
        )
    if not np.isfinite(neutral) or (liked is not None and not neutral < liked < np.inf):
        raise BehaviourOptionError(
            "values",
            expected="numbers, the liked value above the neutral one",
            got=f"neutral {neutral!r}, liked {liked!r}",
            remedy="For ratings of 1 to 5 take neutral 2 and liked 4.",
        )


def _scale(read: Interactions, neutral: float, liked: float | None) -> Scale:
    above = read.values[read.values > neutral]
    if not len(above):
        raise NoLikesError(
            "values of interactions",
            expected=f"some above the neutral one, {neutral:g}",
            got=f"at most {read.values.max():g}",
            remedy="Map --value to another column, or lower --neutral.",
        )
    return Scale(neutral, float(np.median(above)) if liked is None else liked)


class _Learning:
    """One run: interactions against the items of an index."""

    def __init__(
        self, index: Opened, read: Interactions, scale: Scale, seed: int, progress: Progress
    ) -> None:
        self.scale = scale
        self._read = read
        self._seed = seed
        self._progress = progress
        content = tuple(s for s in index.recipe.spaces if s.spec.item != BEHAVIOUR)
        self._content = replace(index.recipe, spaces=content)
        self._snapshot = index.snapshot
        rows = [index.snapshot.row_of(one) for one in read.item_ids]
        self._items = index.snapshot.inputs([row for row in rows if row is not None])

    def vectors(self, method: Method, rank: int) -> tuple[ItemVectors, Choice]:
        """Item vectors of all that somebody likes, and by which choices they were learned."""
        read, n = self._read, len(self._read.item_ids)
        held_out = hold_out(read, self.scale)
        before = likes_matrix(held_out.histories, n, self.scale)
        self._progress.start("choose", 1)
        chosen = choose(
            Trial(held_out, n, self.scale, self._seed),
            self._learner(method, before, rank),
            PENALTIES if method == "ease" else [*(r for r in RANKS if r < rank), rank],
            self._blocks(),
            np.asarray(before.sum(axis=0), dtype=np.float32).ravel(),
        )
        self._progress.advance(1)
        self._progress.finish()
        self._progress.start("learn item vectors", 1)
        matrix = likes_matrix(read.histories(), n, self.scale)
        pairs = self._learner(method, matrix, rank)(chosen.setting)
        self._progress.advance(1)
        self._progress.finish()
        popularity = np.asarray(matrix.sum(axis=0), dtype=np.float32).ravel()
        self._liked = np.flatnonzero(popularity > 0)
        items, liked = pairs.unit_pairs()
        ids = [read.item_ids[number] for number in self._liked.tolist()]
        vectors = ItemVectors(ids, items[self._liked], liked[self._liked], popularity[self._liked])
        return vectors, chosen

    def _learner(self, method: Method, matrix: Any, rank: int) -> Callable[[float], ItemPairs]:
        if method == "ease":
            return Ease(matrix, rank).pairs
        return lambda wanted: latent_factors(method, matrix, int(wanted), self._seed)

    def _blocks(self) -> dict[str, tuple[float, Floats]]:
        """Default weight and blocks of each space of content, of the items that were touched."""
        source = BlockSource(self._snapshot, self._content)
        spaces = [s for s in source.recipe.spaces if s.spec.item != BEHAVIOUR]
        transforms = {space.name: source.fit(space) for space in spaces}
        blocks = source.real(transforms, self._items)
        return {space.name: (space.spec.weight, blocks[space.name]) for space in spaces}

    def imputers(self, vectors: ItemVectors) -> tuple[dict[str, AlignedReach], dict[str, float]]:
        """For each space of content, the head from there, where it explains anything of items held
        out; and how much."""
        source = BlockSource(self._snapshot, self._content)
        items = [self._items[number] for number in self._liked.tolist()]
        heads: dict[str, AlignedReach] = {}
        explained: dict[str, float] = {}
        self._progress.start("learn from content", len(self._content.spaces))
        for space in self._content.spaces:
            found = self._imputer(source, space, items, vectors)
            explained[space.name] = 0.0 if found is None else found.strength
            modality = space.spec.item
            if found is not None and (
                modality not in heads or heads[modality].strength < found.strength
            ):
                heads[modality] = found
            self._progress.advance(1)
        self._progress.finish()
        return heads, explained

    def _imputer(
        self, source: BlockSource, space: Space, items: list[Inputs], vectors: ItemVectors
    ) -> AlignedReach | None:
        x, there = source.reached(space, space.spec.item, items)
        if not there.any():
            return None
        found = learn_imputer(
            x[there], vectors.items[there], vectors.items.shape[1] - 2, self._seed
        )
        if found is None:
            return None
        # No trust: a query in words asks what items say, and not what is liked beside them.
        return AlignedReach(space.name, found.head, trust=0.0, strength=found.explained)


def _with_space(
    recipe: Recipe,
    vectors: ItemVectors,
    weight: float,
    heads: Mapping[str, AlignedReach],
    entry: BehaviourEntry,
) -> tuple[Recipe, tuple[str, ...]]:
    others = [space for space in recipe.spaces if space.spec.item != BEHAVIOUR]
    if any(space.name == BEHAVIOUR for space in others):
        raise SpaceNameError(
            "space of item vectors",
            expected=f"no other space of the name {BEHAVIOUR}",
            got="one of the catalog's",
            remedy="Build the index with another name for it.",
        )
    # Read until the new generation is named: the bit of the old space stays its own.
    taken = {space.bit for space in recipe.spaces}
    bit = next(bit for bit in range(64) if bit not in taken)
    encoder = EncoderSpec.model_validate({"kind": BEHAVIOUR, "method": entry.method})
    spec = SpaceSpec(
        name=BEHAVIOUR,
        item=BEHAVIOUR,
        encoders={BEHAVIOUR: encoder, LIKED: encoder},
        weight=weight,
        compare="cosine",
    )
    space = Space(spec, bit, vectors.fingerprints(), heads)
    changed = replace(recipe, spaces=(*others, space), behaviour=entry)
    if recipe.fusion in UNLEARNED:
        return changed, ()
    note = (
        f"the learned fusion {recipe.fusion} was dropped: the spaces have changed; run "
        "`catalens learn fusion` again"
    )
    return replace(changed, fusion=ConcatFusion.kind, learned=None), (note,)


def _publish(
    index: Opened,
    recipe: Recipe,
    vectors: ItemVectors,
    histories: Interactions | None,
    progress: Progress,
) -> Any:
    """Vectors into the store, then the generation that has them, then the old ones out."""
    space = recipe.space_filled_by(BEHAVIOUR)
    assert space is not None
    keep = keep_vectors(space.bit, vectors, space.fingerprints, histories)
    index.store.write(lambda transaction: keep(transaction, _state(transaction)))
    derived = index.publish(recipe, progress)
    before = index.recipe.space_filled_by(BEHAVIOUR)
    old = set(before.fingerprints.values()) - set(space.fingerprints.values()) if before else set()
    bits = sum(1 << one.bit for one in recipe.spaces)
    index.store.write(
        lambda transaction: forget_vectors(
            transaction, _state(transaction), space.bit, bits, sorted(old)
        )
    )
    return derived


def _state(transaction: WriteTransaction) -> Snapshot:
    current = read_current(transaction)
    assert current is not None  # it was opened
    return Snapshot(transaction, current)
