"""Training of the learned fusions: the same arithmetic as numpy's, and better ranking."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.fusion import (
    AttentionFusion,
    ConcatFusion,
    Fusion,
    NeuralFusion,
    SpaceTransform,
    dump_fusion,
    unit_rows,
)
from indexer.learning import fusion_models, fusion_training
from indexer.learning.errors import NoPairsError
from indexer.learning.fusion_batches import Batches, contents_of, held_out
from indexer.learning.fusion_models import AttentionModel, NeuralModel
from indexer.learning.fusion_training import (
    TrainingData,
    TrainingReport,
    train_attention,
    train_neural,
)
from indexer.learning.ranking import holes, ndcg_at
from indexer.progress import Silent

WEIGHTS = {"text": 1.0, "image": 0.5}
MODELS = [AttentionModel, NeuralModel]
TRAINERS = [train_attention, train_neural]
every_trainer = pytest.mark.parametrize("train", TRAINERS)


@pytest.fixture(autouse=True)
def small_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks are narrow here, and steps cost what the networks are wide."""
    monkeypatch.setattr(fusion_models, "NEURAL_HIDDEN", 128)
    monkeypatch.setattr(fusion_models, "NEURAL_DIMENSION", 32)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Steps this small wait for each other's threads longer than they work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def transforms_of(blocks: dict[str, np.ndarray]) -> dict[str, SpaceTransform]:
    return {
        name: SpaceTransform(name, {name: np.zeros(block.shape[1], np.float32)}, None, True)
        for name, block in blocks.items()
    }


def noisy(rng: np.random.Generator, x: np.ndarray, noise: float) -> np.ndarray:
    return unit_rows((x + noise * rng.standard_normal(x.shape)).astype(np.float32))


def catalog(n: int = 600, queries: int = 400, seed: int = 0) -> TrainingData:
    """Two spaces, each a noisy view of what items share; queries are in text, about one item."""
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal((n, 12))
    blocks = {
        name: noisy(rng, latent @ rng.standard_normal((12, d)) / 12**0.5, 0.2)
        for name, d in (("text", 24), ("image", 16))
    }
    about = rng.permutation(n)[:queries]
    asked = {
        "text": noisy(rng, blocks["text"][about], 0.05),
        "image": np.zeros((queries, 16), dtype=np.float32),
    }
    return TrainingData(
        blocks=blocks,
        imputed={name: np.zeros_like(block) for name, block in blocks.items()},
        queries=asked,
        pairs=np.stack([np.arange(queries), about], axis=1),
        weights=WEIGHTS,
    )


def with_holes(data: TrainingData, share: float, seed: int = 1) -> TrainingData:
    kept = holes(data.present, share, seed)
    blocks = {n: b * kept[:, [s]] for s, (n, b) in enumerate(data.blocks.items())}
    return replace(data, blocks=blocks)


def ranking(fusion: Fusion, data: TrainingData, queries: np.ndarray) -> float:
    """NDCG@10 of queries of a catalog, by its own formula."""
    rows = fusion.fuse_items(dict(data.blocks))
    gains = []
    for q in queries:
        terms = {n: [(1.0, y[q])] for n, y in data.queries.items() if y[q].any()}
        scores = rows @ fusion.fuse_query(terms).vector
        relevant = set(data.pairs[data.pairs[:, 0] == q, 1].tolist())
        gains.append(brute_ndcg(scores, relevant))
    return float(np.mean(gains))


def brute_ndcg(scores: np.ndarray, relevant: set[int], k: int = 10) -> float:
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:k]
    gained = sum(1 / np.log2(r + 2) for r, i in enumerate(order) if i in relevant)
    most = sum(1 / np.log2(r + 2) for r in range(min(k, len(relevant))))
    return float(gained / most) if relevant else 0.0


@cache
def trained(train: Callable[..., Any]) -> tuple[Any, TrainingReport]:
    """Trained on all but the last 100 queries and what they are about."""
    data = catalog()
    asked = data.pairs[:, 0] < 300
    new = data.pairs[~asked, 1]
    blocks = {n: np.delete(b, new, axis=0) for n, b in data.blocks.items()}
    number = np.cumsum(~np.isin(np.arange(600), new)) - 1
    pairs = data.pairs[asked]
    part = TrainingData(
        blocks=blocks,
        imputed={n: np.zeros_like(b) for n, b in blocks.items()},
        queries={n: y[:300] for n, y in data.queries.items()},
        pairs=np.stack([pairs[:, 0], number[pairs[:, 1]]], axis=1),
        weights=WEIGHTS,
    )
    return train(part, transforms_of(blocks), progress=Silent())


