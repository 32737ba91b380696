"""From records and embeddings to a generation: fit, fuse, train, measure, write."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from .behaviour import popularity_of
from .blocks import BlockSource
from .calibrate import calibrate, scan_recall
from .durable import sync_folder, write_file
from .encode import chunks
from .errors import EmptyIndexError
from .faiss_index import FaissIndex
from .fusion import ConcatFusion, Fusion, MeanFusion, SpaceTransform, dump_fusion
from .heads import dump_heads
from .ids import write_ids
from .layout import GenerationLayout
from .manifest import FileEntry, IndexEntry, SpaceEntry
from .missing import IMPUTED, PRESENT, renormalise_needs
from .plan import Plan
from .progress import Progress
from .ranking import DROPPED, basis_of, ranking_files
from .recipe import Recipe, space_entry
from .row_codecs import Int8
from .rows import Rows, RowWriter
from .searcher import Searcher
from .snapshot import Snapshot

Floats = NDArray[np.float32]
T = TypeVar("T")

_CHUNK = 2048
# The quantization error of so many rows is known to about 1 %.
_ERROR_ROWS = 4096


@dataclass(frozen=True)
class Derived:
    """What was written: for the manifest."""

    recipe: Recipe
    spaces: list[SpaceEntry]
    dimension: int
    index: IndexEntry
    files: dict[str, FileEntry]
    items: int
    notes: tuple[str, ...] = ()
    """What could not be kept, for people to read."""


class Deriver:
    """Derives a generation from an edition. Nothing is encoded here."""

    def __init__(
        self,
        snapshot: Snapshot,
        recipe: Recipe,
        progress: Progress,
        without: Collection[int] = (),
    ) -> None:
        """
        Args:
            snapshot: of the edition.
            recipe: what to derive it by.
            progress: told of every stage.
            without: rows that are to be no part of the generation.
        """
        self._snapshot = snapshot
        self._progress = progress
        self._blocks = BlockSource(snapshot, recipe)
        self._without = without
        self._n = len(self._blocks) - len(without)
        # A space that no item fills has no mean and no block.
        self._recipe = self._blocks.recipe

    def write(self, folder: GenerationLayout, *, gpu: bool) -> Derived:
        """Write all derived files into a fresh folder, synced.

        Raises:
            EmptyIndexError: there is no item.
        """
        if self._n == 0:
            raise EmptyIndexError(
                "index",
                expected="at least one item to derive a generation from",
                got="none: all were deleted",
                remedy="Add some first.",
            )
        if folder.root.exists():
            shutil.rmtree(folder.root)
        folder.root.mkdir(parents=True)
        fusion = self._fit()
        if self._recipe.missing == "renormalise":
            renormalise_needs(fusion.keeps_spaces_apart, fusion.kind)
        files, states = self.write_rows(folder, fusion)
        files[folder.FUSION] = entry_of(write_file(folder.path(folder.FUSION), dump_fusion(fusion)))
        heads = dump_heads({space.name: space.heads for space in self._recipe.spaces})
        files[folder.HEADS] = entry_of(write_file(folder.path(folder.HEADS), heads))
        notes = self._keep_ranking(folder, files)
        rows = Rows(folder.path(folder.ROWS), folder.path(folder.ROW_CHECKSUMS), fusion.dimension)
        plan, index = self.build_index(rows, fusion, gpu=gpu)
        files[folder.INDEX] = entry_of(write_file(folder.path(folder.INDEX), index.serialize()))
        kept = self.round_rows(folder, rows, files) if plan.rows == "int8" else rows
        entry = self.measure(plan, index, fusion, rows, kept)
        sync_folder(folder.root)
        spaces = space_entries(self._recipe, fusion, states)
        return Derived(self._recipe, spaces, fusion.dimension, entry, files, self._n, notes)

    def _keep_ranking(
        self, folder: GenerationLayout, files: dict[str, FileEntry]
    ) -> tuple[str, ...]:
        """Write the re-ranking heads where they still fit; else say that they were dropped."""
        ranking = self._recipe.ranking
        if ranking is None:
            return ()
        if ranking.basis != basis_of(self._recipe):
            self._recipe = replace(self._recipe, ranking=None)
            return (DROPPED,)
        for name, data in ranking_files(folder, ranking).items():
            files[name] = entry_of(write_file(folder.path(name), data))
        return ()

    def _fit(self) -> Fusion:
        recipe = self._recipe
        weights = {space.name: space.spec.weight for space in recipe.spaces}
        if recipe.learned is not None:
            learned: Fusion = replace(recipe.learned, weights=weights)  # type: ignore[type-var]
            return learned
        self._progress.start("fit spaces", len(recipe.spaces))
        transforms: dict[str, SpaceTransform] = {}
        for space in recipe.spaces:
            transforms[space.name] = self._blocks.fit(space)
            self._progress.advance(1)
        self._progress.finish()
        if recipe.fusion == MeanFusion.kind:
            sample = self._blocks.sample(transforms)
            return MeanFusion.fit(transforms, weights, sample)
        return ConcatFusion(transforms, weights)

    def write_rows(
        self, folder: GenerationLayout, fusion: Fusion
    ) -> tuple[dict[str, FileEntry], NDArray[np.uint8]]:
        """Write the rows in float16, and what is known of each position; the states (n, S) too."""
        self._progress.start("fuse", self._n)
        numbers = np.empty(self._n, dtype="<u4")
        states = np.empty((self._n, len(self._recipe.spaces)), dtype=np.uint8)
        done = 0
        with RowWriter(
            folder.path(folder.ROWS), folder.path(folder.ROW_CHECKSUMS), fusion.dimension
        ) as writer:
            for chunk in chunks(self._wanted(self._snapshot.scan_inputs()), _CHUNK):
                here = slice(done, done + len(chunk))
                numbers[here] = [row for row, _ in chunk]
                blocks, states[here] = self._blocks.take(fusion.transforms, chunk)
                writer.write(fusion.fuse_items(blocks))
                done += len(chunk)
                self._progress.advance(len(chunk))
            rows, checksums = writer.close()
        self._progress.finish()
        ids = [record.id for _, record in self._wanted(self._snapshot.scan_records())]
        files = {
            folder.ROWS: entry_of(rows),
            folder.ROW_CHECKSUMS: entry_of(checksums),
            **position_files(folder, numbers, ids, states),
            **popularity_file(folder, self._snapshot, ids),
        }
        return files, states

    def _wanted(self, entries: Iterable[tuple[int, T]]) -> Iterator[tuple[int, T]]:
        return (entry for entry in entries if entry[0] not in self._without)

    def _plan(self, n: int, fusion: Fusion, *, gpu: bool) -> Plan:
        recipe = self._recipe
        if recipe.factory is not None:
            return Plan.custom(n, fusion.dimension, recipe.factory, recipe.rows)
        return Plan.choose(
            n,
            fusion.dimension,
            fusion.starts,
            recipe.profile,
            gpu=gpu,
            rows=recipe.rows,
        )

    def build_index(self, rows: Rows, fusion: Fusion, *, gpu: bool) -> tuple[Plan, FaissIndex]:
        """The index of rows, and the plan that it was made by."""
        n = len(rows)
        plan = self._plan(n, fusion, gpu=gpu)
        if plan.kind == "exact":
            return plan, FaissIndex.train(plan, rows.take(np.arange(1)), gpu=gpu)  # rows are all
        self._progress.start("train index", 1)
        positions = sampled(n, max(plan.train_rows, 1))
        index = FaissIndex.train(plan, rows.take(positions), gpu=gpu)
        self._progress.advance(1)
        self._progress.finish()
        self._progress.start("add to index", n)
        for _, vectors in rows.chunks():
            index.add(vectors)
            self._progress.advance(len(vectors))
        self._progress.finish()
        if plan.kind == "custom":
            plan = replace(plan, lists=index.lists, code_bytes=index.code_bytes)
        return plan, index

    def measure(
        self, plan: Plan, index: FaissIndex, fusion: Fusion, rows: Rows, kept: Rows
    ) -> IndexEntry:
        """Find the operating points, with the rows in float16 and as they are kept."""
        self._progress.start("measure recall", 1)
        searcher = Searcher(index, kept, plan)
        rows_recall = 1.0 if kept is rows else scan_recall(searcher, rows, fusion)
        entry = calibrate(searcher, plan, fusion, rows_recall)
        if plan.kind == "ivf-pq":
            error = index.quantization_error(rows.take(sampled(len(rows), _ERROR_ROWS)))
            entry = entry.model_copy(update={"trained_error": error})
        self._progress.advance(1)
        self._progress.finish()
        return entry

    def round_rows(self, folder: GenerationLayout, rows: Rows, files: dict[str, FileEntry]) -> Rows:
        """The rows in int8, in place of those in float16: these are no file of the generation any
        more, and can be read until they are let go of."""
        self._progress.start("round rows", len(rows))
        codec = Int8.fit((vectors for _, vectors in rows.chunks()), rows.dimension)
        rounded, checksums = folder.path(folder.ROWS_INT8), folder.path(folder.ROW_CHECKSUMS)
        for name in (folder.ROWS, folder.ROW_CHECKSUMS):
            folder.path(name).unlink()
        with RowWriter(rounded, checksums, rows.dimension, codec) as writer:
            for _, vectors in rows.chunks():
                writer.write(vectors)
                self._progress.advance(len(vectors))
            written = writer.close()
        self._progress.finish()
        del files[folder.ROWS]
        files[folder.ROWS_INT8], files[folder.ROW_CHECKSUMS] = map(entry_of, written)
        steps = codec.steps.astype("<f4").tobytes()
        files[folder.ROW_STEPS] = entry_of(write_file(folder.path(folder.ROW_STEPS), steps))
        return Rows(rounded, checksums, rows.dimension, codec)


def position_files(
    folder: GenerationLayout,
    numbers: NDArray[np.uint32],
    ids: Iterable[str],
    states: NDArray[np.uint8],
) -> dict[str, FileEntry]:
    """Write what is known of each position: row, id and the states of its blocks."""
    return {
        folder.ROW_NUMBERS: entry_of(
            write_file(folder.path(folder.ROW_NUMBERS), numbers.astype("<u4").tobytes())
        ),
        folder.IDS: entry_of(write_ids(folder.path(folder.IDS), ids)),
        folder.MASK: entry_of(write_file(folder.path(folder.MASK), states.tobytes())),
    }


def popularity_file(
    folder: GenerationLayout, snapshot: Snapshot, ids: Sequence[str]
) -> dict[str, FileEntry]:
    """Write how popular the item at each position is; no file where nothing is known of any."""
    popularity = popularity_of(snapshot.view, ids)
    if popularity is None:
        return {}
    data = popularity.astype("<f4").tobytes()
    return {folder.POPULARITY: entry_of(write_file(folder.path(folder.POPULARITY), data))}


def space_entries(recipe: Recipe, fusion: Fusion, states: NDArray[np.uint8]) -> list[SpaceEntry]:
    """The spaces of a recipe, with how many items have each, by states (n, S)."""
    return [
        space_entry(
            space,
            dimension=fusion.transforms[space.name].dimension,
            coverage=int((states[:, column] == PRESENT).sum()),
            imputed=int((states[:, column] == IMPUTED).sum()),
        )
        for column, space in enumerate(recipe.spaces)
    ]


def sampled(n: int, most: int) -> NDArray[np.int64]:
    """Positions below n, at most so many, drawn with a seed."""
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(0).choice(n, most, replace=False))


def entry_of(written: tuple[int, str]) -> FileEntry:
    """Size and hash of a file, for the manifest."""
    size, sha256 = written
    return FileEntry(bytes=size, sha256=sha256)
