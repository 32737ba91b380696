"""Damaged and random bytes: a result or a MediaError, and nothing else escapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from encoders import Limits, MediaError
from encoders.audio import decode_audio
from encoders.image import decode_image

MUTATIONS = 150
SMALL = Limits(max_pixels=4_000_000, max_bytes=2**22, max_seconds=60)


def mutations(content: bytes, seed: int) -> Iterator[bytes]:
    """Cuts, flipped bits, overwritten and removed and repeated stretches, mostly near the head."""
    rng = np.random.default_rng(seed)
    for number in range(MUTATIONS):
        data = bytearray(content)
        reach = len(data) if number % 2 else min(len(data), 200)
        at = int(rng.integers(0, reach))
        match number % 5:
            case 0:
                del data[at:]
            case 1:
                for place in rng.integers(0, reach, 3):
                    data[place] ^= 1 << int(rng.integers(0, 8))
            case 2:
                data[at : at + 4] = rng.bytes(4)
            case 3:
                del data[at : at + int(rng.integers(1, 50))]
            case 4:
                data[at:at] = data[at : at + int(rng.integers(1, 50))]
        yield bytes(data)


def count_refused(decode: Callable[[bytes], Any], content: bytes, seed: int) -> int:
    refused = 0
    for damaged in mutations(content, seed):
        try:
            decode(damaged)
        except MediaError:
            refused += 1
    return refused


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.filterwarnings("ignore")  # PIL warns of damage it survives
def test_pictures(form: str, photo: Any, saved: Callable[..., bytes]) -> None:
    content = saved(photo.resize((80, 60)), form)
    refused = count_refused(lambda data: decode_image(data, SMALL, target=8), content, len(form))
    assert 0 < refused <= MUTATIONS


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG", "MP3"])
def test_clips(form: str, tone: Any, clip: Callable[..., bytes]) -> None:
    content = clip(tone(0.5, 16_000), 16_000, form)
    refused = count_refused(lambda data: decode_audio(data, SMALL), content, len(form))
    assert 0 < refused <= MUTATIONS


def test_truncated_pictures_are_refused(photo: Any, saved: Callable[..., bytes]) -> None:
    for form in ("PNG", "JPEG", "WEBP", "GIF", "BMP"):
        content = saved(photo, form)
        for share in (0.1, 0.5, 0.9):
            with pytest.raises(MediaError):
                decode_image(content[: int(len(content) * share)])


def test_random_bytes() -> None:
    rng = np.random.default_rng(5)
    heads = [
        b"",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
        b"RIFF\0\0\0\0WEBP",
        b"GIF89a",
        b"BM",
        b"II*\0",
        b"MM\0*",
        b"RIFF\0\0\0\0WAVE",
        b"fLaC",
        b"OggS",
        b"ID3",
        b"\xff\xfb",
    ]
    for head in heads:
        for _ in range(20):
            content = head + rng.bytes(int(rng.integers(0, 2000)))
            for decode in (decode_image, decode_audio):
                try:
                    decode(content, SMALL)
                except MediaError as error:
                    assert error.expected and error.got and error.remedy
