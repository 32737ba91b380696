"""Training of the learned fusions, by contrast and with modality dropout.

InfoNCE (van den Oord et al. 2018, arXiv:1807.03748) from queries to items: queries with relevant
items and, for fusions that learn from them, views: items seen through a part of their spaces, which
must find the whole. Items meet with spaces taken away at random (Neverova et al. 2014,
arXiv:1501.00102), as the index will meet them.

A good likelihood and a good ranking are not the same, so the epoch is chosen by ranking queries
that were held out, with and without holes. Gates are prone to rank items that lack a space at the
cost of those that lack nothing: epochs at which they rank a catalog without holes worse than plain
concatenation does are not chosen.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic

import numpy as np

from encoders.training import Steps, shared_cross_entropy

from ..fusion import AttentionFusion, ConcatFusion, Fusion, NeuralFusion, SpaceTransform
from ..progress import Progress
from .errors import NoPairsError
from .fusion_batches import Batch, Batches, TrainingData, contents_of, held_out
from .fusion_models import AttentionModel, Made, Model, NeuralModel
from .groups import Ints
from .ranking import Bools, Floats, holes, ndcg_at

if TYPE_CHECKING:
    from torch import Generator, Tensor

__all__ = ["TrainingData", "TrainingReport", "train_attention", "train_neural"]

_EPOCHS = 24
_EPOCHS_BETWEEN_CHECKS = 2
_RATE = 2e-3
_DECAY = 0.05
_TEMPERATURE = 0.05
_LARGEST_SCALE = 100.0  # one over the temperature; CLIP's bound

MIN_HELD_OUT_FROM = 200
"""With fewer queries nothing is held out, and the last epoch is taken."""
HOLES = (0.0, 0.5)
"""Ranking is judged with such shares of the items lacking a space."""
_MOST_JUDGED = 1000
_QUERIES_AT_ONCE = 256
# Of what a catalog without holes loses against concatenation, this much is noise: two standard
# errors of a mean over some hundred queries, nearly all of which gain all there is.
_TOLERANCE = 0.01


@dataclass(frozen=True)
class TrainingReport:
    """What was trained, and NDCG@10 of queries held out, for each of `HOLES`.

    `learned` and `concat` (default weights) are None where nothing was held out.
    """

    pairs: int
    """Pairs learned from."""
    queries: int
    """Queries held out and judged by."""
    epochs: int
    best_epoch: int
    """0 is the start."""
    learned: tuple[float, float] | None
    concat: tuple[float, float] | None
    seconds: float


def train_attention(
    data: TrainingData,
    transforms: Mapping[str, SpaceTransform],
    *,
    seed: int = 0,
    progress: Progress,
) -> tuple[AttentionFusion, TrainingReport]:
    """Learn gates, from concatenation on.

    Args:
        data: the catalog, and what it is asked.
        transforms: those that made the blocks, in the order of the spaces.
        seed: the same seed gives the same bytes on the same machine and number of threads.
        progress: told of one stage, of as many steps as there are epochs.

    Returns:
        The fusion of the best epoch, concatenation itself among them, and what was measured.

    Raises:
        NoPairsError: no query has a relevant item, and no item has two spaces.
        ValueError: weights that are not above 0, or arrays that do not fit together.
    """
    return _trained(AttentionModel, data, transforms, seed, progress, may_lose=_TOLERANCE)


def train_neural(
    data: TrainingData,
    transforms: Mapping[str, SpaceTransform],
    *,
    seed: int = 0,
    progress: Progress,
) -> tuple[NeuralFusion, TrainingReport]:
    """Learn a perceptron; see `train_attention` for what it takes, gives and raises."""
    return _trained(NeuralModel, data, transforms, seed, progress, may_lose=1.0)


def _trained(
    kind: type[Model[Made]],
    data: TrainingData,
    transforms: Mapping[str, SpaceTransform],
    seed: int,
    progress: Progress,
    *,
    may_lose: float,
) -> tuple[Made, TrainingReport]:
    import torch

    started = time.monotonic()
    _refuse_misfits(data, transforms)
    contents = contents_of(data)
    judge, without = _judge(data, contents, seed)
    batches = Batches(data, contents, without, seed, views=kind.learns_from_views)
    _refuse_nothing(batches)
    draw = torch.Generator().manual_seed(seed)
    model = kind(transforms, data.weights, draw)
    concat = judge(ConcatFusion(transforms, model.weights)) if judge else None
    choice = _Choice[Made](judge, concat[0] - may_lose if concat else 0.0)
    choice.offer(0, model.fusion())
    progress.start("train the fusion", _EPOCHS)
    learn = _Learner(model, _EPOCHS * batches.steps, draw)
    for epoch in range(1, _EPOCHS + 1):
        for batch in batches.epoch():
            learn(batch)
        if epoch % _EPOCHS_BETWEEN_CHECKS == 0 or epoch == _EPOCHS:
            choice.offer(epoch, model.fusion())
        progress.advance(1)
    progress.finish()
    best, learned, fusion = choice.best()
    return fusion, TrainingReport(
        pairs=len(batches.pairs),
        queries=len(judge.queries) if judge else 0,
        epochs=_EPOCHS,
        best_epoch=best,
        learned=learned,
        concat=concat,
        seconds=time.monotonic() - started,
    )


class _Learner:
    """Takes a step down the loss of each batch."""

    def __init__(self, model: Model[Any], total: int, draw: Generator) -> None:
        import torch

        self._model, self._draw = model, draw
        self._scale = torch.tensor(math.log(1 / _TEMPERATURE), requires_grad=True)
        self._steps = Steps(
            model.parameters, [self._scale], rate=_RATE, decay=_DECAY, total=total, fused=True
        )

    def __call__(self, batch: Batch) -> None:
        from torch.nn.functional import normalize

        # No ranking hangs on the length of a query, so no temperature should.
        queries = normalize(self._model.queries(batch.queries, self._draw), dim=1)
        cosines = queries @ self._model.items(batch.items, self._draw).T
        logits: Tensor = cosines * self._scale.exp().clamp(max=_LARGEST_SCALE)
        self._steps(shared_cross_entropy(logits, batch.shares))


@dataclass(frozen=True)
class _Judge:
    """Ranks items for queries held out: those that were held out with them, because items that were
    learned from stand apart from each other more than new ones do. All, if none were."""

    data: TrainingData
    queries: Ints
    relevant: list[Ints]
    """Of each query, as places in `items`."""
    items: Ints
    kept: list[Bools]
    """(len(items), S) for each of `HOLES`: which spaces the items still have."""

    def __call__(self, fusion: Fusion) -> tuple[float, float]:
        asked = self._vectors(fusion)
        full, holed = (self._ndcg(asked, self._items(fusion, kept)) for kept in self.kept)
        return full, holed

    def _vectors(self, fusion: Fusion) -> Floats:
        rows = []
        for q in self.queries:
            terms = {}
            for name, blocks in self.data.queries.items():
                length = float(np.linalg.norm(blocks[q]))
                if length > 0:
                    terms[name] = [(length, blocks[q] / np.float32(length))]
            rows.append(fusion.fuse_query(terms).vector)
        return np.stack(rows)

    def _items(self, fusion: Fusion, kept: Bools) -> Floats:
        return fusion.fuse_items(
            {
                name: np.where(
                    kept[:, [s]], blocks[self.items], self.data.imputed[name][self.items]
                )
                for s, (name, blocks) in enumerate(self.data.blocks.items())
            }
        )

    def _ndcg(self, asked: Floats, items: Floats) -> float:
        total = 0.0
        for start in range(0, len(asked), _QUERIES_AT_ONCE):
            some = slice(start, start + _QUERIES_AT_ONCE)
            relevant = self.relevant[some]
            total += ndcg_at(asked[some] @ items.T, relevant) * len(relevant)
        return total / len(asked)


def _judge(
    data: TrainingData, contents: Ints, seed: int
) -> tuple[_Judge | None, tuple[Bools, Bools]]:
    """What judges, if there are queries enough, and the queries and items it asks about."""
    m, n = len(next(iter(data.queries.values()))), len(contents)
    if len(np.unique(data.pairs[:, 0])) < MIN_HELD_OUT_FROM:
        return None, (np.zeros(m, dtype=bool), np.zeros(n, dtype=bool))
    queries, items = held_out(data, contents, seed)
    judged = np.sort(
        np.random.default_rng(seed).permutation(np.flatnonzero(queries))[:_MOST_JUDGED]
    )
    pairs = data.pairs[np.argsort(data.pairs[:, 0], kind="stable")]
    starts = np.searchsorted(pairs[:, 0], judged)
    stops = np.searchsorted(pairs[:, 0], judged, side="right")
    ranked = np.flatnonzero(items) if items.any() else np.arange(n)
    places = np.searchsorted(ranked, pairs[:, 1])
    relevant = [places[a:b] for a, b in zip(starts, stops, strict=True)]
    kept = [holes(data.present[ranked], share, seed) for share in HOLES]
    return _Judge(data, judged, relevant, ranked, kept), (queries, items)


class _Choice(Generic[Made]):
    """The epoch so far that ranks best on average, of those that rank a catalog without holes at
    least so well, if there are any."""

    def __init__(self, judge: _Judge | None, least: float) -> None:
        self._judge = judge
        self._least = least
        self._merit = (False, -1.0)
        self._best: tuple[int, tuple[float, float] | None, Made] | None = None

    def offer(self, epoch: int, fusion: Made) -> None:
        """Consider what was learned by an epoch; without a judge the last one is the best."""
        if self._judge is None:
            self._best = (epoch, None, fusion)
            return
        ranking = self._judge(fusion)
        merit = (ranking[0] >= self._least, sum(ranking))
        if merit > self._merit:
            self._merit, self._best = merit, (epoch, ranking, fusion)

    def best(self) -> tuple[int, tuple[float, float] | None, Made]:
        """Its epoch, how it ranks, and what was learned by then."""
        assert self._best is not None
        return self._best


def _refuse_misfits(data: TrainingData, transforms: Mapping[str, SpaceTransform]) -> None:
    names = list(transforms)
    n, m = len(data.blocks[names[0]]), len(data.queries[names[0]])
    for kind, arrays, rows in (
        ("blocks", data.blocks, n),
        ("imputed", data.imputed, n),
        ("queries", data.queries, m),
    ):
        if list(arrays) != names:
            raise ValueError(f"{kind} of the spaces {list(arrays)}, not of {names}")
        for name, array in arrays.items():
            expected = (rows, transforms[name].dimension)
            if array.shape != expected:
                raise ValueError(f"{kind} of {name!r} have shape {array.shape}, not {expected}")
    if not all(data.weights[name] > 0 for name in names):
        raise ValueError(f"weights must be above 0: {dict(data.weights)}")


def _refuse_nothing(batches: Batches) -> None:
    if not len(batches.pairs) and not len(batches.viewed):
        raise NoPairsError(
            "training of the fusion",
            expected="queries with relevant items, or items that have two spaces",
            got="neither",
            remedy="Use the fusion 'concat', which learns nothing.",
        )
