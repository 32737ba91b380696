"""Sound without weights: statistics of mel-frequency cepstral coefficients."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from .base import Encoder
from .fingerprint import fingerprint
from .limits import Limits
from .mel import FLOOR, HOP, MELS, SAMPLE_RATE, WINDOW, Frames, MelFrames
from .memory import device_memory

COEFFICIENTS = 20
REACH = 2
"""Frames to each side that a delta is the slope of."""


class MfccOptions(BaseModel):
    """The kind `mfcc` has no options."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class MfccEncoder(Encoder):
    """Describes a clip by the cepstrum of its mel bands (Davis and Mermelstein 1980,
    doi:10.1109/TASSP.1980.1163420).

    The cosine transform of a frame's log-mel levels tells the envelope of its spectrum by few
    numbers that hardly depend on each other. Mean and standard deviation over time of 20
    coefficients, and standard deviation of their slopes. The first coefficient is loudness: its
    mean is left out, so that the same recording at another volume is the same item.
    """

    kind: ClassVar[str] = "mfcc"
    revision: ClassVar[int] = 1
    options_model: ClassVar[type[BaseModel]] = MfccOptions
    modalities = ("audio",)
    dimension = 3 * COEFFICIENTS - 1
    batch_size = 1024

    def __init__(self, options: MfccOptions, device: str, limits: Limits) -> None:
        self.limits = limits
        self._frames = MelFrames()
        self._matrix: Frames | None = None
        self._lock = threading.Lock()

    def fingerprint(self, modality: str) -> str:
        """Return 32 hex digits naming the settings."""
        self.check_modality(modality)
        settings = {
            "sample_rate": SAMPLE_RATE,
            "window": WINDOW,
            "hop": HOP,
            "mels": MELS,
            "floor": FLOOR,
            "coefficients": COEFFICIENTS,
            "reach": REACH,
        }
        return fingerprint(
            kind=self.kind, revision=self.revision, modality=modality, options=settings, files=()
        )

    def prepare(self, modality: str, content: bytes) -> NDArray[np.float32]:
        """Return the statistics of a clip: float32 with shape (59,).

        Raises:
            MediaError: as `mel.MelFrames.of`.
        """
        self.check_modality(modality)
        levels, slopes = _Moments(), _Moments()
        held: Frames | None = None
        with device_memory(self.kind, 1):
            for frames in self._frames.of(content, self.limits):
                coefficients = frames @ self._cosines()
                levels.add(coefficients)
                if held is None:
                    held = np.repeat(coefficients[:1], REACH, axis=0)
                held = np.concatenate([held, coefficients])
                slopes.add(_slopes(held))
                held = held[-2 * REACH :]
            assert held is not None  # at least one frame is promised
            slopes.add(_slopes(np.concatenate([held, np.repeat(held[-1:], REACH, axis=0)])))
        parts = (levels.mean[1:], levels.deviation, slopes.deviation)
        # The floor keeps digital silence, which has no shape at all, from being all zero.
        return (np.concatenate(parts) + FLOOR).astype(np.float32)

    def _encode(self, modality: str, prepared: Sequence[Any]) -> Any:
        return prepared

    def _cosines(self) -> Frames:
        """The matrix (mels, coefficients) of torchaudio's cosine transform, made once."""
        with self._lock:
            if self._matrix is None:
                import torchaudio.functional

                matrix = torchaudio.functional.create_dct(COEFFICIENTS, MELS, norm="ortho")
                self._matrix = matrix.double().numpy()
            return self._matrix


def _slopes(frames: Frames) -> Frames:
    """The slope at each frame that has neighbours, by regression, as torchaudio's deltas."""
    steps = range(1, REACH + 1)
    count = max(0, len(frames) - 2 * REACH)

    def moved(by: int) -> Frames:
        return frames[REACH + by : REACH + by + count]

    rises = sum(step * (moved(step) - moved(-step)) for step in steps)
    slopes: Frames = np.asarray(rises) / (2 * sum(step**2 for step in steps))
    return slopes


class _Moments:
    """Mean and standard deviation over frames that come in pieces."""

    def __init__(self) -> None:
        self._count = 0
        self._first = np.zeros(COEFFICIENTS)
        self._second = np.zeros(COEFFICIENTS)

    def add(self, frames: Frames) -> None:
        """Add frames (n, 20); none is fine."""
        self._count += len(frames)
        self._first += frames.sum(axis=0)
        self._second += (frames**2).sum(axis=0)

    @property
    def mean(self) -> Frames:
        """(20,)"""
        return self._first / self._count

    @property
    def deviation(self) -> Frames:
        """(20,)"""
        return np.asarray(np.sqrt(np.maximum(self._second / self._count - self.mean**2, 0)))
