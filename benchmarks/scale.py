"""How latency, recall, build time and memory grow with the catalog: 10^4 to 10^6 vectors.

The vectors are those of WordNet's glosses by the default text encoder (384 dimensions) as far as
they go; from there on the same again with noise of a tenth of their length, which is told in the
result: neighbours are then denser than in a real catalog of that size. Queries are the vectors of
1,000 glosses that are not in it: half of them are given to `tune_index`, as a user's own would be,
and the others are asked. Every index is of the profile `fast`, whatever its size, so that one thing
is compared; each is built, tuned and asked in a process of its own, whose memory is measured.

- latency: p50 of `Retriever.search(..., explain=False)`, one thread, at the index's own point;
- recall@10 against an exact scan in float32, ties allowed;
- build: seconds of `build_index` with ready-made vectors, the store included, and of `tune_index`;
- memory of a build: the peak of its anonymous pages (mapped files are the kernel's to drop);
- memory of a reader: what opening and the first query take, as a share of the index's files. It
  is the codes, which FAISS cannot map, and what tells which items there are; all else is mapped.

The exponent is that of the power law of latency in n, fitted by least squares to the logarithms.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from catalens import Retriever

from .corpus import SEED, build_text, encode_queries, encoder_vectors, load_corpus
from .harness import (
    Options,
    Result,
    Target,
    command,
    cores,
    pinned_environment,
    rounded,
    say,
)
from .peers.scoring import Oracle

SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
K = 10
NOISE = 0.1
EXPONENT, RESIDENT_GB, OPENED_SHARE = 0.5, 1.5, 0.05
_CHUNK = 20_000

Vectors = NDArray[np.float32]


def write_vectors(real: Vectors, n: int, path: Path) -> None:
    """n unit vectors, float32: the real ones, then copies of them with noise."""
    rng = np.random.default_rng(SEED)
    written = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n, real.shape[1]))
    for start in range(0, n, _CHUNK):
        positions = np.arange(start, min(start + _CHUNK, n))
        chunk = real[positions % len(real)]
        copies = positions >= len(real)
        noise = rng.standard_normal(chunk.shape, dtype=np.float32) * (NOISE / real.shape[1] ** 0.5)
        chunk = chunk + noise * copies[:, None]
        written[positions] = chunk / np.linalg.norm(chunk, axis=1, keepdims=True)
    written.flush()


def in_child(task: str, threads: int, *arguments: str) -> dict[str, Any]:
    """What a process of its own found; see `scale_child`."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.scale_child", task, *arguments],
        capture_output=True,
        check=False,
        env=pinned_environment(threads),
    )
    if done.returncode != 0:
        raise RuntimeError(f"{task} {arguments} failed: {done.stderr.decode()}")
    found: dict[str, Any] = orjson.loads(done.stdout)
    return found


def measure(real: Vectors, queries: Vectors, n: int, folder: Path, threads: int) -> dict[str, Any]:
    """One size."""
    vectors, index = folder / "items.npy", folder / "index"
    asked, known = folder / "queries.npy", folder / "known.npy"
    write_vectors(real, n, vectors)
    np.save(known, queries[::2])
    np.save(asked, queries[1::2])
    say(f"{n:,}: building")
    built = in_child("build", threads, str(vectors), str(index))
    say(f"{n:,}: {built['seconds']:,.0f} s; tuning")
    tuned = in_child("tune", threads, str(index), str(known))
    say(f"{n:,}: {tuned['seconds']:,.0f} s; asking")
    answered = in_child("ask", 1, str(index), str(asked))
    items = np.load(vectors, mmap_mode="r")
    recall = Oracle.of(items, queries[1::2], K).recall(answered.pop("ids"))
    sizes = {
        part: sum(f.stat().st_size for f in (index / part).rglob("*") if f.is_file())
        for part in ("generations", "store")
    }
    result = {
        "real": min(n, len(real)),
        "recall_at_10": rounded(recall),
        "build": built,
        "tune": tuned,
        **answered,
        "bytes_per_item": {part: rounded(size / n) for part, size in sizes.items()},
        "opened_share": rounded(answered["opened_bytes"] / sum(sizes.values())),
    }
    shutil.rmtree(index)
    say(f"{n:,}: {result}")
    return result


def run(options: Options) -> Result:
    """Measure every size up to `--items`."""
    corpus = load_corpus()
    with closing(Retriever.open(build_text(corpus), device="cpu")) as shop:
        real = encoder_vectors(shop, corpus)
        queries, _ = encode_queries(shop, corpus)
    sizes = [n for n in SIZES if n <= (options.items or SIZES[-1])]
    if len(sizes) < 2:
        raise SystemExit(f"--items: expected {SIZES[1]:,} or more, for a line needs two points")
    found = {}
    for n in sizes:
        with tempfile.TemporaryDirectory(prefix="catalens-scale-") as folder:
            found[n] = measure(real, queries, n, Path(folder), cores())
    logs = np.log([[n, one["p50_ms"]] for n, one in found.items()])
    exponent, offset = np.polyfit(logs[:, 0], logs[:, 1], 1)
    figures: dict[str, Any] = {
        "sizes": {str(n): one for n, one in found.items()},
        "exponent": rounded(float(exponent)),
        "extrapolated_p50_ms_at_10_million": rounded(
            float(np.exp(offset + exponent * np.log(1e7)))
        ),
    }
    settings = {"k": K, "noise": NOISE, "profile": "fast", "threads": 1, "seed": SEED}
    return Result("scale", settings, figures, targets(figures))


def targets(figures: dict[str, Any]) -> list[Target]:
    """What is promised, and how it came out."""
    sizes = figures["sizes"]
    largest = sizes[max(sizes, key=int)]
    worst = min(sizes.values(), key=lambda one: float(one["recall_at_10"]))
    anonymous = largest["build"]["peak_anonymous_bytes"] / 1e9
    return [
        Target(
            f"latency in n, {min(sizes, key=int)} to {max(sizes, key=int)} vectors, exponent",
            f"<= {EXPONENT:g}",
            f"{figures['exponent']:.2f}",
            figures["exponent"] <= EXPONENT,
        ),
        Target(
            "recall@10 of the worst of them",
            ">= 0.95",
            f"{worst['recall_at_10']:.3f}",
            worst["recall_at_10"] >= 0.95,
        ),
        Target(
            "peak memory of the largest build, anonymous pages",
            f"< {RESIDENT_GB:g} GB",
            f"{anonymous:.2f} GB",
            anonymous < RESIDENT_GB,
        ),
        Target(
            "memory of a reader after its first query, of the largest index",
            f"<= {OPENED_SHARE:.0%} of its files",
            f"{largest['opened_share']:.1%}",
            largest["opened_share"] <= OPENED_SHARE,
        ),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, write results, draw."""
    return command("scale", __doc__, run, threads=cores(), arguments=arguments)


if __name__ == "__main__":
    sys.exit(main())
