"""A head learned from judged queries, measured on queries held out, and switched on if it helps."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from indexer import Progress
from indexer.errors import CorruptIndexError, UnsupportedFormatError
from indexer.learning.errors import JudgementsError
from indexer.progress import Silent
from indexer.publish import publish_ranking
from indexer.ranking import basis_of
from indexer.rebuild import Opened, opened_for_writing

from ..evaluation.statistics import Difference, difference, estimate
from ..evaluation.topics import Topic
from ..query import Query
from ..recommender import Recommender
from ..view import View
from .curves import write_run
from .errors import (
    HeadMismatchError,
    HeadOptionError,
    NothingToLearnError,
    TooFewQueriesError,
    WeakHeadError,
)
from .examples import Examples, Judgement, ideal_gain, split
from .features import FeatureSpec
from .files import MOST_DEPTH, HeadEntry, Privacy, RankingHead, Task, dump_ranking, load_ranking
from .losses import LOSSES
from .private import SETTINGS, check_epsilon, train_private
from .table import MetadataFields
from .training import MODELS, Settings, Trained, one_thread, standard
from .trials import Trial, search

DEPTH = 100
TRIALS = 8
FOLDS = 5
_LEAST_QUERIES = 40
# One group in so many is held out.
_HELD_OUT = 5
_SIGNIFICANT = 0.05
_SAMPLED = 10_000
_ASKED_AT_ONCE = 128
_OWN, _OWN_HISTORY = 200, 20
_MEDIA = ("id", "image", "audio", "vector")


@dataclass(frozen=True)
class HeadOptions:
    """How a head is learned.

    `model` (`linear`, `mlp`) and `loss` (`pointwise`, `pairwise`, `listwise`) are searched where
    None. `trials` cross-validations look for settings; `depth` candidates are re-ranked. A head
    that does not beat the fused score is refused unless `force`. `epsilon` trains with differential
    privacy, see `private.py`.
    """

    model: str | None = None
    loss: str | None = None
    trials: int = TRIALS
    depth: int = DEPTH
    folds: int = FOLDS
    seed: int = 0
    force: bool = False
    epsilon: float | None = None

    def __post_init__(self) -> None:
        for what, value, known in (
            ("model", self.model, MODELS),
            ("loss", self.loss, tuple(LOSSES)),
        ):
            if value is not None and value not in known:
                raise HeadOptionError(
                    f"{what} of a head",
                    expected=f"one of {', '.join(known)}",
                    got=repr(value),
                    remedy="Leave it out to have it searched.",
                )
        for what, number, least, most in (
            ("trials", self.trials, 1, 1_000),
            ("depth", self.depth, 10, MOST_DEPTH),
            ("folds", self.folds, 2, 20),
        ):
            if isinstance(number, bool) or not least <= number <= most:
                raise HeadOptionError(
                    f"{what} of a head",
                    expected=f"a whole number from {least} to {most:,}",
                    got=repr(number),
                    remedy="See `catalens learn head --help`.",
                )
        if self.epsilon is not None:
            check_epsilon(self.epsilon)


@dataclass(frozen=True)
class HeadSummary:
    """What `learn_head` did."""

    path: Path
    task: Task
    settings: Settings
    features: tuple[str, ...]
    queries: int
    """Queries learned from."""
    held_out: int
    unfound: float
    """The part of all that is relevant that was not among the candidates."""
    fused: float
    """NDCG@10 on queries held out by the fused score; `learned` by the head."""
    learned: float
    gain: Difference
    switched_on: bool
    run: Path
    """Folder with the metrics of every trial, and the learning curve."""
    privacy: Privacy | None
    seconds: float


def learn_head(
    path: str | Path,
    topics: Sequence[Topic],
    *,
    options: HeadOptions | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> HeadSummary:
    """Learn to re-rank what searches by text return, and switch that on if it ranks better.

    The index is asked all queries, and a head learns from the features of what it returns which of
    it was judged to be relevant: settings are searched by cross-validation over queries, each
    member of the committee is stopped on the queries it has not learned from, and a fifth of the
    queries decides, unseen, whether the head beats the fused score. Equal queries are never parted.

    Args:
        path: the index folder.
        topics: judged queries, at least 40 different ones.
        options: see `HeadOptions`.
        device: where queries are encoded.
        progress: told of each stage.

    Raises:
        TooFewQueriesError: fewer than 40 different queries.
        NothingToLearnError: no candidate is relevant, or all are.
        WeakHeadError: the head does not beat the fused score; the run's metrics are kept.
        PrivacyError: privacy that cannot be had as asked.
        JudgementsError: no judgement names an item of the index.
        NotAnIndexError, IndexLockedError, CorruptIndexError, StoreError: the index itself.
    """
    asked, told = options or HeadOptions(), progress or Silent()
    started = monotonic()
    with opened_for_writing(path) as index:
        view = View.open(index.layout, device)
        try:
            spec = feature_spec(view, past=False)
            judged, unfound = _judgements(view, spec, topics, asked.depth, told)
            return Lesson(index, view, "search", spec, asked, told, started).learn(judged, unfound)
        finally:
            view.let_go()


def feature_spec(view: View, *, past: bool) -> FeatureSpec:
    """The features that candidates of an index have; its columns of media say nothing by their
    values. `past` is whether queries are histories."""
    manifest = view.generation.manifest
    numbers = view.live.row_numbers[view.live.alive]
    if len(numbers) > _SAMPLED:
        numbers = np.random.default_rng(0).choice(numbers, _SAMPLED, replace=False)
    records = [record.metadata for record in view.snapshot.records(np.sort(numbers).tolist())]
    leave: set[str] = set()
    for kind in _MEDIA:
        mapped: Any = manifest.catalog.columns.get(kind)
        leave |= {mapped} if isinstance(mapped, str) else set(mapped or ())
    return FeatureSpec(
        spaces=[space.spec.name for space in manifest.spaces],
        fields=MetadataFields.chosen(records, leave),
        popularity=view.generation.layout.POPULARITY in manifest.files,
        past=past,
    )


def _judgements(
    view: View, spec: FeatureSpec, topics: Sequence[Topic], depth: int, progress: Progress
) -> tuple[list[Judgement], float]:
    """What retrieval returns for judged queries, and which part of what is relevant it does not."""
    reader = view.reader(spec)
    judged: list[Judgement] = []
    relevant = found = 0
    progress.start("ask", len(topics))
    for start in range(0, len(topics), _ASKED_AT_ONCE):
        some = topics[start : start + _ASKED_AT_ONCE]
        composed = view.composer.compose([Query(text=one.text) for one in some])
        answers = view.candidates(composed, depth)
        for topic, candidates in zip(some, answers, strict=True):
            ids = view.live.ids(candidates.positions)
            grades = np.array([max(topic.grades.get(one, 0), 0) for one in ids], dtype=np.float32)
            positive = [grade for grade in topic.grades.values() if grade > 0]
            relevant += len(positive)
            found += int((grades > 0).sum())
            group = " ".join(topic.text.casefold().split())
            features = reader.matrix(candidates)
            judged.append(Judgement(group, features, grades, ideal_gain(positive)))
        progress.advance(len(some))
    progress.finish()
    if not any(view.has(item) for one in topics for item, grade in one.grades.items() if grade > 0):
        raise JudgementsError(
            "judgements",
            expected="ids of items of this index",
            got=f"none among {relevant:,}",
            remedy="Check the ids: they are strings, compared exactly.",
        )
    return judged, 1 - found / max(relevant, 1)


@dataclass(frozen=True)
class Lesson:
    """A head to be learned for one task of an index, under the writer's lock."""

    index: Opened
    view: View
    task: Task
    spec: FeatureSpec
    options: HeadOptions
    progress: Progress
    started: float

    def learn(self, judged: Sequence[Judgement], unfound: float) -> HeadSummary:
        """Train, measure, keep the run, and publish or refuse."""
        examples = Examples.of(judged) if judged else None
        if examples is None or len(np.unique(examples.groups)) < _LEAST_QUERIES:
            few = 0 if examples is None else len(np.unique(examples.groups))
            raise TooFewQueriesError(
                "head",
                expected=f"at least {_LEAST_QUERIES} different {self._unit}, of which a part is "
                "held out",
                got=f"{few}",
                remedy="Collect more; a query log can be joined with clicks, see the README.",
            )
        part = split(examples.groups, _HELD_OUT, self.options.seed)
        learned, held_out = (
            examples.take(np.flatnonzero(part)),
            examples.take(np.flatnonzero(part == 0)),
        )
        if not learned.teaching.any():
            raise NothingToLearnError(
                "head",
                expected="queries of which some candidates are relevant and others are not",
                got=f"{len(learned)} {self._unit} whose candidates are all alike",
                remedy="Check the ids of the judgements, or look at more candidates (--depth).",
            )
        with one_thread():
            trained, trials, privacy = self._trained(learned)
        fused = held_out.ndcg(held_out.fused)
        ours = held_out.ndcg(_scores(trained, held_out))
        gain = difference(ours, fused, self.options.seed)
        good = gain.mean > 0 and gain.p < _SIGNIFICANT
        now = datetime.now(UTC)
        entry = HeadEntry(
            created=now.isoformat(timespec="seconds"),
            features=self.spec,
            names=self.spec.names,
            depth=self.options.depth,
            model=trained.settings.model,
            loss=trained.settings.loss,
            queries=len(learned),
            held_out=len(held_out),
            fused=float(fused.mean()),
            learned=float(ours.mean()),
            p=gain.p,
            forced=not good,
            privacy=privacy,
        )
        metrics = {
            **entry.model_dump(mode="json", exclude={"features", "forced"}),
            "settings": trained.settings.told(),
            "held_out_measures": {
                "fused": asdict(estimate(fused)),
                "head": asdict(estimate(ours)),
                "gain": asdict(gain),
            },
        }
        if privacy is None:  # else these would tell of what was learned from
            metrics |= {
                "cross_validation": {
                    "fused": float(learned.ndcg(learned.fused).mean()),
                    "head": trained.ndcg,
                    "folds": self.options.folds,
                },
                "candidates_unfound": unfound,
                "trials": [trial.told() for trial in trials],
                "curves": trained.curves,
            }
        run = self._keep(metrics, now)
        if not good and not self.options.force:
            raise WeakHeadError(
                "head",
                expected=f"a higher NDCG@10 than the fused score's {fused.mean():.4f} on "
                f"{len(held_out)} {self._unit} held out, by more than chance (p < {_SIGNIFICANT})",
                got=f"{ours.mean():.4f}, p = {gain.p:.3f}",
                remedy=f"Collect more judgements, or pass --force; the trials are in {run}.",
            )
        self._publish(RankingHead(entry, trained.model))
        return HeadSummary(
            path=self.index.layout.root,
            task=self.task,
            settings=trained.settings,
            features=tuple(entry.names),
            queries=len(learned),
            held_out=len(held_out),
            unfound=unfound,
            fused=entry.fused,
            learned=entry.learned,
            gain=gain,
            switched_on=True,
            run=run,
            privacy=privacy,
            seconds=monotonic() - self.started,
        )

    @property
    def _unit(self) -> str:
        return "queries" if self.task == "search" else "users"

    def _trained(self, learned: Examples) -> tuple[Trained, list[Trial], Privacy | None]:
        asked = self.options
        if asked.epsilon is not None:
            return self._private(learned, asked.epsilon)
        folds = split(learned.groups, asked.folds, asked.seed + 1)
        trained, trials = search(
            learned,
            folds,
            model=asked.model,  # type: ignore[arg-type]
            loss=asked.loss,  # type: ignore[arg-type]
            trials=asked.trials,
            seed=asked.seed,
            progress=self.progress,
        )
        return trained, trials, None

    def _private(
        self, learned: Examples, epsilon: float
    ) -> tuple[Trained, list[Trial], Privacy | None]:
        settings = replace(
            SETTINGS,
            model=self.options.model or SETTINGS.model,  # type: ignore[arg-type]
            loss=self.options.loss or SETTINGS.loss,  # type: ignore[arg-type]
        )
        self.progress.start("train privately", 1)
        mean, scale = standard(self._of_the_catalog())
        model, spent, delta = train_private(
            learned, mean, scale, settings, epsilon, self.options.seed
        )
        self.progress.advance(1)
        self.progress.finish()
        unit: Any = "query" if self.task == "search" else "user"
        return Trained(model, settings, 0.0), [], Privacy(epsilon=spent, delta=delta, unit=unit)

    def _of_the_catalog(self) -> Examples:
        """What the catalog finds for some of its own items, or for random histories of them:
        features that tell of nobody's query."""
        live, reader = self.view.live, self.view.reader(self.spec)
        alive = np.flatnonzero(live.alive)
        drawn = np.random.default_rng(self.options.seed).permutation(alive)[:_OWN]
        ids = live.ids(np.sort(drawn))
        if self.task == "search":
            composed = self.view.composer.compose([Query(like=[one]) for one in ids])
            found = self.view.candidates(composed, self.options.depth)
        else:
            rng = np.random.default_rng(self.options.seed)
            several = [rng.choice(ids, _OWN_HISTORY).tolist() for _ in ids]
            recommended = Recommender(self.view).candidates(several, self.options.depth)
            found = [candidates for _, candidates in recommended]
        return Examples.of(
            [
                Judgement(str(n), reader.matrix(one), np.zeros(len(one.scores), np.float32), 1.0)
                for n, one in enumerate(found)
            ]
        )

    def _keep(self, metrics: dict[str, Any], now: datetime) -> Path:
        name = f"head-{self.task}-{now:%Y%m%dT%H%M%S.%fZ}"
        run = self.index.layout.runs / name
        write_run(run, metrics)
        return run

    def _publish(self, head: RankingHead) -> None:
        """Name a generation current that has the head, and that of the other task if it fits."""
        manifest = self.view.generation.manifest
        basis = basis_of(self.index.recipe)
        before = {}
        # One that cannot be read is what learning again is the remedy for.
        with suppress(HeadMismatchError, CorruptIndexError, UnsupportedFormatError):
            before = load_ranking(self.index.recipe.ranking, self.spec.spaces)
        files = dump_ranking(basis, {**before, self.task: head})
        publish_ranking(self.index.layout, self.index.store, manifest, files)


def _scores(trained: Trained, examples: Examples) -> Any:
    """Scores (Q, C) by the committee, as searches will have them."""
    q, c, width = examples.features.shape
    return trained.model(examples.features.reshape(q * c, width)).reshape(q, c)
