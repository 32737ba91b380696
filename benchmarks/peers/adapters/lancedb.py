"""LanceDB: IVF-PQ beside a table on disk that keeps the vectors; no metadata is given to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lancedb  # type: ignore[import-not-found]
import numpy as np
import pyarrow
from lancedb.index import IvfPq  # type: ignore[import-not-found]

from .base import Adapter, Settings, Sizes, Vectors, bytes_under, float_bytes


class LanceDb(Adapter):
    """Built with `partitions` and `sub_vectors`, searched with `nprobes` and `refine`."""

    package = "lancedb"
    threads = "LANCE_CPU_THREADS=1; its runtime's threads share the one core"

    def build(self, vectors: Vectors, folder: Path, settings: Settings) -> None:
        self._kept = float_bytes(vectors)
        self._folder = folder
        flat = pyarrow.array(np.ascontiguousarray(vectors).reshape(-1))
        columns = {
            "id": pyarrow.array(np.arange(len(vectors))),
            "vector": pyarrow.FixedSizeListArray.from_arrays(flat, vectors.shape[1]),
        }
        database = lancedb.connect(str(folder))
        self._table = database.create_table("vectors", pyarrow.table(columns))
        self._table.create_index(
            "vector",
            config=IvfPq(
                distance_type="dot",
                num_partitions=settings["partitions"],
                num_sub_vectors=settings["sub_vectors"],
            ),
        )

    def sizes(self, folder: Path) -> Sizes:
        return Sizes(bytes_under(self._folder) - self._kept, self._kept, 0, "disk")

    def choose(self, setting: Settings, queries: Vectors) -> None:
        self._queries = list(queries)
        self._setting = setting

    def _search(self, query: Any) -> Any:
        return (
            self._table.search(query)
            .distance_type("dot")
            .nprobes(self._setting["nprobes"])
            .refine_factor(self._setting["refine"])
            .limit(self.k)
            .select(["id", "_distance"])
            .to_arrow()
        )

    def batch(self) -> Any:
        return self._search(self._queries)

    def one(self, number: int) -> Any:
        return self._search(self._queries[number])

    def batch_ids(self, answer: Any) -> list[list[int]]:
        rows: list[list[int]] = [[] for _ in self._queries]
        numbers, ids = answer["query_index"].to_pylist(), answer["id"].to_pylist()
        for number, found in zip(numbers, ids, strict=True):
            rows[number].append(found)
        return rows

    def one_ids(self, answer: Any) -> list[int]:
        return answer["id"].to_pylist()  # type: ignore[no-any-return]


ADAPTER = LanceDb
