"""What a filter costs and what is found under it, from 90 % of the items down to 0.01 %.

On WordNet's 10^5 vectors, brought ready-made, by real `where` filters on metadata of the
benchmark's own, numbers from 0 to 9,999 such as prices are: `random_N` lets items pass that are
scattered at random, `distance_N` those `near` to a random item or `far` from it. These are the
hard ones: what passes lies together, and far from most queries.

Each filter is asked the same held-out glosses as no filter, by turns: ids and scores alone, where
a filter weighs most, one thread. The first search with a filter also reads its rows from the
store's bitmaps; the retriever remembers them, so that search is timed on its own. Exact answers
are of a scan, here, of the items that pass, ties allowed.

Of several filters of a kind, ratio and recall are those of the worst.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalens import Query, Retriever

from .corpus import (
    SEED,
    build_text,
    build_vector,
    encode_queries,
    encoder_vectors,
    load_corpus,
)
from .harness import Options, Result, Target, command, interleave, median, rounded, say
from .peers.scoring import Oracle

K = 10
ROUNDS = 3
QUERIES = 300
DRAWS = 3
KINDS = ("random", "near", "far")
SHARES = (0.9, 0.5, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0003, 0.0001)
STEPS = 10_000
"""Values of a metadata field, each of as many items: the smallest share is one of them."""
RATIO, RECALL = 3.0, 0.95

Vectors = NDArray[np.float32]
Positions = NDArray[np.int64]
Fields = Mapping[str, Positions]
"""By name of a metadata field: the value of each item, int64 (n,)."""


def draw_fields(vectors: Vectors) -> Fields:
    """Numbers below `STEPS`, as seen from random items or from nowhere."""
    rng = np.random.default_rng(SEED)
    fields: dict[str, Positions] = {}
    for draw in range(DRAWS):
        distances = -(vectors @ vectors[rng.integers(len(vectors))])
        fields[f"random_{draw}"] = _steps(rng.permutation(len(vectors)))
        fields[f"distance_{draw}"] = _steps(np.argsort(distances, kind="stable"))
    return fields


def _steps(order: Positions) -> Positions:
    """For each item, how far it stands in the order, from 0 to STEPS - 1."""
    steps = np.empty(len(order), dtype=np.int64)
    steps[order] = np.arange(len(order)) * STEPS // len(order)
    return steps


@dataclass(frozen=True)
class Filter:
    """A filter as users write it, and the positions that pass, in ascending order."""

    kind: str
    share: float
    where: str
    allowed: Positions


def draw_filters(fields: Fields) -> Iterator[Filter]:
    """Every kind at every share, from each draw; those that let fewer than K pass are left out."""
    for kind in KINDS:
        name = "random" if kind == "random" else "distance"
        for share in SHARES:
            count = round(share * STEPS)
            for draw in range(DRAWS):
                field = f"{name}_{draw}"
                if kind == "far":
                    where, passing = f"{field} >= {STEPS - count}", fields[field] >= STEPS - count
                else:
                    where, passing = f"{field} < {count}", fields[field] < count
                if passing.sum() >= K:
                    yield Filter(kind, share, where, np.flatnonzero(passing))


@dataclass(frozen=True)
class Trial:
    """The index, what is asked, and what exact search needs."""

    shop: Retriever
    items: Vectors
    """(n, D) float32, never rounded to half precision."""
    asked: Vectors
    """(m, D) float32: the queries."""
    positions: Mapping[str, int]

    def measure(self, filter: Filter) -> dict[str, Any]:
        """One filter against none."""
        queries = [Query(vector=vector) for vector in self.asked]
        start = perf_counter()
        self.shop.search(queries[0], k=K, where=filter.where, explain=False)
        first = perf_counter() - start
        timed = interleave(
            {
                "filtered": lambda q: self.shop.search(
                    queries[q], k=K, where=filter.where, explain=False
                ),
                "unfiltered": lambda q: self.shop.search(queries[q], k=K, explain=False),
            },
            len(queries),
            rounds=ROUNDS,
            keep=lambda hits: [self.positions[hit.id] for hit in hits],
        )
        # An item that does not pass has no place among those that do.
        place = np.full(len(self.items), -1)
        place[filter.allowed] = np.arange(len(filter.allowed))
        found = [place[positions].tolist() for positions in timed["filtered"].answers]
        oracle = Oracle.of(self.items[filter.allowed], self.asked, K)
        return {
            "kind": filter.kind,
            "share": filter.share,
            "p50_ms": timed["filtered"].p50,
            "unfiltered_p50_ms": timed["unfiltered"].p50,
            "ratio": timed["filtered"].p50 / timed["unfiltered"].p50,
            "recall_at_10": oracle.recall(found),
            "first_use_ms": first * 1e3,
            "violations": sum(places.count(-1) for places in found),
        }


def summary(measured: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What filters of one kind and share come to: the worst where something is promised."""
    return {
        "ratio": rounded(max(one["ratio"] for one in measured)),
        "recall_at_10": rounded(min(one["recall_at_10"] for one in measured)),
        **{
            name: median([one[name] for one in measured])
            for name in ("p50_ms", "unfiltered_p50_ms", "first_use_ms")
        },
        "violations": sum(one["violations"] for one in measured),
    }


