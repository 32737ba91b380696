"""A head learned from what users did: from histories to what they liked next.

The last of what each user liked is kept from the histories, and from the item vectors: these are
learned again, of the histories alone, in a copy of the index, so that no feature knows what it is
to tell. The head then goes to the index itself, whose vectors have learned from everything.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from indexer import IndexLayout, Progress
from indexer.durable import translated_os_errors
from indexer.interactions import InteractionColumns, Interactions, read_interactions
from indexer.learn_behaviour import learn_behaviour
from indexer.learning.preference import HeldOut, Scale, hold_out
from indexer.manifest import BehaviourEntry
from indexer.modalities import BEHAVIOUR
from indexer.progress import Silent
from indexer.rebuild import Opened, opened_for_writing, rebuild_index

from ..profile import UNLEARNED
from ..recommender import Recommender
from ..view import View
from .examples import Judgement, ideal_gain
from .features import FeatureSpec
from .learn import HeadOptions, HeadSummary, Lesson, feature_spec

_ASKED_AT_ONCE = 64


def learn_head_from_interactions(
    path: str | Path,
    interactions: str | Path | Iterable[object],
    *,
    user: str | None = None,
    item: str | None = None,
    value: str | None = None,
    time: str | None = None,
    options: HeadOptions | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> HeadSummary:
    """Learn to re-rank what is recommended, and switch that on if it ranks better.

    Of each user who likes at least five items the last fifth of these is asked for, by the history
    before. Users are never parted: settings are searched by cross-validation over users, and a
    fifth of them decides, unseen, whether the head beats the fused score. Item vectors are learned
    again without what is asked for, in a copy of the index that is removed afterwards: that needs
    as much room on the disk as the index itself.

    Args:
        path: the index folder.
        interactions: as `learn_behaviour` has them, the same ones.
        user, item, value, time: the columns; None for those of usual names.
        options: see `HeadOptions`.
        device: where queries are encoded.
        progress: told of each stage.

    Raises:
        UnreadableCatalogError, EmptyCatalogError: the dump.
        InteractionsError: a column is missing, nothing is left, a time is in the future, values are
            all the same, or all are of one user.
        TooFewQueriesError: fewer than 40 users have enough likes.
        NothingToLearnError: what they liked was never among the candidates.
        WeakHeadError: the head does not beat the fused score; the run's metrics are kept.
        PrivacyError: privacy that cannot be had as asked.
        NotAnIndexError, IndexLockedError, CorruptIndexError, StoreError: the index itself.
    """
    asked, told, started = options or HeadOptions(), progress or Silent(), monotonic()
    with opened_for_writing(path) as index:
        view = View.open(index.layout, device)
        try:
            read = read_interactions(
                interactions,
                is_known=view.has,
                columns=InteractionColumns(user, item, value, time),
                progress=told,
            ).of_several_users()
            if read.report.columns["value"] is not None:
                read = read.of_several_values()
            entry = view.generation.manifest.behaviour
            scale = UNLEARNED if entry is None else Scale(entry.neutral, entry.liked)
            held_out = hold_out(read, scale)
            spec = feature_spec(view, past=True)
            with _without_what_is_asked(index, entry, read, held_out, device, told) as before:
                judged, unfound = _judgements(before or view, spec, read, held_out, asked, told)
            lesson = Lesson(index, view, "recommend", spec, asked, told, started)
            return lesson.learn(judged, unfound)
        finally:
            view.let_go()


@contextmanager
def _without_what_is_asked(
    index: Opened,
    entry: BehaviourEntry | None,
    read: Interactions,
    held_out: HeldOut,
    device: str,
    progress: Progress,
) -> Iterator[View | None]:
    """A copy of the index whose item vectors know the histories alone; None where it has no item
    vectors, and so knows nothing of what is asked."""
    space = index.recipe.space_filled_by(BEHAVIOUR)
    if entry is None or space is None:
        yield None
        return
    root = index.layout.root
    with (
        translated_os_errors(f"copy of {root}"),
        tempfile.TemporaryDirectory(prefix=f".{root.name}-", dir=root.parent) as folder,
    ):
        copy = Path(folder) / "index"
        shutil.copytree(root, copy, ignore=shutil.ignore_patterns("*.lock", "lock.mdb", "runs"))
        learn_behaviour(
            copy,
            _rows(read, held_out),
            method=entry.method,
            neutral=entry.neutral,
            liked=entry.liked,
            seed=0,
            progress=progress,
        )
        # What a candidate scores is to be what it will score.
        weights = {one.name: one.spec.weight for one in index.recipe.spaces}
        rebuild_index(copy, weights=weights, progress=progress)
        view = View.open(IndexLayout(copy), device)
        try:
            yield view
        finally:
            view.let_go()


def _rows(read: Interactions, held_out: HeldOut) -> list[dict[str, Any]]:
    """The histories, without what is held out."""
    return [
        {"user": user, "item": read.item_ids[item], "value": value, "time": time}
        for user, history in zip(read.user_ids, held_out.histories, strict=True)
        for item, value, time in zip(
            history.items.tolist(), history.values.tolist(), history.times.tolist(), strict=True
        )
    ]


def _judgements(
    view: View,
    spec: FeatureSpec,
    read: Interactions,
    held_out: HeldOut,
    options: HeadOptions,
    progress: Progress,
) -> tuple[list[Judgement], float]:
    """What is recommended for each history, and which part of what was liked next is not in it."""
    reader, recommender = view.reader(spec), Recommender(view)
    judged: list[Judgement] = []
    relevant = found = 0
    progress.start("recommend", len(held_out.asked))
    for start in range(0, len(held_out.asked), _ASKED_AT_ONCE):
        here = range(start, min(start + _ASKED_AT_ONCE, len(held_out.asked)))
        histories = [_history(read, held_out, number) for number in here]
        for number, candidates in recommender.candidates(histories, options.depth):
            wanted = {read.item_ids[i] for i in held_out.relevant[start + number].tolist()}
            ids = view.live.ids(candidates.positions)
            grades = np.array([float(one in wanted) for one in ids], dtype=np.float32)
            relevant += len(wanted)
            found += int(grades.sum())
            judged.append(
                Judgement(
                    str(held_out.asked[start + number]),
                    reader.matrix(candidates),
                    grades,
                    ideal_gain([1.0] * len(wanted)),
                )
            )
        progress.advance(len(here))
    progress.finish()
    return judged, 1 - found / max(relevant, 1)


def _history(
    read: Interactions, held_out: HeldOut, number: int
) -> Sequence[tuple[str, float, float]]:
    history = held_out.histories[held_out.asked[number]]
    ids = [read.item_ids[item] for item in history.items.tolist()]
    return list(zip(ids, history.values.tolist(), history.times.tolist(), strict=True))
