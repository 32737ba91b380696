"""USearch: one graph; vectors in the precision that is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from usearch.index import Index  # type: ignore[import-not-found]

from .base import Adapter, Settings, Sizes, Vectors


class Usearch(Adapter):
    """Built with `dtype`, `connectivity` and `expansion_add`, searched with `ef`."""

    package = "usearch"
    threads = "threads=1 in every call"

    def build(self, vectors: Vectors, folder: Path, settings: Settings) -> None:
        width = {"f32": 4, "f16": 2, "bf16": 2, "i8": 1}[settings["dtype"]]
        self._kept = vectors.size * width
        self._index = Index(ndim=vectors.shape[1], metric="ip", **settings)
        self._index.add(np.arange(len(vectors)), vectors, threads=1)

    def sizes(self, folder: Path) -> Sizes:
        file = folder / "index.usearch"
        self._index.save(str(file))
        return Sizes(file.stat().st_size - self._kept, self._kept, 0, "disk")

    def choose(self, setting: Settings, queries: Vectors) -> None:
        self._queries = queries
        self._index.expansion_search = setting["ef"]

    def batch(self) -> Any:
        return self._index.search(self._queries, self.k, threads=1)

    def one(self, number: int) -> Any:
        return self._index.search(self._queries[number], self.k, threads=1)

    def batch_ids(self, answer: Any) -> list[list[int]]:
        return answer.keys.tolist()  # type: ignore[no-any-return]

    def one_ids(self, answer: Any) -> list[int]:
        return answer.keys.tolist()  # type: ignore[no-any-return]


ADAPTER = Usearch
