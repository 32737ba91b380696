"""Pictures of shapes and the sounds that belong to them, drawn and synthesised here.

A shape has a family of sounds of its own, so a clip tells the shape; colour and pattern
are seen only. All chance comes from the generator that is passed in.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Floats = npt.NDArray[np.float64]
Colour = tuple[int, int, int]

SAMPLE_RATE = 16_000
"""Samples per second of every clip."""
PICTURE_PIXELS = 160
"""Width and height of every picture."""

COLOURS: dict[str, Colour] = {
    "red": (214, 40, 40),
    "orange": (245, 133, 24),
    "yellow": (247, 208, 42),
    "green": (52, 150, 64),
    "blue": (36, 92, 200),
    "purple": (128, 52, 160),
    "pink": (242, 130, 170),
    "brown": (122, 76, 42),
}
PATTERNS = ("plain", "striped", "dotted", "checked")

_SUPERSAMPLE = 4


def draw(
    shape: str, colour: str, pattern: str, scale: float, rng: np.random.Generator
) -> Image.Image:
    """An RGB picture, `PICTURE_PIXELS` square, of one shape on a light ground.

    `scale` is the shape's diameter as a part of the picture's width; place and angle are
    drawn from `rng`.
    """
    side = PICTURE_PIXELS * _SUPERSAMPLE
    ground = int(rng.integers(232, 250))
    picture = Image.new("RGB", (side, side), (ground, ground, ground))
    radius = scale * side / 2
    x, y = (float(side / 2 + rng.uniform(-1, 1) * (side / 2 - radius) * 0.8) for _ in range(2))
    mask = _mask(shape, side, x, y, radius, float(rng.uniform(-0.35, 0.35)))
    picture.paste(_filling(COLOURS[colour], pattern, side), mask=mask)
    return picture.resize((PICTURE_PIXELS, PICTURE_PIXELS), Image.Resampling.BOX)


def _mask(shape: str, side: int, x: float, y: float, radius: float, angle: float) -> Image.Image:
    mask = Image.new("L", (side, side), 0)
    pen = ImageDraw.Draw(mask)
    if shape in ("circle", "ring"):
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
        if shape == "ring":
            inner = radius * 0.55
            pen.ellipse((x - inner, y - inner, x + inner, y + inner), fill=0)
        return mask
    if shape == "cross":
        arm, half = radius, radius * 0.32
        bars = [[(-arm, -half), (arm, -half), (arm, half), (-arm, half)]]
        bars.append([(v, u) for u, v in bars[0]])
    else:
        bars = [_outline(shape, radius)]
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    for bar in bars:
        pen.polygon([(x + u * cos - v * sin, y + u * sin + v * cos) for u, v in bar], fill=255)
    return mask


def _outline(shape: str, radius: float) -> list[tuple[float, float]]:
    """Corners around the origin, the first one up for all but the square."""
    corners, inner = {"square": (4, 1.0), "triangle": (3, 1.0), "star": (10, 0.42)}[shape]
    start = -np.pi / 4 if shape == "square" else -np.pi / 2
    points = []
    for corner in range(corners):
        reach = radius * (inner if corner % 2 and shape == "star" else 1.0)
        turn = start + 2 * np.pi * corner / corners
        points.append((float(reach * np.cos(turn)), float(reach * np.sin(turn))))
    return points


def _filling(colour: Colour, pattern: str, side: int) -> Image.Image:
    """A square of `colour`, with the pattern in a paler tone of it."""
    rows, columns = np.mgrid[0:side, 0:side]
    step = side // 16
    if pattern == "striped":
        pale = (rows + columns) // step % 3 == 0
    elif pattern == "dotted":
        pale = (rows % (2 * step) - step) ** 2 + (columns % (2 * step) - step) ** 2 < (
            step / 2
        ) ** 2
    elif pattern == "checked":
        pale = (rows // step + columns // step) % 2 == 0
    else:
        pale = np.zeros((side, side), dtype=bool)
    full = np.array(colour, dtype=np.float64)
    pixels = np.where(pale[..., None], 255 - (255 - full) * 0.35, full)
    return Image.fromarray(pixels.astype(np.uint8))


def synthesise(shape: str, seconds: float, rng: np.random.Generator) -> Floats:
    """The sound of a shape: float64 samples in [-1, 1], mono, at `SAMPLE_RATE`."""
    times = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    samples = _VOICES[shape](times, rng)
    samples = samples + rng.normal(0, 0.004, times.size)
    # 10 ms in and out, so that no clip begins or ends with a click.
    edge = np.clip(np.minimum(times, times[::-1]) / 0.01, 0, 1)
    return np.asarray(0.8 * edge * samples / np.abs(samples).max())


def _tone(times: Floats, rng: np.random.Generator) -> Floats:
    pitch = rng.uniform(420, 460)
    swell = 0.8 + 0.2 * np.sin(2 * np.pi * 3 * times)
    return np.asarray(swell * np.sin(2 * np.pi * pitch * times))


def _buzz(times: Floats, rng: np.random.Generator) -> Floats:
    pitch = rng.uniform(100, 115)
    return np.asarray(np.sign(np.sin(2 * np.pi * pitch * times)))


def _chirp(times: Floats, rng: np.random.Generator) -> Floats:
    """Three rising sweeps, as of a bird."""
    low, high = rng.uniform(1900, 2100), rng.uniform(5000, 5600)
    phase = times % (times[-1] / 3)
    rate = (high - low) / (times[-1] / 3)
    turns = low * phase + rate * phase**2 / 2
    return np.asarray(np.sin(2 * np.pi * turns) * np.exp(-2 * phase))


def _pluck(times: Floats, rng: np.random.Generator) -> Floats:
    """A string plucked four times: harmonics, the higher the sooner gone."""
    pitch = rng.uniform(210, 235)
    since = times % 0.25
    partials = [
        np.sin(2 * np.pi * pitch * n * since) * np.exp(-4 * n * since) / n for n in range(1, 9)
    ]
    return np.asarray(np.sum(partials, axis=0))


def _bell(times: Floats, rng: np.random.Generator) -> Floats:
    """Partials in no harmonic ratio, dying away slowly."""
    pitch = rng.uniform(1250, 1400)
    ratios = (1.0, 2.76, 5.4)
    partials = [
        np.sin(2 * np.pi * pitch * r * times) * np.exp(-1.5 * r**0.5 * times) for r in ratios
    ]
    return np.asarray(np.sum(partials, axis=0))


def _noise(times: Floats, rng: np.random.Generator) -> Floats:
    """Bursts of noise, as of a shaker."""
    beat = rng.uniform(4, 7)
    return rng.normal(0, 1, times.size) * (np.sin(2 * np.pi * beat * times) > 0)


_VOICES: dict[str, Callable[[Floats, np.random.Generator], Floats]] = {
    "circle": _tone,
    "square": _buzz,
    "triangle": _chirp,
    "star": _pluck,
    "ring": _bell,
    "cross": _noise,
}
SHAPES = tuple(_VOICES)
"""The shapes, each with a family of sounds."""
