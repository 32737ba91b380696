"""Heads and fusions trained on the catalog itself, and a generation that uses them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path
from time import monotonic
from typing import NamedTuple

import numpy as np

from .blocks import BlockSource
from .errors import FusionError
from .fusion import ConcatFusion, Fusion
from .fusion.transform import Floats, SpaceTransform
from .heads import AlignedReach
from .learning import AlignmentReport, align, groups_of
from .learning.errors import AlignmentError, NoPairsError, OneSpaceError
from .learning.fusion_batches import TrainingData
from .learning.fusion_training import TrainingReport, train_attention, train_neural
from .learning.queries import Judged, encoded_queries, own_titles, read_judgements
from .learning.weights import Proposed, WeightReport, propose_weights
from .missing import check_policy
from .modalities import BEHAVIOUR
from .progress import Progress, Silent
from .rebuild import Opened, opened_for_writing
from .recipe import Recipe, Space
from .snapshot import Inputs, Snapshot, embedding_key
from .spaces import kind_of_input

# What is imputed counts less than what is there, whatever was measured.
_MOST_STRENGTH = 0.95
# Of an item with a hundred pictures no more teach: it is one item.
_MOST_INPUTS = 10

LEARNABLE = ("neural", "attention", "concat")
"""Fusions that `learn_fusion` learns; of `concat` the default weights."""


@dataclass(frozen=True)
class LearnedHead:
    """One way from a space to another: what was measured, and whether it was switched on."""

    source: str
    target: str
    modality: str
    report: AlignmentReport | None
    refused: str | None
    """Why it was not switched on."""


@dataclass(frozen=True)
class AlignmentSummary:
    """What `learn_alignment` did."""

    path: Path
    heads: tuple[LearnedHead, ...]
    recall: dict[str, float]
    seconds: float
    notes: tuple[str, ...] = ()
    """What could not be kept, for people to read."""


@dataclass(frozen=True)
class FusionSummary:
    """What `learn_fusion` did; `report` says how well, before and after."""

    path: Path
    fusion: str
    queries: int
    report: TrainingReport | WeightReport
    weights: dict[str, float]
    recall: dict[str, float]
    seconds: float
    notes: tuple[str, ...] = ()
    """What could not be kept, for people to read."""


def learn_alignment(
    path: str | Path, *, seed: int = 0, progress: Progress | None = None
) -> AlignmentSummary:
    """Learn, for each two spaces that are filled by different modalities, to reach one from the
    other, and switch on what finds held-out pairs clearly better than chance.

    Args:
        path: the index folder.
        seed: the same seed gives the same heads on the same machine.
        progress: told of every stage; None tells nobody.

    Raises:
        NoPairsError: no two spaces of different modalities, or no items that have both.
        TooFewPairsError: too few items have both.
        WeakAlignmentError: no head beats chance by a clear margin.
        NotAnIndexError, IndexLockedError, CorruptIndexError, StoreError: the index itself.
    """
    started, progress = monotonic(), progress or Silent()
    with opened_for_writing(path) as index:
        heads, reaches, first = _aligned(index, seed, progress)
        if not any(reaches.values()):
            raise first or _nothing_to_align(index)
        spaces = tuple(
            replace(space, heads=reaches.get(space.name, space.heads))
            for space in index.recipe.spaces
        )
        derived = index.publish(_refitted(replace(index.recipe, spaces=spaces)), progress)
    return AlignmentSummary(
        index.layout.root,
        tuple(heads),
        derived.index.recall,
        monotonic() - started,
        derived.notes,
    )


def _aligned(
    index: Opened, seed: int, progress: Progress
) -> tuple[list[LearnedHead], dict[str, dict[str, AlignedReach]], AlignmentError | None]:
    # Heads to item vectors come with these, and tell what is liked and not what is alike.
    spaces = [space for space in index.recipe.spaces if space.spec.item != BEHAVIOUR]
    blocks = BlockSource(index.snapshot, index.recipe)
    items = [item for _, item in index.snapshot.scan_inputs()]
    ids = [record.id for _, record in index.snapshot.scan_records()]
    vectors = {space.name: blocks.reached(space, space.spec.item, items) for space in spaces}
    learned: list[LearnedHead] = []
    reaches: dict[str, dict[str, AlignedReach]] = {space.name: {} for space in spaces}
    first: AlignmentError | None = None
    for source, target in permutations(spaces, 2):
        modality = source.spec.item
        if modality in target.fingerprints or modality in reaches[target.name]:
            continue
        both = np.flatnonzero(vectors[source.name][1] & vectors[target.name][1]).tolist()
        try:
            if not both:
                raise _no_pairs(source, target)
            inputs = _inputs(index, source, items, both)
            contents = _contents([items[i] for i in inputs.owners], source, target)
            found = align(
                inputs.vectors,
                vectors[target.name][0][inputs.owners],
                groups_of([ids[i] for i in inputs.owners], contents),
                np.unique(inputs.digests, return_inverse=True)[1],
                seed=seed,
                progress=progress,
            )
        except AlignmentError as error:
            first = first or error
            learned.append(LearnedHead(source.name, target.name, modality, None, str(error)))
            continue
        trust = float(np.clip(found.report.trust, 0.0, 1.0))
        reaches[target.name][modality] = AlignedReach(
            source.name, found.head, trust, min(trust, _MOST_STRENGTH)
        )
        learned.append(LearnedHead(source.name, target.name, modality, found.report, None))
    return learned, reaches, first


@dataclass(frozen=True)
class _PairedInputs:
    """Single inputs of items: unit vectors (m, d), the number of the item that each is of, and its
    content. A query brings one picture or clip, not the mean of all that an item has."""

    vectors: Floats
    owners: list[int]
    digests: list[str]


def _inputs(index: Opened, space: Space, items: list[Inputs], chosen: list[int]) -> _PairedInputs:
    modality = space.spec.item
    fingerprint = space.fingerprints[modality]
    vectors: list[Floats] = []
    owners: list[int] = []
    digests: list[str] = []
    for number in chosen:
        for digest in items[number].hashes[modality][:_MOST_INPUTS]:
            vector = index.snapshot.embedding(embedding_key(fingerprint, digest))
            if vector is not None:
                vectors.append(vector)
                owners.append(number)
                digests.append(digest)
    return _PairedInputs(np.stack(vectors), owners, digests)


def _contents(items: list[Inputs], *spaces: Space) -> list[list[str]]:
    """For each space, what fills it, as one string per item."""
    return [[",".join(item.hashes.get(s.spec.item, ())) for item in items] for s in spaces]


def _refitted(recipe: Recipe) -> Recipe:
    """A recipe whose heads have changed: a fusion that was learned before gets the means of exactly
    the modalities that now reach each space."""
    if recipe.learned is None:
        return recipe
    transforms = {}
    for space in recipe.spaces:
        transform = recipe.learned.transforms[space.name]
        origin = np.zeros_like(transform.means[space.spec.item])
        known = {m: transform.means[m] for m in space.fingerprints}
        means = {**known, **dict.fromkeys(space.heads, origin)}
        transforms[space.name] = replace(transform, means=means)
    learned: Fusion = replace(recipe.learned, transforms=transforms)  # type: ignore[type-var]
    return replace(recipe, learned=learned)


def learn_fusion(
    path: str | Path,
    *,
    fusion: str = "neural",
    judgements: str | Path | None = None,
    missing: str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> FusionSummary:
    """Learn how the spaces of an index count, from the catalog itself.

    Queries are the values of the first column of text, such as titles, or those of `judgements`;
    an item is relevant that carries the text, or that was judged to be. What was learned is kept
    with the index, and nothing is encoded again but the queries.

    Args:
        path: the index folder.
        fusion: `neural`, `attention`, or `concat`, of which the default weights are learned.
        judgements: JSON lines of {"query": text, "relevant": [ids]}.
        missing: the policy for missing modalities to learn and to switch on; None keeps it.
        seed: the same seed gives the same fusion on the same machine.
        progress: told of every stage; None tells nobody.

    Raises:
        FusionError: a fusion that is not learned.
        OneSpaceError: the index has a single space.
        JudgementsError: a file of judgements that does not read, or names no item of the index.
        NoPairsError: neither queries nor items that have two spaces.
        PolicyError: no such policy, or not with this fusion.
        NotAnIndexError, IndexLockedError, CorruptIndexError, StoreError: the index itself.
    """
    started, progress = monotonic(), progress or Silent()
    if fusion not in LEARNABLE:
        raise FusionError(
            "fusion to learn",
            expected=f"one of {', '.join(LEARNABLE)}",
            got=repr(fusion),
            remedy="`mean` is fitted by `catalens rebuild INDEX --fusion mean`.",
        )
    with opened_for_writing(path) as index:
        policy = index.recipe.missing if missing is None else check_policy(missing)
        recipe = replace(index.recipe, missing=policy, fusion=fusion, learned=None)
        given = None if judgements is None else read_judgements(Path(judgements))
        learned, queries, report = _learned(index, recipe, given, seed, progress)
        derived = index.publish(learned, progress)
    return FusionSummary(
        path=index.layout.root,
        fusion=fusion,
        queries=queries,
        report=report,
        weights={space.spec.name: space.spec.weight for space in derived.spaces},
        recall=derived.index.recall,
        seconds=monotonic() - started,
        notes=derived.notes,
    )


def _learned(
    index: Opened, recipe: Recipe, given: list[Judged] | None, seed: int, progress: Progress
) -> tuple[Recipe, int, TrainingReport | WeightReport]:
    data = gathered(index.snapshot, recipe, given, progress)
    recipe = data.recipe
    if recipe.fusion == ConcatFusion.kind:
        by_heads = {s.name for s in recipe.spaces if "text" in s.heads}
        proposed = propose_weights(
            data.data,
            by_heads=by_heads,
            impute=recipe.missing == "impute",
            seed=seed,
            progress=progress,
        )
        return _weighted(recipe, proposed), data.queries, proposed.report
    train = train_attention if recipe.fusion == "attention" else train_neural
    fusion, report = train(data.data, data.transforms, seed=seed, progress=progress)
    return replace(recipe, learned=fusion), data.queries, report


class Gathered(NamedTuple):
    """What there is to learn from, the recipe with the spaces that are filled, and how many queries
    were asked."""

    recipe: Recipe
    transforms: dict[str, SpaceTransform]
    data: TrainingData
    queries: int


def gathered(
    snapshot: Snapshot, recipe: Recipe, given: list[Judged] | None, progress: Progress
) -> Gathered:
    """The blocks of a catalog, and the queries that it is asked: those given, else its titles.

    Raises:
        OneSpaceError, JudgementsError: see `learn_fusion`.
    """
    blocks = BlockSource(snapshot, recipe)
    recipe = blocks.recipe
    _check_spaces(recipe)
    transforms = {space.name: blocks.fit(space) for space in recipe.spaces}
    weights = {space.name: space.spec.weight for space in recipe.spaces}
    records = [record for _, record in snapshot.scan_records()]
    items = [item for _, item in snapshot.scan_inputs()]
    judged = own_titles(records, recipe) if given is None else given
    queries, pairs = encoded_queries(judged, records, recipe, transforms, snapshot, progress)
    real = blocks.real(transforms, items)
    impute = recipe.missing == "impute"
    imputed = {
        name: blocks.imputed(transforms, name, items)[0] if impute else np.zeros_like(real[name])
        for name in real
    }
    data = TrainingData(real, imputed, queries, pairs, weights)
    return Gathered(recipe, transforms, data, len(judged))


def _weighted(recipe: Recipe, proposed: Proposed) -> Recipe:
    """The recipe with the weights, and strength and trust for all heads of a space."""
    spaces = tuple(
        replace(
            space,
            heads={
                modality: replace(
                    reach,
                    strength=proposed.strengths[space.name] or reach.strength,
                    trust=reach.trust * proposed.trusts[space.name],
                )
                for modality, reach in space.heads.items()
            },
        )
        for space in recipe.spaces
    )
    # Words never ask for item vectors, so that queries in words cannot tell how much these count.
    asked = {s.name for s in recipe.spaces if s.spec.item != BEHAVIOUR}
    weights = {name: weight for name, weight in proposed.weights.items() if name in asked}
    return replace(recipe, spaces=spaces).with_weights(weights, "learned")


def _check_spaces(recipe: Recipe) -> None:
    if len(recipe.spaces) < 2:
        raise OneSpaceError(
            "index",
            expected="at least two spaces, to learn how they count",
            got=f"{[space.name for space in recipe.spaces]}",
            remedy="Map another modality, or choose a preset with another space for this one.",
        )


def _nothing_to_align(index: Opened) -> NoPairsError:
    return NoPairsError(
        "index",
        expected="two spaces that are filled by different modalities, not aligned yet",
        got=", ".join(f"{s.name} by {kind_of_input(s.spec.item)}" for s in index.recipe.spaces),
        remedy="Map another modality.",
    )


def _no_pairs(source: Space, target: Space) -> NoPairsError:
    return NoPairsError(
        f"alignment of {source.name} to {target.name}",
        expected="items that have both",
        got="0 pairs",
        remedy="Nothing can be learned without: index items that have both.",
    )
