"""Candidates by codes, scores by exact rows: the search plan of a generation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .faiss_index import FaissIndex, Plan
from .rows import Rows

Floats = NDArray[np.float32]
Positions = NDArray[np.int64]
Allowed = NDArray[np.bool_]

# Up to this many allowed rows are scored without the index: 2 to 3 milliseconds at 384
# dimensions. Codes tell neighbours apart; among rows that are all far away, which a filter may
# well leave, they tell little.
_EXACT_SELECTION = 8192
# Beyond that, so many times the candidates are rescored, for the same reason.
_FILTERED_CANDIDATES = 4
# Under a filter, so many allowed rows are scanned at least: less than a millisecond of codes.
_MIN_SCANNED = 25_000
_CHUNK = 4096
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

    def search(
        self, queries: Floats, k: int, point: OperatingPoint, selection: Selection | None = None
    ) -> list[tuple[Positions, Floats, Floats]]:
        """The k best rows for each query.

        Args:
            queries: float32 (m, D), from `ConcatFusion.fuse_query`.
            k: hits per query, at least 1.
            point: the operating point.
            selection: which positions may be returned; None for all.

        Returns:
            for each query: positions int64 (h,), exact scores float32 (h,) in descending order,
            ties by position, and the rows float32 (h, D) themselves; h is k, or all that may be
            returned where those are fewer.
        """
        passing = len(self.rows) if selection is None else len(selection)
        if selection is not None and passing <= max(_EXACT_SELECTION, k):
            return [self._exact(query, k, selection) for query in queries]
        count = k if self._plan.kind == "exact" else point.candidates(k)
        count = min(count if selection is None else count * _FILTERED_CANDIDATES, passing)
        nprobe = self._nprobe(queries, count, point, selection)
        bits = None if selection is None else selection.bits
        _, found = self._index.search(queries, count, nprobe=nprobe, bits=bits)
        hits = []
        for query, row in zip(queries, found, strict=True):
            # In ascending order they are read from disk in order, and ties keep it.
            positions = row if row[-1] >= 0 else row[row >= 0]
            positions.sort()
            if len(positions) < min(k, passing):
                hits.append(self._exact(query, k, selection))
            else:
                hits.append(_best(query, positions, self.rows.take(positions), k))
        return hits

    def _nprobe(
        self, queries: Floats, count: int, point: OperatingPoint, selection: Selection | None
    ) -> int:
        """Lists to scan: the point's, more where they would hold too few candidates.

        Under a filter as many allowed rows are scanned as rows are without one, and at least
        `_MIN_SCANNED`, wherever they lie: a filter may well allow only rows far from the query,
        among which the order of the lists says little.
        """
        lists, n = self._plan.lists, len(self.rows)
        if selection is None:
            return min(lists, max(point.nprobe, -(-2 * count * lists // n)))
        wanted = max(_MIN_SCANNED, point.nprobe * n // lists, 2 * count)
        if wanted >= len(selection):
            return lists
        held = np.cumsum(
            selection.per_list(self._index)[self._index.nearest_lists(queries)], axis=1
        )
        return int((held < wanted).sum(axis=1).max()) + 1

    def _exact(
        self, query: Floats, k: int, selection: Selection | None
    ) -> tuple[Positions, Floats, Floats]:
        """The k best of all that may be returned, without the index; memory bounded by chunks."""
        every = np.arange(len(self.rows)) if selection is None else selection.positions
        best = []
        for start in range(0, max(len(every), 1), _CHUNK):
            positions = every[start : start + _CHUNK]
            best.append(_best(query, positions, self.rows.take(positions), k))
        if len(best) == 1:
            return best[0]
        positions, _, rows = (np.concatenate(parts) for parts in zip(*best, strict=True))
        order = positions.argsort()
        return _best(query, positions[order], rows[order], k)


def _best(
    query: Floats, positions: Positions, rows: Floats, k: int
) -> tuple[Positions, Floats, Floats]:
    """Score rows exactly; positions must come in ascending order where scores may tie."""
    # Not `rows @ query`: BLAS adds up the last rows in another order, and equal rows would differ.
    scores: Floats = np.vecdot(rows, query)
    order = (-scores).argsort(kind="stable")[:k]
    return positions.take(order), scores.take(order), rows.take(order, axis=0)
