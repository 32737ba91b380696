"""From the start of a process to the answer of its first query, on 10^5 items.

Each run is a new Python process that imports catalens, opens the text index and asks for items
like another; it fails if torch has been imported. Half of the runs find the index in the page
cache; before the other half the kernel is asked to drop it (`posix_fadvise`), which needs no
root, and leaves Python and its packages cached.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import orjson

from .corpus import SEED, build_text, load_corpus
from .harness import (
    Options,
    Result,
    Target,
    command,
    median,
    pinned_environment,
    rounded,
    say,
)

RUNS = 10
SECONDS = 1.0

# CLOCK_MONOTONIC counts for all processes alike, so the parent's clock starts the child's.
_CHILD = """
import time; started = time.monotonic()
import sys, catalens as cl; imported = time.monotonic()
shop = cl.Retriever.open(sys.argv[1]); opened = time.monotonic()
hits = shop.search(cl.Query(like=sys.argv[2]), k=10); answered = time.monotonic()
assert len(hits) == 10 and "torch" not in sys.modules, "torch was imported"
again = shop.search(cl.Query(like=sys.argv[2]), k=10); repeated = time.monotonic()
import json
print(json.dumps({
    "start": started, "imported": imported, "opened": opened, "answered": answered,
    "repeated": repeated, "torch": "torch" in sys.modules,
}))
"""
PHASES = ("interpreter", "import", "open", "query")


def drop_from_cache(folder: Path) -> None:
    """Ask the kernel to drop a folder's files from the page cache."""
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fdatasync(descriptor)  # only clean pages are dropped
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)


def first_answer(index: Path, item: str) -> dict[str, float]:
    """Seconds of each phase in a new process, of all together, and of the query once more."""
    began = monotonic()
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(index), item],
        capture_output=True,
        check=False,
        env=pinned_environment(1),
    )
    if done.returncode != 0:
        raise RuntimeError(f"the process that opens {index} failed: {done.stderr.decode()}")
    times: dict[str, Any] = orjson.loads(done.stdout)
    return {
        "total": times["answered"] - began,
        "interpreter": times["start"] - began,
        "import": times["imported"] - times["start"],
        "open": times["opened"] - times["imported"],
        "query": times["answered"] - times["opened"],
        "second query": times["repeated"] - times["answered"],
    }


def summary(runs: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Medians of all phases, and the slow end of the whole."""
    return {
        **{f"{name}_s": median([run[name] for run in runs]) for name in runs[0]},
        "total_p90_s": rounded(float(np.percentile([run["total"] for run in runs], 90))),
        "totals_s": [rounded(run["total"]) for run in runs],
    }


def run(options: Options) -> Result:
    """Measure warm and cold by turns."""
    corpus = load_corpus(options.items)
    index = build_text(corpus)
    ids = [row["id"] for row in corpus.rows[: RUNS + 1]]
    first_answer(index, ids[RUNS])  # compiles what Python has not compiled yet
    say(f"{RUNS} new processes with the index cached, {RUNS} without, by turns")
    warm, cold = [], []
    for item in ids[:RUNS]:
        warm.append(first_answer(index, item))
        drop_from_cache(index)
        cold.append(first_answer(index, item))
    figures: dict[str, Any] = {
        "items": len(corpus.rows),
        "index_mb": rounded(sum(f.stat().st_size for f in index.rglob("*") if f.is_file()) / 1e6),
        "torch_imported": False,
        "cached": summary(warm),
        "not cached": summary(cold),
    }
    total = figures["cached"]["total_s"]
    target = Target(
        "process start to the first answer by item id, median",
        f"< {SECONDS:g} s, torch not imported",
        f"{total:.2f} s (index not in page cache: {figures['not cached']['total_s']:.2f} s)",
        total < SECONDS,
    )
    settings = {"dataset": "wordnet glosses", "runs": RUNS, "threads": 1, "seed": SEED}
    return Result("opening", settings, figures, [target])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, write results, draw."""
    return command("opening", __doc__, run, threads=1, arguments=arguments)


if __name__ == "__main__":
    sys.exit(main())
