"""Check everything an index holds: pages, checksums, postings, and that each item is found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from .blocks import Blocks
from .derivation import kept_file
from .derive import sampled
from .environment import Environment
from .errors import CorruptIndexError
from .fitting import wanted_by
from .generation import Generation, damaged_files, load_manifest
from .layout import IndexLayout
from .live import Live
from .manifest import Manifest
from .missing import IMPUTED, PRESENT
from .opening import open_latest
from .postings_check import PostingsCheck
from .progress import Progress, Silent
from .recipe import Recipe
from .sealing import decoding
from .searcher import OperatingPoint
from .snapshot import Inputs, Snapshot, embedding_key
from .spaces import kind_of_input
from .store import strayed_rejects

Floats = NDArray[np.float32]
Positions = NDArray[np.int64]

_QUERIES = 256
_WITHIN = 10
# Rows are rounded to half precision, so scores to about this part of the vectors' lengths. Where
# they are int8, two scores differ by a step of each dimension at most.
_TOLERANCE = 2e-3
# Items that no search has found are looked for in all rows, so many at once.
_SCANNED_TOGETHER = 1024
_SCANNED_ROWS = 4096
_SHOWN = 10
_SAMPLE = 10_000


@dataclass
class VerifyReport:
    """What was checked, and what is wrong; an index is sound when `problems` is empty."""

    items: int = 0
    files: int = 0
    searched: int = 0
    """Items that were looked for by their own vectors: all, or a sample of them."""
    found_at_point: int = 0
    """Items found by their own vectors within the first 10 at the index's operating point."""
    found_by_full_search: int = 0
    """Items found only when all lists, or all rows, were scanned."""
    problems: list[str] = field(default_factory=list)


def verify_index(
    path: str | Path, *, all_items: bool = False, progress: Progress | None = None
) -> VerifyReport:
    """Check an index.

    First the store's pages, by a walk that trusts none of them; where one is damaged, nothing
    more is read. Then files against the manifest's hashes; the store's records, ids, postings,
    rejects and embeddings against their checksums and each other; that what is searched is what
    lives, its vectors those of the embeddings; that each item is found within the first 10 by a
    search for items like it, fresh ones too. The last two are done for 10,000 items, drawn with a
    seed. A build may go on meanwhile: what was current at the start is checked.

    Args:
        path: the index folder.
        all_items: whether every item is fused anew and looked for.
        progress: told of every stage; None tells nobody.

    Raises:
        NotAnIndexError: the folder is no index.
        CorruptIndexError: the store itself, or the manifest, cannot be read.
        StoreUnavailableError: a file may not be read.
    """
    layout, progress = IndexLayout(Path(path)), progress or Silent()
    problems = page_problems(layout, progress)
    if problems:
        return VerifyReport(problems=problems)
    while True:
        store, snapshot, files = open_latest(
            layout, lambda snapshot: _check_files(layout, snapshot, progress)
        )
        try:
            # Files that a build has swept are not damaged.
            if not files.problems or not store.has_moved_on(snapshot.current):
                most = None if all_items else _SAMPLE
                return _Verifier(snapshot, files, most, progress).run()
        finally:
            snapshot.close()
            store.close()


def page_problems(layout: IndexLayout, progress: Progress) -> list[str]:
    """What is wrong with the pages of the store, by a walk that trusts none of them."""
    if not layout.has_store:
        return []
    environment = Environment.acquire(layout.store)
    progress.start("check pages", None)
    try:
        return environment.page_problems()
    finally:
        progress.finish()
        environment.release()


@dataclass
class _Files:
    """Derived files that were checked; `generation` holds them open unless there are problems."""

    manifest: Manifest
    generation: Generation | None
    problems: list[str]


def _check_files(layout: IndexLayout, snapshot: Snapshot, progress: Progress) -> _Files:
    folder, current = layout.generation(snapshot.current.generation), snapshot.current
    told = kept_file(snapshot.view, current.manifest_sha256)
    manifest = (
        load_manifest(folder, current)
        if told is None
        else Manifest.load(told, current.manifest_sha256)
    )
    progress.start("check files", len(manifest.files))
    problems = list(damaged_files(folder, manifest, current, progress).values())
    progress.finish()
    kept = {name: manifest.files[name].sha256 for name in manifest.fitted}
    for name, sha256 in {folder.MANIFEST: current.manifest_sha256, **kept}.items():
        if kept_file(snapshot.view, sha256) is None:
            problems.append(f"the store does not keep {name} as it was written")
    generation = None if problems else Generation.open(layout, snapshot.current)
    return _Files(manifest, generation, problems)


