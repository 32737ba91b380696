"""Weights searched on one part of the judged queries and measured on the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import numpy as np

from indexer import Progress
from indexer.learning.errors import JudgementsError
from indexer.learning.queries import Judged
from indexer.learning.weights import Tried
from indexer.progress import Silent
from indexer.sweep import sweep_weights

from ..retriever import Retriever
from .evaluate import DEPTH, Setting, each_query
from .measures import NDCG
from .statistics import Difference, Estimate, difference, estimate
from .topics import Topic

_LEAST = 10
_HELD_OUT = 3
"""One query in so many is held out."""


@dataclass(frozen=True)
class SweepReport:
    """What was tried, and what the best is worth on queries that it was not chosen by."""

    path: Path
    searched: int
    """Queries that weights were chosen by."""
    held_out: int
    weights_now: dict[str, float]
    best: dict[str, float]
    tried: tuple[Tried, ...]
    """Weights with their NDCG@10 on the first part, the best first."""
    now: Estimate
    """NDCG@10 on the held-out part by the index as it is; `then` by the best weights."""
    then: Estimate
    gain: Difference
    seconds: float


def sweep_index(
    path: str | Path,
    topics: Sequence[Topic],
    *,
    device: str = "auto",
    seed: int = 0,
    progress: Progress | None = None,
) -> SweepReport:
    """Search weights of the spaces on two thirds of the queries, and ask the index the others, as
    it is and by the best weights. Heads that re-rank are left out; the index is not changed.

    Args:
        path: the index folder.
        topics: judged queries, at least 10.
        device: where queries are encoded.
        seed: decides which queries are held out.
        progress: told of each stage.

    Raises:
        JudgementsError: fewer than 10 queries, or none names an item of the index.
        OneSpaceError: the index has a single space.
        FusionError: its fusion is not `concat`.
        NotAnIndexError, CorruptIndexError, FingerprintMismatchError: the index itself.
    """
    started, told = monotonic(), progress or Silent()
    if len(topics) < _LEAST:
        raise JudgementsError(
            "judgements",
            expected=f"at least {_LEAST} queries, a part of which is held out",
            got=f"{len(topics)}",
            remedy="Judge more queries; `catalens eval --weight` measures weights on a few.",
        )
    order = np.random.default_rng(seed).permutation(len(topics)).tolist()
    held_out = [topics[n] for n in sorted(order[: len(topics) // _HELD_OUT])]
    searched = [topics[n] for n in sorted(order[len(topics) // _HELD_OUT :])]
    judged = [
        Judged(one.text, tuple(item for item, grade in one.grades.items() if grade > 0))
        for one in searched
    ]
    proposed = sweep_weights(path, judged, seed=seed, progress=told)
    best = proposed.tried[0].weights
    with Retriever.open(path, device=device) as retriever:
        told.start("ask", 2 * len(held_out))
        now, then = (
            each_query(retriever, held_out, Setting(weights, head=False), DEPTH, told)[NDCG]
            for weights in ({}, best)
        )
        told.finish()
        weights_now = retriever.manifest.weights
    return SweepReport(
        path=Path(path),
        searched=len(searched),
        held_out=len(held_out),
        weights_now=weights_now,
        best=best,
        tried=proposed.tried,
        now=estimate(now, seed),
        then=estimate(then, seed),
        gain=difference(then, now, seed),
        seconds=monotonic() - started,
    )
