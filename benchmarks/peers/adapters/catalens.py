"""Catalens as its users meet it: hits with metadata and explanation, unless a setting declines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from catalens import Query, Retriever, build_index, tune_index

from ...harness import StageTimer
from .base import Adapter, Settings, Sizes, Vectors, bytes_under

_OPERATING_POINT = ("nprobe", "k_factor")
_READING = "encode"
"""The stage of a build that reads, checks and stores items; vectors are ready when it is over."""


class Catalens(Adapter):
    """Built with the metadata of `rows`, if there is any, and with the arguments of `build_index`
    that its settings name.

    A setting's `nprobe` and `k_factor` take the place of what `tune` chose; whatever else is in it
    is given to `search` and `search_many` by name. The empty setting is what users get who set
    nothing.
    """

    package = "catalens"
    threads = "its own pools and FAISS take the cores that the process may use: one"

    def build(self, vectors: Vectors, folder: Path, settings: Settings) -> None:
        self._folder = folder
        timer = StageTimer()
        build_index(
            self._items(vectors), folder, vector="vec", device="cpu", progress=timer, **settings
        )
        self.indexing_s = sum(s for stage, s in timer.seconds.items() if stage != _READING)
        self._open()

    def tune(self) -> None:
        tune_index(self._folder)
        self._shop.close()
        self._open()

    def _open(self) -> None:
        shop: Any = Retriever.open(self._folder, device="cpu")
        self._shop = shop
        self._built = shop._view.generation.point

    def _items(self, vectors: Vectors) -> Iterator[dict[str, Any]]:
        """Rows with their numbers as ids."""
        vectors = vectors.view(np.ndarray)  # every row of a memmap is a memmap, and dear to make
        if self.rows is None:
            for number, vector in enumerate(vectors):
                yield {"id": str(number), "vec": vector}
            return
        with self.rows.open(encoding="utf-8") as lines:
            for number, (line, vector) in enumerate(zip(lines, vectors, strict=True)):
                yield {**json.loads(line), "id": str(number), "vec": vector}

    def sizes(self, folder: Path) -> Sizes:
        generation = max((self._folder / "generations").iterdir())
        rows = (*generation.glob("rows.f16"), *generation.glob("rows.i8"))
        kept = sum(file.stat().st_size for file in rows)
        searched = bytes_under(generation)
        return Sizes(searched - kept, kept, bytes_under(self._folder) - searched, "disk")

    def choose(self, setting: Settings, queries: Vectors) -> None:
        point = {name: setting[name] for name in _OPERATING_POINT if name in setting}
        self._shop._view.generation.point = replace(self._built, **point)
        self._arguments = {name: setting[name] for name in setting if name not in point}
        self._queries = [Query(vector=query) for query in queries]

    def batch(self) -> Any:
        return self._shop.search_many(self._queries, k=self.k, **self._arguments)

    def one(self, number: int) -> Any:
        return self._shop.search(self._queries[number], k=self.k, **self._arguments)

    def batch_ids(self, answer: Any) -> list[list[int]]:
        return [[int(hit.id) for hit in hits] for hits in answer]


ADAPTER = Catalens
