"""Measure recall on the catalog's own rows and choose operating points by it.

A point is chosen by the worst of the conditions that users really ask for. Queries that are against
a space have points of their own, chosen by the worst of theirs: codes tell least where what is
alike must be far away, so these need more candidates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .conditions import SLACK, Asked, Condition, Filters, Sample
from .explore import Measured, explore, grid
from .fusion import Fusion
from .manifest import IndexEntry, PointEntry
from .plan import Plan
from .progress import Progress, Silent
from .rows import Rows
from .searcher import OperatingPoint, Searcher
from .stopwatch import Stopwatch

TARGET = 0.97
"""Aimed at without a filter, so that 0.95 is kept by queries that differ from the rows measured
on."""
RUNGS = (0.8, 0.9, 0.95, TARGET, 0.98, 0.99)
"""The least recall of each point that is kept: a handful stands for hundreds."""
_QUERIES = 128
# Those that are hardest: rows apart from what is asked for, and not few enough for an exact scan.
_FILTERS = Filters({0.1: ("near",), 0.03: ("random", "near")}, directions=2)
_SINGLES = 48


@dataclass(frozen=True)
class Study:
    """What is to be measured, and how thoroughly.

    `toward` and `against` are questions by name, asked with `filters` too; `rungs` is the recall
    that points are wanted for, `target` that of the default point, `steps` how many numbers of
    lists are tried between one and its double, `singles` how many queries are timed one by one.
    `rows_recall` is what a scan of the rows finds of the true best.
    """

    sample: Sample
    toward: Mapping[str, Asked]
    against: Mapping[str, Asked]
    filters: Filters
    rungs: Sequence[float]
    target: float
    steps: int
    singles: int
    rows_recall: float


def calibrate(
    searcher: Searcher, plan: Plan, fusion: Fusion, rows_recall: float = 1.0
) -> IndexEntry:
    """The quick study of a build.

    Args:
        searcher: what is measured.
        plan: what the index is.
        fusion: what made the rows.
        rows_recall: what `scan_recall` says of them.
    """
    return measure(searcher, plan, _quick(searcher.rows, fusion, rows_recall), Silent())


def scan_recall(searcher: Searcher, exact: Rows, fusion: Fusion) -> float:
    """recall@10 of a scan of all rows of a searcher that has them rounded, under the worst of the
    conditions of `calibrate`.

    Args:
        searcher: what is measured.
        exact: the same rows, not rounded so far.
        fusion: what made them.
    """
    study = _quick(exact, fusion, 1.0)
    recalls = [
        condition.scan_recall(searcher)
        for asked in (study.toward, study.against)
        if asked
        for condition in _conditions(exact, study, asked, Silent()).values()
    ]
    return round(min(recalls), 4)


def _quick(rows: Rows, fusion: Fusion, rows_recall: float) -> Study:
    sample = Sample.draw(rows, fusion, _QUERIES, seed=0)
    return Study(
        sample=sample,
        toward=sample.plain(),
        against=sample.against(),
        filters=_FILTERS,
        rungs=RUNGS,
        target=TARGET - SLACK,
        steps=2,
        singles=_SINGLES,
        rows_recall=rows_recall,
    )


def measure(searcher: Searcher, plan: Plan, study: Study, progress: Progress) -> IndexEntry:
    """Find the points from cheap to dear, and how long they take.

    Args:
        searcher: what is measured; its `exact_rows` and `threads` become what was found best.
        plan: what the index is.
        study: on what, and how thoroughly.
        progress: told of every stage.
    """
    watch = Stopwatch(searcher, study.sample.rows, study.singles)
    toward, against = [Measured(OperatingPoint(1, 1), {"exact": study.rows_recall})], []
    if plan.kind != "exact":
        points = grid(plan, len(searcher.rows), searcher.rows.row_bytes, study.steps)
        rungs = _within_reach(study)
        conditions = _conditions(searcher.rows, study, study.toward, progress)
        plain = {name: one for name, one in conditions.items() if not one.slack}
        # How few rows need no codes must be known before it is asked what filters need.
        first = explore(searcher, points, plain, [min(study.target, rungs[-1])], progress)[-1].point
        searcher.exact_rows = watch.exact_rows(first)
        toward = explore(searcher, points, conditions, rungs, progress)
        if study.against:
            conditions = _conditions(searcher.rows, study, study.against, progress)
            # What is enough for the harder question is at least what is enough for the other.
            dearer = points[points.index(toward[0].point) :]
            against = explore(searcher, dearer, conditions, rungs, progress)
    searcher.threads = watch.best_threads(_default(toward, study.target))
    return IndexEntry(
        kind=plan.kind,
        profile=plan.profile,
        factory=plan.factory,
        dimension=plan.dimension,
        lists=plan.lists,
        code_bytes=plan.code_bytes,
        target=study.target,
        points=_timed(watch, toward),
        against=_timed(watch, against),
        exact_rows=searcher.exact_rows,
        threads=searcher.threads,
        rows=plan.rows,
        rows_recall=study.rows_recall,
    )


def _within_reach(study: Study) -> list[float]:
    """The rungs that the rows allow, up to the target or to what they allow of it: to look for
    more would be to try every point."""
    rungs = [rung for rung in study.rungs if rung <= study.rows_recall]
    if not rungs or rungs[-1] < study.target:
        rungs.append(min(study.target, study.rows_recall))
    return rungs


def _conditions(
    rows: Rows, study: Study, asked: Mapping[str, Asked], progress: Progress
) -> dict[str, Condition]:
    """The questions, and all of them mixed under filters, with exact answers."""
    sample = study.sample
    mixed = Asked.mixed(list(asked.values()), sample.count)
    everything = {
        **{name: [one] for name, one in asked.items()},
        **sample.filtered(mixed, rows, study.filters, seed=0),
    }
    progress.start("find exact answers", len(everything))
    found: dict[str, Condition] = {}
    for name, several in everything.items():
        found[name] = Condition(rows, several, study.rows_recall)
        progress.advance(1)
    progress.finish()
    return found


def _default(measured: Sequence[Measured], target: float) -> OperatingPoint:
    return next((one for one in measured if one.worst >= target), measured[-1]).point


def _timed(watch: Stopwatch, measured: Sequence[Measured]) -> list[PointEntry]:
    """The points with their timings, without those to which one that finds more is equal or better,
    asked one query at a time and many at once."""
    entries = [
        PointEntry(
            nprobe=one.point.nprobe,
            k_factor=one.point.k_factor,
            recall={name: round(value, 4) for name, value in one.recall.items()},
            **timing._asdict(),
        )
        for one, timing in zip(measured, watch.time([m.point for m in measured]), strict=True)
    ]
    kept: list[PointEntry] = []
    for entry in reversed(entries):
        if not any(
            better.worst >= entry.worst
            and better.p50_ms <= entry.p50_ms
            and better.queries_per_second >= entry.queries_per_second
            for better in kept
        ):
            kept.append(entry)
    return kept[::-1]
