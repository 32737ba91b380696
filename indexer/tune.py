"""Measure thoroughly how an index can be searched, and keep what was found in its manifest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from .calibrate import RUNGS, Study, measure
from .conditions import SLACK, Asked, Filters, Sample
from .errors import TargetError
from .faiss_index import wants_gpu
from .generation import Generation
from .manifest import IndexEntry
from .missing import PRESENT
from .progress import Progress, Silent
from .publish import publish_tuned
from .rebuild import opened_for_writing

_QUERIES = 1024
_SINGLES = 512
_MORE_RUNGS = (0.925, 0.96, 0.975, 0.985, 0.995)
_FILTERS = Filters(
    dict.fromkeys((0.5, 0.1, 0.03, 0.01, 0.001), ("random", "near", "far")), directions=3
)


@dataclass(frozen=True)
class FusedQueries:
    """Query vectors float32 (m, D), and which of them are against a space, bool (m,)."""

    vectors: NDArray[np.float32]
    against: NDArray[np.bool_]


@dataclass(frozen=True)
class TuneReport:
    """What was measured; `index` is what the manifest now says."""

    path: Path
    index: IndexEntry
    queries: int
    """Real queries among those measured with."""
    seconds: float

    @property
    def reached(self) -> bool:
        """Whether the default points have the recall that was aimed at, under all conditions."""
        return min(self.index.recall.values()) >= self.index.target


def tune_generation(
    path: str | Path,
    *,
    target: float = 0.95,
    queries: Callable[[], FusedQueries] | None = None,
    progress: Progress | None = None,
) -> TuneReport:
    """Explore the operating points of an index and publish it with those worth taking.

    Nothing is encoded, trained or written but a manifest; readers see the old or the new one.
    Recall@10 is measured on rows of the catalog that are left out of their own answers: at the
    default weights, with one space alone and at four times the weight of the others, against a
    space, by and for items with holes, and under filters that allow 50, 10, 3, 1 and 0.1 % of the
    rows, scattered and as near or as far as can be; and on real queries, where there are any.

    Args:
        path: the index folder.
        target: recall that the default point must have under all of these, above 0, at most 1.
        queries: gives real queries, fused for the current generation; called under the writer's
            lock.
        progress: told of every stage; None tells nobody.

    Raises:
        TargetError: no such recall.
        NotAnIndexError, IndexLockedError, CorruptIndexError, StoreError: the index itself.
    """
    started = monotonic()
    if isinstance(target, bool) or not 0 < target <= 1:  # NaN compares false
        raise TargetError(
            "recall to tune for",
            expected="a number above 0, at most 1",
            got=repr(target),
            remedy="Pass for example 0.95.",
        )
    with opened_for_writing(path) as opened:
        generation = Generation.open(
            opened.layout, opened.snapshot.current, gpu=wants_gpu(opened.recipe.device)
        )
        given = None if queries is None else queries()
        index = measure(
            generation.searcher,
            generation.plan,
            _study(generation, target, given),
            progress or Silent(),
        )
        generation.close()
        publish_tuned(opened.layout, opened.store, generation.manifest, index)
    return TuneReport(
        path=opened.layout.root,
        index=index,
        queries=0 if given is None else len(given.vectors),
        seconds=monotonic() - started,
    )


def _study(generation: Generation, target: float, given: FusedQueries | None) -> Study:
    rows = generation.searcher.rows
    sample = Sample.draw(rows, generation.fusion, _QUERIES, seed=1)
    lacking = (generation.states != PRESENT).any(axis=1)
    toward = {**sample.plain(), **sample.skewed(), **sample.with_holes(lacking)}
    against = sample.against()
    if given is not None:
        for name, questions, which in (
            ("real queries", toward, ~given.against),
            ("real queries against a space", against, given.against),
        ):
            if which.any():
                questions[name] = Asked(given.vectors[which], np.full(which.sum(), -1))
    return Study(
        sample=sample,
        toward=toward,
        against=against,
        filters=_FILTERS,
        # A filter may take `SLACK` from a point that has the target without one.
        rungs=sorted({*RUNGS, *_MORE_RUNGS, target, min(1.0, target + SLACK)}),
        target=target,
        steps=4,
        singles=_SINGLES,
        rows_recall=generation.manifest.index.rows_recall,
    )
