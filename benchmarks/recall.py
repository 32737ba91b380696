"""Recall@10 and latency against exact search, at the operating point that the build chose.

WordNet's glosses, 1,000 of them held out as queries. Two indexes: `text`, in the centred space
of the default preset, and `vector`, of the same vectors brought ready-made and compared by plain
cosine. The rival is FAISS's IndexFlatIP over float32 vectors of the same space, in the same
process. Both run on one thread and take turns; ours returns hits with metadata and explanation,
the rival bare positions. Queries of `text` go through all of `Retriever.search` but the model,
whose vectors are made before: encoding would take the same time on either side. It is reported
on its own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from catalens import Hit, Query, Retriever
from indexer import Snapshot

from .corpus import (
    SEED,
    Corpus,
    build_text,
    build_vector,
    encode_queries,
    encoder_vectors,
    load_corpus,
)
from .harness import (
    Options,
    Result,
    Target,
    command,
    cores,
    interleave,
    interleave_whole,
    median,
    rounded,
    say,
    tie_aware_recall,
)

K = 10
ROUNDS = 3
RECALL, SPEED_UP = 0.95, 5.0
_CURVE_QUERIES = 200

Vectors = NDArray[np.float32]
Doubles = NDArray[np.float64]


class Remembered:
    """Stands in for the query encoder: its vectors were made before the clock ran."""

    def __init__(self, vectors: dict[bytes, Vectors]) -> None:
        self._vectors = vectors

    def encode(
        self, wanted: Iterable[tuple[str, str, bytes]], snapshot: Snapshot
    ) -> dict[tuple[str, str, bytes], Vectors]:
        return {one: self._vectors[one[2]] for one in wanted}

    def content(self, part: Any) -> bytes:
        return str(part.value).encode()


@dataclass(frozen=True)
class Trial:
    """One index with its queries, and what exact search needs for the same answers."""

    name: str
    shop: Retriever
    queries: list[Query]
    items: Vectors
    """(n, D) float32, never rounded to half precision."""
    vectors: Vectors
    """(m, D) float32: the queries."""
    positions: dict[str, int]

    def similarities(self, query: int, found: Sequence[int]) -> Doubles:
        """Exact similarities of distinct items to a query, computed here."""
        distinct = sorted(set(found))
        exact: Doubles = self.items[distinct].astype(np.float64) @ self.vectors[query]
        return exact

    def hits(self, hits: Sequence[Hit]) -> list[int]:
        return [self.positions[hit.id] for hit in hits]


def text_trial(corpus: Corpus, shop: Retriever, raw: Vectors, encoded: Vectors) -> Trial:
    """Text queries, encoded beforehand; exact search over vectors fused anew in float32."""
    internals: Any = shop
    fusion = internals._view.generation.fusion
    contents = [text.encode() for text in corpus.queries]
    internals._view.composer._encoder = Remembered(dict(zip(contents, encoded, strict=True)))
    queries = [Query(text=text) for text in corpus.queries]
    (name, transform), *_ = fusion.transforms.items()
    return Trial(
        "text",
        shop,
        queries,
        fusion.fuse_items({name: transform.item_blocks(raw)}),
        np.stack([one.vector for one in internals._view.composer.compose(queries)]),
        _positions(corpus),
    )


def vector_trial(corpus: Corpus, shop: Retriever, raw: Vectors, encoded: Vectors) -> Trial:
    """Vector queries; exact search is plain cosine over the unit vectors that were brought."""
    queries = [Query(vector=vector) for vector in encoded]
    return Trial("vector", shop, queries, raw, encoded, _positions(corpus))


def _positions(corpus: Corpus) -> dict[str, int]:
    return {row["id"]: position for position, row in enumerate(corpus.rows)}


def measure(trial: Trial) -> tuple[dict[str, Any], Target]:
    """Recall and latency side by side with exact search."""
    exact = faiss.IndexFlatIP(trial.items.shape[1])
    exact.add(trial.items)
    faiss.omp_set_num_threads(1)
    # What exact search returns is known before: the timed run only has to be timed.
    best = [exact.search(query[None], K)[1][0] for query in trial.vectors]
    kth = np.array([trial.similarities(q, found.tolist()).min() for q, found in enumerate(best)])
    say(f"{trial.name}: {len(trial.queries):,} queries, ours and exact by turns")
    timed = interleave(
        {
            "catalens": lambda q: trial.shop.search(trial.queries[q], k=K),
            "exact": lambda q: exact.search(trial.vectors[q : q + 1], K),
        },
        len(trial.queries),
        rounds=ROUNDS,
        keep=lambda hits: trial.hits(hits) if isinstance(hits, list) else None,
    )
    ours, rival = timed["catalens"], timed["exact"]
    recall = _recall(trial, ours.answers, kth)
    speed_up = rival.p50 / ours.p50
    index = trial.shop.manifest.index
    figures = {
        "items": len(trial.items),
        "dimension": trial.items.shape[1],
        "index": index.factory,
        "nprobe": index.default().nprobe,
        "k_factor": index.default().k_factor,
        "recall_at_10": rounded(recall),
        "recall_measured_by_build": index.recall,
        "speed_up_p50": rounded(speed_up),
        "catalens": ours.summary(),
        "exact": rival.summary(),
        "batch_per_second": _batch(trial, exact),
        "curve": _curve(trial, kth),
    }
    target = Target(
        f"{trial.name} index: recall@10 at a p50 under exact search's",
        f"recall >= {RECALL} at >= {SPEED_UP:g}x",
        f"recall {recall:.3f} at {speed_up:.1f}x",
        recall >= RECALL and speed_up >= SPEED_UP,
    )
    return figures, target


def _recall(trial: Trial, answers: Sequence[list[int]], kth: Doubles) -> float:
    found = [trial.similarities(query, positions) for query, positions in enumerate(answers)]
    return tie_aware_recall(found, kth[: len(found)], K)


def _batch(trial: Trial, exact: Any) -> dict[str, float]:
    """Queries per second, all in one call. Threads may cost more than they bring: both of exact
    search's figures are given, since ours sets FAISS to all cores itself."""

    def ours() -> float:
        start = perf_counter()
        trial.shop.search_many(trial.queries, k=K)
        return perf_counter() - start

    def bare(threads: int) -> Callable[[], float]:
        def run() -> float:
            faiss.omp_set_num_threads(threads)
            start = perf_counter()
            exact.search(trial.vectors, K)
            return perf_counter() - start

        return run

    contestants = {
        "catalens": ours,
        "exact, 1 thread": bare(1),
        f"exact, {cores()} threads": bare(cores()),
    }
    seconds = interleave_whole(contestants, rounds=ROUNDS)
    faiss.omp_set_num_threads(1)
    return {name: median([len(trial.queries) / s for s in took]) for name, took in seconds.items()}


