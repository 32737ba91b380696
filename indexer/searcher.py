"""Candidates by codes, scores by exact rows: the search plan of a generation.

FAISS scores rows in place, but cannot check them. So until every block of the rows was checked
once, which takes some dozens of queries or one batch, candidates are scored here, from rows that
are checked as they are read.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .faiss_index import Bits, FaissIndex
from .plan import Plan
from .rows import Rows

Floats = NDArray[np.float32]
Positions = NDArray[np.int64]
Allowed = NDArray[np.bool_]
Found = tuple[Positions, Floats]
"""Positions int64 (h,) and their scores float32 (h,), the best first."""

# Under a filter, so many times the lists are scanned, of those alone that hold a row it allows, and
# so many times the candidates rescored: what a filter leaves may well be far away, where lists and
# codes tell little. By this a filtered query takes about three times as long as another at most.
_FILTERED_LISTS = 4
_FILTERED_CANDIDATES = 3
_CHUNK = 4096
# One row in this many allowed: then reading just those beats asking each row whether it is.
_SPARSE = 100
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
        self._bits = np.packbits(mask, bitorder="little")
        self._allowed: Bits | None = None

    def __len__(self) -> int:
        return len(self.positions)

    def has(self, positions: Positions) -> Allowed:
        """Which of some positions (m,) may be returned, bool (m,)."""
        found: Allowed = (self._bits[positions >> 3] >> (positions & 7) & 1).astype(bool)
        return found

    def bits(self, index: FaissIndex) -> Bits:
        """The positions, and the lists of the index that hold any of them, as bits."""
        if self._allowed is None:
            held = np.zeros(index.lists, dtype=bool)
            if index.lists > 1:
                held[index.list_of_position[self.positions]] = True
            lists = np.packbits(held, bitorder="little")
            self._allowed = Bits(self._bits, lists, int(held.sum()))
        return self._allowed


class Searcher:
    """Exact top k among the candidates that the codes choose.

    Args:
        exact_rows: up to so many rows that a filter allows are scored without codes.
    """

    def __init__(self, index: FaissIndex, rows: Rows, plan: Plan, exact_rows: int = 0) -> None:
        self.rows = rows
        self.exact_rows = exact_rows
        self._index = index
        self._plan = plan
        index.map_rows(rows.stored, rows.steps)

    @property
    def threads(self) -> int:
        """Threads for batches; 0 for as many as there are cores."""
        return self._index.threads

    @threads.setter
    def threads(self, count: int) -> None:
        self._index.threads = count

    def scannable_codes(self) -> FaissIndex | None:
        """See `FaissIndex.without_lists`."""
        return self._index.without_lists()

    def search(
        self,
        queries: Floats,
        k: int,
        point: OperatingPoint | None,
        selection: Selection | None = None,
    ) -> list[Found]:
        """The k best rows for each query.

        Args:
            queries: float32 (m, D), from `ConcatFusion.fuse_query`.
            k: hits per query, at least 1.
            point: the operating point; None for an exact scan.
            selection: which positions may be returned; None for all.

        Returns:
            for each query: positions int64 (h,), exact scores float32 (h,) in descending order,
            ties by position; h is k, or all that may be returned where those are fewer.

        Raises:
            CorruptIndexError: a row that is needed is not what was written.
        """
        passing = len(self.rows) if selection is None else len(selection)
        k = min(k, passing)
        if (
            point is None
            or self._plan.kind == "exact"
            or (selection is not None and passing <= max(self.exact_rows, k))
        ):
            return self._exact(queries, k, selection)
        count = point.candidates(k)
        count = min(count if selection is None else count * _FILTERED_CANDIDATES, passing)
        bits = None if selection is None else selection.bits(self._index)
        nprobe = self._nprobe(count, passing, point, bits)
        if self._index.scores_rows and self.rows.check(len(queries) * count):
            scores, found = self._index.search_rows(
                queries, k, candidates=count, nprobe=nprobe, bits=bits
            )
            hits = in_order(scores, found)
        else:
            _, found = self._index.search(queries, count, nprobe=nprobe, bits=bits)
            hits = [self._best(*one, k) for one in zip(queries, found, strict=True)]
        return [
            one if len(one[0]) == k else self._exact(queries[n : n + 1], k, selection)[0]
            for n, one in enumerate(hits)
        ]

    def _nprobe(self, count: int, passing: int, point: OperatingPoint, bits: Bits | None) -> int:
        """Lists to scan: the point's, more where they would hold too few candidates.

        The more rows a filter allows, the less it is one: it gets more lists by the part that it
        leaves out.
        """
        lists, wanted = self._plan.lists, point.nprobe
        if bits is not None:
            left_out = 1 - passing / len(self.rows)
            lists = bits.lists_held
            wanted += round(left_out * (_FILTERED_LISTS - 1) * point.nprobe)
        return min(lists, max(wanted, -(-2 * count * lists // passing)))

    def _exact(self, queries: Floats, k: int, selection: Selection | None) -> list[Found]:
        """The k best of all that may be returned, without codes."""
        sparse = selection is not None and len(self.rows) > _SPARSE * len(selection)
        if k and not sparse and self._index.scores_rows and self.rows.check():
            bits = None if selection is None else selection.bits(self._index)
            return in_order(*self._index.scan_rows(queries, k, bits))
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


def in_order(scores: Floats, found: Positions) -> list[Found]:
    """What FAISS found (m, k) for each query: -1 left out, ties by position."""
    if not (scores[:, 1:] < scores[:, :-1]).all():
        order = np.lexsort((found, -scores), axis=1)
        scores = np.take_along_axis(scores, order, axis=1)
        found = np.take_along_axis(found, order, axis=1)
    if (found[:, -1:] >= 0).all():  # what is missing stands last
        return list(zip(found, scores, strict=True))
    return [(f[f >= 0], s[f >= 0]) for f, s in zip(found, scores, strict=True)]
