"""Learn a head from one space to another from a catalog's own pairs, or refuse.

Whether it works is asked of the catalog itself: by k-fold cross-validation on groups of
near-duplicates, sources that were held out look for their own targets among all that were held
out. That chooses the ridge penalty, then between ridge and contrastive training, and a head
that finds little more than chance does is refused: it would send every query to some picture,
with no sign that the answer means nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from encoders import Head

from ..fusion import leading_axes, unit_rows
from ..fusion.transform import REDUCED, ROWS_PER_COMPONENT, WIDE
from ..progress import Progress
from . import contrast
from .errors import NoPairsError, TooFewPairsError, WeakAlignmentError
from .groups import folds as deal
from .ridge import Ridge

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Kind = Literal["ridge", "contrastive"]

RANKS = (1, 10, 50)
"""Held-out recall is reported at these."""
PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
MIN_PAIRS = 50
MIN_CONTRASTIVE_PAIRS = 1000
_DECISIVE = 10  # the rank, of `RANKS`, that choices are made by
_TIMES_CHANCE = 2
_STANDARD_ERRORS = 3
# Contrastive training takes nearly all of the time, so that not every fold is tried.
_CONTRASTIVE_FOLDS = 2
# A fold's queries beyond these cost time and change nothing: the standard error is near 1 %.
_QUERIES_PER_FOLD = 2000
_QUERIES_AT_ONCE = 256
# Equal targets may get products that differ by this much, by where they stand in the matrix.
_TIE = np.float32(1e-6)


@dataclass(frozen=True)
class AlignmentReport:
    """What was measured on pairs held out.

    Recalls map a rank to the share of queries that find one of their own within it. `chance` is
    that of a random order, worked out exactly, and `trust` the mean cosine of the head's output to
    the true target, centred and reduced.
    """

    pairs: int
    groups: int
    kind: Kind
    penalty: float
    """The ridge penalty; a contrastive head starts from that solution."""
    queries: int
    """How many queries all of this was measured by: those of the folds that the contrastive head
    was tried on, or of every fold where it was not."""
    chance: dict[int, float]
    ridge: dict[int, float]
    contrastive: dict[int, float] | None
    """None where it was not tried."""
    trust: float

    @property
    def recall(self) -> dict[int, float]:
        """Recall of the chosen kind."""
        return self.contrastive if self.kind == "contrastive" and self.contrastive else self.ridge


@dataclass(frozen=True)
class Alignment:
    """A head fitted on all pairs, and what heads fitted like it were worth on pairs held out."""

    head: Head
    report: AlignmentReport


def align(
    source: Floats,
    target: Floats,
    groups: Ints,
    labels: Ints,
    *,
    seed: int = 0,
    folds: int = 5,
    progress: Progress,
) -> Alignment:
    """Learn a head from the source space to the target space.

    Args:
        source: float32 array with shape (n, d_s): an item's unit vector in the source space.
        target: float32 array with shape (n, d_t): the same item's in the target space. Items
            that lack either, whose rows would be zero, must be left out.
        groups: int64 array with shape (n,), see `groups_of`; no group is both learned from and
            asked about.
        labels: int64 array with shape (n,): items of one source content share a label, and any
            of their targets is a right answer.
        seed: decides the folds and the training. The same seed gives the same bytes on the same
            machine.
        folds: number of folds, at least 2.
        progress: told of each stage.

    Returns:
        The head and its report. The target space is centred, and reduced by PCA as
        `SpaceTransform` does it, but to fewer dimensions where there are few pairs.

    Raises:
        NoPairsError: fewer than 2 pairs, or fewer groups than folds.
        TooFewPairsError: fewer than `MIN_PAIRS` pairs.
        WeakAlignmentError: recall@10 of pairs held out does not clearly beat chance.
        ValueError: the arrays are not of one length, or there are fewer than 2 folds.
    """
    n = len(source)
    if not n == len(target) == len(groups) == len(labels) or folds < 2:
        raise ValueError("align needs four arrays of one length and at least 2 folds")
    _refuse_few(n, groups, folds)
    pairs = _Pairs(source, target, labels)
    fold_of = deal(np.unique(groups, return_inverse=True)[1], folds, seed)
    splits = [_Split(fold_of != f, fold_of == f) for f in range(folds)]

    penalty, by_ridge = _choose_penalty(pairs, splits, seed, progress)
    by_contrast = None
    if n >= MIN_CONTRASTIVE_PAIRS:
        tried = _most_telling(groups, fold_of)
        # Both are judged by the same folds, or the easier ones would decide.
        by_ridge = [by_ridge[f] for f in tried]
        progress.start("try a contrastive head", len(tried) * contrast.EPOCHS)
        by_contrast = [_try_contrastive(pairs, splits[f], penalty, seed, progress) for f in tried]
        progress.finish()
    kind: Kind = "ridge"
    decided = by_ridge
    if by_contrast is not None and _merit(by_contrast) > _merit(by_ridge):
        kind, decided = "contrastive", by_contrast
    report = AlignmentReport(
        pairs=n,
        groups=len(np.unique(groups)),
        kind=kind,
        penalty=penalty,
        queries=sum(len(judged.ranks) for judged in decided),
        chance=_chance(decided),
        ridge=_recall(by_ridge),
        contrastive=None if by_contrast is None else _recall(by_contrast),
        trust=_trust(decided),
    )
    _refuse_weak(report)
    everything = _Split(np.ones(n, dtype=bool), np.zeros(n, dtype=bool))
    if kind == "ridge":
        head = pairs.ridge_head(pairs.ridge(everything).weights(penalty), pairs.lift)
    else:
        progress.start("train the head", contrast.EPOCHS)
        head = pairs.contrastive_head(everything, penalty, seed, progress, pairs.lift)
        progress.finish()
    return Alignment(head, report)


def _most_telling(groups: Ints, fold_of: Ints) -> list[int]:
    """The folds with the most groups: one with a single large group asks the same thing over."""
    counts = np.bincount(fold_of[np.unique(groups, return_index=True)[1]])
    order: list[int] = np.argsort(-counts, kind="stable").tolist()
    return order[:_CONTRASTIVE_FOLDS]


@dataclass(frozen=True)
class _Split:
    """Which pairs are learned from and which asked about: bool arrays (n,)."""

    learned: NDArray[np.bool_]
    asked: NDArray[np.bool_]


class _Pairs:
    """The pairs, brought to the coordinates that heads are learned in.

    Means and principal axes are those of all pairs, held out or not: they tell nothing of which
    source belongs to which target, and a catalog that is searched knows all its targets.
    """

    def __init__(self, source: Floats, target: Floats, labels: Ints) -> None:
        n, d = target.shape
        centred: Floats = target - _mean(target)
        kept = min(REDUCED, n // ROWS_PER_COMPONENT) if d > WIDE else d
        axes = leading_axes(centred, kept) if kept < d else None
        self.raw = source
        self.labels = labels
        self.mean = _mean(source)
        self.source = unit_rows(source - self.mean)
        reduced: Floats = centred if axes is None else centred @ axes
        self.target = unit_rows(reduced)
        self.contents = _numbered_rows(target)
        self.lift = None if axes is None else np.ascontiguousarray(axes.T)

    def ridge(self, split: _Split) -> Ridge:
        return Ridge(self.source[split.learned], self.target[split.learned])

    def ridge_head(self, weights: NDArray[np.float64], lift: Floats | None = None) -> Head:
        bias = np.zeros(weights.shape[1], dtype=np.float32)
        return Head(self.mean, weights.astype(np.float32), bias, lift=lift)

    def contrastive_head(
        self,
        split: _Split,
        penalty: float,
        seed: int,
        progress: Progress,
        lift: Floats | None = None,
    ) -> Head:
        weights = contrast.train(
            self.source[split.learned],
            self.target[split.learned],
            self.ridge(split).weights(penalty),
            seed=seed,
            progress=progress,
        )
        return Head(self.mean, **vars(weights), lift=lift)


def _mean(x: Floats) -> Floats:
    mean: Floats = x.mean(axis=0, dtype=np.float64).astype(np.float32)
    return mean


def _numbered_rows(x: Floats) -> Ints:
    """Numbers (n,) that rows of the same bytes share."""
    numbers: dict[bytes, int] = {}
    return np.array([numbers.setdefault(row.tobytes(), len(numbers)) for row in x], dtype=np.int64)


@dataclass(frozen=True)
class _HeldOut:
    """One fold's verdict: ranks int64 (q,) and chances (q, len(RANKS)) of its queries, and cosines
    (m,) of its pairs."""

    ranks: Ints
    chances: NDArray[np.float64]
    cosines: Floats


def _choose_penalty(
    pairs: _Pairs, splits: Sequence[_Split], seed: int, progress: Progress
) -> tuple[float, list[_HeldOut]]:
    """The best of `PENALTIES` over all folds, and each fold's verdict on it."""
    progress.start("try ridge heads", len(splits))
    per_fold: list[list[_HeldOut]] = []
    for split in splits:
        per_fold.append(_try_ridge(pairs, split, seed))
        progress.advance(1)
    progress.finish()
    best = max(range(len(PENALTIES)), key=lambda p: _merit([judged[p] for judged in per_fold]))
    return PENALTIES[best], [judged[best] for judged in per_fold]


