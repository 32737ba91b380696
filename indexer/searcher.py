"""Candidates by codes, scores by exact rows: the search plan of a generation.

FAISS scores rows in place, but cannot check them. So until every block of the rows was checked
once, which takes some dozens of queries or one batch, candidates are scored here, from rows that
are checked as they are read.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .faiss_index import FaissIndex
from .plan import Plan
from .rows import Rows

Floats = NDArray[np.float32]
Positions = NDArray[np.int64]
Allowed = NDArray[np.bool_]
Found = tuple[Positions, Floats]
"""Positions int64 (h,) and their scores float32 (h,), the best first."""

# Up to this many allowed rows are scored without codes: half a millisecond at 384 dimensions.
# Codes tell neighbours apart; among rows that are all far away, which a filter may well leave, they
# tell little.
_EXACT_SELECTION = 8192
# Beyond that, so many times the candidates are rescored, for the same reason.
_FILTERED_CANDIDATES = 4
# Under a filter, so many allowed rows are scanned at least: less than a millisecond of codes.
_MIN_SCANNED = 25_000
_CHUNK = 4096
# One row in this many allowed: then reading just those beats asking each row whether it is.
_SPARSE = 256
_MIN_CANDIDATES = 40


@dataclass(frozen=True)
class OperatingPoint:
    """How much is searched: lists scanned, and candidates rescored for each hit wanted."""

    nprobe: int
    k_factor: int

    def candidates(self, k: int) -> int:
        """Candidates to rescore for k hits."""
        return max(_MIN_CANDIDATES, k * self.k_factor)


class Selection:
    """The positions that may be returned, in the forms that a search wants them."""

    def __init__(self, mask: Allowed) -> None:
        self.positions: Positions = np.flatnonzero(mask)
        self.bits = np.packbits(mask, bitorder="little")
        self._per_list: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.positions)

    def per_list(self, index: FaissIndex) -> NDArray[np.int64]:
        """How many of the positions each list of the index holds, int64 (lists,)."""
        if self._per_list is None:
            self._per_list = np.bincount(
                index.list_of_position[self.positions], minlength=index.lists
            )
        return self._per_list


class Searcher:
    """Exact top k among the candidates that the codes choose."""

    def __init__(self, index: FaissIndex, rows: Rows, plan: Plan) -> None:
        self.rows = rows
        self._index = index
        self._plan = plan
        index.map_rows(rows.halves)

    def search(
        self, queries: Floats, k: int, point: OperatingPoint, selection: Selection | None = None
    ) -> list[Found]:
        """The k best rows for each query.

        Args:
            queries: float32 (m, D), from `ConcatFusion.fuse_query`.
            k: hits per query, at least 1.
            point: the operating point.
            selection: which positions may be returned; None for all.

        Returns:
            for each query: positions int64 (h,), exact scores float32 (h,) in descending order,
            ties by position; h is k, or all that may be returned where those are fewer.

        Raises:
            CorruptIndexError: a row that is needed is not what was written.
        """
        passing = len(self.rows) if selection is None else len(selection)
        k = min(k, passing)
        if self._plan.kind == "exact" or (
            selection is not None and passing <= max(_EXACT_SELECTION, k)
        ):
            return self._exact(queries, k, selection)
        count = point.candidates(k)
        count = min(count if selection is None else count * _FILTERED_CANDIDATES, passing)
        nprobe = self._nprobe(queries, count, point, selection)
        bits = None if selection is None else selection.bits
        if self._index.scores_rows and self.rows.check(len(queries) * count):
            scores, found = self._index.search_rows(
                queries, k, candidates=count, nprobe=nprobe, bits=bits
            )
            hits = _in_order(scores, found)
        else:
            _, found = self._index.search(queries, count, nprobe=nprobe, bits=bits)
            hits = [self._best(*one, k) for one in zip(queries, found, strict=True)]
        return [
            one if len(one[0]) == k else self._exact(queries[n : n + 1], k, selection)[0]
            for n, one in enumerate(hits)
        ]

    def _nprobe(
        self, queries: Floats, count: int, point: OperatingPoint, selection: Selection | None
    ) -> int:
        """Lists to scan: the point's, more where they would hold too few candidates.

        Under a filter as many allowed rows are scanned as rows are without one, and at least
        `_MIN_SCANNED`, wherever they lie: a filter may well allow only rows far from the query,
        among which the order of the lists says little.
        """
        lists, n = self._plan.lists, len(self.rows)
        if lists == 1:
            return 1
        if selection is None:
            return min(lists, max(point.nprobe, -(-2 * count * lists // n)))
        wanted = max(_MIN_SCANNED, point.nprobe * n // lists, 2 * count)
        if wanted >= len(selection):
            return lists
        held = np.cumsum(
            selection.per_list(self._index)[self._index.nearest_lists(queries)], axis=1
        )
        return int((held < wanted).sum(axis=1).max()) + 1

    def _exact(self, queries: Floats, k: int, selection: Selection | None) -> list[Found]:
        """The k best of all that may be returned, without codes."""
        sparse = selection is not None and len(self.rows) > _SPARSE * len(selection)
        if k and not sparse and self._index.scores_rows and self.rows.check():
            bits = None if selection is None else selection.bits
            return _in_order(*self._index.scan_rows(queries, k, bits))
        every = np.arange(len(self.rows)) if selection is None else selection.positions
        return [self._best_of(query, every, k) for query in queries]

    def _best_of(self, query: Floats, every: Positions, k: int) -> Found:
        """The k best of these, memory bounded by chunks."""
        best = [
            self._best(query, every[start : start + _CHUNK], k)
            for start in range(0, max(len(every), 1), _CHUNK)
        ]
        positions, scores = (np.concatenate(parts) for parts in zip(*best, strict=True))
        order = np.lexsort((positions, -scores))[:k]
        return positions[order], scores[order]

    def _best(self, query: Floats, candidates: Positions, k: int) -> Found:
        """Score candidates, those that are -1 left out."""
        # In ascending order they are read from disk in order, and ties keep it.
        positions = np.sort(candidates[candidates >= 0])
        # Not `rows @ query`: BLAS adds up the last rows in another order, and equal rows would
        # differ.
        scores: Floats = np.vecdot(self.rows.take(positions), query)
        order = (-scores).argsort(kind="stable")[:k]
        return positions.take(order), scores.take(order)


def _in_order(scores: Floats, found: Positions) -> list[Found]:
    """What FAISS found (m, k) for each query: -1 left out, ties by position."""
    if (scores[:, 1:] == scores[:, :-1]).any():
        order = np.lexsort((found, -scores), axis=1)
        scores = np.take_along_axis(scores, order, axis=1)
        found = np.take_along_axis(found, order, axis=1)
    if (found >= 0).all():
        return list(zip(found, scores, strict=True))
    return [(f[f >= 0], s[f >= 0]) for f, s in zip(found, scores, strict=True)]
