"""FAISS: any index that its factory makes."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from .base import Adapter, Settings, Sizes, Vectors

# Untyped: its stubs do not know what its Python layer adds.
faiss: Any = import_module("faiss")
_SEED = 1234


class Faiss(Adapter):
    """`factory` names the index. IVF takes `train_rows` of the vectors and, if `spherical`, unit
    centroids; HNSW takes `ef_construction`. Searched with `nprobe` and `k_factor`, or `ef`."""

    package = "faiss-cpu"
    threads = "omp_set_num_threads(1)"

    def build(self, vectors: Vectors, folder: Path, settings: Settings) -> None:
        faiss.omp_set_num_threads(1)
        self._dimension = int(vectors.shape[1])
        self._index: Any = faiss.index_factory(
            vectors.shape[1], settings["factory"], faiss.METRIC_INNER_PRODUCT
        )
        base = faiss.downcast_index(getattr(self._index, "base_index", self._index))
        if "ef_construction" in settings:
            base.hnsw.efConstruction = settings["ef_construction"]
        sample = np.ascontiguousarray(vectors)
        if "train_rows" in settings:
            base.cp.spherical = settings["spherical"]
            base.cp.seed = _SEED
            base.cp.min_points_per_centroid = 1
            rows = np.random.default_rng(_SEED).permutation(len(vectors))
            sample = sample[np.sort(rows[: settings["train_rows"]])]
        if not self._index.is_trained:
            self._index.train(sample)
        self._index.add(np.ascontiguousarray(vectors))

    def sizes(self, folder: Path) -> Sizes:
        file = folder / "index.faiss"
        faiss.write_index(self._index, str(file))
        kept = self._kept() * self._index.ntotal
        return Sizes(file.stat().st_size - kept, kept, 0, "disk")

    def _kept(self) -> int:
        """Bytes of one vector that candidates are scored by."""
        refining = getattr(self._index, "refine_index", None)
        if refining is None:
            return 4 * self._dimension
        return int(faiss.downcast_index(refining).code_size)

    def choose(self, setting: Settings, queries: Vectors) -> None:
        self._queries = queries
        self._parameters: Any = None
        if "ef" in setting:
            self._parameters = faiss.SearchParametersHNSW(efSearch=setting["ef"])
        elif "nprobe" in setting:
            self._parameters = faiss.IndexRefineSearchParameters(
                k_factor=setting["k_factor"],
                base_index_params=faiss.SearchParametersIVF(nprobe=setting["nprobe"]),
            )

    def batch(self) -> Any:
        return self._index.search(self._queries, self.k, params=self._parameters)

    def one(self, number: int) -> Any:
        return self._index.search(
            self._queries[number : number + 1], self.k, params=self._parameters
        )

    def batch_ids(self, answer: Any) -> list[list[int]]:
        return answer[1].tolist()  # type: ignore[no-any-return]

    def one_ids(self, answer: Any) -> list[int]:
        return self.batch_ids(answer)[0]


ADAPTER = Faiss
