"""`tune_index`: the index is measured with the queries that people really ask."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from indexer import FusedQueries, Progress, TuneReport, tune_generation
from retriever import Query, Retriever


def tune_index(
    path: str | Path,
    *,
    target: float = 0.95,
    queries: Sequence[Query] = (),
    device: str = "auto",
    progress: Progress | None = None,
) -> TuneReport:
    """Find the cheapest ways to search an index for each recall, and keep them in it.

    `Retriever.search(..., recall=0.95)` takes them; without a recall, searches take the cheapest
    that reaches `target` under the worst conditions (see `indexer.tune_generation` for these), or
    the best where none does. Nothing is encoded but `queries`. A later build or rebuild measures
    anew, and quickly.

    Args:
        path: the index folder.
        target: recall@10 of the default, above 0, at most 1.
        queries: real ones, measured with besides the catalog's own rows.
        device: where queries are encoded.
        progress: told of every stage; None tells nobody.

    Raises:
        TargetError: no such recall.
        QueryError, MediaError, FingerprintMismatchError: a query cannot be answered.
        NotAnIndexError, IndexLockedError, CorruptIndexError, StoreError: the index itself.
    """

    def fused() -> FusedQueries:
        with Retriever.open(path, device=device) as retriever:
            return retriever.fused(queries)

    return tune_generation(
        path, target=target, queries=fused if queries else None, progress=progress
    )
