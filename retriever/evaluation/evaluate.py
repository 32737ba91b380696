"""Rankings of an index judged: how good, how sure, and whether better than another setting's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from indexer import Progress
from indexer.learning.errors import JudgementsError
from indexer.progress import Silent

from ..query import Query
from ..retriever import Retriever
from .measures import Doubles, measured
from .statistics import Difference, Estimate, difference, estimate
from .topics import Topic

DEPTH = 100
_AT_ONCE = 128


@dataclass(frozen=True)
class Setting:
    """A way to ask: weights and policy as of `Query`, and whether the head re-ranks."""

    weights: Mapping[str, float] = field(default_factory=dict)
    missing: str | None = None
    head: bool = True


@dataclass(frozen=True)
class EvaluationReport:
    """Measures of one setting and, where there is another to compare with, of that and of the
    differences, ours less theirs."""

    path: Path
    queries: int
    judged: int
    """Relevant items, each counted for each query that it is relevant to."""
    unknown: int
    """Those of them that the index does not have; no ranking can find them."""
    depth: int
    measures: dict[str, Estimate]
    against: dict[str, Estimate] | None
    differences: dict[str, Difference] | None
    seconds: float


def evaluate_index(
    path: str | Path,
    topics: Sequence[Topic],
    *,
    setting: Setting | None = None,
    against: Setting | None = None,
    depth: int = DEPTH,
    device: str = "auto",
    seed: int = 0,
    progress: Progress | None = None,
) -> EvaluationReport:
    """Ask an index what people have judged, and measure NDCG@10, MRR@10, recall and MAP.

    Relevant items that the index does not have count as not found. MAP looks at `depth` hits.
    Intervals are of 95 % confidence, by bootstrap over the queries; two settings are compared by
    a randomisation test of paired differences.

    Args:
        path: the index folder.
        topics: judged queries, at least one.
        setting: how to ask; None as the index does by itself.
        against: another setting, to compare with.
        depth: hits that are looked at, at least 10; fewer in a smaller index.
        device: where queries are encoded.
        seed: of the resampling.
        progress: told of each batch.

    Raises:
        JudgementsError: none of the relevant items is in the index, or no query.
        QueryError: the index cannot answer a query, or has no such weight.
        NotAnIndexError, CorruptIndexError, FingerprintMismatchError: the index itself.
    """
    started = monotonic()
    settings = [setting or Setting(), *([] if against is None else [against])]
    with Retriever.open(path, device=device) as retriever:
        judged, unknown = _known(retriever, topics)
        told = progress or Silent()
        told.start("ask", len(settings) * len(topics))
        each = [each_query(retriever, topics, one, depth, told) for one in settings]
        told.finish()
    estimates = [{name: estimate(values, seed) for name, values in one.items()} for one in each]
    return EvaluationReport(
        path=Path(path),
        queries=len(topics),
        judged=judged,
        unknown=unknown,
        depth=depth,
        measures=estimates[0],
        against=estimates[1] if against is not None else None,
        differences=None
        if against is None
        else {name: difference(each[0][name], each[1][name], seed) for name in each[0]},
        seconds=monotonic() - started,
    )


def each_query(
    retriever: Retriever,
    topics: Sequence[Topic],
    setting: Setting,
    depth: int,
    progress: Progress,
) -> dict[str, Doubles]:
    """Each measure of each query, float64 (m,)."""
    rankings: list[list[str]] = []
    for start in range(0, len(topics), _AT_ONCE):
        some = topics[start : start + _AT_ONCE]
        queries = [
            Query(text=one.text, weights=setting.weights, missing=setting.missing) for one in some
        ]
        answers = retriever.search_many(
            queries, min(depth, len(retriever)), explain=False, head=setting.head
        )
        rankings += [[hit.id for hit in hits] for hits in answers]
        progress.advance(len(some))
    return measured(rankings, [topic.grades for topic in topics], depth)


def _known(retriever: Retriever, topics: Sequence[Topic]) -> tuple[int, int]:
    """How many relevant items were judged, and how many of them are not in the index."""
    relevant = [item for one in topics for item, grade in one.grades.items() if grade > 0]
    here = {item: item in retriever for item in set(relevant)}
    if not any(here.values()):
        raise JudgementsError(
            "judgements",
            expected="ids of items of this index",
            got=f"none among {len(relevant):,}",
            remedy="Check the ids: they are strings, compared exactly.",
        )
    return len(relevant), sum(not here[item] for item in relevant)
