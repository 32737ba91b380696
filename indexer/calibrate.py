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
    """

    sample: Sample
    toward: Mapping[str, Asked]
    against: Mapping[str, Asked]
    filters: Filters
    rungs: Sequence[float]
    target: float
    steps: int
    singles: int


def calibrate(searcher: Searcher, plan: Plan, fusion: Fusion) -> IndexEntry:
    """The quick study of a build.

    Args:
        searcher: what is measured.
        plan: what the index is.
        fusion: what made the rows.
    """
    sample = Sample.draw(searcher.rows, fusion, _QUERIES, seed=0)
    quick = Study(
        sample=sample,
        toward=sample.plain(),
        against=sample.against(),
        filters=_FILTERS,
        rungs=RUNGS,
        target=TARGET - SLACK,
        steps=2,
        singles=_SINGLES,
    )
    return measure(searcher, plan, quick, Silent())


def measure(searcher: Searcher, plan: Plan, study: Study, progress: Progress) -> IndexEntry:
    """Find the points from cheap to dear, and how long they take.

    Args:
        searcher: what is measured; its `exact_rows` and `threads` become what was found best.
        plan: what the index is.
        study: on what, and how thoroughly.
        progress: told of every stage.
    """
    watch = Stopwatch(searcher, study.sample.rows, study.singles)
    toward, against = [Measured(OperatingPoint(1, 1), {"exact": 1.0})], []
    if plan.kind != "exact":
        points = grid(plan, len(searcher.rows), searcher.rows.halves.shape[1], study.steps)
        conditions = _conditions(searcher, study, study.toward, progress)
        plain = {name: one for name, one in conditions.items() if not one.slack}
        # How few rows need no codes must be known before it is asked what filters need.
        first = explore(searcher, points, plain, [study.target], progress)[-1].point
        searcher.exact_rows = watch.exact_rows(first)
        toward = explore(searcher, points, conditions, study.rungs, progress)
        if study.against:
            conditions = _conditions(searcher, study, study.against, progress)
            # What is enough for the harder question is at least what is enough for the other.
            dearer = points[points.index(toward[0].point) :]
            against = explore(searcher, dearer, conditions, study.rungs, progress)
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
    )


def _conditions(
    searcher: Searcher, study: Study, asked: Mapping[str, Asked], progress: Progress
) -> dict[str, Condition]:
    """The questions, and all of them mixed under filters, with exact answers."""
    rows, sample = searcher.rows, study.sample
    mixed = Asked.mixed(list(asked.values()), sample.count)
    everything = {
        **{name: [one] for name, one in asked.items()},
        **sample.filtered(mixed, rows, study.filters, seed=0),
    }
    progress.start("find exact answers", len(everything))
    found: dict[str, Condition] = {}
    for name, several in everything.items():
        found[name] = Condition(rows, several)
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
