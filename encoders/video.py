"""Videos: frames spread over them as pictures, and their sound track as a clip.

Containers are told by their first bytes and opened as just that format. Left to probe, FFmpeg
would also open playlists, which name other files and addresses.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import (
    EmptyMediaError,
    MediaError,
    MediaTooLargeError,
    MediaTooLongError,
    NoFramesError,
    NoSoundError,
    UndecodableMediaError,
)
from .files import check_size
from .limits import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    from PIL.Image import Image

_FORMATS: tuple[tuple[str, int, tuple[bytes, ...]], ...] = (
    # FFmpeg's name, offset of the magic, the magic
    ("mov", 4, (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")),  # MP4, M4V, MOV, 3GP
    ("matroska", 0, (b"\x1a\x45\xdf\xa3",)),  # WebM too
    ("avi", 8, (b"AVI ",)),
    ("ogg", 0, (b"OggS",)),
    ("flv", 0, (b"FLV",)),
    ("mpeg", 0, (b"\x00\x00\x01\xba",)),
    ("mpegts", 188, (b"\x47",)),
)

_LARGEST_SIDE = 1280
"""Of a frame that is kept: models look at less, and up to twice as many are held as are wanted."""

_BIG_PIXELS = 4096 * 2304
_big_video = threading.Lock()
"""Held while a video of more than 4K is decoded: a decoder keeps up to 16 frames, and a pool of
worker threads would otherwise hold as many for several videos."""


def video_frames(content: bytes, count: int, limits: Limits = DEFAULT_LIMITS) -> list[Image]:
    """Decode pictures that are spread over a video, in order.

    MP4, MOV, Matroska, WebM, AVI, Ogg, FLV and MPEG, whatever the file was called. Keyframes alone
    are decoded where there are enough of them, and all frames of a video that has fewer than
    `count`; of those the frames kept are at equal distances. One pass in bounded memory, which
    needs neither an index nor a length in the header. Thread-safe.

    Args:
        content: the bytes of the file.
        count: frames wanted, at least 1.
        limits: bounds on pixels of a frame, frames, seconds and bytes.

    Returns:
        PIL images of mode RGB, upright: `count` of them, or all of a video that has fewer.

    Raises:
        NoFramesError: there is no video stream, or it has no frame.
        UndecodableMediaError: of no supported format, or damaged.
        EmptyMediaError: no bytes.
        MediaTooLargeError: more pixels, frames or bytes than allowed.
        MediaTooLongError: more than `limits.max_seconds`, by the frames' own times.
    """
    key = _spread(content, count, limits, keyframes_only=True)
    return key if len(key) == count else _spread(content, count, limits, keyframes_only=False)


def video_sound(content: bytes, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """Decode the first sound track of a video.

    Returns:
        a WAV file of its samples at their own rate, 16 bits, mono: channels are averaged.

    Raises:
        NoSoundError: there is no sound track, or it has no samples.
        UndecodableMediaError: of no supported format, damaged, or with NaN or infinite samples.
        EmptyMediaError: no bytes.
        MediaTooLongError: more than `limits.max_seconds`, counted while decoding.
        MediaTooLargeError: more than `limits.max_bytes`, in the file or decoded.
    """
    import soundfile

    out = BytesIO()
    with _opened(content, limits) as container:
        tracks = container.streams.audio
        if not tracks:
            raise _no_sound("no sound track")
        rate = int(tracks[0].codec_context.sample_rate or 0)
        if rate < 1:
            raise _no_sound("a sound track without a sample rate")
        with soundfile.SoundFile(out, "w", rate, 1, "PCM_16", format="WAV") as wav:
            for samples in _samples(container, tracks[0], rate, limits):
                wav.write(np.clip(samples, -1, 1))
            if wav.frames == 0:
                raise _no_sound("a sound track of 0 samples")
    return out.getvalue()


def _spread(content: bytes, count: int, limits: Limits, *, keyframes_only: bool) -> list[Image]:
    """Up to `count` frames at equal distances: when there are twice as many, every second is let
    go, and from then on only every second, fourth, ... frame is kept."""
    kept: list[Any] = []
    stride = number = 0
    with _opened(content, limits) as container:
        for frame in _frames(container, limits, keyframes_only=keyframes_only):
            stride = stride or 1
            if number % stride == 0:
                if len(kept) == 2 * count:
                    kept, stride = kept[::2], stride * 2
                if number % stride == 0:
                    kept.append(_picture(frame))
            number += 1
    if not kept and not keyframes_only:
        raise _no_frames("a video stream of 0 frames")
    if len(kept) <= count:
        return kept
    return [kept[(2 * n + 1) * len(kept) // (2 * count)] for n in range(count)]


def _frames(container: Any, limits: Limits, *, keyframes_only: bool) -> Iterator[Any]:
    streams = container.streams.video
    if not streams:
        raise _no_frames("no video stream")
    stream = streams[0]
    codec = stream.codec_context
    # Workers decode side by side: one thread each.
    codec.thread_count = 1
    if keyframes_only:
        codec.skip_frame = "NONKEY"
    codec.options = {"max_pixels": str(limits.max_frame_pixels)}
    _check_pixels(codec.width, codec.height, limits)
    first: float | None = None
    with _big_video if codec.width * codec.height > _BIG_PIXELS else nullcontext():
        for number, frame in enumerate(container.decode(stream), start=1):
            if number > limits.max_frames:
                raise MediaTooLargeError(
                    "video",
                    expected=f"at most {limits.max_frames:,} frames",
                    got="more",
                    remedy="Cut the video, or raise Limits.max_frames.",
                )
            _check_pixels(frame.width, frame.height, limits)
            if frame.time is not None:
                first = frame.time if first is None else first
                _check_seconds(frame.time - first, limits)
            yield frame


def _picture(frame: Any) -> Image:
    scale = min(1.0, _LARGEST_SIDE / max(frame.width, frame.height))
    width, height = (max(1, round(side * scale)) for side in (frame.width, frame.height))
    picture: Image = frame.to_image(width=width, height=height, interpolation="AREA")
    # Phones save what the sensor saw, and how it was held.
    return picture.rotate(frame.rotation, expand=True) if frame.rotation else picture


def _samples(container: Any, track: Any, rate: int, limits: Limits) -> Iterator[Any]:
    from av import AudioResampler

    same = AudioResampler(format="fltp", rate=rate)
    count = 0
    track.codec_context.thread_count = 1
    for frame in container.decode(track):
        for converted in same.resample(frame):
            samples = converted.to_ndarray()  # (channels, samples)
            count += samples.shape[1]
            _check_seconds(count / rate, limits)
            if not np.isfinite(samples).all():
                raise _undecodable("NaN or infinite samples")
            yield samples.mean(axis=0)


@contextmanager
def _opened(content: bytes, limits: Limits) -> Iterator[Any]:
    """The container; whatever FFmpeg makes of it in the block becomes an error of ours."""
    check_size(content, limits)
    if not content:
        raise EmptyMediaError(
            "video",
            expected="the bytes of a video",
            got="0 bytes",
            remedy="Fetch the file again, or leave the video out of the item.",
        )
    name = _format(content)
    import av

    try:
        with av.open(BytesIO(content), format=name, metadata_errors="ignore") as container:
            yield container
    except MediaError:
        raise
    except MemoryError as error:
        raise MediaTooLargeError(
            "video",
            expected="a video that fits in memory",
            got="out of memory while decoding",
            remedy="Shrink it, or lower Limits.max_frame_pixels.",
        ) from error
    except Exception as error:
        # FFmpegError and its kin; soundfile's where the sound is written; ValueError, OSError.
        raise _undecodable(f"{type(error).__name__}: {error}") from error


def _format(content: bytes) -> str:
    for name, offset, magics in _FORMATS:
        if content.startswith(magics, offset):
            if not content.startswith({"avi": b"RIFF", "mpegts": b"\x47"}.get(name, b"")):
                continue
            return name
    raise _undecodable(f"a file that begins with {content[:12]!r}")


def _check_pixels(width: int, height: int, limits: Limits) -> None:
    if width * height > limits.max_frame_pixels:
        raise MediaTooLargeError(
            "video",
            expected=f"frames of at most {limits.max_frame_pixels:,} pixels",
            got=f"{width} x {height} = {width * height:,} pixels",
            remedy="Shrink it, or raise Limits.max_frame_pixels.",
        )


def _check_seconds(seconds: float, limits: Limits) -> None:
    if seconds > limits.max_seconds:
        raise MediaTooLongError(
            "video",
            expected=f"at most {limits.max_seconds:g} seconds",
            got=f"more ({seconds:.0f} decoded so far)",
            remedy="Cut the video, or raise Limits.max_seconds.",
        )


def _undecodable(got: str) -> MediaError:
    return UndecodableMediaError(
        "video",
        expected="a whole MP4, MOV, Matroska, WebM, AVI, Ogg, FLV or MPEG file",
        got=got,
        remedy="Convert it to one of these formats, or fetch it again.",
    )


def _no_frames(got: str) -> MediaError:
    return NoFramesError(
        "video",
        expected="at least one frame",
        got=got,
        remedy="Give it as a sound, or leave it out of the item.",
    )


def _no_sound(got: str) -> MediaError:
    return NoSoundError(
        "video",
        expected="a sound track",
        got=got,
        remedy="Ask by its pictures alone, or leave the space of its sound out of the preset.",
    )
