"""The head's arithmetic against torch, ir-measures and numbers worked out by other ways."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from indexer.errors import CorruptIndexError
from retriever.evaluation.measures import measured
from retriever.head.examples import Examples, Judgement, ideal_gain, split
from retriever.head.losses import LOSSES
from retriever.head.model import HeadModel
from retriever.head.training import (
    Settings,
    as_model,
    forward,
    standard,
    standardised,
    started,
    train,
)


def examples(queries: int = 60, candidates: int = 12, features: int = 5, seed: int = 0) -> Examples:
    """Relevance follows the second feature, and the first, the fused score, says nothing."""
    rng = np.random.default_rng(seed)
    judged = []
    for query in range(queries):
        x = rng.normal(size=(candidates - query % 3, features)).astype(np.float32)
        grades = (x[:, 1] + 0.3 * rng.normal(size=len(x)) > 1).astype(np.float32)
        grades[x[:, 1].argmax()] = 1
        judged.append(Judgement(str(query // 2), x, grades, ideal_gain(grades.tolist())))
    return Examples.of(judged)


def random_weights(model: Any, members: int = 3, features: int = 7) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    weights = started(members, features, Settings(model=model, hidden=6), generator)
    return {
        name: torch.randn(tensor.shape, generator=generator) for name, tensor in weights.items()
    }


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_numpy_scores_as_torch_does(kind: str) -> None:
    weights = random_weights(kind)
    rng = np.random.default_rng(1)
    x = rng.normal(size=(200, 7)).astype(np.float32) * 20 + 3
    mean, scale = x.mean(axis=0), x.std(axis=0) / 4  # some values are clipped
    model = as_model(weights, mean, scale)
    z = torch.from_numpy(standardised(x, mean, scale))
    theirs = forward(weights, z[None])[:, 0].mean(dim=0).numpy()
    np.testing.assert_allclose(model(x), theirs, rtol=1e-5, atol=1e-6 * np.abs(theirs).max())


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_contributions_are_integrated_gradients_and_add_up(kind: str) -> None:
    weights = {name: tensor.double() for name, tensor in random_weights(kind).items()}
    singles = {name: tensor.float() for name, tensor in weights.items()}
    model = as_model(singles, np.zeros(7, np.float32), np.ones(7, np.float32))
    x = np.random.default_rng(2).normal(size=(20, 7)).astype(np.float32)
    ours = model.contributions(x)
    np.testing.assert_allclose(ours.sum(axis=1) + model.base, model(x), rtol=1e-4, atol=1e-4)
    steps = 4000
    z = torch.from_numpy(x).double()
    line = ((torch.arange(steps) + 0.5) / steps)[:, None, None] * z
    line.requires_grad_()
    forward(weights, line).mean(dim=0).sum().backward()
    np.testing.assert_allclose(ours, (line.grad.mean(dim=0) * z).numpy(), atol=2e-2)


def test_an_unknown_shape_or_value_is_refused() -> None:
    good = as_model(random_weights("mlp"), np.zeros(7, np.float32), np.ones(7, np.float32))
    tensors = good.tensors()
    for name, value in {
        "scale": np.zeros(7, np.float32),
        "mean": np.full(7, np.nan, np.float32),
        "down": np.ones((3, 5), np.float32),
        "linear": np.ones((3, 6), np.float32),
        "bias": np.ones(3, np.float64),
        "up": np.full((3, 7, 6), np.inf, np.float32),
        "more": np.ones(1, np.float32),
    }.items():
        with pytest.raises(CorruptIndexError, match="expected"):
            HeadModel.from_tensors({**tensors, name: value})
    for name in tensors:
        with pytest.raises(CorruptIndexError):
            HeadModel.from_tensors({k: v for k, v in tensors.items() if k != name})


def plain_loss(name: str, s: np.ndarray, g: np.ndarray) -> float:
    """One query, by loops."""
    if name == "pointwise":
        p = 1 / (1 + np.exp(-s))
        y = g / max(g.max(), 1)
        return float(-(y * np.log(p) + (1 - y) * np.log(1 - p)).mean())
    if name == "pairwise":
        pairs = [(i, j) for i in range(len(s)) for j in range(len(s)) if g[i] > g[j]]
        return float(np.mean([np.log1p(np.exp(s[j] - s[i])) for i, j in pairs]))
    shares, logs = g / g.sum(), s - np.log(np.exp(s).sum())
    return float(-(shares * logs).sum())


@pytest.mark.parametrize("name", list(LOSSES))
def test_losses_are_those_of_their_formulas_and_have_their_gradients(name: Any) -> None:
    rng = np.random.default_rng(4)
    lengths = [5, 8, 3]
    scores, grades = rng.normal(size=(2, 3, 8)), np.zeros((3, 8))
    there = np.zeros((3, 8), dtype=bool)
    for row, length in enumerate(lengths):
        grades[row, :length] = np.arange(length) % 3
        there[row, :length] = True
    given = torch.from_numpy(scores).requires_grad_()
    g, t = torch.from_numpy(grades), torch.from_numpy(there)
    found = LOSSES[name](given, g, t)
    wanted = [
        [plain_loss(name, scores[e, q, :n], grades[q, :n]) for q, n in enumerate(lengths)]
        for e in range(2)
    ]
    np.testing.assert_allclose(found.detach().numpy(), wanted, rtol=1e-6)
    assert torch.autograd.gradcheck(lambda s: LOSSES[name](s, g, t), (given,))


def test_ndcg_is_that_of_ir_measures() -> None:
    some = examples()
    rng = np.random.default_rng(5)
    graded = Examples(
        some.features,
        some.there,
        (some.grades * rng.integers(1, 4, some.grades.shape)).astype(np.float32),
        some.ideals,
        some.groups,
    )
    judged = [{f"{c}": int(g) for c, g in enumerate(row)} | {"lost": 1} for row in graded.grades]
    ideals = np.array([ideal_gain(list(one.values())) for one in judged])
    graded = Examples(graded.features, graded.there, graded.grades, ideals, graded.groups)
    scores = rng.normal(size=some.grades.shape).astype(np.float32)
    rankings = [
        [str(c) for c in np.argsort(-row, kind="stable") if here[c]]
        for row, here in zip(scores, graded.there, strict=True)
    ]
    theirs = measured(rankings, judged, 100)["NDCG@10"]
    np.testing.assert_allclose(graded.ndcg(scores), theirs, atol=1e-9)


def test_a_split_keeps_groups_together_and_parts_even() -> None:
    groups = np.random.default_rng(0).integers(40, size=500)
    parts = split(groups, 5, seed=1)
    assert all(len(set(parts[groups == one].tolist())) == 1 for one in range(40))
    assert [len(np.unique(groups[parts == part])) for part in range(5)] == [8] * 5


@pytest.mark.parametrize("loss", list(LOSSES))
@pytest.mark.parametrize("model", ["linear", "mlp"])
def test_training_finds_what_matters_and_repeats_itself(model: Any, loss: Any) -> None:
    some = examples(150)
    folds = split(some.groups, 3, seed=0)
    settings = Settings(model=model, loss=loss, rate=0.03)
    trained, again = (train(some, folds, settings, seed=1) for _ in range(2))
    assert trained.ndcg > 0.8 > some.ndcg(some.fused).mean() + 0.2
    for name, tensor in trained.model.tensors().items():
        np.testing.assert_array_equal(tensor, again.model.tensors()[name])
    fresh = examples(80, seed=9)
    flat = trained.model(fresh.features.reshape(-1, 5)).reshape(fresh.grades.shape)
    assert fresh.ndcg(flat).mean() > 0.8
    assert trained.curves["loss"][-1] < trained.curves["loss"][0]


def test_what_is_held_out_teaches_nothing() -> None:
    some = examples(90)
    folds = split(some.groups, 3, seed=0)
    own = folds == 0
    shuffled = some.grades.copy()
    shuffled[own] = np.random.default_rng(1).permuted(shuffled[own], axis=1)
    other = Examples(some.features, some.there, shuffled, some.ideals, some.groups)
    # Member 0 never learns from fold 0: only where it stops can depend on that fold's grades.
    first = train(some, folds, Settings(model="linear"), seed=0)
    second = train(other, folds, Settings(model="linear"), seed=0)
    np.testing.assert_array_equal(first.model.mean, second.model.mean)
    np.testing.assert_array_equal(first.model.scale, second.model.scale)
    mean, scale = standard(some)
    np.testing.assert_array_equal(first.model.mean, mean)
    np.testing.assert_array_equal(first.model.scale, scale)
    assert first.ndcg != second.ndcg
