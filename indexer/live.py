"""The items that live, by position: those of the generation first, then the fresh ones.

A generation never changes: what was added since is searched exactly beside it, and what has died
in it is passed over. An index without either is searched as if none of this were here.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .faiss_index import FaissIndex
from .generation import Generation
from .plan import Plan
from .searcher import Found, OperatingPoint, Selection, in_order
from .snapshot import Snapshot

Floats = NDArray[np.float32]
Positions = NDArray[np.int64]
Mask = NDArray[np.bool_]


class Chosen(NamedTuple):
    """What a filter lets through: of the generation, and of the fresh rows."""

    settled: Selection
    fresh: Selection


class Live:
    """The items of a snapshot, n of its generation and f that are fresh."""

    def __init__(self, generation: Generation, snapshot: Snapshot) -> None:
        self.generation = generation
        self.snapshot = snapshot
        self._n = len(generation)
        manifest = generation.manifest
        fresh = snapshot.fresh(manifest.dimension, len(manifest.spaces))
        self.fresh = fresh
        self._scan: FaissIndex | None = None
        self.row_numbers = generation.row_numbers
        """The store's row of each position, uint32 (n + f,), ascending."""
        self.states = generation.states
        """State of each block, uint8 (n + f, S)."""
        if len(fresh.numbers):
            plan = Plan.choose(len(fresh.numbers), manifest.dimension, (), "exact", gpu=False)
            self._scan = FaissIndex.train(plan, fresh.vectors[:1].astype(np.float32), gpu=False)
            self._scan.map_rows(fresh.vectors)
            numbers = fresh.numbers.astype(np.uint32)
            self.row_numbers = np.concatenate([generation.row_numbers, numbers])
            self.states = np.concatenate([generation.states, fresh.states])
        dead = np.searchsorted(generation.row_numbers, snapshot.dead())
        self._dead = len(dead)
        self.alive: Mask = np.ones(self._n + len(fresh.numbers), dtype=bool)
        """Whether the item of each position lives, bool (n + f,)."""
        self.alive[dead] = False
        self._living: Chosen | None = None

    def __len__(self) -> int:
        """Number of items that live."""
        return len(self.alive) - self._dead

    def position_of(self, row: int) -> int | None:
        """Position of a row; None when it is not here."""
        found = self.generation.position_of(row)
        if found is None:
            here = int(np.searchsorted(self.row_numbers, row))
            fresh = here < len(self.row_numbers) and int(self.row_numbers[here]) == row
            found = here if fresh else None
        return found

    def rows(self, positions: Positions) -> Floats:
        """Fused vectors at positions (m,), float32 (m, D)."""
        if self._scan is None:
            return self.generation.searcher.rows.take(positions)
        fresh = positions >= self._n
        if not fresh.any():
            return self.generation.searcher.rows.take(positions)
        found = np.empty((len(positions), self.fresh.vectors.shape[1]), dtype=np.float32)
        found[~fresh] = self.generation.searcher.rows.take(positions[~fresh])
        found[fresh] = self.fresh.vectors.take(positions[fresh] - self._n, axis=0)
        return found

    def ids(self, positions: Positions) -> list[str]:
        """Ids at positions (m,)."""
        fresh = () if self._scan is None else np.flatnonzero(positions >= self._n)
        if not len(fresh):
            return self.generation.ids.take(positions)
        ids = self.generation.ids.take(np.where(positions < self._n, positions, 0))
        rows = self.row_numbers[positions[fresh]].tolist()
        for place, record in zip(fresh, self.snapshot.records(rows), strict=True):
            ids[place] = record.id
        return ids

    def choose(self, passing: Mask) -> Chosen:
        """Those of the positions that pass, bool (n + f,), which live."""
        passing = passing & self.alive
        return Chosen(Selection(passing[: self._n]), Selection(passing[self._n :]))

    def search(
        self,
        queries: Floats,
        k: int,
        point: OperatingPoint | None,
        chosen: Chosen | None = None,
    ) -> list[Found]:
        """The k best items that live for each query; see `Searcher.search`."""
        if chosen is None and self._dead:
            found = self._passing_over_the_dead(queries, k, point)
        else:
            settled = None if chosen is None else chosen.settled
            found = self.generation.searcher.search(queries, k, point, settled)
        if self._scan is None:
            return found
        bits = None if chosen is None else chosen.fresh.bits(self._scan)
        fresh = in_order(*self._scan.scan_rows(queries, min(k, len(self.fresh.numbers)), bits))
        return [self._merged(*both, k) for both in zip(found, fresh, strict=True)]

    def _merged(self, settled: Found, fresh: Found, k: int) -> Found:
        """The k best of both, ties by position."""
        best = fresh[1][0] if len(fresh[1]) else -math.inf
        if len(settled[1]) == k and best <= settled[1][-1]:
            return settled
        positions = np.concatenate([settled[0], fresh[0] + self._n])
        scores = np.concatenate([settled[1], fresh[1]])
        order = (-scores).argsort(kind="stable")[:k]
        return positions[order], scores[order]

    def _passing_over_the_dead(
        self, queries: Floats, k: int, point: OperatingPoint | None
    ) -> list[Found]:
        """Search for some more than are wanted; only where too few of them live, among the living
        alone, which costs what a filter does."""
        searcher = self.generation.searcher
        k = min(k, self._n - self._dead)
        # As many dead ones as are to be expected among the hits, and two standard deviations.
        expected = k * self._dead / self._n
        more = 1 + math.ceil(expected + 2 * math.sqrt(expected))
        found = [
            self._without_the_dead(one, k) for one in searcher.search(queries, k + more, point)
        ]
        short = [number for number, one in enumerate(found) if len(one[0]) < k]
        if short:
            if self._living is None:
                self._living = self.choose(self.alive)
            again = searcher.search(queries[short], k, point, self._living.settled)
            for number, one in zip(short, again, strict=True):
                found[number] = one
        return found

    def _without_the_dead(self, found: Found, k: int) -> Found:
        positions, scores = found
        alive = self.alive[positions]
        return positions[alive][:k], scores[alive][:k]
