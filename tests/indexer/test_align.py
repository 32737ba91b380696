"""Alignment on catalogs whose hidden map is known, and on catalogs that have none."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import torch

import indexer.learning
from encoders.training import shared_cross_entropy
from indexer.learning import (
    Alignment,
    NoPairsError,
    Ridge,
    TooFewPairsError,
    WeakAlignmentError,
    align,
    contrast,
)
from indexer.learning.align import chance_of_own, ranks_of_own
from indexer.progress import Silent


class Told(Silent):
    """Remembers each stage, its size, and how many steps it took."""

    def __init__(self) -> None:
        self.stages: dict[str, list[int | None]] = {}

    def start(self, stage: str, total: int | None) -> None:
        self.stages[stage] = [total, 0]

    def advance(self, steps: int) -> None:
        list(self.stages.values())[-1][1] += steps  # type: ignore[operator]


def units(x: np.ndarray) -> np.ndarray:
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def linear_pairs(
    n: int, d_s: int, d_t: int, *, rank: int, noise: float = 0.02, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """What items are about is drawn; both encoders see it through a random map of their own."""
    rng = np.random.default_rng(seed)
    about = rng.standard_normal((n, rank))
    sides = []
    for d in (d_s, d_t):
        seen = about @ rng.standard_normal((rank, d)) / math.sqrt(rank)
        offset = rng.standard_normal(d)  # encoders' vectors are no more centred than this
        sides.append(units(seen + noise * rng.standard_normal((n, d)) + offset))
    return sides[0], sides[1]


def aligned(source: np.ndarray, target: np.ndarray, seed: int = 0) -> Alignment:
    each = np.arange(len(source))
    return align(source, target, each, each, seed=seed, progress=Silent())


def held_out_recall(head_out: np.ndarray, target: np.ndarray, k: int) -> float:
    """Recall@k of rows the head never saw, by sorting."""
    order = np.argsort(-(head_out @ target.T), axis=1)[:, :k]
    return float((order == np.arange(len(target))[:, None]).any(axis=1).mean())


def test_surface() -> None:
    assert sorted(indexer.learning.__all__) == [
        "Alignment",
        "AlignmentError",
        "AlignmentReport",
        "NoPairsError",
        "Ridge",
        "TooFewPairsError",
        "WeakAlignmentError",
        "align",
        "folds",
        "groups_of",
    ]
    code = "import sys, indexer.learning; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("shape", [(80, 12), (12, 80), (20, 20)])
@pytest.mark.parametrize("penalty", [0.1, 3.0, 100.0])
def test_ridge_is_least_squares_with_penalty_rows(shape: tuple[int, int], penalty: float) -> None:
    rng = np.random.default_rng(1)
    x = units(rng.standard_normal(shape))
    y = units(rng.standard_normal((shape[0], 5)))
    rows = np.vstack([x, math.sqrt(penalty) * np.eye(shape[1])])
    oracle = np.linalg.lstsq(rows, np.vstack([y, np.zeros((shape[1], 5))]), rcond=None)[0]
    weights = Ridge(x, y).weights(penalty)
    assert weights.dtype == np.float64
    np.testing.assert_allclose(weights, oracle, atol=1e-9)


def test_chance_by_counting_and_by_drawing() -> None:
    own = np.array([1, 3, 7, 19, 20])
    exact = [1 - math.comb(20 - m, 4) / math.comb(20, 4) for m in own.tolist()]
    np.testing.assert_allclose(chance_of_own(own, 20, 4), exact, atol=1e-12)
    rng = np.random.default_rng(2)
    drawn = np.argsort(rng.random((20_000, 20)), axis=1)[:, :4]
    for m, chance in zip(own, chance_of_own(own, 20, 4), strict=True):
        assert abs((drawn < m).any(axis=1).mean() - chance) < 0.015
    assert chance_of_own(np.array([1]), 8, 10).tolist() == [1.0]


def test_ranks_count_ties_against() -> None:
    queries = np.array([[1, 0], [0, 1], [0, 0]], dtype=np.float32)
    targets = np.array([[1, 0], [0.6, 0.8], [1, 0], [0, 1], [0.6, 0.8]], dtype=np.float32)
    own = np.array([[1, 0, 0, 0, 0], [0, 1, 0, 0, 1], [0, 0, 0, 1, 0]], dtype=bool)
    # A tie with row 2; row 3 is nearer; a query of nothing ties with everything.
    assert ranks_of_own(queries, targets, own).tolist() == [1, 1, 4]


def test_ranks_by_counting() -> None:
    rng = np.random.default_rng(4)
    queries, targets = units(rng.standard_normal((600, 6))), units(rng.standard_normal((90, 6)))
    own = rng.random((600, 90)) < 0.03
    own[np.arange(600), rng.integers(90, size=600)] = True
    scores = queries.astype(np.float64) @ targets.astype(np.float64).T
    expected = [
        sum(1 for j in range(90) if not own[i, j] and scores[i, j] >= scores[i][own[i]].max())
        for i in range(600)
    ]
    assert ranks_of_own(queries, targets, own).tolist() == expected


def test_hidden_linear_map_is_found() -> None:
    source, target = linear_pairs(900, 48, 32, rank=24)
    found = aligned(source[:600], target[:600])
    report = found.report
    assert (report.kind, report.pairs, report.groups, report.queries) == ("ridge", 600, 600, 600)
    assert report.contrastive is None and report.recall == report.ridge
    np.testing.assert_allclose([report.chance[k] for k in (1, 10, 50)], np.array([1, 10, 50]) / 120)
    assert report.recall[1] > 0.9 and report.recall[10] > 0.98  # usual: 1.0 and 1.0
    assert report.trust > 0.97  # usual: 0.995
    # What it says of itself holds for items it never saw, ranked by a plain sort.
    unseen = target[600:] - target[:600].mean(axis=0)
    assert held_out_recall(found.head(source[600:]), units(unseen), 10) > 0.95


def test_wide_target_is_lifted_back() -> None:
    source, target = linear_pairs(400, 40, 600, rank=20)
    found = aligned(source[:300], target[:300])
    assert found.head.dimension == 600
    lift = found.head.tensors()["lift"]
    assert lift.shape == (75, 600)  # four pairs to a component
    assert found.report.recall[10] > 0.9
    assert held_out_recall(found.head(source[300:]), target[300:] - target.mean(axis=0), 10) > 0.9


def test_fewer_pairs_than_dimensions() -> None:
    source, target = linear_pairs(240, 400, 32, rank=12)
    report = aligned(source, target).report
    assert report.kind == "ridge" and report.recall[10] > 0.9


def test_shuffled_pairs_are_refused() -> None:
    source, target = linear_pairs(400, 24, 16, rank=12)
    shuffled = np.random.default_rng(9).permutation(400)
    with pytest.raises(WeakAlignmentError, match=r"chance at 0\.125, of 400 queries"):
        aligned(source, target[shuffled])


def test_near_duplicates_earn_nothing() -> None:
    # 150 things that tell nothing of one another, each twice.
    rng = np.random.default_rng(11)
    twice = np.arange(300) // 2
    source = units(rng.standard_normal((150, 128))[twice] + 0.1 * rng.standard_normal((300, 128)))
    target = units(rng.standard_normal((150, 32))[twice] + 0.1 * rng.standard_normal((300, 32)))
    each = np.arange(300)
    fooled = align(source, target, each, each, progress=Silent()).report
    assert fooled.recall[10] > 0.6
    with pytest.raises(WeakAlignmentError):
        align(source, target, twice, each, progress=Silent())


def test_one_text_of_many_pictures_is_one_query() -> None:
    source, target = linear_pairs(300, 24, 16, rank=12)
    source[:100] = source[0]
    labels = np.maximum(np.arange(300), 99) - 99
    report = align(source, target, labels, labels, progress=Silent()).report
    assert report.queries == report.groups == 201
    # The other way round the hundred pictures have one answer, which must not rank behind itself.
    target = target.copy()
    target[:100] = target[0]
    each = np.arange(300)
    report = align(source, target, labels, each, progress=Silent()).report
    assert report.queries == 300
    assert report.recall[1] > 0.8


def test_too_little_to_learn_from() -> None:
    source, target = linear_pairs(200, 8, 8, rank=4)
    for n in (0, 1):
        with pytest.raises(NoPairsError, match=rf"at least 2 items .* got {n}"):
            aligned(source[:n], target[:n])
    with pytest.raises(TooFewPairsError, match=r"at least 50 items .* got 49\."):
        aligned(source[:49], target[:49])
    four = np.arange(200) % 4
    with pytest.raises(NoPairsError, match=r"at least 5 groups .* got 4 among 200 pairs"):
        align(source, target, four, np.arange(200), progress=Silent())
    with pytest.raises(ValueError, match="four arrays of one length"):
        align(source, target[:9], four, four, progress=Silent())


def test_contrastive_head_where_no_line_leads() -> None:
    # The target is the squares of what the source sees: a linear map finds nearly nothing.
    rng = np.random.default_rng(21)
    about = rng.standard_normal((1600, 6))
    seen = units(about @ rng.standard_normal((6, 16)))
    target = units(np.abs(about) @ rng.standard_normal((6, 12)))
    told, each = Told(), np.arange(1000)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    found = align(seen[:1000], target[:1000], each, each, seed=3, progress=told)
    assert torch.equal(torch.get_rng_state(), before) and torch.get_num_threads() == threads
    report = found.report
    assert report.kind == "contrastive" and report.queries == 400
    assert report.contrastive is not None
    assert report.recall[10] > report.ridge[10] + 0.1
    unseen = target[1000:] - target[:1000].mean(axis=0)
    assert held_out_recall(found.head(seen[1000:]), units(unseen), 10) > 10 * 10 / 600
    assert told.stages == {
        "try ridge heads": [5, 5],
        "try a contrastive head": [60, 60],
        "train the head": [30, 30],
    }


def trained(seed: int) -> list[bytes]:
    source, target = linear_pairs(200, 16, 8, rank=8)
    start = Ridge(source, target).weights(1.0)
    weights = contrast.train(source, target, start, seed=seed, progress=Silent())
    return [vars(weights)[name].tobytes() for name in sorted(vars(weights))]


def test_training_by_seed() -> None:
    first = trained(1)
    assert trained(1) == first
    assert all(a != b for a, b in zip(trained(2), first, strict=True))


def test_alignment_by_seed() -> None:
    source, target = linear_pairs(300, 24, 16, rank=12, noise=0.3)
    first, again, other = (aligned(source, target, seed) for seed in (0, 0, 1))
    assert first.report == again.report
    assert first.head.fingerprint() == again.head.fingerprint()
    assert other.report.trust != first.report.trust  # other folds


def test_training_on_two_pairs_is_possible() -> None:
    source, target = linear_pairs(2, 6, 5, rank=3)
    start = np.zeros((6, 5))
    weights = contrast.train(source, target, start, seed=0, progress=Silent())
    assert all(np.isfinite(tensor).all() for tensor in vars(weights).values())


def test_loss_spreads_over_what_is_alike() -> None:
    assert contrast._shares(torch.ones(3, 4) / 2).tolist() == pytest.approx(np.full((3, 3), 1 / 3))
    shares = contrast._shares(torch.eye(4))
    np.testing.assert_allclose(shares.sum(dim=1), 1, atol=1e-6)
    far = math.exp(-10)
    np.testing.assert_allclose(shares[0], np.array([1, far, far, far]) / (1 + 3 * far), rtol=1e-4)
    logits = torch.tensor([[2.0, 0, 0, 0]] * 4) + torch.eye(4)
    p = shares.double()
    rows = -(p * torch.log_softmax(logits.double(), 1)).sum(1).mean()
    columns = -(p * torch.log_softmax(logits.double().T, 1)).sum(1).mean()
    for given, expected in ((logits, rows), (logits.T, columns)):
        found = shared_cross_entropy(given, shares)
        assert math.isclose(float(found), float(expected), rel_tol=1e-5)
