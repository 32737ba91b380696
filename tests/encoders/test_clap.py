"""CLAP towers, loaded from a small checkpoint on disk by the path a user takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from encoders import Encoder, EncoderSpec, ModelLoadError, encode_all, load_encoder
from encoders.windows import windows_of
from tests.checkpoints import tiny_clap

Save = Callable[..., bytes]
Tone = Callable[..., Any]
TEXTS = ["a dog barks", "quiet piano", "rain on a tin roof, and thunder far away " * 40]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_clap(tmp_path_factory.mktemp("clap"))


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Encoder:
    return load(folder)


def load(folder: Path | str) -> Encoder:
    return load_encoder(EncoderSpec.model_validate({"kind": "clap", "model": str(folder)}), "cpu")


@pytest.fixture(scope="module")
def oracle(folder: Path) -> tuple[Any, Any, Any]:
    from transformers import AutoTokenizer, ClapFeatureExtractor, ClapModel

    return (
        ClapModel.from_pretrained(folder).eval(),
        ClapFeatureExtractor.from_pretrained(folder),
        AutoTokenizer.from_pretrained(folder),
    )


def test_text_is_transformers_own_call(encoder: Encoder, oracle: tuple[Any, Any, Any]) -> None:
    model, _, tokenizer = oracle
    inputs = tokenizer(TEXTS, padding=True, truncation=True, max_length=64, return_tensors="pt")
    with torch.inference_mode():
        expected = model.get_text_features(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]
        ).pooler_output.numpy()
    found = encode_all(encoder, "text", [encoder.prepare("text", t.encode()) for t in TEXTS])
    assert found.shape == (3, 40)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_audio_is_transformers_own_call(
    encoder: Encoder, oracle: tuple[Any, Any, Any], tone: Tone, clip: Save
) -> None:
    model, extractor, _ = oracle
    waves = [tone(2, 48_000, 300), tone(10, 48_000, 900), tone(0.05, 48_000, 2000)]
    with torch.inference_mode():
        inputs = extractor(waves, sampling_rate=48_000, return_tensors="pt")
        expected = model.get_audio_features(**inputs).pooler_output.numpy()
    contents = [clip(wave, 48_000, "WAV", "FLOAT") for wave in waves]
    found = encode_all(encoder, "audio", [encoder.prepare("audio", c) for c in contents])
    assert found.shape == (3, 40) and found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_long_clip_is_the_mean_of_its_windows_and_no_lottery(
    encoder: Encoder, oracle: tuple[Any, Any, Any], tone: Tone, clip: Save
) -> None:
    model, extractor, _ = oracle
    parts = [tone(10, 48_000, hertz) for hertz in (300, 900, 2700)]
    wave = np.concatenate([*parts, tone(5, 48_000)])
    content = clip(wave, 48_000, "WAV", "FLOAT")
    once, again = (encoder.encode("audio", [encoder.prepare("audio", content)]) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    with torch.inference_mode():
        inputs = extractor(
            list(wave[: 3 * 480_000].reshape(3, -1)), sampling_rate=48_000, return_tensors="pt"
        )
        mean = model.get_audio_features(**inputs).pooler_output.numpy().mean(axis=0)
    np.testing.assert_allclose(once[0], mean / np.linalg.norm(mean), atol=1e-4)
    # Clips of several windows and of one share batches without mixing.
    short = encoder.prepare("audio", clip(tone(1, 48_000, 700), 48_000))
    alone = encoder.encode("audio", [short])
    mixed = encode_all(encoder, "audio", [short, encoder.prepare("audio", content), short])
    np.testing.assert_allclose(mixed, np.concatenate([alone, once, alone]), atol=1e-5)


def test_windows_are_spread_in_bounded_memory() -> None:
    def blocks(samples: int) -> Any:
        for start in range(0, samples, 7):
            yield np.arange(start, min(start + 7, samples), dtype=np.float32)

    for samples in (100, 1000, 12_345):
        windows = windows_of(blocks(samples), 10)
        starts = [int(window[0]) for window in windows]
        assert 4 <= len(windows) <= 8 and all(len(window) == 10 for window in windows)
        steps = set(np.diff(starts).tolist())
        assert starts[0] == 0 and len(steps) == 1
        assert starts[-1] + steps.pop() + 10 > samples - 10
    assert [len(window) for window in windows_of(blocks(9), 10)] == [9]


def test_fusion_models_are_deterministic(tmp_path: Path, tone: Tone, clip: Save) -> None:
    encoder = load(tiny_clap(tmp_path, fusion=True))
    content = clip(tone(12, 48_000), 48_000)
    once, again = (encoder.encode("audio", [encoder.prepare("audio", content)]) for _ in range(2))
    np.testing.assert_array_equal(once, again)


def test_fingerprints(encoder: Encoder, folder: Path) -> None:
    assert encoder.fingerprint("audio") != encoder.fingerprint("text")
    assert load(folder).fingerprint("audio") == encoder.fingerprint("audio")


def test_models_that_do_not_load(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="CLAP model"):
        load("no/such/folder")
    with pytest.raises(ModelLoadError, match="CLAP model"):
        load(tmp_path)