def compare(trial: Trial, fields: Fields) -> dict[str, dict[str, Any]]:
    """Summaries by kind, and by share."""
    # Until all rows were checked once, searches take longer.
    trial.shop.search_many([Query(vector=vector) for vector in trial.asked], k=K)
    measured: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for filter in draw_filters(fields):
        of_kind = measured.setdefault(filter.kind, {})
        of_kind.setdefault(f"{filter.share:g}", []).append(trial.measure(filter))
    return {
        kind: {share: summary(several) for share, several in of_kind.items()}
        for kind, of_kind in measured.items()
    }


def targets(kinds: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[Target]:
    """What is promised of every filter, and how the worst of them came out."""
    told = {
        f"{kind}, {100 * float(share):g} %": one
        for kind, of_kind in kinds.items()
        for share, one in of_kind.items()
    }
    slowest = max(told, key=lambda name: float(told[name]["ratio"]))
    blindest = min(told, key=lambda name: float(told[name]["recall_at_10"]))
    ratio, recall = told[slowest]["ratio"], told[blindest]["recall_at_10"]
    violations = sum(one["violations"] for one in told.values())
    return [
        Target(
            "p50 under the worst filter, against no filter",
            f"<= {RATIO:g}x",
            f"{ratio:.2f}x ({slowest})",
            ratio <= RATIO,
        ),
        Target(
            "recall@10 under the worst filter",
            f">= {RECALL}",
            f"{recall:.3f} ({blindest})",
            recall >= RECALL,
        ),
        Target("hits that their filter does not let pass", "0", f"{violations}", violations == 0),
    ]


def run(options: Options) -> Result:
    """Measure on an index whose items have the fields to filter on."""
    corpus = load_corpus(options.items)
    with closing(Retriever.open(build_text(corpus), device="cpu")) as shop:
        vectors = encoder_vectors(shop, corpus)
        asked = encode_queries(shop, corpus)[0][:QUERIES]
    fields = draw_fields(vectors)
    values = zip(*(field.tolist() for field in fields.values()), strict=True)
    metadata = (dict(zip(fields, row, strict=True)) for row in values)
    index = build_vector(corpus, "filters", metadata)
    positions = {row["id"]: position for position, row in enumerate(corpus.rows)}
    with closing(Retriever.open(index, device="cpu")) as shop:
        say(f"{len(asked):,} queries, with a filter and without by turns, for each filter")
        kinds = compare(Trial(shop, vectors, asked, positions), fields)
        entry = shop.manifest.index
    figures = {
        "items": len(vectors),
        "index": entry.factory,
        "nprobe": entry.default().nprobe,
        "k_factor": entry.default().k_factor,
        "exact_rows": entry.exact_rows,
        "kinds": kinds,
    }
    settings = {
        "dataset": "wordnet glosses",
        "queries": len(asked),
        "filters_of_each_kind_and_share": DRAWS,
        "k": K,
        "rounds": ROUNDS,
        "threads": 1,
        "seed": SEED,
    }
    return Result("filters", settings, figures, targets(kinds))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, write results, draw."""
    return command("filters", __doc__, run, threads=1, arguments=arguments)


if __name__ == "__main__":
    sys.exit(main())