def _try_ridge(pairs: _Pairs, split: _Split, seed: int) -> list[_HeldOut]:
    """The verdict on each of `PENALTIES`."""
    ridge = pairs.ridge(split)
    return [_judge(pairs.ridge_head(ridge.weights(p)), pairs, split, seed) for p in PENALTIES]


def _try_contrastive(
    pairs: _Pairs, split: _Split, penalty: float, seed: int, progress: Progress
) -> _HeldOut:
    head = pairs.contrastive_head(split, penalty, seed, progress)
    return _judge(head, pairs, split, seed)


def _judge(head: Head, pairs: _Pairs, split: _Split, seed: int) -> _HeldOut:
    """Ask each different source of the fold for its own among the fold's different targets.

    Different ones: a text of a hundred pictures is one query with a hundred right answers, and a
    picture that bears the text of a hundred others must not lose to that very text.
    """
    outputs, targets = head(pairs.raw[split.asked]), pairs.target[split.asked]
    _, query, source_of = np.unique(
        pairs.labels[split.asked], return_index=True, return_inverse=True
    )
    _, answer, target_of = np.unique(
        pairs.contents[split.asked], return_index=True, return_inverse=True
    )
    some = np.random.default_rng(seed).permutation(len(query))[:_QUERIES_PER_FOLD]
    place = np.full(len(query), -1)
    place[some] = np.arange(len(some))
    asked = place[source_of] >= 0
    own = np.zeros((len(some), len(answer)), dtype=bool)
    own[place[source_of[asked]], target_of[asked]] = True
    ranks = ranks_of_own(outputs[query[some]], targets[answer], own)
    chances = [chance_of_own(own.sum(axis=1), len(answer), k) for k in RANKS]
    return _HeldOut(ranks, np.stack(chances, axis=1), np.einsum("ij,ij->i", outputs, targets))


