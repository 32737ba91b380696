"""What recall is measured on: questions that users really ask, made of the catalog's own rows.

An index does not know its recall, and it is another one when a query asks for one space alone, or
when a filter leaves only rows that are far away: lists and codes were trained on all spaces and on
all rows. Each row is left out of its own answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .fusion import ConcatFusion, Fusion
from .rows import Rows
from .searcher import Found, OperatingPoint, Searcher, Selection

Floats = NDArray[np.float32]
Positions = NDArray[np.int64]
Bools = NDArray[np.bool_]

K = 10
SLACK = 0.01
"""By so much less a point may find under filters, the worst there are of their kinds."""
# The weight of the space that a query is against: as much as an unliked item's.
_AGAINST = -0.5
_SKEWED = 4.0
# A filter that allows fewer has no k best to tell from others.
_LEAST_ALLOWED = 2 * K
_CHUNK = 4096
# Recall of a quarter of the queries that is so far below what is aimed at says enough.
_FAR = 0.1
_ROUNDING = 1e-5


@dataclass(frozen=True)
class Asked:
    """Queries float32 (m, D), the position int64 (m,) that each is made of, -1 for none, and the
    rows that may answer."""

    queries: Floats
    own: Positions
    selection: Selection | None = None

    def first(self, count: int) -> Asked:
        """The first so many of them."""
        return Asked(self.queries[:count], self.own[:count], self.selection)

    @classmethod
    def mixed(cls, several: Sequence[Asked], count: int) -> Asked:
        """At most so many, as many of each as of the others, for any row to answer."""
        each = -(-count // len(several))
        return cls(
            np.concatenate([one.queries[:each] for one in several])[:count],
            np.concatenate([one.own[:each] for one in several])[:count],
        )


@dataclass(frozen=True)
class Filters:
    """Which filters to measure under: for each part of the rows that is allowed, how those lie:
    `random`, or the `near` or `far` ones as seen from some row; from `directions` rows each."""

    kinds: Mapping[float, tuple[str, ...]]
    directions: int


@dataclass(frozen=True)
class Sample:
    """Rows of the catalog in random order (catalogs are sorted, and their first items are of one
    kind), their positions, and where each space lies in them: `blocks` is empty where spaces share
    dimensions. `weights` are the default weights. Of each kind, `count` queries are made."""

    rows: Floats
    positions: Positions
    blocks: Mapping[str, slice]
    weights: Mapping[str, float]
    count: int

    @classmethod
    def draw(cls, rows: Rows, fusion: Fusion, count: int, seed: int) -> Sample:
        """A seeded sample of the rows that a fusion made."""
        rng = np.random.default_rng(seed)
        positions = rng.choice(len(rows), min(32 * count, len(rows)), replace=False)
        blocks = fusion.blocks if isinstance(fusion, ConcatFusion) else {}
        return cls(rows.take(positions), positions, blocks, fusion.weights, count)

    def plain(self) -> dict[str, Asked]:
        """All spaces at their default weights, and each alone."""
        found = {"all spaces": self._rows(self.rows[: self.count], np.arange(self.count))}
        for name, where in self.blocks.items() if len(self.blocks) > 1 else ():
            present = np.flatnonzero(self._has[name])[: self.count]
            alone = np.zeros((len(present), self.rows.shape[1]), dtype=np.float32)
            alone[:, where] = self.rows[present, where]
            found[f"{name} alone"] = self._rows(alone, present)
        return _not_empty(found)

    def skewed(self) -> dict[str, Asked]:
        """Each space at four times the weight of the others."""
        return self._weighted("{} 4:1", _SKEWED)

    def against(self) -> dict[str, Asked]:
        """All spaces but one, and against that one. To be against a space alone is another
        question, and an easier one."""
        return self._weighted("against {}", _AGAINST)

    def with_holes(self, lacking: Bools) -> dict[str, Asked]:
        """Asked by items that lack a space, and answered by none but those.

        Args:
            lacking: bool (n,), which items of the catalog these are.
        """
        found = {}
        holed = np.flatnonzero(lacking[self.positions])[: self.count]
        if len(holed):
            found["by items with holes"] = self._rows(self.rows[holed], holed)
        if lacking.sum() >= _LEAST_ALLOWED:
            everyone = self.plain()["all spaces"]
            found["for items with holes"] = Asked(
                everyone.queries, everyone.own, Selection(lacking)
            )
        return found

    def filtered(
        self, asked: Asked, rows: Rows, filters: Filters, seed: int
    ) -> dict[str, list[Asked]]:
        """The same questions under filters, as many of them with each filter of a kind.

        Args:
            asked: the questions.
            rows: all rows.
            filters: which filters.
            seed: chooses rows and directions.
        """
        rng = np.random.default_rng(seed)
        found: dict[str, list[Asked]] = {}
        for number in range(filters.directions):
            direction = self.rows[rng.integers(len(self.rows))]
            seen = np.concatenate([chunk @ direction for _, chunk in rows.chunks()])
            orders = {"random": rng.permutation(len(rows)), "near": np.argsort(-seen)}
            orders["far"] = orders["near"][::-1]
            some = slice(number, None, filters.directions)
            for share, kinds in filters.kinds.items() if len(asked.own[some]) else ():
                allowed = min(len(rows), max(_LEAST_ALLOWED, round(share * len(rows))))
                for kind in kinds:
                    mask = np.zeros(len(rows), dtype=bool)
                    mask[orders[kind][:allowed]] = True
                    several = found.setdefault(f"filter {100 * share:g} %, {kind}", [])
                    several.append(Asked(asked.queries[some], asked.own[some], Selection(mask)))
        return found

    @cached_property
    def _has(self) -> dict[str, Bools]:
        return {n: np.any(self.rows[:, w] != 0, axis=1) for n, w in self.blocks.items()}

    def _rows(self, queries: Floats, which: Positions) -> Asked:
        return Asked(queries, self.positions[which[: len(queries)]])

    def _weighted(self, told: str, weight: float) -> dict[str, Asked]:
        """All spaces with a weight of 1 but one, for each: asked by items that have them all, where
        there are any."""
        if len(self.blocks) < 2:
            return {}
        found = {}
        has = np.stack(list(self._has.values()), axis=1)
        whole = has.all(axis=1) if has.all(axis=1).any() else has.any(axis=1)
        for space in self.blocks:
            present = np.flatnonzero(whole & self._has[space])[: self.count]
            # Rows carry the square root of the default weights, queries what is left of theirs.
            asked = self.rows[present].copy()
            for name, where in self.blocks.items():
                asked[:, where] *= np.float32((weight if name == space else 1) / self.weights[name])
            found[told.format(space)] = self._rows(asked, present)
        return _not_empty(found)


def _not_empty(asked: Mapping[str, Asked]) -> dict[str, Asked]:
    return {name: one for name, one in asked.items() if len(one.queries)}


class Condition:
    """Questions with the exact k-th best score float32 (m,) for each.

    Args:
        rows: scanned for the answers.
        several: questions of one kind; the condition's recall is that of the worst of them.
        rows_recall: what a scan of these rows finds of the true best; what is missing from 1 is
            taken from all that is measured.
    """

    def __init__(self, rows: Rows, several: Sequence[Asked], rows_recall: float = 1.0) -> None:
        self._rows = rows
        self._lost = 1 - rows_recall
        self._known = [(asked, _exact_kth(rows, asked)) for asked in several]
        filtered = any(asked.selection is not None for asked in several)
        self.slack = SLACK if filtered else 0.0

    def recall(self, searcher: Searcher, point: OperatingPoint, aim: float = 0.0) -> float:
        """Share of the k best that are found, less its standard error: other queries are to find as
        much. A score as good as the k-th counts (ties).

        Where the first queries alone find far less than `aim`, what these find.
        """
        worst = 1.0
        for asked, kth in self._known:
            first = len(kth) // 4
            if first >= K and aim > 0:
                found = self._recall(searcher, point, asked.first(first), kth[:first])
                if found < aim - _FAR:
                    return found
            worst = min(worst, self._recall(searcher, point, asked, kth))
            if worst < aim:
                break
        return worst

    def scan_recall(self, searcher: Searcher) -> float:
        """The same for a scan of all rows of a searcher that has them rounded: what it finds is
        judged by what it scores here."""
        worst = 1.0
        for asked, kth in self._known:
            scanned = searcher.search(asked.queries, K + 1, None, asked.selection)
            judged = [
                (positions, self._rows.take(positions) @ query)
                for query, (positions, _) in zip(asked.queries, scanned, strict=True)
            ]
            worst = min(worst, _share(judged, asked, kth))
        return worst

    def _recall(
        self, searcher: Searcher, point: OperatingPoint, asked: Asked, kth: Floats
    ) -> float:
        found = searcher.search(asked.queries, K + 1, point, asked.selection)
        return max(0.0, _share(found, asked, kth) - self._lost)


def _share(answers: Sequence[Found], asked: Asked, kth: Floats) -> float:
    """Share of the k best among what was found, less its standard error."""
    found = np.ones(len(kth))
    for number, (positions, scores) in enumerate(answers):
        if np.isfinite(kth[number]):  # else there are fewer than k, and all of them are found
            others = scores[positions != asked.own[number]][:K]
            # Scores are computed in another order than the oracle's: allow for rounding.
            bound = kth[number] - _ROUNDING * max(1, abs(kth[number]))
            found[number] = np.count_nonzero(others >= bound) / K
    return float(found.mean() - found.std() / np.sqrt(len(found)))


def _exact_kth(rows: Rows, asked: Asked) -> Floats:
    """Exact k-th best score of each query over all rows that may answer, but its own."""
    top = np.full((len(asked.queries), K), -np.inf, dtype=np.float32)
    for positions, chunk in _chunks(rows, asked.selection):
        scores = asked.queries @ chunk.T
        scores[asked.own[:, None] == positions] = -np.inf
        top = np.partition(np.concatenate([top, scores], axis=1), -K, axis=1)[:, -K:]
    return np.asarray(top.min(axis=1))


def _chunks(rows: Rows, selection: Selection | None) -> Iterator[tuple[Positions, Floats]]:
    allowed = np.arange(len(rows)) if selection is None else selection.positions
    for start in range(0, len(allowed), _CHUNK):
        positions = allowed[start : start + _CHUNK]
        yield positions, rows.take(positions)
