"""MFCC statistics: torchaudio's own transform, in one pass, is the oracle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torchaudio

from encoders import Encoder, EncoderSpec, encode_all, load_encoder

Save = Callable[..., bytes]
Tone = Callable[..., Any]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder(EncoderSpec(kind="mfcc"), "cpu")


def plain(wave: Any) -> Any:
    """The statistics by torchaudio's transforms on the whole clip."""
    settings = {"n_fft": 512, "hop_length": 160, "n_mels": 64, "f_min": 20.0, "center": False}
    mfcc = torchaudio.transforms.MFCC(16_000, n_mfcc=20, log_mels=True, melkwargs=settings)
    # torchaudio adds less to mel power before the logarithm: nothing shows in loud noise.
    frames = mfcc(torch.from_numpy(wave)).double()
    slopes = torchaudio.functional.compute_deltas(frames)
    parts = [
        frames.mean(1)[1:],
        frames.std(1, unbiased=False),
        slopes.std(1, unbiased=False),
    ]
    return torch.cat(parts).numpy()


@pytest.mark.parametrize("seconds", [0.032, 0.045, 0.5, 29.99, 30.0, 61.7])
def test_statistics_are_torchaudios(encoder: Encoder, clip: Save, seconds: float) -> None:
    wave = np.random.default_rng(0).normal(0, 0.1, round(seconds * 16_000)).astype(np.float32)
    prepared = encoder.prepare("audio", clip(wave, 16_000, "WAV", "FLOAT"))
    assert prepared.dtype == np.float32 and prepared.shape == (encoder.dimension,) == (59,)
    np.testing.assert_allclose(prepared, plain(wave), atol=1e-3)


def test_volume_and_silence(encoder: Encoder, tone: Tone, clip: Save) -> None:
    wave = tone(3, 16_000)
    contents = [
        clip(wave, 16_000, "WAV", "FLOAT"),
        clip(wave * 0.5, 16_000, "WAV", "FLOAT"),
        clip(np.zeros(8_000), 16_000),
        clip(np.array([0.5], dtype=np.float32), 768_000, "WAV", "FLOAT"),
    ]
    loud, quiet, silent, short = encode_all(
        encoder, "audio", [encoder.prepare("audio", c) for c in contents]
    )
    assert loud @ quiet > 0.99 and np.isfinite(silent).all() and np.isfinite(short).all()


def test_sounds_alike_are_near(encoder: Encoder, tone: Tone, clip: Save) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 32_000)
    contents = [
        clip(tone(2, 16_000, 220), 16_000),
        clip(tone(3, 44_100, 222), 44_100, "OGG"),
        clip(tone(2, 16_000, 3000), 16_000),
        clip(noise, 16_000),
    ]
    low, same, high, hiss = encode_all(
        encoder, "audio", [encoder.prepare("audio", c) for c in contents]
    )
    assert low @ same > max(low @ high, low @ hiss) + 0.05
