"""Milvus Lite through its usual client: an engine in Python over FAISS, in the process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pymilvus import DataType, MilvusClient  # type: ignore[import-not-found]

from .base import Adapter, Settings, Sizes, Vectors, bytes_under, float_bytes

_AT_ONCE = 5_000


class Milvus(Adapter):
    """Built with `m` and `ef_construction`, searched with `ef`."""

    package = "milvus-lite"
    threads = "none of its own: FAISS in it goes by OMP_NUM_THREADS"

    def build(self, vectors: Vectors, folder: Path, settings: Settings) -> None:
        self._kept = float_bytes(vectors)
        self._folder = folder
        client = self._client = MilvusClient(str(folder / "milvus.db"))
        schema = client.create_schema(auto_id=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=vectors.shape[1])
        client.create_collection("vectors", schema=schema)
        for start in range(0, len(vectors), _AT_ONCE):
            part = vectors[start : start + _AT_ONCE].tolist()
            client.insert("vectors", [{"id": start + n, "vector": v} for n, v in enumerate(part)])
        client.flush("vectors")
        indexes = client.prepare_index_params()
        indexes.add_index(
            field_name="vector",
            index_type="HNSW",
            metric_type="IP",
            params={"M": settings["m"], "efConstruction": settings["ef_construction"]},
        )
        client.create_index("vectors", indexes)
        client.load_collection("vectors")

    def sizes(self, folder: Path) -> Sizes:
        indexes = sum(file.stat().st_size for file in self._folder.rglob("*.idx"))
        besides = bytes_under(self._folder) - indexes
        return Sizes(indexes - self._kept, self._kept, besides, "disk")

    def choose(self, setting: Settings, queries: Vectors) -> None:
        self._queries = queries.tolist()
        self._parameters = {"metric_type": "IP", "params": {"ef": setting["ef"]}}

    def _search(self, queries: Any) -> Any:
        return self._client.search(
            "vectors", data=queries, limit=self.k, search_params=self._parameters
        )

    def batch(self) -> Any:
        return self._search(self._queries)

    def one(self, number: int) -> Any:
        return self._search(self._queries[number : number + 1])

    def batch_ids(self, answer: Any) -> list[list[int]]:
        return [[hit["id"] for hit in hits] for hits in answer]

    def one_ids(self, answer: Any) -> list[int]:
        return self.batch_ids(answer)[0]


ADAPTER = Milvus
