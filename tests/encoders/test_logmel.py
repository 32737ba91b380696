"""log-mel statistics: torchaudio's own transform, in one pass, is the oracle."""

from __future__ import annotations

import tracemalloc
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
    return load_encoder(EncoderSpec(kind="log-mel"), "cpu")


def encoded(encoder: Encoder, *contents: bytes) -> Any:
    return encode_all(encoder, "audio", [encoder.prepare("audio", c) for c in contents])


def plain(wave: Any) -> Any:
    """The statistics by whole-array calls of torchaudio."""
    mel = torchaudio.transforms.MelSpectrogram(
        16_000, n_fft=512, hop_length=160, n_mels=64, f_min=20.0, center=False
    )
    frames = torch.log(mel(torch.from_numpy(wave)) + 1e-4).double().numpy()  # (64, frames)
    mean = frames.mean(axis=1)
    changes = np.abs(np.diff(frames, axis=1))
    change = changes.mean(axis=1) if changes.size else np.zeros(64)
    row = np.concatenate([mean - mean.mean(), 2 * frames.std(axis=1), 4 * change])
    return row / np.linalg.norm(row)


@pytest.mark.parametrize("seconds", [0.032, 0.5, 29.99, 30.0, 61.7, 100.003])
def test_statistics_are_torchaudios(
    encoder: Encoder, tone: Tone, clip: Save, seconds: float
) -> None:
    wave = tone(seconds, 16_000)
    found = encoded(encoder, clip(wave, 16_000, "WAV", "FLOAT"))[0]
    assert found.dtype == np.float32 and found.shape == (192,)
    np.testing.assert_allclose(found, plain(wave), atol=1e-5)


def test_other_rates(encoder: Encoder, tone: Tone, clip: Save) -> None:
    wave = tone(50, 44_100)
    expected = plain(torchaudio.functional.resample(torch.from_numpy(wave), 44_100, 16_000).numpy())
    found = encoded(encoder, clip(wave, 44_100, "WAV", "FLOAT"))[0]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_clip_shorter_than_a_frame_is_repeated(encoder: Encoder, clip: Save) -> None:
    wave = np.sin(np.arange(100) / 3).astype(np.float32)
    found = encoded(encoder, clip(wave, 16_000, "WAV", "FLOAT"))[0]
    np.testing.assert_allclose(found, plain(np.resize(wave, 512)), atol=1e-5)
    one = encoded(encoder, clip(np.array([0.5], dtype=np.float32), 768_000, "WAV", "FLOAT"))
    assert np.isfinite(one).all()


def test_silence_and_volume(encoder: Encoder, tone: Tone, clip: Save) -> None:
    silent = encoded(encoder, clip(np.zeros(16_000), 16_000))
    assert np.isfinite(silent).all() and np.linalg.norm(silent) == pytest.approx(1)
    wave = tone(3, 16_000)
    loud, quiet = encoded(
        encoder, clip(wave, 16_000, "WAV", "FLOAT"), clip(wave * 0.25, 16_000, "WAV", "FLOAT")
    )
    assert loud @ quiet > 0.999


def test_sounds_alike_are_near(encoder: Encoder, tone: Tone, clip: Save) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 32_000)
    low, same, high, hiss = encoded(
        encoder,
        clip(tone(2, 16_000, 220), 16_000),
        clip(tone(3, 44_100, 222), 44_100, "OGG"),
        clip(tone(2, 16_000, 3000), 16_000),
        clip(noise, 16_000),
    )
    assert low @ same > max(low @ high, low @ hiss) + 0.1


def test_an_hour_takes_little_memory(encoder: Encoder, clip: Save) -> None:
    content = clip(np.random.default_rng(0).normal(0, 0.1, 8_000 * 3599), 8_000, "WAV", "PCM_U8")
    tracemalloc.start()  # numpy's arrays; torch's are no larger, chunk by chunk
    prepared = encoder.prepare("audio", content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert prepared.shape == (192,)
    assert peak < 40e6  # the clip is 230 MB at 16 kHz
