"""Weights that are proposed: what a space is worth, and what an answer through a head is."""

from __future__ import annotations

import numpy as np
import pytest

from indexer.learning.fusion_batches import TrainingData
from indexer.learning.weights import Proposed, propose_weights
from indexer.progress import Silent

N, D = 240, 16


def unit_rows(x: np.ndarray) -> np.ndarray:
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def proposed(*, picture_knows: bool, by_heads: set[str]) -> Proposed:
    """Of items whose text answers every query; their pictures do, or say nothing."""
    rng = np.random.default_rng(0)
    text, picture = (unit_rows(rng.normal(size=(N, D))) for _ in range(2))
    asked = picture if picture_knows else unit_rows(rng.normal(size=(N, D)))
    blurred = unit_rows(text + 0.9 * unit_rows(rng.normal(size=(N, D))))
    none = np.zeros_like(text)
    data = TrainingData(
        blocks={"text": text, "picture": picture},
        imputed={"text": none, "picture": none},
        queries={"text": blurred, "picture": asked},
        pairs=np.stack([np.arange(N), np.arange(N)], axis=1),
        weights={"text": 1.0, "picture": 1.0},
    )
    return propose_weights(data, by_heads=by_heads, impute=False, progress=Silent())


def test_a_head_that_knows_nothing_is_trusted_less_and_its_space_keeps_a_weight() -> None:
    found = proposed(picture_knows=False, by_heads={"picture"})
    assert found.weights == {"text": 1.0, "picture": 0.05}
    assert found.trusts == {"text": 1.0, "picture": pytest.approx(0.2)}
    assert found.report.after[0] >= found.report.before[0]


def test_without_a_head_all_of_it_is_weight() -> None:
    found = proposed(picture_knows=False, by_heads=set())
    assert found.weights == {"text": 1.0, "picture": 0.05}
    assert found.trusts == {"text": 1.0, "picture": 1.0}


def test_a_head_that_knows_more_than_the_text_is_trusted_as_before() -> None:
    found = proposed(picture_knows=True, by_heads={"picture"})
    assert found.weights["picture"] >= 0.3
    assert found.trusts["picture"] == 1.0
