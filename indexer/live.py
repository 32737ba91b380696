"""The items that live, by position: those of the generation first, then the fresh ones.

A generation never changes: what was added since is searched exactly beside it, and what has died
in it is passed over. An index without either is searched as if none of this were here.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .errors import CorruptIndexError
from .fresh import FreshScan
from .generation import Generation
from .searcher import Found, OperatingPoint, Selection
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
        self._scan: FreshScan | None = None
        self.row_numbers = generation.row_numbers
        """The store's row of each position, uint32 (n + f,), ascending."""
        self.states = generation.states
        """State of each block, uint8 (n + f, S)."""
        if len(fresh.numbers):
            self._scan = FreshScan(fresh, self._n)
            numbers = fresh.numbers.astype(np.uint32)
            self.row_numbers = np.concatenate([generation.row_numbers, numbers])
            self.states = np.concatenate([generation.states, fresh.states])
        gone = snapshot.dead()
        dead = np.searchsorted(generation.row_numbers, gone)
        # A tombstone of no row buries nothing; `verify` tells of it.
        dead = dead[generation.row_numbers[np.minimum(dead, self._n - 1)] == gone]
        self._dead = len(dead)
        self.alive: Mask = np.ones(self._n + len(fresh.numbers), dtype=bool)
        """Whether the item of each position lives, bool (n + f,)."""
        self.alive[dead] = False
        self._living: Chosen | None = None
        if len(self) != snapshot.count():
            raise CorruptIndexError(
                "index",
                expected=f"{snapshot.count():,} items, as the store has records",
                got=f"{len(self):,} in the generation and beside it",
                remedy="Run `catalens verify`; restore it from a backup, or build it again.",
            )

    def prepare(self, before: Live | None) -> None:
        """Make ready for many searches; what was made ready for an earlier state is taken over."""
        if self._scan is not None:
            same = before is not None and before.generation.manifest is self.generation.manifest
            known = before._scan if before is not None and same else None
            self._scan.code(self.generation.searcher, known)

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
        fresh = None if chosen is None else chosen.fresh
        return self._scan.beside(queries, found, k, fresh, coded=point is not None)

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
