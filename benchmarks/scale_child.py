"""What `scale` does in processes of their own: build an index, tune, or open and ask one.

    python -m benchmarks.scale_child build VECTORS.npy INDEX
    python -m benchmarks.scale_child tune INDEX QUERIES.npy
    python -m benchmarks.scale_child ask INDEX QUERIES.npy

One JSON object on standard output.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import faiss  # noqa: F401 - a library's own memory is not the index's
import numpy as np
import orjson

from catalens import Query, Retriever, build_index, tune_index

from .harness import StageTimer, rounded

K = 10
_ROUNDS = 3
_CHUNK = 4096


def anonymous_bytes() -> int:
    """Memory of this process that is no file's."""
    for line in Path("/proc/self/status").read_text("utf-8").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("this kernel does not tell RssAnon")


class Peak:
    """The largest `anonymous_bytes` while a block runs, looked at 50 times a second."""

    def __enter__(self) -> Peak:
        self.bytes = self.before = anonymous_bytes()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            self.bytes = max(self.bytes, anonymous_bytes())


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The catalog, read a chunk at a time."""
    vectors = np.load(path, mmap_mode="r")
    for start in range(0, len(vectors), _CHUNK):
        for number, vector in enumerate(np.array(vectors[start : start + _CHUNK]), start):
            yield {"id": str(number), "vector": vector}


def build(vectors: Path, index: Path) -> dict[str, Any]:
    """Build; seconds in all and of each stage, and the peak of memory."""
    stages = StageTimer()
    start = perf_counter()
    with Peak() as peak:
        summary = build_index(
            rows(vectors), index, vector="vector", device="cpu", profile="fast", progress=stages
        )
    return {
        "index": summary.index,
        "seconds": rounded(perf_counter() - start),
        "stages_s": {name: rounded(took) for name, took in stages.seconds.items()},
        "peak_anonymous_bytes": peak.bytes,
    }


def tune(index: Path, queries: Path) -> dict[str, Any]:
    """Tune on real queries as well; seconds, and the recall that is told under each condition."""
    real = [Query(vector=vector) for vector in np.load(queries)]
    start = perf_counter()
    report = tune_index(index, queries=real)
    return {
        "seconds": rounded(perf_counter() - start),
        "recall": {name: rounded(recall) for name, recall in report.index.recall.items()},
    }


def ask(folder: Path, queries: Path) -> dict[str, Any]:
    """Open, ask each query alone; latencies, memory, and the ids as positions."""
    asked = [Query(vector=vector) for vector in np.load(queries)]
    before = anonymous_bytes()
    with Retriever.open(folder, device="cpu") as shop:
        shop.search(asked[0], k=K, explain=False)
        opened = anonymous_bytes() - before
        seconds = []
        for _ in range(_ROUNDS + 1):  # the first warms up
            taken = []
            for query in asked:
                start = perf_counter()
                shop.search(query, k=K, explain=False)
                taken.append(perf_counter() - start)
            seconds.append(taken)
        hits = shop.search_many(asked, K, explain=False)
        index = shop.manifest.index
        point = index.default()
    timed = np.array(seconds[1:]) * 1e3
    return {
        "nprobe": point.nprobe,
        "k_factor": point.k_factor,
        "lists": index.lists,
        "p50_ms": rounded(float(np.median(np.percentile(timed, 50, axis=1)))),
        "p99_ms": rounded(float(np.median(np.percentile(timed, 99, axis=1)))),
        "opened_bytes": opened,
        "ids": [[int(hit.id) for hit in found] for found in hits],
    }


def main() -> None:
    """Do what the command line says."""
    task, first, second = sys.argv[1:]
    found = {"build": build, "tune": tune, "ask": ask}[task](Path(first), Path(second))
    sys.stdout.write(orjson.dumps(found).decode())


if __name__ == "__main__":
    main()