@pytest.mark.parametrize("kind", MODELS)
def test_numpy_gives_what_was_trained(kind: type[Any]) -> None:
    """Random networks, items with holes and imputed blocks, queries in one space or two."""
    rng = np.random.default_rng(0)
    data = with_holes(catalog(60, 40), 0.5)
    data.blocks["image"][:9] *= np.float32(0.3)
    draw = torch.Generator().manual_seed(0)
    model = kind(transforms_of(dict(data.blocks)), WEIGHTS, draw)
    for tensor in model.parameters:
        tensor.data += 0.1 * torch.randn(tensor.shape, generator=draw)
    fusion = model.fusion()
    asked = {
        "text": data.queries["text"] * rng.uniform(0.2, 2, (40, 1)).astype(np.float32),
        "image": noisy(rng, np.zeros((40, 16)), 1.0) * (rng.random((40, 1)) < 0.5),
    }
    asked["text"][:5] = 0
    asked["image"] = asked["image"].astype(np.float32)
    with torch.no_grad():
        items = model.items([torch.from_numpy(b) for b in data.blocks.values()]).numpy()
        queries = model.queries([torch.from_numpy(y) for y in asked.values()]).numpy()
    np.testing.assert_allclose(fusion.fuse_items(dict(data.blocks)), items, atol=1e-5)
    for q in range(40):
        lengths = {n: float(np.linalg.norm(y[q])) for n, y in asked.items()}
        terms = {n: [(w, asked[n][q] / np.float32(w))] for n, w in lengths.items() if w}
        np.testing.assert_allclose(fusion.fuse_query(terms).vector, queries[q], atol=1e-5)


def test_attention_starts_as_concatenation() -> None:
    data = with_holes(catalog(60, 40), 0.5)
    transforms = transforms_of(dict(data.blocks))
    start = AttentionModel(transforms, WEIGHTS, torch.Generator().manual_seed(0)).fusion()
    concat = ConcatFusion(transforms, WEIGHTS)
    np.testing.assert_allclose(
        start.fuse_items(dict(data.blocks)), concat.fuse_items(dict(data.blocks)), atol=1e-6
    )
    terms = {"text": [(0.7, data.queries["text"][0])], "image": [(1.2, data.blocks["image"][0])]}
    np.testing.assert_allclose(
        start.fuse_query(terms).vector, concat.fuse_query(terms).vector, atol=1e-6
    )


@every_trainer
def test_the_seed_decides_everything(
    train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fusion_training, "_EPOCHS", 2)
    data = catalog(120, 40)
    transforms = transforms_of(dict(data.blocks))

    def dumped(seed: int) -> bytes:
        torch.rand(seed + 1)  # the global generator is none of its business
        return dump_fusion(train(data, transforms, seed=seed, progress=Silent())[0])

    assert dumped(0) == dumped(0)
    assert dumped(0) != dumped(1)


def test_torch_draws_on_as_if_nothing_had_been_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fusion_training, "_EPOCHS", 1)
    data = catalog(60, 20)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train_neural(data, transforms_of(dict(data.blocks)), progress=Silent())
    assert torch.equal(torch.rand(3), expected)


def test_neural_finds_what_concatenation_cannot() -> None:
    fusion, report = trained(train_neural)
    assert isinstance(fusion, NeuralFusion)
    data = with_holes(catalog(), 0.5)
    concat = ConcatFusion(transforms_of(dict(data.blocks)), WEIGHTS)
    asked = np.arange(300, 400)
    # Usual: .93 against .76.
    assert ranking(fusion, data, asked) > ranking(concat, data, asked) + 0.1
    assert report.learned is not None and report.concat is not None
    assert report.learned[1] > report.concat[1]


def test_attention_costs_nothing_where_nothing_is_missing() -> None:
    fusion, report = trained(train_attention)
    assert isinstance(fusion, AttentionFusion)
    concat = ConcatFusion(transforms_of(dict(catalog().blocks)), WEIGHTS)
    asked = np.arange(300, 400)
    assert ranking(fusion, catalog(), asked) >= ranking(concat, catalog(), asked) - 0.005
    assert report.learned is not None and report.concat is not None
    assert report.learned[0] >= report.concat[0] - 0.002


@every_trainer
def test_the_report_tells_what_was_done(train: Callable[..., Any]) -> None:
    _, report = trained(train)
    assert report.queries == 30
    assert report.pairs == 270
    assert 0 <= report.best_epoch <= report.epochs
    assert report.seconds > 0


@every_trainer
@pytest.mark.parametrize("without", ["queries", "views"])
def test_one_kind_of_question_is_enough(
    train: Callable[..., Any], without: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fusion_training, "_EPOCHS", 1)
    data = catalog(50, 30)
    if without == "queries":
        none = {n: y[:0] for n, y in data.queries.items()}
        data = replace(data, queries=none, pairs=np.zeros((0, 2), dtype=np.int64))
    else:
        data = with_holes(data, 1.0)
    fusion, report = train(data, transforms_of(dict(data.blocks)), progress=Silent())
    assert np.isfinite(fusion.fuse_items(dict(data.blocks))).all()
    assert (report.learned, report.concat, report.best_epoch) == (None, None, 1)


@every_trainer
def test_nothing_to_learn_from_is_refused(train: Callable[..., Any]) -> None:
    data = with_holes(catalog(20, 10), 1.0)
    data = replace(data, pairs=data.pairs[:0])
    with pytest.raises(NoPairsError, match="concat"):
        train(data, transforms_of(dict(data.blocks)), progress=Silent())


