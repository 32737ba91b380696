"""Log-mel frames of a clip, some at a time: what encoders of sound without weights start from."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .audio import Samples, audio_blocks
from .errors import UndecodableMediaError
from .limits import Limits

SAMPLE_RATE = 16_000
WINDOW = 512
"""Samples per frame: 32 ms, the usual for speech and short enough for drums."""
HOP = 160
MELS = 64
FLOOR = 1e-4
"""Added to mel power before the logarithm: about -80 dB of a full-scale tone; below it is hiss."""
_CHUNK_FRAMES = 3000

Frames = NDArray[np.float64]


class MelFrames:
    """Turns clips into frames; thread-safe."""

    def __init__(self) -> None:
        self._mel: Any = None
        self._lock = threading.Lock()

    def of(self, content: bytes, limits: Limits) -> Iterator[Frames]:
        """Yield log-mel frames, float64 with shape (frames, 64), natural logarithms of power, at
        most 30 seconds at a time.

        Frames start every 10 ms and lie wholly inside the clip; one shorter than a frame is
        repeated until it fills one. At least one frame is yielded.

        Raises:
            MediaError: as `audio.decode_audio`, and UndecodableMediaError where samples are so
                large that their power overflows.
        """
        step = _CHUNK_FRAMES * HOP
        held = np.zeros(0, dtype=np.float32)
        framed = False
        for block in audio_blocks(content, limits, SAMPLE_RATE):
            held = np.concatenate([held, block])
            while len(held) >= step + WINDOW:
                yield self._frames(held[: step + WINDOW - HOP])
                held = held[step:]
                framed = True
        if not framed:
            yield self.of_samples(held)
        elif len(held) >= WINDOW:
            yield self._frames(held)

    def of_samples(self, samples: Samples) -> Frames:
        """Log-mel frames (frames, 64) of samples at 16 kHz, at least one; see `of`."""
        if len(samples) < WINDOW:
            # `audio_blocks` promises a sample; at a low rate resampling may still leave none.
            given = samples if len(samples) else np.zeros(1, dtype=np.float32)
            samples = np.resize(given, WINDOW)
        return self._frames(samples)

    def _frames(self, samples: Samples) -> Frames:
        import torch

        with torch.inference_mode():
            power = self._transform()(torch.from_numpy(np.ascontiguousarray(samples)))
            frames = np.asarray(torch.log(power + FLOOR).T.double().numpy())
        if not np.isfinite(frames).all():
            raise UndecodableMediaError(
                "audio",
                expected="samples whose power single precision can hold",
                got=f"samples up to {float(np.abs(samples).max()):.3g}",
                remedy="Scale the clip to [-1, 1], or fetch it again.",
            )
        return frames

    def _transform(self) -> Any:
        """Return torchaudio's transform, built once; it holds no state and is thread-safe."""
        with self._lock:
            if self._mel is None:
                import torchaudio.transforms

                self._mel = torchaudio.transforms.MelSpectrogram(
                    sample_rate=SAMPLE_RATE,
                    n_fft=WINDOW,
                    win_length=WINDOW,
                    hop_length=HOP,
                    n_mels=MELS,
                    f_min=20.0,
                    center=False,
                )
            return self._mel
