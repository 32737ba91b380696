"""Sound without weights: statistics of mel-frequency cepstral coefficients."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from .limits import Limits
from .mel import FLOOR, MELS, Frames
from .mel_encoder import MelEncoder
from .memory import device_memory
from .moments import Moments

COEFFICIENTS = 20
REACH = 2
"""Frames to each side that a delta is the slope of."""


class MfccOptions(BaseModel):
    """The kind `mfcc` has no options."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class MfccEncoder(MelEncoder):
    """Describes a clip by the cepstrum of its mel bands (Davis and Mermelstein 1980,
    doi:10.1109/TASSP.1980.1163420).

    The cosine transform of a frame's log-mel levels tells the envelope of its spectrum by few
    numbers that hardly depend on each other. Mean and standard deviation over time of 20
    coefficients, and standard deviation of their slopes. The first coefficient is loudness: its
    mean is left out, so that the same recording at another volume is the same item.
    """

    kind: ClassVar[str] = "mfcc"
    options_model: ClassVar[type[BaseModel]] = MfccOptions
    dimension = 3 * COEFFICIENTS - 1
    settings: ClassVar[Mapping[str, Any]] = {
        "floor": FLOOR,
        "coefficients": COEFFICIENTS,
        "reach": REACH,
    }

    def __init__(self, options: MfccOptions, device: str, limits: Limits) -> None:
        super().__init__(options, device, limits)
        self._matrix: Frames | None = None
        self._lock = threading.Lock()

    def prepare(self, modality: str, content: bytes) -> NDArray[np.float32]:
        """Return the statistics of a clip: float32 with shape (59,).

        Raises:
            MediaError: as `mel.MelFrames.of`.
        """
        self.check_modality(modality)
        levels, slopes = Moments(COEFFICIENTS), Moments(COEFFICIENTS)
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
