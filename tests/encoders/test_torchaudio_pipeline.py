"""Speech models of torchaudio, from a small checkpoint that its own factory made."""

from __future__ import annotations

import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchaudio
from torchaudio.pipelines import Wav2Vec2Bundle

from encoders import Encoder, EncoderSpec, ModelLoadError, encode_all, load_encoder

Save = Callable[..., bytes]
Tone = Callable[..., Any]

TINY: dict[str, Any] = {
    "extractor_mode": "group_norm",
    "extractor_conv_layer_config": [(16, 10, 5), (16, 3, 2), (16, 3, 4), (16, 2, 4)],
    "extractor_conv_bias": False,
    "encoder_embed_dim": 24,
    "encoder_projection_dropout": 0.1,
    "encoder_pos_conv_kernel": 8,
    "encoder_pos_conv_groups": 4,
    "encoder_num_layers": 3,
    "encoder_num_heads": 4,
    "encoder_attention_dropout": 0.1,
    "encoder_ff_interm_features": 32,
    "encoder_ff_interm_dropout": 0.0,
    "encoder_dropout": 0.1,
    "encoder_layer_norm_first": False,
    "encoder_layer_drop": 0.05,
    "aux_num_out": None,
}


@pytest.fixture(autouse=True)
def bundles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two small bundles among torchaudio's own; one normalises its input."""
    for name, normalises in (("TINY", False), ("TINY_NORMAL", True)):
        bundle = Wav2Vec2Bundle("tiny.pth", TINY, 16_000, normalises, "Wav2Vec2")
        monkeypatch.setattr(torchaudio.pipelines, name, bundle, raising=False)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("pipeline") / "weights.pth"
    torch.save(torchaudio.models.wav2vec2_model(**TINY).state_dict(), path)
    return str(path)


def load(bundle: str, checkpoint: str | None, **options: Any) -> Encoder:
    given = {"kind": "torchaudio-pipeline", "bundle": bundle, "checkpoint": checkpoint, **options}
    return load_encoder(EncoderSpec.model_validate(given), "cpu")


def plain(checkpoint: str, wave: Any, layer: int, *, normalises: bool) -> Any:
    model = torchaudio.models.wav2vec2_model(**TINY).eval()
    model.load_state_dict(torch.load(checkpoint, weights_only=True))
    inputs = torch.from_numpy(wave)[None]
    if normalises:
        inputs = torch.nn.functional.layer_norm(inputs, inputs.shape)
    with torch.inference_mode():
        layers, _ = model.extract_features(inputs)
    return layers[layer - 1][0].mean(0).numpy()


@pytest.mark.parametrize(("bundle", "normalises"), [("TINY", False), ("TINY_NORMAL", True)])
@pytest.mark.parametrize("layer", [None, 1])
def test_vectors_are_torchaudios_own_in_any_batch(
    checkpoint: str, tone: Tone, clip: Save, bundle: str, normalises: bool, layer: int | None
) -> None:
    encoder = load(bundle, checkpoint, layer=layer)
    waves = [tone(1, 16_000, 300), tone(0.4, 16_000, 900), tone(1, 16_000, 2000)]
    contents = [clip(wave, 16_000, "WAV", "FLOAT") for wave in waves]
    found = encode_all(encoder, "audio", [encoder.prepare("audio", c) for c in contents])
    assert found.shape == (3, 24)
    for vector, wave in zip(found, waves, strict=True):
        expected = plain(checkpoint, wave, layer or 3, normalises=normalises)
        np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), atol=1e-5)


def test_a_long_clip_is_the_mean_of_its_windows(checkpoint: str, tone: Tone, clip: Save) -> None:
    encoder = load("TINY", checkpoint)
    wave = np.concatenate([tone(10, 16_000, hertz) for hertz in (300, 900, 2700)])
    found = encoder.encode("audio", [encoder.prepare("audio", clip(wave, 16_000, "WAV", "FLOAT"))])
    parts = [plain(checkpoint, part, 3, normalises=False) for part in wave.reshape(3, -1)]
    mean = np.mean(parts, axis=0)
    np.testing.assert_allclose(found[0], mean / np.linalg.norm(mean), atol=1e-5)
    short = encoder.prepare("audio", clip(tone(0.001, 16_000), 16_000))
    assert np.isfinite(encoder.encode("audio", [short])).all()


def test_fingerprints(checkpoint: str) -> None:
    kinds = [load("TINY", checkpoint), load("TINY_NORMAL", checkpoint)]
    kinds.append(load("TINY", checkpoint, layer=1))
    assert len({one.fingerprint("audio") for one in kinds}) == 3
    assert load("TINY", checkpoint, layer=3).fingerprint("audio") == kinds[0].fingerprint("audio")


def test_what_does_not_load(checkpoint: str, tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="a bundle such as HUBERT_BASE"):
        load("HUBBERT_BASE", None)
    with pytest.raises(ModelLoadError, match="no such file"):
        load("TINY", str(tmp_path / "none.pth"))
    with pytest.raises(ModelLoadError, match=r"Missing key|size mismatch"):
        torch.save({"encoder.weight": torch.zeros(3)}, tmp_path / "other.pth")
        load("TINY", str(tmp_path / "other.pth"))
    with pytest.raises(ModelLoadError, match="expected 1 to 3; got 7"):
        load("TINY", checkpoint, layer=7)


def test_a_download_that_fails_tells_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: Any, **__: Any) -> Any:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(
        "torchaudio.pipelines._wav2vec2.utils.load_state_dict_from_url", unreachable
    )
    with pytest.raises(ModelLoadError, match="give their file as 'checkpoint'"):
        load("HUBERT_BASE", None)
