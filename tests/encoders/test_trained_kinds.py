"""`cnn` and `mel-lstm`, fitted on small catalogs: they learn, repeat themselves, and refuse."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from encoders import (
    EncoderSpec,
    EncoderStateError,
    FitError,
    FitTask,
    NotFittedError,
    State,
    encode_all,
    fit_encoder,
    load_encoder,
)
from indexer.progress import Silent

Save = Callable[..., bytes]
MODALITY = {"cnn": "image", "mel-lstm": "audio"}


class StoppedError(Exception):
    """Ends a training from within its progress."""


class StopsInTraining(Silent):
    """Stops a few steps after the second epoch has begun."""

    def __init__(self) -> None:
        self._left: int | None = None

    def start(self, stage: str, total: int | None) -> None:
        """Begin to count where training begins."""
        if stage.startswith("train"):
            self._left = 11

    def advance(self, steps: int) -> None:
        """Count down."""
        if self._left is not None:
            self._left -= steps
            if self._left < 0:
                raise StoppedError


@pytest.fixture(scope="module")
def inputs(saved: Save, clip: Save) -> dict[str, list[bytes]]:
    """Drawings of squares, and tones that rise, each unlike the others."""
    rng = np.random.default_rng(0)
    drawings, tones = [], []
    for _ in range(40):
        pixels = np.full((40, 48, 3), 255, np.uint8)
        for _ in range(3):
            left, top = rng.integers(0, 30, 2)
            pixels[top : top + 10, left : left + 14] = rng.integers(0, 255, 3)
        drawings.append(saved(Image.fromarray(pixels), "PNG"))
        t = np.arange(round(rng.uniform(0.3, 0.8) * 16_000)) / 16_000
        steps = np.repeat(rng.uniform(150, 4000, 8), len(t) // 8 + 1)[: len(t)]
        tones.append(clip(0.3 * np.sin(2 * np.pi * np.cumsum(steps) / 16_000), 16_000))
    return {"cnn": [*drawings, b"no picture"], "mel-lstm": [*tones, b"no sound"]}


def spec(kind: str, **options: Any) -> EncoderSpec:
    small = {"side": 32} if kind == "cnn" else {}
    return EncoderSpec.model_validate({"kind": kind, "epochs": 3, **small, **options})


def fit(folder: Path, one: EncoderSpec, inputs: list[bytes], progress: Any = None) -> State:
    folder.mkdir(exist_ok=True)
    task = FitTask(folder, progress or Silent(), "cpu")
    return fit_encoder(one, MODALITY[one.kind], inputs, task)


@pytest.mark.parametrize("kind", MODALITY)
def test_a_fit_can_be_stopped_saved_and_used(
    kind: str, inputs: dict[str, list[bytes]], tmp_path: Path
) -> None:
    given = inputs[kind]
    state = fit(tmp_path / "whole", spec(kind), given)
    with pytest.raises(StoppedError):
        fit(tmp_path / "stopped", spec(kind), given, StopsInTraining())
    resumed = fit(tmp_path / "stopped", spec(kind), given)
    assert resumed.digest == state.digest
    encoder = load_encoder(spec(kind), "cpu", state=State.load(state.dump()))
    modality = MODALITY[kind]
    prepared = [encoder.prepare(modality, one) for one in given[:6]]
    found = encode_all(encoder, modality, prepared)
    assert found.shape == (6, encoder.dimension) and found.dtype == np.float32
    alone = np.concatenate([encoder.encode(modality, [one]) for one in prepared])
    np.testing.assert_allclose(found, alone, atol=1e-5)
    again = load_encoder(spec(kind), "cpu", state=resumed)
    assert again.fingerprint(modality) == encoder.fingerprint(modality)
    untrained = fit(tmp_path / "untrained", spec(kind, epochs=0), given)
    assert untrained.digest != state.digest


@pytest.mark.parametrize("kind", MODALITY)
def test_training_lowers_the_loss_of_what_was_held_out(
    kind: str, inputs: dict[str, list[bytes]], tmp_path: Path
) -> None:
    state = fit(tmp_path / "long", spec(kind, epochs=12), inputs[kind])
    losses = state.setting("losses", list)
    assert min(losses) < losses[0] - 0.2
    assert state.setting("held_out", int) + state.setting("learned_from", int) == 40


@pytest.mark.parametrize("kind", MODALITY)
def test_too_few_inputs(kind: str, inputs: dict[str, list[bytes]], tmp_path: Path) -> None:
    with pytest.raises(FitError, match=r"at least 16 .*; got 5 of 5 .*a larger catalog"):
        fit(tmp_path / "few", spec(kind), inputs[kind][:5])
    with pytest.raises(FitError, match="got 0 of 20"):
        fit(tmp_path / "few", spec(kind), [b"bad"] * 20)


@pytest.mark.parametrize("kind", MODALITY)
def test_states_of_something_else(kind: str) -> None:
    with pytest.raises(NotFittedError):
        load_encoder(spec(kind), "cpu")
    with pytest.raises(EncoderStateError):
        load_encoder(spec(kind), "cpu", state=State({"a": np.zeros(3, dtype=np.float32)}))


def test_a_clip_of_many_windows_is_their_mean(
    inputs: dict[str, list[bytes]], tmp_path: Path, clip: Save
) -> None:
    state = fit(tmp_path / "lstm", spec("mel-lstm", epochs=0), inputs["mel-lstm"])
    encoder = load_encoder(spec("mel-lstm", epochs=0), "cpu", state=state)
    rng = np.random.default_rng(3)
    parts = [rng.normal(0, 0.1 * k, 64_000).astype(np.float32) for k in (1, 2)]
    long = encoder.prepare("audio", clip(np.concatenate(parts), 16_000, "WAV", "FLOAT"))
    assert [len(window) for window in long] == [198, 198]
    windows = [encoder.encode("audio", [[window]])[0] for window in long]
    mean = encoder.encode("audio", [long])[0]
    # The mean of what the network gives, whose lengths differ little.
    assert mean @ (windows[0] + windows[1]) / np.linalg.norm(windows[0] + windows[1]) > 0.999
