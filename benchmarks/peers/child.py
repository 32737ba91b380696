"""The process of one peer: builds its index, then answers and times as it is told.

    python -m benchmarks.peers.child ADAPTER CORE K

It runs in the peer's own environment, on one core. A line of JSON comes in for every wish, one goes
out for every answer; whatever the library itself prints goes to the error output.

    {"do": "build", "vectors": FILE.npy, "queries": FILE.npy, "rows": FILE.jsonl or null,
     "folder": DIR, "settings": {...}}
    {"do": "measure", "setting": {...}, "first": N, "batch_s": S, "single_s": S}

An answer is `{"ok": {...}}` or `{"error": "..."}`.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
from importlib.metadata import version
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, TextIO

import numpy as np

from .adapters.base import Adapter, Vectors

_WARM_CALLS = 5
_LEAST_CALLS = 20


def load_adapter(name: str, k: int, core: int) -> Adapter:
    """The adapter of that module; imports the library."""
    module = importlib.import_module(f"{__package__}.adapters.{name}")
    adapter: Adapter = module.ADAPTER(k, core)
    return adapter


class Served:
    """One adapter with its queries."""

    def __init__(self, adapter: Adapter) -> None:
        self._adapter = adapter
        self._queries: Vectors = np.empty((0, 0), np.float32)

    def build(self, wish: dict[str, Any]) -> dict[str, Any]:
        """Build and tune, timed; then say what the index takes."""
        vectors = np.load(wish["vectors"], mmap_mode="r")
        self._queries = np.load(wish["queries"])
        self._adapter.rows = Path(wish["rows"]) if wish["rows"] else None
        folder = Path(wish["folder"])
        built, saved = folder / "built", folder / "saved"
        built.mkdir(parents=True)
        saved.mkdir()
        before = peak_memory()
        start, cpu_start = perf_counter(), process_time()
        self._adapter.build(vectors, built, wish["settings"])
        seconds, cpu = perf_counter() - start, process_time() - cpu_start
        peak = peak_memory()
        start = perf_counter()
        self._adapter.tune()
        tuning = perf_counter() - start
        sizes = self._adapter.sizes(saved)
        shutil.rmtree(saved)
        return {
            "seconds": seconds,
            "cpu_seconds": cpu,
            "indexing_seconds": self._adapter.indexing_s or seconds,
            "tuning_seconds": tuning,
            "memory_before": before,
            "peak_memory": peak,
            "sizes": vars(sizes),
            "version": version(self._adapter.package),
            "threads": self._adapter.threads,
        }

    def measure(self, wish: dict[str, Any]) -> dict[str, Any]:
        """Time batches, then single calls from the query numbered `first` on.

        Both go on until their seconds have passed; there is one batch at least, and of single
        calls neither fewer than a few nor more than queries.
        """
        adapter, count = self._adapter, len(self._queries)
        adapter.choose(wish["setting"], self._queries)
        batches: list[float] = []
        cpu_start = process_time()
        while not batches or sum(batches) < wish["batch_s"]:
            start = perf_counter()
            answer = adapter.batch()
            batches.append(perf_counter() - start)
        cpu = process_time() - cpu_start
        numbers = [(wish["first"] + n) % count for n in range(count)]
        for number in numbers[-_WARM_CALLS:]:
            adapter.one(number)
        singles: list[float] = []
        answers = []
        for number in numbers:
            if sum(singles) > wish["single_s"] and len(singles) >= _LEAST_CALLS:
                break
            start = perf_counter()
            one = adapter.one(number)
            singles.append(perf_counter() - start)
            answers.append(one)
        return {
            "batch_s": batches,
            "batch_cpu_s": cpu / len(batches),
            "single_s": singles,
            "ids": adapter.batch_ids(answer),
            "single_numbers": numbers[: len(singles)],
            "single_ids": [adapter.one_ids(one) for one in answers],
        }


def peak_memory() -> int:
    """Bytes of memory, mapped files included, that this process held at most; 0 if unknown.

    Not `getrusage`: what that says of a new process includes its parent's.
    """
    try:
        status = Path("/proc/self/status").read_text("utf-8")
    except OSError:
        return 0
    lines = [line.split() for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(lines[0][1]) * 1024 if lines else 0


def serve(served: Served, wishes: TextIO, answers: TextIO) -> None:
    """Answer until no more is wished."""
    for line in wishes:
        wish = json.loads(line)
        try:
            done = served.build(wish) if wish["do"] == "build" else served.measure(wish)
            answer: dict[str, Any] = {"ok": done}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


def main() -> None:
    """Bind to the core before the library counts cores, and keep its output apart."""
    name, core, k = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve(Served(load_adapter(name, k, core)), sys.stdin, answers)


if __name__ == "__main__":
    main()