class _Verifier:
    def __init__(
        self, snapshot: Snapshot, files: _Files, most: int | None, progress: Progress
    ) -> None:
        self._most = most
        self._snapshot = snapshot
        self._manifest = files.manifest
        self._generation = files.generation
        self._progress = progress
        self._rows = BitMap()
        self._report = VerifyReport(files=len(files.manifest.files), problems=files.problems)

    def run(self) -> VerifyReport:
        self._progress.start("check records", self._manifest.items)
        try:
            with decoding("postings"):
                self._check_store()
        except CorruptIndexError as error:
            self._report.problems.append(str(error))
        self._progress.finish()
        if self._generation is not None and not self._report.problems:
            self._check_searched(self._generation)
        return self._report

    def _check_searched(self, generation: Generation) -> None:
        """What a search sees: the items that the store has, each found by its own vectors."""
        try:
            live = Live(generation, self._snapshot)
            self._report.problems.extend(self._strayed(live))
            living = np.flatnonzero(live.alive)
            if self._most is not None:
                living = living[sampled(len(living), self._most)]
            if not self._report.problems:
                self._report.problems.extend(self._fused_otherwise(live, living))
            if not self._report.problems:
                self._progress.start("find items", len(living))
                self._check_findable(live, living)
                self._progress.finish()
        except CorruptIndexError as error:
            self._report.problems.append(str(error))

    def _strayed(self, live: Live) -> Iterator[str]:
        searched = BitMap(live.row_numbers[live.alive])
        for row in (searched ^ self._rows)[:_SHOWN]:
            told = "is in no search" if row in self._rows else "is searched, and has no record"
            yield f"row {row} {told}"

    def _fused_otherwise(self, live: Live, living: Positions) -> Iterator[str]:
        """Rows whose vectors are not those of their embeddings. How long an imputed block is may
        have been measured on other items: those are left out."""
        generation = live.generation
        recipe = Recipe.of(generation.manifest, generation.fusion, generation.heads)
        blocks = Blocks(self._snapshot, recipe)
        steps = generation.searcher.rows.steps
        tolerance = _TOLERANCE + (0 if steps is None else steps)
        for start in range(0, len(living), _SCANNED_ROWS):
            positions = living[start : start + _SCANNED_ROWS]
            numbers = live.row_numbers[positions].tolist()
            items = list(zip(numbers, self._snapshot.inputs(numbers), strict=True))
            parts, states = blocks.take(generation.fusion.transforms, items)
            off = np.abs(generation.fusion.fuse_items(parts) - live.rows(positions))
            there = live.states[positions]
            wrong = ((states == PRESENT) != (there == PRESENT)).any(axis=1)
            whole = ((states != IMPUTED) & (there != IMPUTED)).all(axis=1)
            wrong |= (off > tolerance).any(axis=1) & whole
            yield from (f"row {numbers[n]} has another vector" for n in np.flatnonzero(wrong))

    def _check_store(self) -> None:
        snapshot, view = self._snapshot, self._snapshot.view
        for database in view.databases():
            for _ in view.scan(database):
                pass  # a scan checks every checksum
        for space in self._manifest.spaces:
            for modality in wanted_by(space.spec):
                snapshot.state(space.fingerprints[modality])
        postings = PostingsCheck(snapshot)
        for row, record in snapshot.scan_records():
            if snapshot.row_of(record.id) != row:
                self._report.problems.append(f"id {record.id!r} does not lead to its row {row}")
            (inputs,) = snapshot.inputs([row])
            self._report.problems.extend(self._lost_embeddings(row, inputs))
            self._report.problems.extend(postings.add(row, record.metadata))
            self._rows.add(row)
            self._report.items += 1
            self._progress.advance(1)
        self._report.problems.extend(postings.finish())
        self._report.problems.extend(
            f"the rejects that item {one!r} leads to are not its own"
            for one in strayed_rejects(view, snapshot.edition)[:_SHOWN]
        )
        ids = view.count(f"ids.{snapshot.edition}")
        fresh, dead = snapshot.uncompacted()
        for what, count in (("rows", self._manifest.items - dead + fresh), ("ids", ids)):
            if count != self._report.items:
                self._report.problems.append(
                    f"store has {self._report.items} records, but {count} {what}"
                )

    def _lost_embeddings(self, row: int, inputs: Inputs) -> Iterator[str]:
        for space in self._manifest.spaces:
            if not inputs.mask >> space.bit & 1:
                continue
            fingerprint = space.fingerprints[space.spec.item]
            hashes = inputs.hashes.get(space.spec.item, [])
            found = [
                self._snapshot.embedding(embedding_key(fingerprint, digest)) is not None
                for digest in hashes
            ]
            if not any(found):
                kind = kind_of_input(space.spec.item)
                yield f"row {row} lacks its {kind} embedding in space {space.spec.name!r}"

    def _check_findable(self, live: Live, living: Positions) -> None:
        generation = live.generation
        entry = generation.manifest.index
        everything = OperatingPoint(entry.lists, 10 * generation.point.k_factor)
        scan = _ExactScan(live)
        self._report.searched = len(living)
        for start in range(0, len(living), _QUERIES):
            positions = living[start : start + _QUERIES]
            rows = live.rows(positions)
            records = self._snapshot.records(live.row_numbers[positions].tolist())
            if [record.id for record in records] != live.ids(positions):
                first = positions[0]
                self._report.problems.append(f"ids from position {first} are not the store's")
            items = _Items.of(live, positions, rows)
            missed = items.missed(live, generation.point)
            self._report.found_at_point += len(rows) - len(missed)
            if len(missed):
                items = items.take(missed)
                scan.add(items.take(items.missed(live, everything)))
                self._report.found_by_full_search += len(missed)
            self._progress.advance(len(rows))
        for position in scan.finish():
            self._report.found_by_full_search -= 1
            (lost,) = live.ids(np.array([position]))
            self._report.problems.append(f"item {lost!r} is not found by its own vectors")


