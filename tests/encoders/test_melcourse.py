"""mel-course: whole-array numpy on torchaudio's own frames is the oracle."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchaudio

from catalens import Query, Retriever, build_index
from encoders import Encoder, EncoderSpec, MediaError, encode_all, load_encoder, mel, melcourse

Save = Callable[..., bytes]
Tone = Callable[..., Any]

RATE = 16_000


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder(EncoderSpec(kind="mel-course"), "cpu")


def encoded(encoder: Encoder, *contents: bytes) -> Any:
    return encode_all(encoder, "audio", [encoder.prepare("audio", c) for c in contents])


def said(word: int, *, pitch: float = 120.0, pace: float = 1.0, tract: float = 1.0) -> Any:
    """A word of six sounds, each a pitch with its overtones, of which two regions are loud, or a
    hiss around one: float32, about 0.6 seconds."""
    sounds = np.random.default_rng(word)
    rng = np.random.default_rng(round(1000 * (pitch + pace)))
    pieces = []
    for _ in range(6):
        first, second = sounds.uniform(300, 900) * tract, sounds.uniform(1000, 3200) * tract
        length = round(RATE * sounds.uniform(0.07, 0.13) / pace)
        hiss = sounds.random() < 0.25
        t = np.arange(length) / RATE
        if hiss:
            spectrum = np.fft.rfft(rng.normal(0, 0.3, length))
            hertz = np.fft.rfftfreq(length, 1 / RATE)
            wave = np.fft.irfft(spectrum * np.exp(-(((hertz - 2 * second) / 700) ** 2)), length)
        else:
            wave = np.zeros(length)
            for overtone in np.arange(pitch, 5000, pitch):
                loud = sum(np.exp(-(((overtone - f) / 180) ** 2)) for f in (first, second))
                wave += (0.02 + loud) * np.sin(2 * np.pi * overtone * t) / 10
        fade = np.minimum(1, np.minimum(np.arange(length), np.arange(length)[::-1]) / 160)
        pieces.append(wave * fade)
    return (np.concatenate(pieces) * 0.5).astype(np.float32)


def plain(wave: Any) -> Any:
    """The course by whole-array calls, segment by segment."""
    mel = torchaudio.transforms.MelSpectrogram(
        RATE, n_fft=512, hop_length=160, n_mels=64, f_min=20.0, center=False
    )
    frames = torch.log(mel(torch.from_numpy(wave)) + 1e-4).double().numpy().T  # (frames, 64)
    decibels = 10 * np.log10(np.exp(frames).mean(axis=1))
    audible = np.flatnonzero(decibels > decibels.max() - 20)
    frames = frames[audible[0] : audible[-1] + 1]
    bands = np.stack([b.mean(axis=1) for b in np.split(frames, _STARTS, axis=1)], axis=1)
    bands -= bands.mean(axis=0)
    # Each frame repeated 24 times: then segments of equal length are whole numbers of rows.
    levels = np.repeat(bands, 24, axis=0).reshape(24, len(bands), 20).mean(axis=1)
    row = np.concatenate([levels + 1e-3, np.gradient(levels, axis=0)], axis=1).ravel()
    return row / np.linalg.norm(row)


_STARTS = [3, 6, 9, 12, 16, 19, 22, 25, 28, 32, 35, 38, 41, 44, 48, 51, 54, 57, 60]


def test_courses_are_those_of_whole_arrays(encoder: Encoder, tone: Tone, clip: Save) -> None:
    waves = [said(1), said(2, pitch=210, pace=1.4), np.tile(said(3), 70)]
    waves += [tone(seconds, RATE) for seconds in (0.032, 0.05, 0.2, 29.99, 61.7)]
    for wave in waves:
        found = encoded(encoder, clip(wave, RATE, "WAV", "FLOAT"))[0]
        assert found.dtype == np.float32 and found.shape == (960,)
        np.testing.assert_allclose(found, plain(wave), atol=1e-5)


def test_silence_around_changes_nothing(encoder: Encoder, clip: Save) -> None:
    word = said(5)
    hush = np.zeros(RATE // 2, dtype=np.float32)  # a whole number of hops: frames lie alike
    waves = ((word,), (hush, word, hush), (hush, hush, hush, word, hush, hush))
    bare, early, late = encoded(encoder, *(clip(np.concatenate(w), RATE) for w in waves))
    np.testing.assert_allclose(early, late, atol=1e-5)
    assert bare @ late > 0.97  # the first and last frames are half silence


def test_volume_changes_nothing_above_the_floor(
    encoder: Encoder, clip: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = [clip(said(5) * gain, RATE, "WAV", "FLOAT") for gain in (1, 0.5)]
    loud, quiet = encoded(encoder, *contents)
    assert loud @ quiet > 0.97  # bands in which there is nothing stay where they are
    monkeypatch.setattr(mel, "FLOOR", 1e-20)
    loud, quiet = encoded(encoder, *contents)
    assert loud @ quiet > 0.99999


def test_pace_voice_and_word(encoder: Encoder, clip: Save) -> None:
    def vectors(**voice: float) -> Any:
        return encoded(encoder, *(clip(said(n, **voice), RATE) for n in range(12)))

    base = vectors()
    own = np.arange(12)
    others = ~np.eye(12, dtype=bool)
    for voice, least in (({"pace": 0.6}, 0.9), ({"pitch": 200.0, "tract": 1.1}, 0.5)):
        found = base @ vectors(**voice).T
        assert np.diag(found).min() > least
        assert (found.argmax(axis=1) == own).all()
        assert abs(found[others].mean()) < 0.2


def test_the_same_sounds_backwards_are_another_course(encoder: Encoder, clip: Save) -> None:
    statistics = load_encoder(EncoderSpec(kind="log-mel"), "cpu")
    contents = clip(said(7), RATE), clip(said(7)[::-1], RATE)
    forwards, backwards = encoded(encoder, *contents)
    assert forwards @ backwards < 0.3
    forwards, backwards = encoded(statistics, *contents)
    assert forwards @ backwards > 0.99


def test_clips_without_a_course_are_alike_and_like_no_other(encoder: Encoder, clip: Save) -> None:
    silent, short, one, word = encoded(
        encoder,
        clip(np.zeros(RATE), RATE),
        clip(np.sin(np.arange(100) / 3), RATE),
        clip(np.array([0.5]), RATE),
        clip(said(4), RATE),
    )
    for steady in (silent, short, one):
        np.testing.assert_allclose(steady.reshape(24, 40)[:, :20], 480**-0.5, rtol=1e-4)
        np.testing.assert_allclose(steady.reshape(24, 40)[:, 20:], 0, atol=1e-6)
        assert abs(steady @ word) < 0.01


def test_long_clips_are_held_in_groups(
    encoder: Encoder, clip: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    wave = np.concatenate([said(n) for n in range(150)])
    content = clip(wave, RATE, "WAV", "FLOAT")
    frames = (len(wave) - 512) // 160 + 1
    exact = encoded(encoder, content)[0]
    for most, least in ((frames + frames % 2, 1 - 1e-6), (4000, 0.9999), (1000, 0.99)):
        monkeypatch.setattr(melcourse, "_MOST_GROUPS", most)
        assert encoded(encoder, content)[0] @ exact > least


def test_half_an_hour_takes_little_memory(encoder: Encoder, clip: Save) -> None:
    rng = np.random.default_rng(0)
    wave = rng.normal(0, 0.1, 8_000 * 1799) * np.linspace(0.5, 1, 8_000 * 1799)
    content = clip(wave, 8_000, "WAV", "PCM_U8")
    del wave
    tracemalloc.start()  # numpy's arrays; torch's are no larger, chunk by chunk
    prepared = encoder.prepare("audio", content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    levels = prepared.reshape(24, 40)[:, :20].mean(axis=1)
    assert (np.diff(levels) > 0).all()  # ever louder
    assert peak < 45e6  # the clip is 115 MB at 16 kHz


def test_overflowing_power_is_bad_media(clip: Save) -> None:
    content = clip(np.full(RATE, 1e25), RATE, "WAV", "FLOAT")
    for kind in ("mel-course", "log-mel"):
        with pytest.raises(MediaError, match="1e\\+25"):
            load_encoder(EncoderSpec(kind=kind), "cpu").prepare("audio", content)


def test_fingerprints(encoder: Encoder) -> None:
    statistics = load_encoder(EncoderSpec(kind="log-mel"), "cpu")
    assert encoder.fingerprint("audio") != statistics.fingerprint("audio")
    # Indexes and embedding caches out there know it by this.
    assert statistics.fingerprint("audio") == "a327242de6c615722be9975d8528416d"


def test_a_word_is_found_in_another_voice(clip: Save, tmp_path: Path) -> None:
    words = range(40)
    rows = []
    for word in words:
        voices = [
            clip(said(word, pitch=pitch, pace=pace), RATE)
            for pitch, pace in ((110.0, 1.0), (135.0, 0.8))
        ]
        names = [f"{word}-{n}.wav" for n in range(len(voices))]
        for name, content in zip(names, voices, strict=True):
            (tmp_path / name).write_bytes(content)
        rows.append({"id": str(word), "audio": names})
    index = tmp_path / "index"
    build_index(rows, index, preset="spoken", device="cpu", media_root=tmp_path)
    with Retriever.open(index, device="cpu") as shop:
        heard = [clip(said(n, pitch=205.0, pace=1.3, tract=1.12), RATE) for n in words]
        recall = {}
        for way, weights in {"course": {"log-mel": 0}, "statistics": {"course": 0}}.items():
            answers = shop.search_many([Query(audio=one, weights=weights) for one in heard], 1)
            recall[way] = np.mean([hits[0].id == str(n) for n, hits in enumerate(answers)])
    assert recall["course"] >= 0.9
    assert recall["course"] > recall["statistics"]
