"""Mean and standard deviation of what comes in pieces."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.float64]


class Moments:
    """Mean and standard deviation, float64 (width,) each, over frames that come in pieces."""

    def __init__(self, width: int) -> None:
        self.count = 0
        self._first = np.zeros(width)
        self._second = np.zeros(width)

    def add(self, frames: Frames) -> None:
        """Add frames (n, width); none is fine."""
        self.count += len(frames)
        self._first += frames.sum(axis=0)
        self._second += (frames**2).sum(axis=0)

    @property
    def mean(self) -> Frames:
        return self._first / self.count

    @property
    def deviation(self) -> Frames:
        return np.asarray(np.sqrt(np.maximum(self._second / self.count - self.mean**2, 0)))
