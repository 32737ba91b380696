"""hnswlib: one graph, vectors in single precision in its nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hnswlib  # type: ignore[import-untyped]
import numpy as np

from .base import Adapter, Settings, Sizes, Vectors, float_bytes


class Hnswlib(Adapter):
    """Built with `m` and `ef_construction`, searched with `ef`."""

    package = "hnswlib"
    threads = "set_num_threads(1) and num_threads=1 in every call"

    def build(self, vectors: Vectors, folder: Path, settings: Settings) -> None:
        self._kept = float_bytes(vectors)
        self._index = hnswlib.Index(space="ip", dim=vectors.shape[1])
        self._index.init_index(
            max_elements=len(vectors), M=settings["m"], ef_construction=settings["ef_construction"]
        )
        self._index.set_num_threads(1)
        self._index.add_items(vectors, np.arange(len(vectors)), num_threads=1)

    def sizes(self, folder: Path) -> Sizes:
        file = folder / "index.bin"
        self._index.save_index(str(file))
        return Sizes(file.stat().st_size - self._kept, self._kept, 0, "disk")

    def choose(self, setting: Settings, queries: Vectors) -> None:
        self._queries = queries
        self._index.set_ef(setting["ef"])

    def batch(self) -> Any:
        return self._index.knn_query(self._queries, k=self.k, num_threads=1)

    def one(self, number: int) -> Any:
        return self._index.knn_query(self._queries[number], k=self.k, num_threads=1)

    def batch_ids(self, answer: Any) -> list[list[int]]:
        return answer[0].tolist()  # type: ignore[no-any-return]

    def one_ids(self, answer: Any) -> list[int]:
        return self.batch_ids(answer)[0]


ADAPTER = Hnswlib
