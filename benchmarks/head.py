"""What the re-ranking head is worth, what it costs, and what privacy takes from it.

Titles of the clip art and of the stamps ask for the items that carry them, in the whole catalog
and in one of which half of the items lack their picture or their text. Heads learn from four fifths
of the titles through the product, and the index is asked the others, with the head and without:
NDCG@10, and a paired randomisation test of the difference. Alignment and weights are learned before
on the same index, which knows nothing of what the holes took away.

Re-ranking is timed on one core, 100 candidates of one query and of 100; and the head is learned
again with differential privacy.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from catalens import (
    HeadOptions,
    Query,
    Retriever,
    evaluate_index,
    learn_alignment,
    learn_fusion,
    learn_head,
)
from retriever import Topic
from retriever.evaluation import Setting
from retriever.evaluation.measures import NDCG
from retriever.evaluation.statistics import Difference

from .corpus import SEED
from .fusion_data import Split, clipart_split, relevant_by, stamps_split, with_holes
from .harness import Options, Result, Target, command, cores, rounded, say

SHARES = {"whole": 0.0, "half of the items holed": 0.5}
EPSILONS = (1.0, 3.0, 8.0)
_MAPPED: Mapping[str, Any] = {"text": "text", "image": "image"}
TRIALS = 3
_HELD_OUT = 5
_CANDIDATES = 100
_BATCH = 100
_ROUNDS = 7


def catalogs(items: int | None) -> dict[str, Split]:
    """Clip art, and stamps with their description as the only text."""
    stamps = stamps_split(items)
    for row in (*stamps.learned, *stamps.judged):
        row.pop("spoken", None)
        if "title" in row:
            row["text"] = row["title"]
    return {"clip art": clipart_split(items), "stamps": stamps}


def prepared(split: Split, share: float) -> tuple[Path, list[Topic], list[Topic]]:
    """An index with such a share of holes, its titles to learn from and those to be judged by."""
    rows = [*split.learned, *split.judged]
    everything = split.build("all.idx", rows, **_MAPPED)
    assert everything.is_dir()
    holed = with_holes(rows, share, ("text", "image"))
    index = split.build(f"head-{share:g}.idx", holed, **_MAPPED)
    if share:
        learn_alignment(index)
    learn_fusion(index, fusion="concat", missing="impute" if share else "neutral")
    here = {row["id"] for row in holed}
    relevant = {title: ids & here for title, ids in relevant_by(rows, "title").items()}
    topics = [
        Topic(str(n), title, dict.fromkeys(sorted(ids), 1))
        for n, (title, ids) in enumerate(sorted(relevant.items()))
        if ids
    ]
    # Titles that differ in capitals alone are one query.
    names = sorted({topic.text.casefold() for topic in topics})
    drawn = np.random.default_rng(SEED).permutation(len(names))[: len(names) // _HELD_OUT]
    judged = {names[n] for n in drawn.tolist()}
    return (
        index,
        [topic for topic in topics if topic.text.casefold() not in judged],
        [topic for topic in topics if topic.text.casefold() in judged],
    )


def worth(index: Path, learned: Sequence[Topic], judged: Sequence[Topic]) -> dict[str, Any]:
    """Learn a head and ask what it has not learned from, with it and without."""
    summary = learn_head(
        index, learned, options=HeadOptions(trials=TRIALS, force=True), device="cpu"
    )
    report = evaluate_index(index, judged, against=Setting(head=False), device="cpu")
    assert report.against is not None and report.differences is not None
    return {
        "queries_learned_from": len(learned),
        "queries": report.queries,
        "model": summary.settings.told(),
        "seconds": rounded(summary.seconds),
        "fused": {name: rounded(one.mean) for name, one in report.against.items()},
        "head": {name: rounded(one.mean) for name, one in report.measures.items()},
        "gain": _told(report.differences[NDCG]),
    }


def _told(gain: Difference) -> dict[str, Any]:
    return {name: None if v is None else rounded(v) for name, v in asdict(gain).items()}


def privacy(index: Path, learned: Sequence[Topic], judged: Sequence[Topic]) -> dict[str, Any]:
    """NDCG@10 of the same queries by heads that were trained with differential privacy."""
    found: dict[str, Any] = {"queries_learned_from": len(learned)}
    for epsilon in EPSILONS:
        options = HeadOptions(epsilon=epsilon, force=True)
        summary = learn_head(index, learned, options=options, device="cpu")
        assert summary.privacy is not None
        report = evaluate_index(index, judged, against=Setting(head=False), device="cpu")
        assert report.differences is not None
        found[f"epsilon {epsilon:g}"] = {
            "epsilon": rounded(summary.privacy.epsilon),
            "delta": summary.privacy.delta,
            "head": rounded(report.measures[NDCG].mean),
            "gain": _told(report.differences[NDCG]),
        }
    return found


def speed(index: Path, topics: Sequence[Topic]) -> dict[str, Any]:
    """Milliseconds of re-ranking, on one core: one query's 100 candidates, and those of 100
    queries; of searches by vectors that were encoded before, with a head and without."""
    with Retriever.open(index, device="cpu") as shop:
        internals: Any = shop
        view = internals._view
        queries = [Query(text=topic.text) for topic in topics[:_BATCH]]
        composed = view.composer.compose(queries)
        reranker = view.reranker("search")
        way = view._way(composed[0], None)
        ranked = view._search(composed, _CANDIDATES, way, None, None)
        pairs = list(zip(composed, ranked, strict=True))
        singles: list[float] = []
        batches: list[float] = []
        for turn in range(-1, _ROUNDS):
            each = []
            for query, one in pairs:
                start = perf_counter()
                view._reranked(reranker, query, one, 10)
                each.append(perf_counter() - start)
            start = perf_counter()
            for query, one in pairs:
                view._reranked(reranker, query, one, 10)
            if turn >= 0:
                singles += each
                batches.append(perf_counter() - start)
        model: Any = reranker._model
        return {
            "items": len(shop),
            "candidates": _CANDIDATES,
            "features": len(model.mean),
            "hidden": model.hidden,
            "members": model.members,
            "p50_ms": rounded(float(np.median(singles)) * 1e3),
            "p99_ms": rounded(float(np.percentile(singles, 99)) * 1e3),
            f"batch_of_{len(pairs)}_ms": rounded(float(np.median(batches)) * 1e3),
        }


def run(options: Options) -> Result:
    """Measure all."""
    figures: dict[str, Any] = {"worth": {}, "speed": {}, "privacy": {}}
    for name, split in catalogs(options.items).items():
        for holes, share in SHARES.items():
            index, learned, judged = prepared(split, share)
            found = worth(index, learned, judged)
            figures["worth"][f"{name}, {holes}"] = found
            say(f"  {name}, {holes}: {found}")
            figures["speed"][f"{name}, {holes}"] = speed(index, judged)
            say(f"  {figures['speed'][f'{name}, {holes}']}")
            if name == "stamps" and share:
                figures["privacy"] = privacy(index, learned, judged)
                say(f"  {figures['privacy']}")
    settings = {"datasets": "clip art, stamps", "threads": 1, "trials": TRIALS, "seed": SEED}
    return Result("head", settings, figures, targets(figures))


def targets(figures: Mapping[str, Any]) -> list[Target]:
    """What the issue asks, and how it came out."""
    found = []
    for name, one in figures["worth"].items():
        gain = one["gain"]
        found.append(
            Target(
                f"{name}: NDCG@10 of titles held out, fused + head",
                f"> fused, {one['fused'][NDCG]:.4f}, p < 0.05",
                f"{one['head'][NDCG]:.4f}, {gain['mean']:+.4f}, p = {gain['p']:.4f}",
                gain["mean"] > 0 and gain["p"] < 0.05,
            )
        )
    slowest = max(one["p50_ms"] for one in figures["speed"].values())
    batch = max(v for one in figures["speed"].values() for k, v in one.items() if "batch" in k)
    return [
        *found,
        Target(
            "re-ranking 100 candidates, p50 on one core",
            "< 1 ms",
            f"{slowest:.3f} ms",
            slowest < 1,
        ),
        Target(
            "re-ranking 100 candidates of each of 100 queries, on one core",
            "< 20 ms",
            f"{batch:.1f} ms",
            batch < 20,
        ),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, write results."""
    return command("head", __doc__, run, threads=cores(), arguments=arguments)


if __name__ == "__main__":
    sys.exit(main())
