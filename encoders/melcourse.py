"""Sound without a trained model: the course that the log-mel spectrogram takes over a clip."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from .mel import FLOOR, MELS, Frames
from .mel_encoder import MelEncoder
from .memory import device_memory

BANDS = 20
"""Of three or four mels each: formants still show, the pitch of a voice hardly."""
SEGMENTS = 24
"""Of a spoken phrase of 1.4 s each is 60 ms, about a sound of speech."""
AUDIBLE_DB = 20.0
"""How far under its loudest frame a clip begins and ends: pauses and hiss are no part of it."""
STEADY = 1e-3
"""Added to every level, in log power; what changes less has no course."""
_MOST_GROUPS = 24_000
"""Frames of 4 minutes, whose bands take 4 MB. A longer clip is held in groups of 2, 4, ... frames,
of which a segment still has 500 or more."""

_EDGES = np.linspace(0, MELS, BANDS + 1).astype(int)
_AUDIBLE = AUDIBLE_DB * math.log(10) / 10


class MelCourseOptions(BaseModel):
    """The kind `mel-course` has no options."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class MelCourseEncoder(MelEncoder):
    """Describes a clip by how its spectrum changes from beginning to end.

    A word said twice differs in voice, volume and pace, and yet passes the same sounds in the same
    order. So the clip is cut where it begins and ends (frames 20 dB under the loudest), the mean of
    each of 20 bands is taken off (voice, channel and volume), and what is left is averaged in 24
    segments of equal length: whatever its pace, a phrase has the same 24 x 20 levels. The slopes
    of the levels stand beside them. That is how words were recognised before there were models,
    as templates of normalised length; Sakoe and Chiba (1978, doi:10.1109/TASSP.1978.1163055)
    replaced the linear normalisation by a warp, which no inner product can do.

    A clip without any course (silence, one frame, a steady hum) would be all zero. `STEADY` in
    every level makes it a vector: since the levels of a band add up to zero in every clip, that
    vector's levels are orthogonal to all other clips' and equal to those of other steady clips,
    and it is far too small to be noticed beside a real course, whose levels differ by about 1.

    Names and phrases are what it is for: of a long clip it tells how its sections follow each
    other, and the same sounds in another order are another course. `log-mel` is the contrary.
    """

    kind: ClassVar[str] = "mel-course"
    options_model: ClassVar[type[BaseModel]] = MelCourseOptions
    dimension = SEGMENTS * 2 * BANDS
    settings: ClassVar[Mapping[str, Any]] = {
        "floor": FLOOR,
        "bands": BANDS,
        "segments": SEGMENTS,
        "audible_db": AUDIBLE_DB,
        "steady": STEADY,
        "groups": _MOST_GROUPS,
    }

    def prepare(self, modality: str, content: bytes) -> NDArray[np.float32]:
        """Return the course of a clip: float32 with shape (960,), natural logarithms of power.

        24 segments follow each other; each has the levels of 20 bands, low to high, and then their
        slopes, per segment. Memory is bounded for clips of any length.

        Raises:
            MediaError: as `mel.MelFrames.of`.
        """
        self.check_modality(modality)
        gathered = _Gathered()
        with device_memory(self.kind, 1):
            for frames in self._frames.of(content, self.limits):
                gathered.add(frames)
        levels = gathered.levels()  # (24, 20)
        levels -= levels.mean(axis=0)
        slopes = np.gradient(levels, axis=0)
        return np.hstack([levels + STEADY, slopes]).ravel().astype(np.float32)


class _Gathered:
    """Frames in groups of equally many, which double when there are too many groups."""

    def __init__(self) -> None:
        self._count = 0
        self._per_group = 1
        self._sums = np.zeros((_MOST_GROUPS, BANDS))
        self._loudest = np.full(_MOST_GROUPS, -np.inf)

    def add(self, frames: Frames) -> None:
        """Add log-mel frames (n, 64), at least one."""
        numbers = self._count + np.arange(len(frames))
        while numbers[-1] >= _MOST_GROUPS * self._per_group:
            self._pair_up()
        group, starts = np.unique(numbers // self._per_group, return_index=True)
        bands = np.add.reduceat(frames, _EDGES[:-1], axis=1) / np.diff(_EDGES)
        loudness = np.log(np.exp(frames).mean(axis=1))
        self._sums[group] += np.add.reduceat(bands, starts)
        self._loudest[group] = np.maximum(
            self._loudest[group], np.maximum.reduceat(loudness, starts)
        )
        self._count += len(frames)

    def levels(self) -> Frames:
        """The mean of each band in each segment between the first audible group and the last."""
        audible = np.flatnonzero(self._loudest > self._loudest.max() - _AUDIBLE)
        first, end = audible[0], audible[-1] + 1
        edges = np.minimum(np.arange(first, end + 1) * self._per_group, self._count)  # in frames
        total = np.zeros((end - first + 1, BANDS))
        np.cumsum(self._sums[first:end], axis=0, out=total[1:])
        cuts = np.linspace(edges[0], edges[-1], SEGMENTS + 1)
        reached = np.stack([np.interp(cuts, edges, band) for band in total.T], axis=1)
        levels: Frames = np.diff(reached, axis=0) * (SEGMENTS / (edges[-1] - edges[0]))
        return levels

    def _pair_up(self) -> None:
        half = _MOST_GROUPS // 2
        self._sums[:half] = self._sums[0::2] + self._sums[1::2]
        self._sums[half:] = 0
        self._loudest[:half] = np.maximum(self._loudest[0::2], self._loudest[1::2])
        self._loudest[half:] = -np.inf
        self._per_group *= 2
