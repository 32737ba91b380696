"""Exact answers, and recall of the ids that peers name: nobody's own distances are believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..harness import tie_aware_recall

_ROWS_AT_ONCE = 8192

Vectors = NDArray[np.float32]
Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Oracle:
    """Vectors, queries and the exact k-th best similarity of each query, in float64."""

    vectors: Vectors
    queries: Vectors
    kth: Doubles
    k: int

    @classmethod
    def of(cls, vectors: Vectors, queries: Vectors, k: int) -> Oracle:
        """Compare everything with everything once."""
        wide = queries.astype(np.float64).T
        best: Doubles = np.empty((0, len(queries)))
        for start in range(0, len(vectors), _ROWS_AT_ONCE):
            part = vectors[start : start + _ROWS_AT_ONCE].astype(np.float64) @ wide
            best = np.concatenate([best, part])
            if len(best) > k:
                best = np.partition(best, len(best) - k, axis=0)[-k:]
        return cls(vectors, queries, best.min(axis=0), k)

    def recall(self, ids: Sequence[Sequence[int]], numbers: Sequence[int] | None = None) -> float:
        """Share of the k best among ids found for the queries of these numbers, or for all.

        An id named twice counts once; one that no item has counts for nothing.
        """
        asked = range(len(self.queries)) if numbers is None else numbers
        found = [self._similarities(number, row) for number, row in zip(asked, ids, strict=True)]
        return tie_aware_recall(found, self.kth[list(asked)], self.k)

    def _similarities(self, number: int, ids: Sequence[int]) -> Doubles:
        distinct = sorted({i for i in ids if 0 <= i < len(self.vectors)})
        exact: Doubles = self.vectors[distinct].astype(np.float64) @ self.queries[number].astype(
            np.float64
        )
        return exact
