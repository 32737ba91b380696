"""Videos made on the spot: the frames and the sound that went in are what comes out."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from encoders import (
    EmptyMediaError,
    EncoderPool,
    EncoderSpec,
    InvalidPresetError,
    Limits,
    MediaError,
    MediaTooLargeError,
    MediaTooLongError,
    NoFramesError,
    NoSoundError,
    UndecodableMediaError,
    UnsupportedModalityError,
    check_encoder,
    encode_all,
)
from encoders.video import video_frames, video_sound
from tests.encoders.test_fuzz import count_refused
from tests.videos import HEIGHT, WIDTH, make_video, square, tone

CONTAINERS = [
    ("mp4", ("libx264", "aac"), 16_000),
    ("mov", ("mpeg4", "aac"), 16_000),
    ("webm", ("libvpx", "libopus"), 48_000),
    ("matroska", ("libx264", "aac"), 16_000),
    ("avi", ("mpeg4", "mp2"), 16_000),
    ("mpegts", ("libx264", "aac"), 16_000),
    ("flv", ("flv1", "mp3"), 44_100),
]


def places(frames: list[Image.Image]) -> list[float]:
    """Where the square is in each frame: its middle, in pixels from the left."""
    found = []
    for frame in frames:
        dark = np.asarray(frame)[HEIGHT // 2].astype(int)[:, 1] < 140
        found.append(float(np.flatnonzero(dark).mean()))
    return found


@pytest.mark.parametrize(("form", "codecs", "rate"), CONTAINERS)
def test_frames_and_sound_of_each_container(form: str, codecs: tuple[str, str], rate: int) -> None:
    content = make_video(frames=30, per_second=15, form=form, codecs=codecs, rate=rate)
    frames = video_frames(content, 6)
    assert len(frames) == 6 and frames[0].size == (WIDTH, HEIGHT) and frames[0].mode == "RGB"
    found = np.array(places(frames))
    # The square goes from 16 to 80: six frames in order, from all over the way.
    assert (np.diff(found) > 5).all() and found[0] < 30 and found[-1] > 64
    samples, got = soundfile.read(BytesIO(video_sound(content)))
    assert got == rate and abs(len(samples) / rate - 2) < 0.2
    spectrum = np.abs(np.fft.rfft(samples))
    assert abs(spectrum.argmax() * rate / len(samples) - 440) < 5


def test_frames_are_what_was_encoded() -> None:
    content = make_video(frames=4, codecs=("libx264", "aac"))
    for number, frame in enumerate(video_frames(content, 8)):
        expected = square(number, 4, (200, 30, 30))
        assert np.abs(np.asarray(frame).astype(int) - expected).mean() < 6
    samples, _ = soundfile.read(BytesIO(video_sound(make_video(frames=12))))
    wave = tone(440, 2, 16_000)
    assert abs(np.std(samples) - np.std(wave)) < 0.02


def test_keyframes_are_enough_where_there_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    import encoders.video

    passes = []
    spread = encoders.video._spread

    def counted(*arguments: Any, keyframes_only: bool) -> Any:
        passes.append(keyframes_only)
        return spread(*arguments, keyframes_only=keyframes_only)

    monkeypatch.setattr(encoders.video, "_spread", counted)
    assert len(video_frames(make_video(frames=40, keyframe_every=4), 8)) == 8
    assert passes == [True]
    assert len(video_frames(make_video(frames=40), 8)) == 8
    assert passes == [True, True, False]


def test_what_a_video_lacks() -> None:
    with pytest.raises(NoSoundError, match="expected a sound track; got no sound track"):
        video_sound(make_video(hertz=None))
    with pytest.raises(NoFramesError, match="expected at least one frame; got no video stream"):
        video_frames(make_video(frames=0), 4)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", EmptyMediaError),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", UndecodableMediaError),
        (b"ffconcat version 1.0\nfile '/etc/passwd'\n", UndecodableMediaError),
        (b"\x00\x00\x00\x20ftypisom" + bytes(100), UndecodableMediaError),
        (make_video()[:600], UndecodableMediaError),
    ],
)
def test_bad_bytes(content: bytes, error: type[MediaError]) -> None:
    for decode in (lambda: video_frames(content, 4), lambda: video_sound(content)):
        with pytest.raises(error):
            decode()


@pytest.mark.parametrize(
    ("limits", "error", "told"),
    [
        (Limits(max_seconds=0.5), MediaTooLongError, "at most 0.5 seconds"),
        (Limits(max_frames=3), MediaTooLargeError, "at most 3 frames; got more"),
        (Limits(max_frame_pixels=100), MediaTooLargeError, "96 x 64 = 6,144 pixels"),
        (Limits(max_bytes=50), MediaTooLargeError, "at most 50 bytes"),
    ],
)
def test_limits(limits: Limits, error: type[MediaError], told: str) -> None:
    with pytest.raises(error, match=told):
        video_frames(make_video(), 8, limits)


def test_length_of_sound_is_counted() -> None:
    with pytest.raises(MediaTooLongError, match="at most 1 seconds"):
        video_sound(make_video(frames=60), Limits(max_seconds=1))


@pytest.mark.parametrize("form", ["mp4", "webm", "avi"])
def test_damaged_bytes(form: str) -> None:
    codecs, rate = next((c, r) for f, c, r in CONTAINERS if f == form)
    content = make_video(frames=4, form=form, codecs=codecs, rate=rate)
    small = Limits(max_frames=200, max_frame_pixels=1_000_000, max_seconds=60)

    def decode(damaged: bytes) -> None:
        video_frames(damaged, 2, small)
        video_sound(damaged, small)

    refused = count_refused(decode, content, len(form))
    assert refused > 0


# --- encoders of videos ---


def spec(kind: str, encoder: str, **options: Any) -> EncoderSpec:
    return EncoderSpec.model_validate({"kind": kind, "encoder": {"kind": encoder}, **options})


def test_frames_are_pooled_through_the_encoder_of_pictures() -> None:
    pool = EncoderPool("cpu")
    encoder = pool.get(spec("video-frames", "efficientnet-lite", frames=3))
    content = make_video(frames=12)
    vector = encode_all(encoder, "video", [encoder.prepare("video", content)])[0]
    inner = pool.get(EncoderSpec(kind="efficientnet-lite"))
    assert encoder._encoder is inner  # type: ignore[attr-defined]
    pictures = []
    for frame in video_frames(content, 3):
        file = BytesIO()
        frame.save(file, "PNG")
        pictures.append(inner.prepare("image", file.getvalue()))
    mean = encode_all(inner, "image", pictures).mean(axis=0)
    np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-4)


def test_sound_goes_through_the_encoder_of_sound() -> None:
    pool = EncoderPool("cpu")
    encoder = pool.get(spec("video-sound", "log-mel"))
    low, high = (make_video(hertz=hertz) for hertz in (300.0, 2000.0))
    videos = encode_all(encoder, "video", [encoder.prepare("video", one) for one in (low, high)])
    inner = pool.get(EncoderSpec(kind="log-mel"))
    clips = [inner.prepare("audio", video_sound(one)) for one in (low, high)]
    np.testing.assert_allclose(videos, encode_all(inner, "audio", clips), atol=1e-6)
    with pytest.raises(NoSoundError):
        encoder.prepare("video", make_video(hertz=None))


def test_fingerprints_name_what_is_wrapped() -> None:
    pool = EncoderPool("cpu")
    kinds = [
        spec("video-frames", "efficientnet-lite"),
        spec("video-frames", "efficientnet-lite", frames=4),
        spec("video-sound", "log-mel"),
        spec("video-sound", "mfcc"),
    ]
    assert len({pool.get(one).fingerprint("video") for one in kinds}) == 4


def test_what_cannot_be_wrapped() -> None:
    with pytest.raises(UnsupportedModalityError, match="log-mel"):
        check_encoder(spec("video-frames", "log-mel"), "video")
    with pytest.raises(InvalidPresetError, match="encoder: Field required"):
        check_encoder(EncoderSpec(kind="video-frames"), "video")
    with pytest.raises(UnsupportedModalityError):
        check_encoder(spec("video-frames", "efficientnet-lite"), "image")
