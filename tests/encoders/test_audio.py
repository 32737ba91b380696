"""Clips of every format: counted, checked, mono, resampled as torchaudio does in one pass."""

from __future__ import annotations

import struct
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import torchaudio.functional

from encoders import (
    EmptyMediaError,
    Limits,
    MediaTooLargeError,
    MediaTooLongError,
    UndecodableMediaError,
)
from encoders.audio import audio_blocks, decode_audio

Save = Callable[..., bytes]
Tone = Callable[..., Any]


@pytest.mark.parametrize(
    "form, subtype, bound",
    [
        ("WAV", "PCM_16", 1e-4),
        ("WAV", "PCM_U8", 2e-2),
        ("WAV", "FLOAT", 0),
        ("WAV", "MS_ADPCM", 0.05),
        ("WAVEX", "PCM_24", 1e-6),
        ("RF64", "PCM_16", 1e-4),
        ("FLAC", "PCM_16", 1e-4),
        ("OGG", "VORBIS", 0.1),
        ("OGG", "OPUS", 0.2),
        ("MP3", "MPEG_LAYER_III", 0.1),
    ],
)
def test_formats(clip: Save, tone: Tone, form: str, subtype: str, bound: float) -> None:
    wave = tone(1.5, 16_000)
    found = decode_audio(clip(wave, 16_000, form, subtype), sample_rate=16_000)
    assert found.dtype == np.float32 and found.ndim == 1
    assert abs(len(found) - len(wave)) <= (3000 if form == "MP3" else 600 if bound > 0.01 else 0)
    n = min(len(found), len(wave)) - 200
    shift = 0
    if form == "MP3":  # the coder's delay
        shift = int(np.argmax(np.correlate(found, wave[:8000], "valid")[:3000]))
        n = min(n, len(found) - shift)
    assert np.abs(found[shift : shift + n] - wave[:n]).mean() <= bound / 4


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("target", [16_000, 48_000])
def test_resampling_is_torchaudios(clip: Save, tone: Tone, rate: int, target: int) -> None:
    wave = tone(47.3, rate)  # several blocks, and a remainder
    found = decode_audio(clip(wave, rate, "WAV", "FLOAT"), sample_rate=target)
    expected = torchaudio.functional.resample(torch.from_numpy(wave), rate, target).numpy()
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_odd_rates_take_no_gigabytes(clip: Save, tone: Tone) -> None:
    # torchaudio's own filter for 44,101 : 16,000 would be 16,000 x 44,200 values.
    found = decode_audio(clip(tone(2, 44_101), 44_101), sample_rate=16_000)
    assert abs(len(found) - 32_000) <= 1
    expected = tone(2, 16_000)
    assert np.corrcoef(found[:32_000], expected)[0, 1] > 0.99


def test_channels_are_averaged(clip: Save) -> None:
    stereo = np.stack([np.full(1000, 0.5), np.full(1000, -0.25)], axis=1)
    np.testing.assert_allclose(decode_audio(clip(stereo, 16_000, "WAV", "FLOAT")), 0.125)


def test_blocks_are_bounded(clip: Save) -> None:
    content = clip(np.zeros(8_000 * 600, dtype=np.float32), 8_000, "FLAC")
    blocks = list(audio_blocks(content, sample_rate=16_000))
    assert sum(map(len, blocks)) == 16_000 * 600
    assert max(map(len, blocks)) <= 16_000 * 40


def test_length_is_counted(clip: Save, tone: Tone) -> None:
    content = clip(tone(10, 8_000), 8_000, "FLAC")
    assert len(decode_audio(content, Limits(max_seconds=10), 8_000)) == 80_000
    with pytest.raises(MediaTooLongError, match=r"at most 9\.9 seconds"):
        decode_audio(content, Limits(max_seconds=9.9), 8_000)
    with pytest.raises(MediaTooLargeError, match="at most 100 bytes"):
        decode_audio(content, Limits(max_bytes=100))


def flac_saying(content: bytes, samples: int) -> bytes:
    """Change the length a FLAC file gives: 36 bits of its first block, 0 for unknown."""
    lying = bytearray(content)
    lying[21] = lying[21] & 0xF0 | samples >> 32
    lying[22:26] = struct.pack(">I", samples & 0xFFFFFFFF)
    with soundfile.SoundFile(BytesIO(bytes(lying))) as sound:
        assert sound.frames == samples or samples == 0
    return bytes(lying)


@pytest.mark.parametrize("samples", [0, 2**36 - 1])
def test_headers_that_lie(clip: Save, tone: Tone, samples: int) -> None:
    wave = tone(10, 8_000)
    content = flac_saying(clip(wave, 8_000, "FLAC"), samples)
    np.testing.assert_allclose(decode_audio(content, sample_rate=8_000), wave, atol=1e-4)
    with pytest.raises(MediaTooLongError, match=r"at most 9\.9 seconds"):
        decode_audio(content, Limits(max_seconds=9.9), 8_000)


def test_what_is_refused(clip: Save, tone: Tone, photo: Any, saved: Save) -> None:
    for content in (b"", clip(np.zeros(0), 16_000), clip(np.zeros(0), 16_000, "FLAC")):
        with pytest.raises(EmptyMediaError):
            decode_audio(content)
    for value in (np.nan, np.inf):
        wave = tone(1, 16_000)
        wave[777] = value
        with pytest.raises(UndecodableMediaError, match="NaN or infinite"):
            decode_audio(clip(wave, 16_000, "WAV", "FLOAT"))
    wave = tone(1, 16_000)
    for content in (
        saved(photo, "PNG"),
        b"not sound at all",
        clip(wave, 16_000, "AIFF"),
        clip(wave, 16_000, "AU"),
        clip(wave, 10),
        clip(wave, 2_000_000),
    ):
        with pytest.raises(UndecodableMediaError):
            decode_audio(content)
