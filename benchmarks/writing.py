"""What changes cost: adding, deleting and compacting, and searching with what is not compacted yet.

The vectors are those of WordNet's glosses by the default text encoder (384 dimensions), brought
ready-made: 100,000 of them are the index (profile `fast`), the others are added to it.

- add: 1,000 items in one commit, durable on return, and by turns a bare LMDB transaction, synced,
  that puts the same keys and values into an environment of its own;
- search: p50 of single searches, one thread, with 0, 1, 5 and 10 % of the rows uncompacted, each
  in a copy of the index and by turns, at the index's own point;
- delete: 10 % of the items in one commit; recall@10 before and after, against an exact scan of
  what lives, ties allowed;
- compact: folding the 10 % in, against a build of all those rows in a copy of the index, whose
  store has the embeddings already;
- resume: a build of texts in a process of its own, killed (SIGKILL) as soon as half of them are
  encoded, and run again: how many were encoded twice.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from time import perf_counter
from typing import Any

import lmdb
import numpy as np
import orjson
from numpy.typing import NDArray

from catalens import Query, Retriever, Writer, build_index
from indexer.sealing import seal
from indexer.transactions import WriteTransaction

from .corpus import SEED, build_text, encode_queries, encoder_vectors, load_corpus
from .harness import (
    Options,
    Result,
    Target,
    command,
    cores,
    interleave,
    median,
    pinned_environment,
    rounded,
    say,
    tie_aware_recall,
    timed,
)

ITEMS, ADDED, K = 100_000, 1_000, 10
SHARES = (0.0, 0.01, 0.05, 0.1)
ADD_ROUNDS, SEARCH_ROUNDS, QUERIES = 5, 5, 500
RESUMED = 4_000
RATIO, LOSS, COMPACT = 1.5, 0.005, 0.4

Vectors = NDArray[np.float32]

# A build that says after each call of an encoder how many inputs it had.
_CHILD = """
import sys
import orjson
import indexer.encode as encode
from catalens import build_index

real = encode.encode_all

def counted(encoder, modality, prepared):
    found = real(encoder, modality, prepared)
    print(len(prepared), flush=True)
    return found

