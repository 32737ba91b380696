"""open_clip towers, loaded from a small checkpoint on disk by the path a user takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from encoders import EncoderPool, EncoderSpec, ModelLoadError, encode_all, load_encoder
from tests.checkpoints import CLIP_CONFIG, tiny_open_clip

TEXTS = ["a red shoe", "Größe 42", "an album of quiet piano " * 40]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_open_clip(tmp_path_factory.mktemp("clip"))


def spec(folder: Path) -> EncoderSpec:
    return EncoderSpec.model_validate({"kind": "open-clip", "model": f"local-dir:{folder}"})


@pytest.fixture(scope="module")
def oracle(folder: Path) -> tuple[Any, Any, Any]:
    import open_clip

    name = f"local-dir:{folder}"
    model, _, transform = open_clip.create_model_and_transforms(name)
    return model.eval(), transform, open_clip.get_tokenizer(name)


def test_towers_are_open_clips_own_calls(
    folder: Path, oracle: tuple[Any, Any, Any], photo: Image.Image, saved: Callable[..., bytes]
) -> None:
    encoder = load_encoder(spec(folder), "cpu")
    assert encoder.dimension == 48 and encoder.modalities == ("image", "text")
    model, transform, tokenizer = oracle
    pictures = [photo.crop((0, 0, 200 + 40 * i, 180 + 10 * i)) for i in range(4)]
    with torch.inference_mode():
        images = model.encode_image(torch.stack([transform(p) for p in pictures]), normalize=True)
        texts = model.encode_text(tokenizer(TEXTS), normalize=True)
    contents = [saved(picture, "PNG") for picture in pictures]
    found = encode_all(encoder, "image", [encoder.prepare("image", c) for c in contents])
    np.testing.assert_allclose(found, images.numpy(), atol=1e-5)
    found = encode_all(encoder, "text", [encoder.prepare("text", t.encode()) for t in TEXTS])
    np.testing.assert_allclose(found, texts.numpy(), atol=1e-5)
    assert encoder.encode("text", []).shape == encoder.encode("image", []).shape == (0, 48)


def test_large_pictures_are_reduced_early_and_keep_their_vector(
    folder: Path, oracle: tuple[Any, Any, Any], photo: Image.Image, saved: Callable[..., bytes]
) -> None:
    encoder = load_encoder(spec(folder), "cpu")
    model, transform, _ = oracle
    large = photo.resize((1600, 1200), Image.Resampling.BICUBIC)
    with torch.inference_mode():
        expected = model.encode_image(transform(large)[None], normalize=True).numpy()[0]
    found = encoder.encode("image", [encoder.prepare("image", saved(large, "PNG"))])[0]
    assert found @ expected >= 0.9995


def test_towers_share_one_model(folder: Path) -> None:
    pool = EncoderPool("cpu")
    encoder = pool.get(spec(folder))
    assert encoder is pool.get(spec(folder))
    assert encoder.fingerprint("image") != encoder.fingerprint("text")


def test_fingerprint_is_of_the_weights(folder: Path, tmp_path: Path) -> None:
    import open_clip

    model = open_clip.create_model(f"local-dir:{folder}")
    (tmp_path / "open_clip_config.json").write_text((folder / "open_clip_config.json").read_text())
    torch.save(model.state_dict(), tmp_path / "open_clip_pytorch_model.bin")
    first = load_encoder(spec(folder), "cpu").fingerprint("text")
    assert load_encoder(spec(tmp_path), "cpu").fingerprint("text") == first
    state = model.state_dict()
    state["text_projection"] = state["text_projection"] * 1.001
    torch.save(state, tmp_path / "open_clip_pytorch_model.bin")
    assert load_encoder(spec(tmp_path), "cpu").fingerprint("text") != first


def test_a_named_model_with_a_checkpoint_file(folder: Path, tmp_path: Path) -> None:
    import open_clip

    (tmp_path / "tiny-test.json").write_text(json.dumps(CLIP_CONFIG))
    open_clip.add_model_config(tmp_path / "tiny-test.json")
    options = {
        "kind": "open-clip",
        "model": "tiny-test",
        "pretrained": str(folder / "open_clip_model.safetensors"),
    }
    encoder = load_encoder(EncoderSpec.model_validate(options), "cpu")
    assert encoder.fingerprint("text") == load_encoder(spec(folder), "cpu").fingerprint("text")


def test_models_that_do_not_load(folder: Path, tmp_path: Path) -> None:
    def load(**options: str) -> Any:
        return load_encoder(EncoderSpec.model_validate({"kind": "open-clip", **options}), "cpu")

    for options in (
        {"model": "no-such-model"},
        {"model": "local-dir:/no/such/folder"},
        {"model": "ViT-S-32", "pretrained": "no-such-tag"},
    ):
        with pytest.raises(ModelLoadError, match="open_clip model"):
            load(**options)
    # A folder without weights must not come up with random ones.
    (tmp_path / "open_clip_config.json").write_text((folder / "open_clip_config.json").read_text())
    with pytest.raises(ModelLoadError, match="could not be loaded"):
        load(model=f"local-dir:{tmp_path}")
    # Nor may a checkpoint run code.
    marker = tmp_path / "ran"
    torch.save({"x": Evil(str(marker))}, tmp_path / "open_clip_pytorch_model.bin")
    with pytest.raises(ModelLoadError):
        load(model=f"local-dir:{tmp_path}")
    assert not marker.exists()


class Evil:
    """Unpickling it creates a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")
