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

# Up to this many allowed rows are scored exactly: about half a millisecond at 384 dimensions.
_EXACT_ALLOWED = 2048
_MIN_CANDIDATES = 40


@dataclass(frozen=True)
class OperatingPoint:
    """How much is searched: lists scanned, and candidates rescored for each hit wanted."""

    nprobe: int
    k_factor: int

    def candidates(self, k: int) -> int:
        """Candidates to rescore for k hits."""
        return max(_MIN_CANDIDATES, k * self.k_factor)


class Searcher:
    """Exact top k among the candidates that the codes choose."""

    def __init__(self, index: FaissIndex, rows: Rows, plan: Plan) -> None:
        self.rows = rows
        self._index = index
        self._plan = plan

    def search(
        self,
        queries: Floats,
        k: int,
        point: OperatingPoint,
        allowed: Allowed | None = None,
    ) -> list[tuple[Positions, Floats, Floats]]:
        """The k best rows for each query.

        Args:
            queries: float32 (m, D), from `ConcatFusion.fuse_query`.
            k: hits per query, at least 1.
            point: the operating point.
            allowed: bool (n,), which positions may be returned; None for all.

        Returns:
            for each query: positions int64 (h,), exact scores float32 (h,) in descending order,
            ties by position, and the rows float32 (h, D) themselves; h <= k.
        """
        passing = len(self.rows) if allowed is None else int(np.count_nonzero(allowed))
        if allowed is not None and passing <= max(_EXACT_ALLOWED, k):
            positions = np.flatnonzero(allowed)
            rows = self.rows.take(positions)
            return [self._best(query, positions, rows, k) for query in queries]
        if self._plan.kind == "exact":
            count, nprobe = min(k, passing), 1
        else:
            count = min(point.candidates(k), passing)
            # The fewer rows pass, the more lists hold the k best of them.
            nprobe = min(self._plan.lists, -(-point.nprobe * len(self.rows) // passing))
        _, found = self._index.search(queries, count, nprobe=nprobe, allowed=allowed)
        hits = []
        for query, row in zip(queries, found, strict=True):
            # In ascending order they are read from disk in order, and ties keep it.
            positions = np.sort(row if row[-1] >= 0 else row[row >= 0])
            hits.append(self._best(query, positions, self.rows.take(positions), k))
        return hits

    def _best(
        self, query: Floats, positions: Positions, rows: Floats, k: int
    ) -> tuple[Positions, Floats, Floats]:
        scores = rows @ query
        order = np.argsort(-scores, kind="stable")[:k]
        return positions[order], scores[order], rows[order]
