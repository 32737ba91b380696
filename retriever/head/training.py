"""Heads trained in torch: one member for each fold, all at once, each stopped on its own fold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from .examples import Doubles, Examples, Ints
from .losses import LOSSES, Loss
from .model import LARGEST_Z, HeadModel

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.float32]
Model = Literal["linear", "mlp"]
MODELS: tuple[Model, ...] = ("linear", "mlp")

_BATCH = 64
_MOST_EPOCHS = 80
_PATIENCE = 8
_SCORED_AT_ONCE = 512


@dataclass(frozen=True)
class Settings:
    """What training is told. `hidden` counts in the model `mlp` alone."""

    model: Model = "mlp"
    loss: Loss = "listwise"
    rate: float = 0.005
    decay: float = 0.01
    hidden: int = 16

    def told(self) -> dict[str, Any]:
        """As JSON values."""
        values = asdict(self)
        if self.model == "linear":
            del values["hidden"]
        return values


@dataclass
class Trained:
    """A committee, and how its members came out on the folds that they were stopped on."""

    model: HeadModel
    settings: Settings
    ndcg: float
    """Mean NDCG@10 over all queries, each by the member that has not learned from it."""
    curves: dict[str, list[float]] = field(default_factory=dict)
    """Of each epoch: `loss` on what is learned from, `ndcg` on what is not, means over members."""


def train(
    examples: Examples,
    folds: Ints,
    settings: Settings,
    *,
    seed: int = 0,
    report: Callable[[int, float], None] | None = None,
) -> Trained:
    """Train a member for each fold, on the others, until it ranks its own no better any more.

    Members begin at the fused order and see the same batches; each has random weights of its own.

    Args:
        examples: Q queries.
        folds: int64 (Q,), from 0 to E - 1.
        settings: see `Settings`.
        seed: the same seed gives the same weights on the same machine.
        report: told of each epoch and its NDCG; may raise, to give up.
    """
    import torch

    members = int(folds.max()) + 1
    generator = torch.Generator().manual_seed(seed)
    mean, scale = standard(examples)
    z = torch.from_numpy(standardised(examples.features, mean, scale))
    there, grades = torch.from_numpy(examples.there), torch.from_numpy(examples.grades)
    # A query teaches every member but the one that is stopped by it, if it can teach at all.
    teaches = torch.from_numpy(
        ((np.arange(members)[:, None] != folds) & examples.teaching).astype(np.float32)
    )
    weights = started(members, z.shape[2], settings, generator)
    optimizer = torch.optim.AdamW(
        list(weights.values()), lr=settings.rate, weight_decay=settings.decay
    )
    loss_of = LOSSES[settings.loss]
    best = {name: tensor.detach().clone() for name, tensor in weights.items()}
    best_ndcg, since = np.full(members, -1.0), np.zeros(members, dtype=np.int64)
    curves: dict[str, list[float]] = {"loss": [], "ndcg": []}
    for epoch in range(_MOST_EPOCHS + 1):
        each = _ndcg_by_fold(examples, folds, weights, z)
        better = np.flatnonzero(each > best_ndcg)
        for name, tensor in weights.items():
            best[name][better] = tensor.detach()[better]
        best_ndcg[better] = each[better]
        since = np.where(each >= best_ndcg, 0, since + 1)
        curves["ndcg"].append(float(each.mean()))
        if report is not None:
            report(epoch, float(best_ndcg.mean()))
        if epoch == _MOST_EPOCHS or (since >= _PATIENCE).all():
            break
        total = 0.0
        order = torch.randperm(len(examples), generator=generator)
        batches = torch.split(order, _BATCH)
        for rows in batches:
            optimizer.zero_grad()
            scores = forward(weights, z[rows])
            losses = loss_of(scores, grades[rows], there[rows])
            share = teaches[:, rows]
            # Each member's own mean, so that none learns the faster for the others.
            value = ((losses * share).sum(dim=1) / share.sum(dim=1).clamp(min=1)).sum()
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += value.item() / members
        curves["loss"].append(total / len(batches))
    counts = np.bincount(folds, minlength=members)
    return Trained(
        as_model(best, mean, scale),
        settings,
        float((best_ndcg * counts).sum() / counts.sum()),
        curves,
    )


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: steps are so short that threads would wait for each other, and on cores
    that are shared with others for long."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def standard(examples: Examples) -> tuple[Floats, Floats]:
    """Mean and scale (F,) of the features of all candidates; a feature that is the same everywhere
    is not scaled."""
    seen = examples.features[examples.there].astype(np.float64)
    mean, scale = seen.mean(axis=0), seen.std(axis=0)
    scale = np.where(scale > 1e-6 * np.maximum(1, np.abs(mean)), scale, 1.0)
    return mean.astype(np.float32), scale.astype(np.float32)


def standardised(features: Floats, mean: Floats, scale: Floats) -> Floats:
    """What a model sees of features, as `HeadModel` does."""
    z = (features - mean) / scale
    return np.clip(z, -LARGEST_Z, LARGEST_Z, out=z)


def started(members: int, features: int, settings: Settings, generator: Any) -> dict[str, Tensor]:
    """Weights that rank by the fused score, which the first feature is, with all else to learn."""
    import torch

    linear = torch.zeros(members, features)
    linear[:, 0] = 1.0
    weights = {"linear": linear, "bias": torch.zeros(members)}
    if settings.model == "mlp":
        shape = (members, features, settings.hidden)
        weights["up"] = torch.randn(shape, generator=generator) * (2 / features) ** 0.5
        weights["up_bias"] = torch.zeros(members, settings.hidden)
        weights["down"] = torch.zeros(members, settings.hidden)
    return {name: tensor.requires_grad_() for name, tensor in weights.items()}


def forward(weights: dict[str, Tensor], z: Tensor) -> Tensor:
    """Scores (E, Q, C) of standardised features (Q, C, F); the twin of `HeadModel.__call__`."""
    import torch

    y = torch.einsum("qcf,ef->eqc", z, weights["linear"]) + weights["bias"][:, None, None]
    if "up" in weights:
        members, features, hidden = weights["up"].shape
        side_by_side = weights["up"].permute(1, 0, 2).reshape(features, members * hidden)
        inner = (z @ side_by_side + weights["up_bias"].reshape(-1)).relu()
        inner = inner.reshape(*z.shape[:2], members, hidden)
        y = y + torch.einsum("qceh,eh->eqc", inner, weights["down"])
    return y


def as_model(weights: dict[str, Tensor], mean: Floats, scale: Floats) -> HeadModel:
    """The same in numpy."""
    tensors = {name: tensor.detach().numpy().copy() for name, tensor in weights.items()}
    return HeadModel(mean=mean, scale=scale, **tensors)


def _ndcg_by_fold(
    examples: Examples, folds: Ints, weights: dict[str, Tensor], z: Tensor
) -> Doubles:
    """Mean NDCG@10 of each member on its own fold, float64 (E,)."""
    import torch

    members = len(weights["linear"])
    own = np.empty(examples.grades.shape, dtype=np.float32)
    with torch.no_grad():
        for start in range(0, len(examples), _SCORED_AT_ONCE):
            here = slice(start, start + _SCORED_AT_ONCE)
            scores = forward(weights, z[here]).numpy()
            own[here] = scores[folds[here], np.arange(scores.shape[1])]
    each = examples.ndcg(own)
    return np.array([each[folds == member].mean() for member in range(members)])
