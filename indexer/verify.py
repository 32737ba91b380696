"""Check everything an index holds: each checksum, and that each id is found by its own vector."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .errors import CorruptIndexError
from .generation import Generation, check_hash, load_manifest
from .layout import IndexLayout
from .manifest import Manifest
from .progress import Progress, Silent
from .searcher import OperatingPoint
from .spaces import kind_of_input
from .store import Inputs, Snapshot, Store, embedding_key

_QUERIES = 256
_WITHIN = 10


@dataclass
class VerifyReport:
    """What was checked, and what is wrong; an index is sound when `problems` is empty."""

    items: int = 0
    files: int = 0
    found_at_point: int = 0
    """Items found by their own vector within the first 10 at the index's operating point."""
    found_by_full_search: int = 0
    """Items found only when all lists were scanned."""
    problems: list[str] = field(default_factory=list)


def verify_index(path: str | Path, *, progress: Progress | None = None) -> VerifyReport:
    """Check an index.

    Files against the manifest's hashes; the store's records, ids, postings and embeddings against
    their checksums and each other; every id by a search with its own vector.

    Raises:
        NotAnIndexError: the folder is no index.
        CorruptIndexError: the store itself cannot be read.
    """
    layout = IndexLayout(Path(path))
    store = Store.open(layout)
    try:
        with store.snapshot() as snapshot:
            return _Verifier(layout, snapshot, progress or Silent()).run()
    finally:
        store.close()


class _Verifier:
    def __init__(self, layout: IndexLayout, snapshot: Snapshot, progress: Progress) -> None:
        self._layout = layout
        self._snapshot = snapshot
        self._progress = progress
        self._report = VerifyReport()

    def run(self) -> VerifyReport:
        folder = self._layout.generation(self._snapshot.current.generation)
        manifest = load_manifest(folder, self._snapshot.current)
        self._progress.start("check files", len(manifest.files))
        for name in manifest.files:
            self._try(check_hash, folder, manifest, name)
            self._report.files += 1
            self._progress.advance(1)
        self._progress.finish()
        self._progress.start("check records", manifest.items)
        self._try(self._check_store, manifest)
        self._progress.finish()
        if not self._report.problems:
            generation = Generation.open(self._layout, self._snapshot.current)
            self._progress.start("find every item", len(generation))
            self._check_findable(generation)
            self._progress.finish()
        return self._report

    def _try(self, check: object, *arguments: object) -> None:
        try:
            check(*arguments)  # type: ignore[operator]
        except CorruptIndexError as error:
            self._report.problems.append(str(error))

    def _check_store(self, manifest: Manifest) -> None:
        snapshot, view = self._snapshot, self._snapshot.view
        for database in view.databases():
            for _ in view.scan(database):
                pass  # a scan checks every checksum
        for row, record in snapshot.scan_records():
            if snapshot.row_of(record.id) != row:
                self._report.problems.append(f"id {record.id!r} does not lead to its row {row}")
            (inputs,) = snapshot.inputs([row])
            self._report.problems.extend(self._lost_embeddings(manifest, row, inputs))
            self._report.items += 1
            self._progress.advance(1)
        ids = view.count(f"ids.{snapshot.edition}")
        for what, count in (("rows", manifest.items), ("ids", ids)):
            if count != self._report.items:
                self._report.problems.append(
                    f"store has {self._report.items} records, but {count} {what}"
                )

    def _lost_embeddings(self, manifest: Manifest, row: int, inputs: Inputs) -> Iterator[str]:
        for space in manifest.spaces:
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

    def _check_findable(self, generation: Generation) -> None:
        entry = generation.manifest.index
        everything = OperatingPoint(entry.lists, 10 * entry.k_factor)
        for start, rows in generation.searcher.rows.chunks(_QUERIES):
            positions = np.arange(start, start + len(rows))
            missed = self._missed(generation, generation.point, positions, rows)
            self._report.found_at_point += len(rows) - len(missed)
            if len(missed):
                still = self._missed(generation, everything, positions[missed], rows[missed])
                self._report.found_by_full_search += len(missed) - len(still)
                for position in positions[missed][still]:
                    (record,) = self._snapshot.records([int(generation.row_numbers[position])])
                    self._report.problems.append(f"item {record.id!r} is not found by its vector")
            self._progress.advance(len(rows))

    def _missed(
        self,
        generation: Generation,
        point: OperatingPoint,
        positions: NDArray[np.int64],
        rows: NDArray[np.float32],
    ) -> NDArray[np.int64]:
        """Which of these rows are not within the first 10 for their own vector, ties allowed."""
        within = min(_WITHIN, len(generation))
        hits = generation.searcher.search(rows, within, point)
        own = np.einsum("nd,nd->n", rows, rows)
        return np.array(
            [
                n
                for n, ((found, scores, _), position) in enumerate(
                    zip(hits, positions, strict=True)
                )
                # Equal items may crowd each other out: as good as the last one is found.
                if position not in found and own[n] < scores[-1] - 1e-5
            ],
            dtype=np.int64,
        )