def ranks_of_own(queries: Floats, targets: Floats, own: NDArray[np.bool_]) -> Ints:
    """How many other rows score as high as a query's best own row, or higher.

    Args:
        queries: float32 array with shape (q, k).
        targets: float32 array with shape (m, k), scored by inner product.
        own: bool array with shape (q, m): which rows are right answers; some in every row.

    Returns:
        int64 array with shape (q,), from 0; ties count against the query.
    """
    ranks = np.empty(len(queries), dtype=np.int64)
    for start in range(0, len(queries), _QUERIES_AT_ONCE):
        some = slice(start, start + _QUERIES_AT_ONCE)
        scores = queries[some] @ targets.T
        best = np.where(own[some], scores, -np.inf).max(axis=1, keepdims=True)
        ranks[some] = ((scores >= best - _TIE) & ~own[some]).sum(axis=1)
    return ranks


def chance_of_own(own: Ints, rows: int, k: int) -> NDArray[np.float64]:
    """Chance that the first k of `rows` rows in random order hold one of `own` rows.

    One less the hypergeometric probability of none, C(rows - own, k) / C(rows, k).

    Args:
        own: int64 array with shape (q,).
        rows: how many rows there are.
        k: how many are looked at.

    Returns:
        float64 array with shape (q,).
    """
    none = np.ones(len(own))
    for drawn in range(min(k, rows)):
        none *= np.maximum(rows - own - drawn, 0) / (rows - drawn)
    return 1 - none


def _recall(judged: Sequence[_HeldOut]) -> dict[int, float]:
    ranks = np.concatenate([fold.ranks for fold in judged])
    return {k: float((ranks < k).mean()) for k in RANKS}


def _chance(judged: Sequence[_HeldOut]) -> dict[int, float]:
    means = np.concatenate([fold.chances for fold in judged]).mean(axis=0)
    return dict(zip(RANKS, means.tolist(), strict=True))


def _trust(judged: Sequence[_HeldOut]) -> float:
    return float(np.concatenate([fold.cosines for fold in judged]).mean())


def _merit(judged: Sequence[_HeldOut]) -> tuple[float, float]:
    """What choices are made by; few queries make equal recalls likely, and then trust decides."""
    return _recall(judged)[_DECISIVE], _trust(judged)


def _refuse_few(n: int, groups: Ints, folds: int) -> None:
    found = len(np.unique(groups))
    if n < 2:
        raise NoPairsError(
            "alignment",
            expected="at least 2 items that have both modalities",
            got=f"{n}",
            remedy="Map both modalities' columns, and see whether their inputs were rejected.",
        )
    if n < MIN_PAIRS:
        raise TooFewPairsError(
            "alignment",
            expected=f"at least {MIN_PAIRS} items that have both modalities",
            got=f"{n}",
            remedy="Use a preset whose text encoder reaches pictures by itself, such as 'clip'.",
        )
    if found < folds:
        raise NoPairsError(
            "alignment",
            expected=f"at least {folds} groups of items that are not near-duplicates",
            got=f"{found} among {n} pairs",
            remedy="A catalog whose items share texts or pictures has nothing to hold out.",
        )


def _refuse_weak(report: AlignmentReport) -> None:
    after, chance = report.recall[_DECISIVE], report.chance[_DECISIVE]
    # Of the two rates' errors the larger one, so that neither tiny nor large recalls come cheap.
    variance = max(after * (1 - after), chance * (1 - chance)) / report.queries
    margin = _STANDARD_ERRORS * math.sqrt(variance)
    if after < _TIMES_CHANCE * chance or after - chance <= margin:
        needed = max(_TIMES_CHANCE * chance, chance + margin)
        raise WeakAlignmentError(
            "alignment",
            expected=f"recall@{_DECISIVE} of at least {needed:.3f} on pairs held out",
            got=f"{after:.3f}, with chance at {chance:.3f}, of {report.queries} queries",
            remedy="The one modality tells too little of the other, or there are too few pairs: "
            "use a preset whose text encoder reaches pictures by itself, such as 'clip'.",
        )