@dataclass
class _Items:
    """Some items, each with the query for items like it."""

    positions: Positions
    """int64 (m,)"""
    queries: Floats
    """float32 (m, D)"""
    own: Floats
    """float32 (m,): what each item scores for its query."""
    tolerance: Floats
    """float32 (m,): how far a score for the query may be off."""

    @classmethod
    def of(cls, live: Live, positions: Positions, rows: Floats) -> _Items:
        weights = live.generation.fusion.weights
        queries = np.stack([_query_like(live, *item) for item in zip(positions, rows, strict=True)])
        own = np.einsum("nd,nd->n", queries, rows)
        longest = np.sqrt(sum(weights.values()))
        tolerance = _TOLERANCE * longest * np.linalg.norm(queries, axis=1)
        steps = live.generation.searcher.rows.steps
        if steps is not None:
            tolerance += np.abs(queries) @ steps
        return cls(positions, queries, own, tolerance)

    def __len__(self) -> int:
        return len(self.positions)

    def take(self, which: Positions | slice) -> _Items:
        return _Items(
            self.positions[which], self.queries[which], self.own[which], self.tolerance[which]
        )

    def missed(self, live: Live, point: OperatingPoint) -> Positions:
        """Which of them a search does not return within the first 10, ties allowed."""
        within = min(_WITHIN, len(live))
        hits = live.search(self.queries, within, point)
        lost = [
            position not in found
            # Equal items may crowd each other out: as good as the last one is found.
            and (len(found) < within or abs(own - scores[-1]) > tolerance)
            for (found, scores), position, own, tolerance in zip(
                hits, self.positions, self.own, self.tolerance, strict=True
            )
        ]
        return np.flatnonzero(lost)


def _query_like(live: Live, position: int, row: Floats) -> Floats:
    """The query (D,) that asks for items like that of a row (D,), with the default weights."""
    fusion = live.generation.fusion
    present = live.states[position] == PRESENT
    return fusion.like_row(row, dict(zip(fusion.transforms, present.tolist(), strict=True)))


class _ExactScan:
    """Looks for items among all rows: codes are lossy, so a search may miss what is there."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._own_is_best = live.generation.fusion.own_is_best
        self._waiting: list[_Items] = []
        self._lost: list[int] = []

    def add(self, items: _Items) -> None:
        """Look for these, at once or later."""
        if self._own_is_best and len(items):
            self._waiting.append(items)
            if sum(map(len, self._waiting)) >= _SCANNED_TOGETHER:
                self._scan()

    def finish(self) -> list[int]:
        """Positions of the items that are not within the first 10 for their query."""
        if self._waiting:
            self._scan()
        return self._lost

    def _scan(self) -> None:
        positions, queries, own, tolerance = (
            np.concatenate([getattr(items, name) for items in self._waiting])
            for name in ("positions", "queries", "own", "tolerance")
        )
        self._waiting = []
        better = np.zeros(len(positions), dtype=np.int64)
        living = np.flatnonzero(self._live.alive)
        for start in range(0, len(living), _SCANNED_ROWS):
            rows = self._live.rows(living[start : start + _SCANNED_ROWS])
            better += (rows @ queries.T > own + tolerance).sum(axis=0)
        self._lost.extend(positions[better >= _WITHIN].tolist())
