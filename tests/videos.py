"""Videos made on the spot: a coloured square that moves, and a tone."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import av
import numpy as np

WIDTH, HEIGHT, RATE = 96, 64, 16_000


def make_video(
    *,
    frames: int = 12,
    colour: tuple[int, int, int] = (200, 30, 30),
    hertz: float | None = 440.0,
    per_second: int = 6,
    form: str = "mp4",
    codecs: tuple[str, str] = ("libx264", "aac"),
    rate: int = RATE,
    keyframe_every: int = 250,
) -> bytes:
    """Bytes of a video; no frames, or no hertz, leave that track out."""
    file = BytesIO()
    with av.open(file, "w", format=form) as container:
        picture: Any = container.add_stream(codecs[0], rate=per_second) if frames else None
        if picture:
            picture.width, picture.height, picture.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            picture.codec_context.gop_size = keyframe_every
        sound: Any = container.add_stream(codecs[1], rate=rate) if hertz else None
        if sound:
            sound.layout = "mono"
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(square(number, frames, colour), format="rgb24")
            container.mux(picture.encode(frame))
        if picture:
            container.mux(picture.encode())
        if sound:
            wave = tone(hertz or 0, max(frames, 1) / per_second, rate)
            for start in range(0, len(wave), 1024):
                part = av.AudioFrame.from_ndarray(
                    wave[None, start : start + 1024], format="fltp", layout="mono"
                )
                part.sample_rate, part.pts = rate, start
                container.mux(sound.encode(part))
            container.mux(sound.encode())
    return file.getvalue()


def square(number: int, frames: int, colour: tuple[int, int, int]) -> Any:
    """Frame `number`: white, with a square that goes from left to right."""
    pixels = np.full((HEIGHT, WIDTH, 3), 255, dtype=np.uint8)
    left = number * (WIDTH - 32) // max(frames - 1, 1)
    pixels[16:48, left : left + 32] = colour
    return pixels


def tone(hertz: float, seconds: float, rate: int) -> Any:
    """float32 samples."""
    t = np.arange(round(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * hertz * t)).astype(np.float32)
