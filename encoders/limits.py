"""How much of one input is read before it is refused."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds on one input, against bombs and mistakes."""

    max_pixels: int = 200_000_000
    """Width times height of a picture, from its header, before any pixel is decoded."""

    max_bytes: int = 512 * 2**20
    """Size of the file."""

    max_seconds: float = 3600
    """Length of a clip or video, counted while decoding: headers lie."""

    max_frames: int = 432_000
    """Frames of a video that are decoded: an hour of 120 a second."""

    max_frame_pixels: int = 8192 * 4320
    """Width times height of a frame: 8K. Decoders keep up to 16 frames."""


DEFAULT_LIMITS = Limits()