encode.encode_all = counted
given = orjson.loads(sys.stdin.buffer.read())
build_index(given["rows"], given["out"], text="text", device="cpu")
"""


def rows(vectors: Vectors, numbers: Iterable[int]) -> Iterator[dict[str, Any]]:
    for number in numbers:
        yield {"id": f"v{number}", "vec": vectors[number], "number": number}


def add(index: Path, vectors: Vectors, numbers: range) -> float:
    """Seconds of adding these items in one commit."""
    given = list(rows(vectors, numbers))
    with Writer.open(index, device="cpu") as writer:
        start = perf_counter()
        writer.add(given)
        writer.commit()
        return perf_counter() - start


class Recorded:
    """What is put into the store while this is open: database, key and value as LMDB gets them."""

    def __init__(self) -> None:
        self.puts: list[tuple[str, bytes, bytes]] = []

    def __enter__(self) -> Recorded:
        self._put = put = WriteTransaction.put

        def recording(self_: WriteTransaction, database: str, key: bytes, value: bytes) -> None:
            self.puts.append((database, key, seal(key, value)))
            put(self_, database, key, value)

        WriteTransaction.put = recording  # type: ignore[method-assign,assignment]
        return self

    def __exit__(self, *_: object) -> None:
        WriteTransaction.put = self._put  # type: ignore[method-assign]


def bare_write(folder: Path, puts: list[tuple[str, bytes, bytes]]) -> float:
    """Seconds of the same puts in one synced transaction of a new environment."""
    shutil.rmtree(folder, ignore_errors=True)
    with closing(lmdb.open(str(folder), map_size=1 << 32, max_dbs=64)) as environment:
        names = {database for database, _, _ in puts}
        handles = {name: environment.open_db(name.encode()) for name in names}

        def write() -> None:
            with environment.begin(write=True) as transaction:
                for database, key, value in puts:
                    transaction.put(key, value, db=handles[database])

        return timed(write)()


def measure_add(index: Path, vectors: Vectors, folder: Path, first: int) -> dict[str, Any]:
    with Recorded() as recorded:
        add(index, vectors, range(first, first + ADDED))
    ours, bare = [], []
    for turn in range(1, ADD_ROUNDS + 1):
        start = first + turn * ADDED
        ours.append(add(index, vectors, range(start, start + ADDED)))
        bare.append(bare_write(folder / "bare", recorded.puts))
    return {
        "items": ADDED,
        "items_per_second": rounded(ADDED / median(ours)),
        "bytes": sum(len(key) + len(value) for _, key, value in recorded.puts),
        "seconds": median(ours),
        "bare_lmdb_seconds": median(bare),
        "ratio": rounded(median(ours) / median(bare)),
    }


def measure_search(indexes: dict[float, Path], asked: list[Query]) -> dict[str, Any]:
    with ExitStack() as held:
        shops = {
            share: held.enter_context(Retriever.open(index, device="cpu"))
            for share, index in indexes.items()
        }
        calls = {}
        for share, shop in shops.items():
            for explain in (True, False):
                calls[f"{share:g} {explain}"] = lambda q, s=shop, e=explain: s.search(
                    asked[q], K, explain=e
                )
        timings = interleave(calls, len(asked), rounds=SEARCH_ROUNDS)
    found: dict[str, Any] = {}
    for name, explain in (("with explanation", True), ("ids and scores", False)):
        base = timings[f"0 {explain}"].p50
        found[name] = {
            f"{share:g}": {
                **timings[f"{share:g} {explain}"].summary(),
                "ratio": rounded(timings[f"{share:g} {explain}"].p50 / base),
            }
            for share in shops
        }
    return found


def recall(index: Path, vectors: Vectors, living: Sequence[int], asked: Vectors) -> float:
    with Retriever.open(index, device="cpu") as shop:
        hits = shop.search_many([Query(vector=v) for v in asked], K, explain=False)
    similar = asked.astype(np.float64) @ vectors.astype(np.float64).T
    best = np.partition(similar[:, living], -K, axis=1)[:, -K]
    found = [similar[number, [int(hit.id[1:]) for hit in one]] for number, one in enumerate(hits)]
    return tie_aware_recall(found, best, K)


def measure_delete(index: Path, vectors: Vectors, items: int, asked: Vectors) -> dict[str, Any]:
    gone = np.random.default_rng(SEED).permutation(items)[: items // 10]
    before = recall(index, vectors, range(items), asked)
    with Writer.open(index, device="cpu") as writer:
        start = perf_counter()
        writer.delete([f"v{n}" for n in gone])
        writer.commit()
        seconds = perf_counter() - start
    living = np.setdiff1d(np.arange(items), gone)
    after = recall(index, vectors, living.tolist(), asked)
    return {
        "items": len(gone),
        "seconds": rounded(seconds),
        "recall_at_10_before": rounded(before),
        "recall_at_10_after": rounded(after),
    }


def measure_compact(index: Path, again: Path, vectors: Vectors, items: int) -> dict[str, Any]:
    """Compact one copy; build all rows in the other."""
    given = list(rows(vectors, range(items)))
    build = timed(lambda: build_index(given, again, vector="vec", profile="fast", device="cpu"))()
    with Writer.open(index, device="cpu") as writer:
        summary = writer.compact()
    return {
        "folded": summary.folded,
        "trained": summary.trained,
        "seconds": rounded(summary.seconds),
        "build_seconds": rounded(build),
        "ratio": rounded(summary.seconds / build),
    }


def encoded_by_build(texts: Sequence[str], out: Path, kill_after: int | None) -> list[int]:
    """Inputs of each call of the encoder in a build, killed once they are so many together."""
    rows = [{"id": str(number), "text": text} for number, text in enumerate(texts)]
    given = orjson.dumps({"rows": rows, "out": str(out)})
    counts: list[int] = []
    with subprocess.Popen(
        [sys.executable, "-c", _CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=pinned_environment(cores()),
    ) as child:
        assert child.stdin is not None and child.stdout is not None
        child.stdin.write(given)
        child.stdin.close()
        for line in child.stdout:
            counts.append(int(line))
            if kill_after is not None and sum(counts) >= kill_after:
                child.kill()
                break
    return counts


def measure_resume(texts: Sequence[str], out: Path) -> dict[str, Any]:
    """A build killed at half, between an encoding and its commit, and the one after it."""
    first = encoded_by_build(texts, out, len(texts) // 2)
    second = encoded_by_build(texts, out, None)
    return {
        "inputs": len(texts),
        "encoded_before_the_kill": sum(first),
        "encoded_after_it": sum(second),
        "encoded_twice": sum(first) + sum(second) - len(texts),
        "last_batch_before_the_kill": first[-1],
    }


def run(options: Options) -> Result:
    """Measure all of it on copies of one index."""
    corpus = load_corpus()
    with closing(Retriever.open(build_text(corpus), device="cpu")) as shop:
        vectors = encoder_vectors(shop, corpus)
        queries = encode_queries(shop, corpus)[0][:QUERIES]
    items = min(options.items or ITEMS, ITEMS)
    with tempfile.TemporaryDirectory(prefix="catalens-writing-") as name:
        folder = Path(name)
        base = folder / "base"
        say(f"building {items:,}")
        build_index(rows(vectors, range(items)), base, vector="vec", profile="fast", device="cpu")
        indexes = {share: folder / f"{share:g}" for share in SHARES}
        for share, index in indexes.items():
            shutil.copytree(base, index)
            if share:
                add(index, vectors, range(items, items + int(share * items)))
        figures: dict[str, Any] = {"items": items}
        say("searching")
        figures["search"] = measure_search(indexes, [Query(vector=v) for v in queries])
        say("deleting")
        figures["delete"] = measure_delete(indexes[0.0], vectors, items, queries)
        say("compacting")
        shutil.copytree(indexes[SHARES[-1]], folder / "again")
        figures["compact"] = measure_compact(
            indexes[SHARES[-1]], folder / "again", vectors, items + items // 10
        )
        say("adding")
        figures["add"] = measure_add(base, vectors, folder, items)
        say("resuming")
        texts = [row["gloss"] for row in corpus.rows[:RESUMED]]
        figures["resume"] = measure_resume(texts, folder / "resumed")
    settings = {"k": K, "profile": "fast", "threads": 1, "seed": SEED}
    return Result("writing", settings, figures, targets(figures))


def targets(figures: dict[str, Any]) -> list[Target]:
    """What is promised, and how it came out."""
    found = []
    for name, shares in figures["search"].items():
        told = ", ".join(f"{one['ratio']:.2f}" for one in list(shares.values())[1:])
        ratio = shares[f"{SHARES[-1]:g}"]["ratio"]
        found.append(
            Target(
                f"p50 of a search, {name}, with 1, 5, 10 % of the rows uncompacted, to none",
                f"<= {RATIO:g} at 10 %",
                told,
                ratio <= RATIO,
            )
        )
    delete, compact, resume = figures["delete"], figures["compact"], figures["resume"]
    before, after = delete["recall_at_10_before"], delete["recall_at_10_after"]
    found += [
        Target(
            "recall@10 after a delete of 10 %, against before",
            f">= - {LOSS:g}",
            f"{before:.4f} to {after:.4f}, in {delete['seconds']:.1f} s",
            after >= before - LOSS,
        ),
        Target(
            "compacting 10 % more rows, against a build from embeddings that are known",
            f"<= {COMPACT:g}",
            f"{compact['ratio']:.2f} ({compact['seconds']:.1f} s)",
            compact["ratio"] <= COMPACT,
        ),
        Target(
            "inputs that a build killed at half encodes twice",
            "<= one batch",
            f"{resume['encoded_twice']:,} of {resume['inputs']:,}; the last batch had "
            f"{resume['last_batch_before_the_kill']:,}",
            0 <= resume["encoded_twice"] <= resume["last_batch_before_the_kill"],
        ),
    ]
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, write results."""
    return command("writing", __doc__, run, threads=1, arguments=arguments)


if __name__ == "__main__":
    sys.exit(main())
