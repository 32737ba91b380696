"""Windows of a clip, for models that hear some seconds at a time."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from .audio import Samples

WINDOWS = 4
"""What a long clip is heard by."""


def windows_of(blocks: Iterable[Samples], size: int) -> list[Samples]:
    """Return up to 8 windows of `size` samples at even distances over a stream of any length.

    One pass in bounded memory: when there are 8, every second is let go, and from then on only
    every second, fourth, ... window is kept. What remains at the end makes a window only where
    the clip is shorter than one.
    """
    kept: list[Samples] = []
    held = np.zeros(0, dtype=np.float32)
    stride, number = 1, 0
    for block in blocks:
        held = np.concatenate([held, block])
        while len(held) >= size:
            if number % stride == 0:
                if len(kept) == 2 * WINDOWS:
                    kept = kept[::2]
                    stride *= 2
                if number % stride == 0:
                    kept.append(held[:size].copy())
            held = held[size:]
            number += 1
    return kept or [held]


def spread(windows: list[Samples], count: int = WINDOWS) -> list[Samples]:
    """Return at most `count` of the windows, evenly spread, the first among them."""
    if len(windows) <= count:
        return windows
    return [windows[i * len(windows) // count] for i in range(count)]
