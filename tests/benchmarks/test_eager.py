"""The default encoders beside torch, on inputs that a test can afford."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.eager import SIDES, compare
from benchmarks.encoding import default_encoder
from benchmarks.encoding_inputs import Inputs
from tests.catalogs import png


@pytest.fixture(params=["text", "image"])
def inputs(request: pytest.FixtureRequest, tmp_path: Path) -> Inputs:
    """Inputs of one modality, more than one batch."""
    if request.param == "text":
        texts = [f"a {'very ' * n}small ship" for n in range(20)]
        return Inputs("ships", "text", "text", texts, None, {})
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{n}.png" for n in range(5)]
    for path in paths:
        path.write_bytes(png(rng, 64))
    return Inputs("colours", "image", "image", paths, tmp_path, {})


def test_both_sides_give_unit_vectors_in_the_order_given(inputs: Inputs) -> None:
    sides = SIDES[inputs.modality](default_encoder(inputs.modality), inputs)
    ours, torch = sides.ours(), sides.torch()
    assert ours.shape == torch.shape and len(ours) == len(inputs.values)
    for vectors in (ours, torch):
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    cosines = ours @ torch.T
    assert cosines.argmax(axis=1).tolist() == list(range(len(ours)))


def test_compares_speed_and_vectors(inputs: Inputs) -> None:
    figures, (speed, cosine) = compare(default_encoder(inputs.modality), inputs, rounds=1)
    rates = figures["per_second"]
    assert figures["speed_up"] == pytest.approx(rates["ours"] / rates["torch"], rel=0.01)
    assert speed.met == (figures["speed_up"] >= (3 if inputs.modality == "text" else 4))
    assert cosine.met and figures["least_cosine"] >= 0.995