@every_trainer
def test_arrays_that_do_not_fit_are_refused(train: Callable[..., Any]) -> None:
    data = catalog(20, 10)
    transforms = transforms_of(dict(data.blocks))
    with pytest.raises(ValueError, match=r"shape \(20, 15\), not \(20, 16\)"):
        short = {**data.blocks, "image": data.blocks["image"][:, 1:]}
        train(replace(data, blocks=short), transforms, progress=Silent())
    with pytest.raises(ValueError, match="above 0"):
        train(replace(data, weights={"text": 1.0, "image": 0.0}), transforms, progress=Silent())


def test_what_is_held_out_shares_nothing_with_what_is_learned() -> None:
    data = catalog(100, 60)
    # Every second item is asked for by two queries, and item 7 has a twin.
    pairs = np.concatenate([data.pairs, data.pairs[::2] + np.array([1, 0])])
    for block in data.blocks.values():
        block[8] = block[7]
    data = replace(data, pairs=pairs[pairs[:, 0] < 60])
    contents = contents_of(data)
    assert (contents[7] == contents[8]).all() and len(np.unique(contents, axis=0)) == 99
    queries, items = held_out(data, contents, seed=0)
    assert 4 <= queries.sum() <= 8
    for q, i in data.pairs:
        assert queries[q] == items[i]
    assert items[7] == items[8]
    batches = Batches(data, contents, (queries, items), seed=0, views=True)
    assert not items[batches.pairs[:, 1]].any() and not items[batches.viewed].any()


def test_queries_are_held_out_alone_where_all_hang_together() -> None:
    data = catalog(100, 60)
    data = replace(data, pairs=np.concatenate([data.pairs, [[q, 0] for q in range(60)]]))
    queries, items = held_out(data, contents_of(data), seed=0)
    assert queries.sum() == 6
    assert not items.any()


def test_targets_are_shared_among_all_that_is_relevant() -> None:
    data = catalog(40, 20)
    data = replace(data, pairs=np.array([[q, i] for q in range(20) for i in (q, q + 20)]))
    nothing = np.zeros(20, dtype=bool), np.zeros(40, dtype=bool)
    batch = next(Batches(data, contents_of(data), nothing, seed=0, views=True).epoch())
    shares = batch.shares.numpy()
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-6)
    own = [[(x == y).all() for y in data.queries["text"]] for x in batch.queries[0].numpy()]
    for row, which in zip(shares, np.array(own), strict=True):
        if which.any():
            assert len(np.unique(row[row > 0])) == 1
    for queried, items in zip(batch.queries, batch.items, strict=True):
        assert len(queried) == len(items) == len(shares)
    # Items lose a space now and then, and never both.
    there = np.stack([items.norm(dim=1).numpy() > 0 for items in batch.items])
    assert there.any(axis=0).all()


@settings(max_examples=80)
@given(m=st.integers(1, 6), n=st.integers(1, 30), k=st.integers(1, 12), seed=st.integers(0, 2**31))
def test_ndcg_is_that_of_the_formula(m: int, n: int, k: int, seed: int) -> None:
    """With ties, with queries to which nothing is relevant, and with fewer items than k."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 5, (m, n)).astype(np.float32)
    relevant = [np.flatnonzero(rng.random(n) < rng.random() / 2) for _ in range(m)]
    exact = [brute_ndcg(row, set(r.tolist()), k) for row, r in zip(scores, relevant, strict=True)]
    assert ndcg_at(scores, relevant, k) == pytest.approx(np.mean(exact), abs=1e-12)


def test_ndcg_needs_a_list_for_each_query() -> None:
    assert ndcg_at(np.zeros((0, 4), np.float32), []) == 0.0
    with pytest.raises(ValueError, match="1 lists of relevant items for 2 queries"):
        ndcg_at(np.zeros((2, 4), np.float32), [np.array([1])])


@settings(max_examples=80)
@given(
    n=st.integers(0, 40),
    spaces=st.integers(1, 4),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**31),
)
def test_holes_empty_no_item(n: int, spaces: int, share: float, seed: int) -> None:
    present = np.random.default_rng(seed).random((n, spaces)) < 0.6
    left = holes(present, share, seed)
    assert not (left & ~present).any()
    np.testing.assert_array_equal(left.any(axis=1), present.any(axis=1))
    lost = present.sum(axis=1) - left.sum(axis=1)
    assert lost.max(initial=0) <= 1
    assert lost.sum() == round(share * int((present.sum(axis=1) > 1).sum()))
    np.testing.assert_array_equal(left, holes(present, share, seed))


def test_holes_come_in_every_space() -> None:
    left = holes(np.ones((300, 3), dtype=bool), 1.0, seed=0)
    assert (left.sum(axis=1) == 2).all()
    assert ((~left).sum(axis=0) > 80).all()
    first, second = (holes(np.ones((50, 3), dtype=bool), 0.5, seed) for seed in (0, 1))
    assert any((first[:, a] != second[:, b]).any() for a, b in combinations(range(3), 2))
