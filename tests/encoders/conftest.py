"""Real media made on the spot, and real sentences."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from PIL import Image

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def glosses() -> list[str]:
    """200 glosses drawn from WordNet 3.0 (Princeton University; its licence permits copies)."""
    return (HERE / "glosses.txt").read_text("utf-8").splitlines()


@pytest.fixture(scope="session")
def photo() -> Image.Image:
    """A picture with shapes, gradients and noise, 400 x 300."""
    y, x = np.mgrid[0:300, 0:400]
    rng = np.random.default_rng(7)
    red = 255 * ((x - 120) ** 2 + (y - 140) ** 2 < 80**2)
    pixels = np.stack([red, x * 255 / 400, y * 255 / 300], axis=-1) + rng.normal(
        0, 8, (300, 400, 1)
    )
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="session")
def saved() -> Callable[..., bytes]:
    """Save a picture to bytes: saved(picture, "PNG", **options)."""

    def save(picture: Image.Image, form: str, **options: Any) -> bytes:
        stream = BytesIO()
        picture.save(stream, form, **options)
        return stream.getvalue()

    return save


@pytest.fixture(scope="session")
def clip() -> Callable[..., bytes]:
    """Save samples to bytes: clip(samples, rate, "WAV", "PCM_16")."""

    def save(
        samples: NDArray[np.floating[Any]], rate: int, form: str = "WAV", subtype: str | None = None
    ) -> bytes:
        stream = BytesIO()
        soundfile.write(stream, samples, rate, format=form, subtype=subtype)
        return stream.getvalue()

    return save


@pytest.fixture(scope="session")
def tone() -> Callable[..., NDArray[np.float32]]:
    """tone(seconds, rate, hertz): a decaying tone over a little noise, float32."""

    def make(seconds: float, rate: int, hertz: float = 440.0) -> NDArray[np.float32]:
        t = np.arange(round(seconds * rate)) / rate
        noise = np.random.default_rng(1).normal(0, 0.01, len(t))
        wave = 0.5 * np.sin(2 * np.pi * hertz * t) * np.exp(-(t % 0.5) * 4) + noise
        return wave.astype(np.float32)

    return make
