"""How long an index takes at its operating points, on this machine, by turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from time import perf_counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from encoders import usable_cores

from .conditions import K
from .searcher import OperatingPoint, Searcher, Selection

Floats = NDArray[np.float32]

_BATCH = 256
_ROUNDS = 3
# Numbers of allowed rows are tried by doubling from the least, with so many queries each.
_LEAST_ROWS = 256
_TRIES = 15
# Threads that are given up for others must bring so much: what is less is noise.
_CLEARLY = 0.9


class Timing(NamedTuple):
    """Milliseconds of a single query, and queries per second in a batch."""

    p50_ms: float
    p99_ms: float
    queries_per_second: float


class Stopwatch:
    """Times searches for the 10 best.

    Args:
        queries: float32 (m, D).
        singles: how many of them are asked one at a time.
    """

    def __init__(self, searcher: Searcher, queries: Floats, singles: int) -> None:
        searcher.rows.check()  # or the first searches would check rows
        self._searcher = searcher
        self._batch = np.ascontiguousarray(queries[:_BATCH])
        self._singles = queries[np.arange(singles) % len(queries)]

    def time(self, points: Sequence[OperatingPoint]) -> list[Timing]:
        """The timing of each point."""
        if not points:
            return []
        calls = [self._search(point) for point in points]
        single = np.array([_by_turns(calls, query[None]) for query in self._singles])
        batch = np.array([_by_turns(calls, self._batch) for _ in range(_ROUNDS)]).min(axis=0)
        p50, p99 = (np.percentile(single, q, axis=0) * 1e3 for q in (50, 99))
        return [
            Timing(*(float(f"{value:.3g}") for value in (a, b, len(self._batch) / seconds)))
            for a, b, seconds in zip(p50, p99, batch, strict=True)
        ]

    def best_threads(self, point: OperatingPoint) -> int:
        """Threads that answer a batch clearly faster than as many as there are cores; 0 where none
        do."""
        call, best, least = self._search(point), 0, np.inf
        for count in [0, *(1 << n for n in range((usable_cores() - 1).bit_length()))]:
            self._searcher.threads = count
            seconds = min(_by_turns([call], self._batch)[0] for _ in range(_ROUNDS))
            if seconds < (_CLEARLY if count else 1) * least:
                best, least = count, seconds
        return best

    def exact_rows(self, point: OperatingPoint) -> int:
        """Allowed rows up to which a scan without codes takes no longer than a search with them."""
        n, limit = len(self._searcher.rows), _LEAST_ROWS
        self._searcher.exact_rows = 0
        order = np.random.default_rng(0).permutation(n)
        while 2 * limit < n:
            mask = np.zeros(n, dtype=bool)
            mask[order[: 2 * limit]] = True
            selection = Selection(mask)
            calls = [self._search(None, selection), self._search(point, selection)]
            _by_turns(calls, self._singles[:1])
            taken = [_by_turns(calls, query[None]) for query in self._singles[:_TRIES]]
            scan, codes = (median(seconds) for seconds in zip(*taken, strict=True))
            if scan > codes:
                break
            limit *= 2
        return limit

    def _search(
        self, point: OperatingPoint | None, selection: Selection | None = None
    ) -> Callable[[Floats], object]:
        return lambda queries: self._searcher.search(queries, K, point, selection)


def _by_turns(calls: Sequence[Callable[[Floats], object]], queries: Floats) -> list[float]:
    """Seconds that each call takes."""
    seconds = []
    for call in calls:
        start = perf_counter()
        call(queries)
        seconds.append(perf_counter() - start)
    return seconds
