"""EfficientNet-Lite0: the tuned network is the plain one, and pictures are padded, not cut."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from encoders import Encoder, EncoderSpec, ModelLoadError, encode_all, load_encoder
from encoders.efficientnet import EfficientNetLiteEncoder, load_network


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder(EncoderSpec(kind="efficientnet-lite"), "cpu")


@pytest.fixture(scope="module")
def pictures(photo: Image.Image) -> list[Image.Image]:
    shapes = [(400, 300), (300, 400), (60, 300), (224, 224), (1, 1), (399, 7)]
    return [photo.rotate(15 * i).resize(shape) for i, shape in enumerate(shapes)]


def test_tuned_is_the_plain_network(
    encoder: Encoder, pictures: list[Image.Image], saved: Callable[..., bytes]
) -> None:
    assert isinstance(encoder, EfficientNetLiteEncoder)
    prepared = [encoder.prepare("image", saved(picture, "PNG")) for picture in pictures]
    found = encode_all(encoder, "image", prepared)
    network = load_network(encoder.weights)
    with torch.inference_mode():
        inputs = torch.from_numpy(np.stack(prepared)).permute(0, 3, 1, 2).contiguous()
        features = network.extract_features(inputs.float() / 127.5 - 1).mean((2, 3)).numpy()
    expected = features / np.linalg.norm(features, axis=1, keepdims=True)
    assert found.shape == (6, 1280) and found.dtype == np.float32
    assert (found * expected).sum(axis=1).min() >= 0.9999
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert encoder.encode("image", []).shape == (0, 1280)


def test_the_weights_see(encoder: Encoder, saved: Callable[..., bytes]) -> None:
    """Two drawings of like things are nearer than two of unlike ones."""
    from PIL import ImageDraw

    def drawn(shape: str, colour: str, offset: int) -> Any:
        picture = Image.new("RGB", (300, 300), "white")
        box = (60 + offset, 60, 220 + offset, 220)
        getattr(ImageDraw.Draw(picture), shape)(box, fill=colour)
        return encoder.prepare("image", saved(picture, "PNG"))

    rows = encoder.encode(
        "image",
        [drawn("ellipse", "red", 0), drawn("ellipse", "red", 20), drawn("rectangle", "blue", 0)],
    )
    assert rows[0] @ rows[1] > rows[0] @ rows[2] + 0.05


def test_padding_keeps_everything(encoder: Encoder, saved: Callable[..., bytes]) -> None:
    tall = Image.new("RGB", (100, 400), "black")
    tall.paste((255, 0, 0), (0, 0, 100, 40))
    prepared = encoder.prepare("image", saved(tall, "PNG"))
    assert prepared.shape == (224, 224, 3) and prepared.dtype == np.uint8
    assert (prepared[:, :80] == 255).all() and (prepared[:, -80:] == 255).all()
    assert prepared[5, 112].tolist() == [255, 0, 0]  # the very top is still there
    assert prepared[220, 112].tolist() == [0, 0, 0]


def test_fingerprint_is_stable() -> None:
    # Changes only with the weights, the transform or `revision`: then caches are void, on purpose.
    first = load_encoder(EncoderSpec(kind="efficientnet-lite"), "cpu").fingerprint("image")
    assert first == load_encoder(EncoderSpec(kind="efficientnet-lite"), "cpu").fingerprint("image")
    assert first != load_encoder(EncoderSpec(kind="log-mel"), "cpu").fingerprint("audio")


def test_broken_weights(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    for content in (b"", b"\x80\x04not a checkpoint"):
        file.write_bytes(content)
        with pytest.raises(ModelLoadError, match="EfficientNet-Lite0"):
            load_network(file)
    torch.save({"_fc.bias": torch.zeros(1000)}, file)
    with pytest.raises(ModelLoadError, match="Missing key"):
        load_network(file)
