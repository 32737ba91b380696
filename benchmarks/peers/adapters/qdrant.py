"""Qdrant's engine in the process (Qdrant Edge): one graph over one segment, no payload."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import qdrant_edge as edge  # type: ignore[import-not-found]

from .base import Adapter, Settings, Sizes, Vectors, bytes_under, float_bytes

_AT_ONCE = 5_000


class Qdrant(Adapter):
    """Built with `m` and `ef_construct`, searched with `ef`."""

    package = "qdrant-edge-py"
    threads = "max_indexing_threads=1, max_search_threads=1, search_pool_core"

    def build(self, vectors: Vectors, folder: Path, settings: Settings) -> None:
        self._kept = float_bytes(vectors)
        self._folder = folder
        self._shard = edge.EdgeShard.create(
            str(folder),
            edge.EdgeConfig(
                vectors=edge.EdgeVectorParams(size=vectors.shape[1], distance=edge.Distance.Dot),
                hnsw_config=edge.HnswIndexConfig(
                    m=settings["m"],
                    ef_construct=settings["ef_construct"],
                    full_scan_threshold=1,
                    max_indexing_threads=1,
                ),
                optimizers=edge.EdgeOptimizersConfig(
                    default_segment_number=1, indexing_threshold=1
                ),
                max_search_threads=1,
                search_pool_core=self.core,
            ),
        )
        for start in range(0, len(vectors), _AT_ONCE):
            part = vectors[start : start + _AT_ONCE].tolist()
            points = [edge.Point(id=start + n, vector=vector) for n, vector in enumerate(part)]
            self._shard.update(edge.UpdateOperation.upsert_points(points))
        self._shard.optimize()
        self._shard.flush()

    def sizes(self, folder: Path) -> Sizes:
        segments = bytes_under(self._folder / "segments")
        besides = bytes_under(self._folder) - segments
        return Sizes(segments - self._kept, self._kept, besides, "disk")

    def choose(self, setting: Settings, queries: Vectors) -> None:
        parameters = edge.SearchParams(hnsw_ef=setting["ef"])
        self._requests = [
            edge.QueryRequest(query=edge.Query.Nearest(query), limit=self.k, params=parameters)
            for query in queries.tolist()
        ]

    def batch(self) -> Any:
        return self._shard.query_batch(edge.QueryBatchRequest(self._requests))

    def one(self, number: int) -> Any:
        return self._shard.query(self._requests[number])

    def batch_ids(self, answer: Any) -> list[list[int]]:
        return [[point.id for point in points] for points in answer]


ADAPTER = Qdrant
