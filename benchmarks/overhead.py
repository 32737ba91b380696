"""What a search costs beyond the FAISS call that it makes, and where the difference goes.

On WordNet's 10^5 vectors: `Retriever.search` by vector, rescoring, explanation and metadata
included, and by turns FAISS's own `search` with the same lists and candidates on the same index.
Both are given what they ask for, a `Query` and a fused vector; what making the `Query` costs stands
beside the steps. Then each step of a search on its own, given what the step before it would give.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from catalens import Query, Retriever

from .corpus import SEED, Corpus, build_text, build_vector, encode_queries, load_corpus
from .harness import (
    Options,
    Result,
    Target,
    Timings,
    command,
    interleave,
    rounded,
    say,
)

K = 10
ROUNDS = 5
RATIO, EXTRA_MS = 1.5, 0.2

Vectors = NDArray[np.float32]


def steps(shop: Any, vectors: Vectors) -> dict[str, Callable[[int], Any]]:
    """Each step of a search by the number of its query, its input computed beforehand."""
    generation = shop._view.generation
    searcher, point = generation.searcher, generation.point
    count = point.candidates(K)
    queries = [Query(vector=vector) for vector in vectors]
    composed = shop._view.composer.compose(queries)
    fused = np.stack([one.vector for one in composed])
    way = shop._way(composed[0])
    searcher.rows.check()
    found = searcher.search(fused, K, point)
    rows = [searcher.rows.take(positions) for positions, _ in found]
    numbers = [generation.row_numbers[positions].tolist() for positions, _ in found]
    return {
        "query object (made before, not counted)": lambda q: Query(vector=vectors[q]),
        "compose": lambda q: shop._view.composer.compose([queries[q]]),
        "codes alone (part of the next)": lambda q: searcher._index.search(
            fused[q : q + 1], count, nprobe=point.nprobe
        ),
        "codes and rows, FAISS and its wrappers": lambda q: searcher.search(
            fused[q : q + 1], K, point
        ),
        "similarities per space (part of hits)": lambda q: shop._view.scorer.matches(
            shop._view.scorer.account(composed[q], found[q][0], rows[q]), composed[q]
        ),
        "records, metadata (part of hits)": lambda q: shop._view.snapshot.records(numbers[q]),
        "ids alone": lambda q: list(shop._bare([shop._ranked(composed[q], K, way, *found[q])])),
        "hits": lambda q: list(
            shop._explained([composed[q]], [shop._ranked(composed[q], K, way, *found[q])])
        ),
    }


def bare_call(shop: Any, vectors: Vectors) -> Callable[[int], Any]:
    """The FAISS call that a search makes, with nothing of ours around it."""
    generation = shop._view.generation
    index, point = generation.searcher._index, generation.point
    fused = np.stack(
        [one.vector for one in shop._view.composer.compose([Query(vector=v) for v in vectors])]
    )
    generation.searcher.rows.check()
    if index._refined is None:
        return lambda q: index._rows.search(fused[q : q + 1], K)
    untyped: Any = faiss  # its stubs do not know what its Python layer adds
    parameters = untyped.IndexRefineSearchParameters(
        k_factor=point.candidates(K) / K,
        base_index_params=untyped.SearchParametersIVF(nprobe=point.nprobe),
    )
    return lambda q: index._refined.search(fused[q : q + 1], K, params=parameters)


def compare(shop: Retriever, vectors: Vectors) -> tuple[dict[str, Timings], dict[str, Timings]]:
    """Whole search and bare call by turns; then the steps by turns."""
    faiss.omp_set_num_threads(1)
    queries = [Query(vector=vector) for vector in vectors]
    whole = interleave(
        {
            "catalens": lambda q: shop.search(queries[q], k=K),
            "catalens, ids and scores": lambda q: shop.search(queries[q], k=K, explain=False),
            "bare FAISS": bare_call(shop, vectors),
        },
        len(vectors),
        rounds=ROUNDS,
    )
    return whole, interleave(steps(shop, vectors), len(vectors), rounds=1)


def run(options: Options) -> Result:
    """Measure on the index of ready-made vectors."""
    corpus: Corpus = load_corpus(options.items)
    text, vector = build_text(corpus), build_vector(corpus)
    with closing(Retriever.open(text, device="cpu")) as shop:
        vectors, _ = encode_queries(shop, corpus)
    with closing(Retriever.open(vector, device="cpu")) as shop:
        say(f"{len(vectors):,} queries, ours and bare FAISS by turns")
        whole, parts = compare(shop, vectors)
        entry = shop.manifest.index
        items = len(shop)
    ours, bare = whole["catalens"], whole["bare FAISS"]
    allowed = max(RATIO * bare.p50, bare.p50 + EXTRA_MS)
    figures = {
        "items": items,
        "index": entry.factory,
        "nprobe": entry.default().nprobe,
        "k_factor": entry.default().k_factor,
        "ratio_p50": rounded(ours.p50 / bare.p50),
        "extra_p50_ms": rounded(ours.p50 - bare.p50),
        "allowed_p50_ms": rounded(allowed),
        "catalens": ours.summary(),
        "catalens, ids and scores": whole["catalens, ids and scores"].summary(),
        "bare FAISS": bare.summary(),
        "step_p50_ms": {name: rounded(timings.p50) for name, timings in parts.items()},
    }
    target = Target(
        "search with metadata at p50, against the bare FAISS call in it",
        f"<= {RATIO:g}x or + {EXTRA_MS:g} ms, whichever is more",
        f"{ours.p50:.3f} ms against {bare.p50:.3f} ms: {ours.p50 / bare.p50:.2f}x, "
        f"+ {ours.p50 - bare.p50:.3f} ms",
        ours.p50 <= allowed,
    )
    settings = {"dataset": "wordnet glosses", "k": K, "rounds": ROUNDS, "threads": 1, "seed": SEED}
    return Result("overhead", settings, figures, [target])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, write results, draw."""
    return command("overhead", __doc__, run, threads=1, arguments=arguments)


if __name__ == "__main__":
    sys.exit(main())
