"""Clips: decoded in blocks, mixed to mono, resampled; length counted, not believed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .errors import (
    EmptyMediaError,
    MediaError,
    MediaTooLargeError,
    MediaTooLongError,
    UndecodableMediaError,
)
from .files import check_size
from .limits import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    import soundfile

_FORMATS = ("WAV", "WAVEX", "RF64", "FLAC", "OGG", "MP3", "MPEG")
_LOWEST_RATE, _HIGHEST_RATE = 1_000, 768_000
_MOST_CHANNELS = 64
_BLOCK_SECONDS = 20
_READ_SAMPLES = 2**20

Samples = NDArray[np.float32]


def decode_audio(
    content: bytes, limits: Limits = DEFAULT_LIMITS, sample_rate: int = 16_000
) -> Samples:
    """Decode a clip to mono at one sample rate.

    WAV, FLAC, OGG (Vorbis, Opus) and MP3. Channels are averaged. Thread-safe.

    Args:
        content: the bytes of the file.
        limits: bounds on seconds and bytes.
        sample_rate: of the result, in Hz.

    Returns:
        float32 array with shape (samples,), nominally in [-1, 1]. An hour at 16 kHz takes 230 MB;
        `audio_blocks` gives the same samples without holding them all.

    Raises:
        UndecodableMediaError: of no supported format, damaged, or with NaN or infinite samples.
        EmptyMediaError: no bytes, or 0 samples.
        MediaTooLongError: more than `limits.max_seconds`, counted while decoding.
        MediaTooLargeError: more than `limits.max_bytes`.
    """
    return np.concatenate(list(audio_blocks(content, limits, sample_rate)))


def audio_blocks(
    content: bytes, limits: Limits = DEFAULT_LIMITS, sample_rate: int = 16_000
) -> Iterator[Samples]:
    """Yield the samples of `decode_audio` in blocks of some seconds, in bounded memory.

    Every block but the last ends where input and output samples coincide, and is resampled with
    enough of its neighbours on both sides, so that the seams cannot be told from one pass.
    """
    with _opened(content, limits) as sound:
        source = _source_samples(sound, limits)
        # A ratio such as 44,101 : 16,000 would need a filter of gigabytes. A denominator of at
        # most 1,000 is off by less than one part in a million, and exact for the usual rates.
        ratio = Fraction(sound.samplerate, sample_rate).limit_denominator(1000)
        yield from _resampled(source, ratio, sound.samplerate)


@contextmanager
def _opened(content: bytes, limits: Limits) -> Iterator[soundfile.SoundFile]:
    check_size(content, limits)
    if not content:
        raise _empty("0 bytes")
    import soundfile

    class Forward(soundfile.SoundFile):  # type: ignore[misc]
        """Reads to the end, wherever that is.

        Of a file it takes for seekable, soundfile reads what the header says and seeks after
        each block, which fails where a streaming encoder could not write the length.
        """

        def seekable(self) -> bool:
            return False

    try:
        sound = Forward(BytesIO(content))
    except Exception as error:
        raise _undecodable(f"{error}; it begins with {content[:12]!r}") from error
    with sound:
        if sound.format not in _FORMATS:
            raise _undecodable(f"the format {sound.format}")
        if not _LOWEST_RATE <= sound.samplerate <= _HIGHEST_RATE:
            raise _undecodable(f"a sample rate of {sound.samplerate} Hz")
        if not 1 <= sound.channels <= _MOST_CHANNELS:
            raise _undecodable(f"{sound.channels} channels")
        yield sound


def _source_samples(sound: Any, limits: Limits) -> Iterator[Samples]:
    """Yield mono blocks at the clip's own rate, checked; at least one sample in all."""
    allowed = limits.max_seconds * sound.samplerate
    frames = 0
    block_frames = _READ_SAMPLES // sound.channels
    while True:
        try:
            block = sound.read(block_frames, dtype="float32", always_2d=True)
        except MemoryError as error:
            raise MediaTooLargeError(
                "audio",
                expected="a clip that fits in memory",
                got="out of memory while decoding",
                remedy="Shorten it, or lower Limits.max_seconds.",
            ) from error
        except Exception as error:
            # soundfile raises its own errors, and whatever the wrapped library made of the bytes.
            raise _undecodable(f"{type(error).__name__}: {error}") from error
        if len(block) == 0:
            break
        frames += len(block)
        if frames > allowed:
            raise MediaTooLongError(
                "audio",
                expected=f"at most {limits.max_seconds:g} seconds",
                got=f"more ({frames / sound.samplerate:.0f} decoded so far)",
                remedy="Cut the clip, or raise Limits.max_seconds.",
            )
        if not np.isfinite(block).all():
            raise _undecodable("NaN or infinite samples")
        yield block.mean(axis=1, dtype=np.float32)
    if frames == 0:
        raise _empty("0 samples")


def _resampled(source: Iterator[Samples], ratio: Fraction, rate: int) -> Iterator[Samples]:
    """Resample a stream of blocks; `ratio` is source rate to target rate."""
    if ratio == 1:
        yield from source
        return
    old, new = ratio.numerator, ratio.denominator
    # The filter of `resample` reaches 6 zero crossings of the lower rate to each side, and some.
    reach = -(-(8 * max(old, new)) // new) + old
    margin = -(-reach // old) * old
    step = max(old, rate * _BLOCK_SECONDS // old * old)
    held = np.zeros(0, dtype=np.float32)
    left = 0
    for block in source:
        held = np.concatenate([held, block])
        while len(held) >= left + step + margin:
            out = _resample(held[: left + step + margin], old, new)
            yield out[left * new // old : (left + step) * new // old]
            held = held[left + step - margin :] if left + step > margin else held
            left = margin
    yield _resample(held, old, new)[left * new // old :]


def _resample(samples: Samples, old: int, new: int) -> Samples:
    import torch
    import torchaudio.functional

    with torch.inference_mode():
        result = torchaudio.functional.resample(torch.from_numpy(samples), old, new)
    return np.asarray(result.numpy(), dtype=np.float32)


def _undecodable(got: str) -> MediaError:
    return UndecodableMediaError(
        "audio",
        expected="a whole WAV, FLAC, OGG or MP3 file of finite samples at 1 to 768 kHz",
        got=got,
        remedy="Convert it to one of these formats, or fetch it again.",
    )


def _empty(got: str) -> MediaError:
    return EmptyMediaError(
        "audio",
        expected="at least one sample",
        got=got,
        remedy="Fetch the file again, or leave the clip out of the item.",
    )
