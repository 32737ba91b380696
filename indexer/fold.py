"""A generation made of the one before, without fitting or training anything anew.

Rows that live are copied, fresh ones put behind them, and all are coded by what was trained
before. That is right while codes serve the fresh rows as well as those that they were trained on:
the drift, how much more of their squared length fresh rows lose, decides.
"""

from __future__ import annotations

import numpy as np

from .calibrate import calibrate
from .derive import Derived, entry_of, popularity_file, position_files, space_entries
from .durable import link_file, write_file
from .faiss_index import FaissIndex
from .generation import read_checked
from .layout import GenerationLayout
from .live import Live
from .plan import Plan
from .progress import Progress
from .recipe import Recipe
from .rows import Rows, RowWriter
from .searcher import Searcher

# Rows drawn as those trained on lose up to 1.04 times as much as these where few were trained on,
# those of clusters that were never seen 1.1 times (measured on 3,000 and 20,000 clustered vectors).
_MOST_DRIFT = 1.05
_CHUNK = 4096


class Folding:
    """The generation that a live one becomes when it is compacted."""

    def __init__(self, live: Live, recipe: Recipe) -> None:
        self._live = live
        self._recipe = recipe
        self._generation = live.generation
        self._manifest = live.generation.manifest
        self._positions = np.flatnonzero(live.alive)
        self._index = self._trained()
        self._error: float | None = None
        if self._index is not None and len(live.fresh.numbers):
            fresh = live.fresh.vectors.astype(np.float32)
            self._error = self._index.quantization_error(fresh)

    def _trained(self) -> FaissIndex | None:
        """The index without its vectors; None where it is no index of codes, or one of another
        size would be made for so many rows."""
        plan, fusion = self._generation.plan, self._generation.fusion
        wanted = Plan.choose(
            len(self._positions), fusion.dimension, fusion.starts, plan.profile, gpu=False
        )
        folder = self._generation.layout
        if plan.kind != "ivf-pq" or wanted.factory != plan.factory:
            return None
        if folder.ROWS not in self._manifest.files:
            return None  # rounded otherwise, by what was fitted to the rows
        data = read_checked(folder, self._manifest, folder.INDEX)
        index = FaissIndex.deserialize(plan, data, gpu=False)
        index.forget()
        return index

    @property
    def fits(self) -> bool:
        """Whether nothing has to be trained anew."""
        trained = self._manifest.index.trained_error
        if self._index is None or trained is None:
            return False
        return self._error is None or self._error <= _MOST_DRIFT * trained

    def write(self, folder: GenerationLayout, progress: Progress) -> Derived:
        """Write all derived files into a fresh folder, synced; only where it `fits`."""
        assert self._index is not None
        live, generation = self._live, self._generation
        n, dimension = len(self._positions), generation.fusion.dimension
        folder.root.mkdir(parents=True)
        states = live.states[self._positions]
        ids = self._live.ids(self._positions)
        files = {
            **position_files(folder, live.row_numbers[self._positions], ids, states),
            **popularity_file(folder, live.snapshot, ids),
        }
        progress.start("copy rows", n)
        rows_path, checksums_path = folder.path(folder.ROWS), folder.path(folder.ROW_CHECKSUMS)
        with RowWriter(rows_path, checksums_path, dimension) as writer:
            for start in range(0, n, _CHUNK):
                vectors = live.rows(self._positions[start : start + _CHUNK])
                writer.write(vectors)
                self._index.add(vectors)
                progress.advance(len(vectors))
            files[folder.ROWS], files[folder.ROW_CHECKSUMS] = map(entry_of, writer.close())
        progress.finish()
        files[folder.INDEX] = entry_of(
            write_file(folder.path(folder.INDEX), self._index.serialize())
        )
        kept = (folder.FUSION, folder.HEADS, folder.RANKING, folder.RANKING_WEIGHTS)
        for name in self._manifest.files.keys() & kept:
            link_file(generation.layout.path(name), folder.path(name))
            files[name] = self._manifest.files[name]
        progress.start("measure recall", 1)
        rows = Rows(rows_path, checksums_path, dimension)
        searcher = Searcher(self._index, rows, generation.plan)
        entry = calibrate(searcher, generation.plan, generation.fusion)
        progress.advance(1)
        progress.finish()
        errors = {
            "trained_error": self._manifest.index.trained_error,
            "folded_error": self._error,
        }
        spaces = space_entries(self._recipe, generation.fusion, states)
        index = entry.model_copy(update=errors)
        return Derived(self._recipe, spaces, dimension, index, files, n)
