"""ScaNN: a partition tree, 4-bit anisotropic codes, reordering by exact vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import scann  # type: ignore[import-not-found]

from .base import Adapter, Settings, Sizes, Vectors, bytes_under, float_bytes

_TRAINED_ON = 250_000


class Scann(Adapter):
    """Built with `leaves`, searched with `search` of them and `reorder` candidates."""

    package = "scann"
    threads = (
        "set_n_training_threads(1); search_batched, which has no threads, not its parallel one"
    )

    def build(self, vectors: Vectors, folder: Path, settings: Settings) -> None:
        self._kept = float_bytes(vectors)
        builder = scann.scann_ops_pybind.builder(
            np.ascontiguousarray(vectors), self.k, "dot_product"
        )
        builder.set_n_training_threads(1)
        self._searcher = (
            builder.tree(
                num_leaves=settings["leaves"],
                num_leaves_to_search=settings["leaves"] // 10,
                training_sample_size=min(len(vectors), _TRAINED_ON),
            )
            .score_ah(2, anisotropic_quantization_threshold=0.2)
            .reorder(30)
            .build()
        )

    def sizes(self, folder: Path) -> Sizes:
        self._searcher.serialize(str(folder))
        return Sizes(bytes_under(folder) - self._kept, self._kept, 0, "disk")

    def choose(self, setting: Settings, queries: Vectors) -> None:
        self._queries = queries
        self._parameters = {
            "leaves_to_search": setting["search"],
            "pre_reorder_num_neighbors": setting["reorder"],
            "final_num_neighbors": self.k,
        }

    def batch(self) -> Any:
        return self._searcher.search_batched(self._queries, **self._parameters)

    def one(self, number: int) -> Any:
        return self._searcher.search(self._queries[number], **self._parameters)

    def batch_ids(self, answer: Any) -> list[list[int]]:
        return answer[0].tolist()  # type: ignore[no-any-return]

    def one_ids(self, answer: Any) -> list[int]:
        return answer[0].tolist()  # type: ignore[no-any-return]


ADAPTER = Scann
