"""Item vectors against the closed form, and against what implicit itself would recommend."""

from __future__ import annotations

import numpy as np
import pytest
from implicit.cpu.als import AlternatingLeastSquares
from scipy.sparse import csr_array, csr_matrix
from scipy.stats import spearmanr
from threadpoolctl import threadpool_limits

from indexer.learning import collaborative
from indexer.learning.collaborative import Ease, ItemPairs, latent_factors

USERS, ITEMS = 120, 40


def tastes(seed: int = 0) -> np.ndarray:
    """Users of four tastes who like 0 to 1 of what is near theirs."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((4, 6))
    users = centres[rng.integers(4, size=USERS)] + 0.3 * rng.standard_normal((USERS, 6))
    items = centres[rng.integers(4, size=ITEMS)] + 0.3 * rng.standard_normal((ITEMS, 6))
    chance = 1 / (1 + np.exp(-users @ items.T))
    liked = (rng.random((USERS, ITEMS)) < chance * 0.6) * rng.choice([0.5, 1.0], (USERS, ITEMS))
    return liked.astype(np.float32)


def closed_form(x: np.ndarray, penalty: float) -> np.ndarray:
    inverse = np.linalg.inv(x.T @ x + penalty * np.eye(x.shape[1]))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return weights


@pytest.mark.parametrize("penalty", [1.0, 30.0])
def test_ease_at_full_rank_is_the_closed_form_off_the_diagonal(penalty: float) -> None:
    x = tastes().astype(np.float64)
    pairs = Ease(csr_array(x), rank=ITEMS).pairs(penalty)
    got, wanted = pairs.liked @ pairs.items.T, closed_form(x, penalty)
    off = ~np.eye(ITEMS, dtype=bool)
    scale = got[off] @ wanted[off] / (wanted[off] @ wanted[off])
    assert scale > 0
    np.testing.assert_allclose(got[off], scale * wanted[off], atol=1e-5)


def test_ease_cut_off_is_the_best_symmetric_approximation() -> None:
    x = tastes().astype(np.float64)
    penalty, rank = 5.0, 6
    pairs = Ease(csr_array(x), rank=rank).pairs(penalty)
    inverse = np.linalg.inv(x.T @ x + penalty * np.eye(ITEMS))
    values, vectors = np.linalg.eigh(np.eye(ITEMS) / penalty - inverse)
    low_rank = vectors[:, -rank:] * values[-rank:] @ vectors[:, -rank:].T / np.diag(inverse)
    got = pairs.liked @ pairs.items.T
    np.testing.assert_allclose(
        got / np.abs(got).max(), low_rank / np.abs(low_rank).max(), atol=1e-5
    )


def test_ease_of_many_items_comes_near(monkeypatch: pytest.MonkeyPatch) -> None:
    x = csr_array(tastes())
    dense = Ease(x, rank=12).pairs(20.0)
    monkeypatch.setattr(collaborative, "_MOST_DENSE", 10)
    sparse = Ease(x, rank=12).pairs(20.0)
    profile = tastes()[:20]
    a, b = ((profile @ p.liked) @ p.items.T for p in (dense, sparse))
    assert np.mean([spearmanr(*rows).statistic for rows in zip(a, b, strict=True)]) > 0.98


def test_unit_pairs_have_length_one_and_the_same_products() -> None:
    pairs = Ease(csr_array(tastes()), rank=10).pairs(10.0)
    items, liked = pairs.unit_pairs()
    for units in (items, liked):
        np.testing.assert_allclose(np.linalg.norm(units, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(liked @ items.T, pairs.liked @ pairs.items.T, atol=1e-6)


def test_als_items_are_implicits_and_histories_rank_as_its_users_do() -> None:
    x = tastes()
    pairs = latent_factors("als", csr_array(x), 8, seed=3)
    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(
            factors=8, iterations=15, alpha=1.0, random_state=3, num_threads=1
        )
        model.fit(csr_matrix(x), show_progress=False)
    longest = np.linalg.norm(model.item_factors, axis=1).max()
    np.testing.assert_allclose(pairs.items, model.item_factors / longest, atol=1e-4)
    ours, theirs = (x @ pairs.liked) @ pairs.items.T, model.user_factors @ model.item_factors.T
    agree = [spearmanr(*rows).statistic for rows in zip(ours, theirs, strict=True)]
    assert np.median(agree) > 0.9  # .97 usually


def test_bpr_puts_what_users_like_before_the_rest() -> None:
    x = tastes()
    pairs = latent_factors("bpr", csr_array(x), 8, seed=0)
    scores = (x @ pairs.liked) @ pairs.items.T
    better = [np.mean(s[u > 0][:, None] > s[u == 0]) for s, u in zip(scores, x, strict=True)]
    assert np.mean(better) > 0.7  # .5 by chance


def test_items_that_nobody_likes_have_no_vector() -> None:
    x = tastes()
    x[:, 7] = 0
    pairs = Ease(csr_array(x), rank=10).pairs(10.0)
    assert np.linalg.norm(pairs.items[7]) < 1e-6
    assert isinstance(pairs, ItemPairs)