def _curve(trial: Trial, kth: Doubles) -> list[dict[str, float]]:
    """Recall and latency with fewer and with more lists scanned than the build chose.

    Without the rival in between, whose scan empties the caches: a little faster than above.
    """
    internals: Any = trial.shop
    generation = internals._view.generation
    chosen = generation.point
    if trial.shop.manifest.index.kind == "exact":
        return []
    count = min(_CURVE_QUERIES, len(trial.queries))
    lists = trial.shop.manifest.index.lists
    points = []
    for nprobe in sorted({chosen.nprobe, *(1 << n for n in range(lists.bit_length()))}):
        generation.point = replace(chosen, nprobe=nprobe)
        timed = interleave(
            {"catalens": lambda q: trial.shop.search(trial.queries[q], k=K)},
            count,
            rounds=1,
            keep=trial.hits,
        )["catalens"]
        points.append(
            {
                "nprobe": nprobe,
                "recall_at_10": rounded(_recall(trial, timed.answers, kth)),
                "p50_ms": rounded(timed.p50),
            }
        )
    generation.point = chosen
    return points


def run(options: Options) -> Result:
    """Measure both indexes."""
    corpus = load_corpus(options.items)
    text, vector = build_text(corpus), build_vector(corpus)
    with closing(Retriever.open(text, device="cpu")) as shop:
        raw = encoder_vectors(shop, corpus)
        encoded, seconds = encode_queries(shop, corpus)
        text_figures, text_target = measure(text_trial(corpus, shop, raw, encoded))
    with closing(Retriever.open(vector, device="cpu")) as shop:
        vector_figures, vector_target = measure(vector_trial(corpus, shop, raw, encoded))
    figures = {
        "text": text_figures,
        "vector": vector_figures,
        "encode_query_p50_ms": rounded(float(np.median(seconds)) * 1e3),
    }
    settings = {
        "dataset": "wordnet glosses",
        "queries": len(corpus.queries),
        "k": K,
        "rounds": ROUNDS,
        "threads": 1,
        "seed": SEED,
    }
    return Result("recall", settings, figures, [text_target, vector_target])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, write results, draw."""
    return command("recall", __doc__, run, threads=1, arguments=arguments)


if __name__ == "__main__":
    sys.exit(main())
