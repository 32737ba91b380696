"""Default weights for concatenation, and strengths of imputed blocks, found by search.

A catalog is asked for its own titles, whole and with holes, and coordinate ascent over a grid finds
the weights that rank best on average, among those that rank the catalog without holes no worse, but
for chance, than the best space alone does. Of weights that rank about as well the smallest is
taken: a head has seen this catalog, and finds less in another.

Where queries come to a space through a head, they cannot tell a weight from trust in the head. What
would be a very small weight is then taken from the trust: a query by a picture and a text is to
hear both.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from ..progress import Progress
from .errors import NoPairsError
from .fusion_batches import TrainingData
from .groups import Ints
from .ranking import Bools, Doubles, Floats, holes, ndcg_each

HOLES = (0.0, 0.5)
"""Shares of items that lack a space, for which ranking is measured."""
_GRID = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0)
# Less than the least weight, where a head can be trusted less instead.
_GRID_OF_HEADS = (0.01, 0.02, *_GRID)
# What is imputed counts less than what is there.
_STRENGTHS = (0.1, 0.2, 0.3, 0.5, 0.7, 0.95)
_ROUNDS = 2
# NDCG over some hundred queries is known to about 0.01, and of two settings on the same queries the
# difference to about this.
_ALIKE = 0.005
_MOST_QUERIES = 600
_MOST_ITEMS = 10_000


@dataclass(frozen=True)
class WeightReport:
    """NDCG@10 of the queries for each share of holes, before and after, and of the best space
    alone."""

    queries: int
    before: tuple[float, ...]
    after: tuple[float, ...]
    best_alone: tuple[str, float]


@dataclass(frozen=True)
class Tried:
    """Weights per space, the largest 1, and the NDCG@10 that they gave for each share of holes."""

    weights: dict[str, float]
    quality: tuple[float, ...]


@dataclass(frozen=True)
class Proposed:
    """Default weights per space, the largest 1; the strength of imputed blocks per space; and by
    what the trust in heads that lead to a space is to be multiplied, at most 1."""

    weights: dict[str, float]
    strengths: dict[str, float]
    trusts: dict[str, float]
    report: WeightReport
    tried: tuple[Tried, ...]


def propose_weights(
    data: TrainingData,
    *,
    by_heads: Collection[str],
    impute: bool,
    shares: tuple[float, ...] = HOLES,
    alike: float = _ALIKE,
    seed: int = 0,
    progress: Progress,
) -> Proposed:
    """Search weights and, where holes are imputed, strengths.

    Args:
        data: the catalog and its queries, each query's block weighted as now.
        by_heads: the spaces that the queries come to through heads.
        impute: whether `data.imputed` fills holes; its rows' lengths are the strengths as now.
        shares: of items that lack a space, for which ranking is measured, the first of them 0.
        alike: a smaller weight is taken before a larger one that ranks better by so little.
        seed: decides which queries and items are asked, where there are many.
        progress: told of each round.

    Raises:
        NoPairsError: no query has a relevant item.
    """
    if not len(data.pairs):
        raise NoPairsError(
            "weights",
            expected="queries with relevant items: titles of the catalog, or judgements",
            got="none",
            remedy="Map a column of text, or pass --judgements.",
        )
    search = _Search(data, impute, shares, seed)
    before = search.quality(search.now, search.strengths_now)
    weights, strengths = dict(search.now), dict(search.strengths_now)
    alone = {name: search.alone(name) for name in weights}
    best = max(alone, key=lambda name: float(alone[name].mean()))
    tunable = [name for name in strengths if impute and search.can_impute(name)]
    progress.start("try weights", _ROUNDS * (len(weights) + len(tunable)))
    for _ in range(_ROUNDS):
        for name in weights:
            if name != best:  # only proportions matter
                grid = _GRID_OF_HEADS if name in by_heads else _GRID
                tries = [{**weights, best: 1.0, name: w} for w in grid]
                weights = search.better(tries, [strengths] * len(tries), alone[best], alike)[0]
            progress.advance(1)
        for name in tunable:
            trials = [{**strengths, name: s} for s in _STRENGTHS]
            strengths = search.better([weights] * len(trials), trials, alone[best], 0.0)[1]
            progress.advance(1)
    progress.finish()
    largest = max(weights.values())
    report = WeightReport(
        search.asked, before, search.quality(weights, strengths), (best, float(alone[best].mean()))
    )
    weights = {name: weight / largest for name, weight in weights.items()}
    heard = {n: max(w, _GRID[0]) if n in by_heads else w for n, w in weights.items()}
    trusts = {name: weights[name] / heard[name] for name in heard}
    return Proposed(heard, strengths, trusts, report, search.tried())


class _Search:
    """Scores of each space, worked out once; what weights and strengths make of them."""

    def __init__(
        self, data: TrainingData, impute: bool, shares: tuple[float, ...], seed: int
    ) -> None:
        rng = np.random.default_rng(seed)
        asked = np.unique(data.pairs[:, 0])
        asked = np.sort(rng.permutation(asked)[:_MOST_QUERIES])
        pairs = data.pairs[np.isin(data.pairs[:, 0], asked)]
        items = _chosen(pairs[:, 1], len(data.present), rng)
        place = {item: n for n, item in enumerate(items.tolist())}
        self.asked = len(asked)
        self.relevant: list[Ints] = [
            np.array([place[i] for i in pairs[pairs[:, 0] == q, 1].tolist()]) for q in asked
        ]
        # A query's block is as long as the weight, times the trust in a head where it took one.
        self.now = dict(data.weights)
        self._real: dict[str, Floats] = {}
        self._filled: dict[str, Floats] = {}
        self.strengths_now: dict[str, float] = {}
        for name, weight in data.weights.items():
            queries: Floats = data.queries[name][asked] / np.float32(weight)
            self._real[name] = queries @ data.blocks[name][items].T
            filling = data.imputed[name][items]
            length = float(np.linalg.norm(filling, axis=1).max(initial=0.0)) if impute else 0.0
            self.strengths_now[name] = length
            self._filled[name] = queries @ filling.T / np.float32(length or 1.0)
        present = data.present[items]
        self._masks: list[Bools] = [holes(present, share, seed) for share in shares]
        self._tried: dict[tuple[float, ...], Tried] = {}

    def can_impute(self, name: str) -> bool:
        return self.strengths_now[name] > 0

    def alone(self, name: str) -> Doubles:
        """NDCG@10 of each query by one space, without holes."""
        return ndcg_each(self._real[name], self.relevant)

    def quality(
        self, weights: Mapping[str, float], strengths: Mapping[str, float]
    ) -> tuple[float, ...]:
        """NDCG@10 for each share of holes."""
        return tuple(float(each.mean()) for each in self._each(weights, strengths))

    def _each(self, weights: Mapping[str, float], strengths: Mapping[str, float]) -> list[Doubles]:
        """NDCG@10 of each query, for each share of holes."""
        each = [
            ndcg_each(self._scores(weights, strengths, mask), self.relevant) for mask in self._masks
        ]
        largest = max(weights.values())
        shown = {name: weight / largest for name, weight in weights.items()}
        self._tried[tuple(shown.values())] = Tried(shown, tuple(float(one.mean()) for one in each))
        return each

    def tried(self) -> tuple[Tried, ...]:
        """All weights that were measured, the best first."""
        return tuple(
            sorted(self._tried.values(), key=lambda one: float(np.mean(one.quality)), reverse=True)
        )

    def _scores(
        self, weights: Mapping[str, float], strengths: Mapping[str, float], mask: Bools
    ) -> Floats:
        total = np.zeros_like(next(iter(self._real.values())))
        for column, (name, weight) in enumerate(weights.items()):
            here = mask[:, column]
            seen = np.where(here, self._real[name], np.float32(0))
            if strengths[name]:
                seen = np.where(here, seen, np.float32(strengths[name]) * self._filled[name])
            total += np.float32(weight) * seen
        return total

    def better(
        self,
        weights: list[dict[str, float]],
        strengths: list[dict[str, float]],
        floor: Doubles,
        alike: float,
    ) -> tuple[dict[str, float], dict[str, float]]:
        """The first pair that ranks best on average, or as good as that but for `alike`, of those
        that without holes rank no worse than the floor."""
        found = [self._each(w, s) for w, s in zip(weights, strengths, strict=True)]
        allowed = [n for n, each in enumerate(found) if _as_good(each[0], floor)] or [
            max(range(len(found)), key=lambda n: float(found[n][0].mean()))
        ]
        means = {n: float(np.mean(found[n])) for n in allowed}
        best = next(n for n in allowed if means[n] >= max(means.values()) - alike)
        return weights[best], strengths[best]


def _as_good(each: Doubles, floor: Doubles) -> bool:
    """Whether the mean over the queries is no worse, or by no more than two standard errors, each
    query compared with itself."""
    gain = each - floor
    return bool(gain.mean() >= -2 * gain.std() / np.sqrt(len(gain)))


def _chosen(relevant: Ints, n: int, rng: np.random.Generator) -> Ints:
    """The relevant items and, up to a bound, others."""
    must = np.unique(relevant)
    others = np.setdiff1d(np.arange(n), must)
    return np.concatenate([must, rng.permutation(others)[: max(0, _MOST_ITEMS - len(must))]])
