"""From records and embeddings to a generation: fit, fuse, train, measure, write."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from encoders import SpaceSpec

from .calibrate import MeasuredPoint, calibrate
from .durable import sync_folder, write_file
from .encode import QUERY_TOWER_SAMPLE
from .errors import CorruptIndexError
from .faiss_index import FaissIndex, Plan
from .fusion import ConcatFusion, SpaceTransform, unit_rows
from .layout import GenerationLayout
from .manifest import FileEntry, IndexEntry
from .progress import Progress
from .rows import Rows, RowWriter
from .searcher import Searcher
from .spaces import Reach
from .store import Inputs, Snapshot, embedding_key

Floats = NDArray[np.float32]

# Rows that means and PCA are fitted on: 20,000 x 1,280 float32 are 100 MB, and the 256th
# component of a sample of that size is known to about 1 %.
_FIT_ROWS = 20_000
_CHUNK = 2048


@dataclass(frozen=True)
class Derived:
    """What was written: for the manifest."""

    fusion: ConcatFusion
    coverage: dict[str, int]
    index: IndexEntry
    files: dict[str, FileEntry]
    items: int


class Deriver:
    """Derives a generation from an edition. Nothing is encoded here."""

    def __init__(
        self, snapshot: Snapshot, specs: list[SpaceSpec], reaches: list[Reach], progress: Progress
    ) -> None:
        self._snapshot = snapshot
        self._reaches = reaches
        self._progress = progress
        masks = np.fromiter((i.mask for _, i in snapshot.scan_inputs()), dtype=np.uint64)
        self._n = len(masks)
        self.bits = {spec.name: bit for bit, spec in enumerate(specs)}
        self._has = {
            name: (masks >> np.uint64(bit)) & np.uint64(1) == 1 for name, bit in self.bits.items()
        }
        # A space that no item fills has no mean and no block.
        self.specs = [spec for spec in specs if self._has[spec.name].any()]
        self.coverage = {s.name: int(self._has[s.name].sum()) for s in self.specs}

    def write(self, folder: GenerationLayout, *, gpu: bool) -> Derived:
        """Write all derived files into a fresh folder, synced."""
        if folder.root.exists():
            shutil.rmtree(folder.root)
        folder.root.mkdir(parents=True)
        fusion = self._fit()
        files = self._write_rows(folder, fusion)
        files[folder.FUSION] = _entry(write_file(folder.path(folder.FUSION), fusion.dump()))
        rows = Rows(folder.path(folder.ROWS), folder.path(folder.ROW_CHECKSUMS), fusion.dimension)
        starts = [where.start for where in fusion.blocks.values()]
        plan = Plan.choose(self._n, fusion.dimension, starts, gpu=gpu)
        index = self._build_index(plan, rows, gpu=gpu)
        files[folder.INDEX] = _entry(write_file(folder.path(folder.INDEX), index.serialize()))
        self._progress.start("measure recall", 1)
        measured = calibrate(Searcher(index, rows, plan), plan, fusion.blocks)
        self._progress.advance(1)
        self._progress.finish()
        sync_folder(folder.root)
        entry = _index_entry(plan, measured)
        return Derived(fusion, self.coverage, entry, files, self._n)

    def _fit(self) -> ConcatFusion:
        self._progress.start("fit spaces", len(self.specs))
        transforms = {}
        for spec in self.specs:
            transforms[spec.name] = self._fit_space(spec)
            self._progress.advance(1)
        self._progress.finish()
        return ConcatFusion(transforms, {spec.name: spec.weight for spec in self.specs})

    def _fit_space(self, spec: SpaceSpec) -> SpaceTransform:
        rows = np.flatnonzero(self._has[spec.name])
        if len(rows) > _FIT_ROWS:
            rng = np.random.default_rng(0)
            rows = np.sort(rng.choice(rows, _FIT_ROWS, replace=False))
        inputs = self._snapshot.inputs(rows.tolist())
        samples = {spec.item: self._pooled(spec.name, spec.item, inputs)[0]}
        for modality in spec.encoders:
            if modality != spec.item:
                # Only the first items went through the towers that queries use.
                pooled, found = self._pooled(spec.name, modality, self._first_inputs())
                samples[modality] = pooled[found] if found.any() else samples[spec.item]
        return SpaceTransform.fit(samples, spec)

    def _first_inputs(self) -> list[Inputs]:
        return [i for _, i in islice(self._snapshot.scan_inputs(), QUERY_TOWER_SAMPLE)]

    def _pooled(
        self, space: str, modality: str, items: Sequence[Inputs]
    ) -> tuple[Floats, NDArray[np.bool_]]:
        """Unit encoder rows (n, d_in), the mean of each item's inputs; and which have any (n,)."""
        reach = next(r for r in self._reaches if r.space == space and r.modality == modality)
        pooled = np.zeros((len(items), reach.encoder.dimension), dtype=np.float32)
        found = np.zeros(len(items), dtype=bool)
        for number, item in enumerate(items):
            for digest in item.hashes.get(modality, ()):
                vector = self._snapshot.embedding(embedding_key(reach.fingerprint, digest))
                if vector is not None:
                    pooled[number] += vector
                    found[number] = True
        return unit_rows(pooled), found

    def _write_rows(self, folder: GenerationLayout, fusion: ConcatFusion) -> dict[str, FileEntry]:
        self._progress.start("fuse", self._n)
        numbers = np.empty(self._n, dtype="<u4")
        done = 0
        with RowWriter(
            folder.path(folder.ROWS), folder.path(folder.ROW_CHECKSUMS), fusion.dimension
        ) as writer:
            for chunk in _chunks(self._snapshot.scan_inputs()):
                writer.write(fusion.fuse_items(self._blocks(fusion, chunk, done)))
                numbers[done : done + len(chunk)] = [row for row, _ in chunk]
                done += len(chunk)
                self._progress.advance(len(chunk))
            rows, checksums = writer.close()
        self._progress.finish()
        mask = np.stack([self._has[spec.name] for spec in self.specs], axis=1).astype(np.uint8)
        return {
            folder.ROWS: _entry(rows),
            folder.ROW_CHECKSUMS: _entry(checksums),
            folder.ROW_NUMBERS: _entry(
                write_file(folder.path(folder.ROW_NUMBERS), numbers.tobytes())
            ),
            folder.MASK: _entry(write_file(folder.path(folder.MASK), mask.tobytes())),
        }

    def _blocks(
        self, fusion: ConcatFusion, chunk: list[tuple[int, Inputs]], start: int
    ) -> dict[str, Floats]:
        """Blocks of the rows from `start` on, zero where an item has none."""
        inputs = [one for _, one in chunk]
        blocks = {}
        for spec in self.specs:
            pooled, found = self._pooled(spec.name, spec.item, inputs)
            self._check(spec.name, found, start)
            blocks[spec.name] = fusion.transforms[spec.name].item_blocks(pooled)
            blocks[spec.name][~found] = 0
        return blocks

    def _check(self, space: str, found: NDArray[np.bool_], start: int) -> None:
        """Each item whose record says it has a block must have its embedding in the store."""
        lost = np.flatnonzero(self._has[space][start : start + len(found)] & ~found)
        if len(lost):
            raise CorruptIndexError(
                "store",
                expected=f"an embedding in space {space!r} for row {start + lost[0]}",
                got="none",
                remedy="Build the index again from the catalog: what is lost is encoded again.",
            )

    def _build_index(self, plan: Plan, rows: Rows, *, gpu: bool) -> FaissIndex:
        self._progress.start("train index", 1)
        positions = np.arange(self._n)
        if plan.train_rows < self._n:
            rng = np.random.default_rng(0)
            positions = np.sort(rng.choice(self._n, max(plan.train_rows, 1), replace=False))
        index = FaissIndex.train(plan, rows.take(positions), gpu=gpu)
        self._progress.advance(1)
        self._progress.finish()
        self._progress.start("add to index", self._n)
        for _, vectors in rows.chunks():
            index.add(vectors)
            self._progress.advance(len(vectors))
        self._progress.finish()
        return index


def _chunks(items: Iterator[tuple[int, Inputs]]) -> Iterator[list[tuple[int, Inputs]]]:
    while chunk := list(islice(items, _CHUNK)):
        yield chunk


def _entry(written: tuple[int, str]) -> FileEntry:
    size, sha256 = written
    return FileEntry(bytes=size, sha256=sha256)


def _index_entry(plan: Plan, measured: MeasuredPoint) -> IndexEntry:
    return IndexEntry(
        kind=plan.kind,
        factory=plan.factory,
        dimension=plan.dimension,
        lists=plan.lists,
        code_bytes=plan.code_bytes,
        nprobe=measured.point.nprobe,
        k_factor=measured.point.k_factor,
        recall={name: round(value, 4) for name, value in measured.recall.items()},
    )
