"""Files, text and vectors: what is refused, and the numbers in the message."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from encoders import (
    EmptyMediaError,
    EncoderSpec,
    InvalidVectorError,
    Limits,
    MediaTooLargeError,
    MissingMediaError,
    UndecodableMediaError,
    load_encoder,
    read_bytes,
)
from encoders.fingerprint import file_sha256, fingerprint
from encoders.text import MAX_CHARACTERS, decode_text


def test_read_bytes(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"12345")
    assert read_bytes(file) == b"12345"
    assert read_bytes(file, Limits(max_bytes=5)) == b"12345"
    with pytest.raises(MediaTooLargeError, match="at most 4 bytes; got 5 bytes"):
        read_bytes(file, Limits(max_bytes=4))


def test_only_regular_files(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path, got in (
        (fifo, "FIFO"),
        (Path("/dev/zero"), "character device"),
        (tmp_path, "folder"),
    ):
        with pytest.raises(MissingMediaError, match=got):
            read_bytes(path)
    for path in (tmp_path / "none", Path("a\0b"), Path("x" * 5000)):
        with pytest.raises(MissingMediaError):
            read_bytes(path)


def test_a_file_that_outgrows_its_size_is_refused() -> None:
    # Files of /proc say 0 bytes and give more.
    with pytest.raises(MediaTooLargeError, match="got 11 bytes"):
        read_bytes("/proc/self/status", Limits(max_bytes=10))


def test_text() -> None:
    assert decode_text("\ufeff Zażółć \n".encode()) == "Zażółć"
    with pytest.raises(UndecodableMediaError, match="byte 0xff at offset 2"):
        decode_text(b"ab\xff")
    with pytest.raises(UndecodableMediaError):
        decode_text(b"x" * MAX_CHARACTERS + b"\xff")
    for blank in (b"", b" \n\t", "\u3000\u2003".encode()):
        with pytest.raises(EmptyMediaError):
            decode_text(blank)


def test_a_hundred_megabytes_of_text_take_no_minutes() -> None:
    encoder = load_encoder(EncoderSpec(kind="sentence-transformers"), "cpu")
    start = time.perf_counter()
    encoder.prepare("text", b"a red shoe " * 10_000_000)
    assert time.perf_counter() - start < 10  # 0.1 s here; uncut, over a minute


def test_vectors() -> None:
    encoder = load_encoder(EncoderSpec.model_validate({"kind": "vector", "dimension": 3}))
    values = np.array([[3, 0, 4], [1e-30, 0, 0], [3e38, -3e38, 0]], dtype="<f4")
    rows = encoder.encode("vector", [encoder.prepare("vector", row.tobytes()) for row in values])
    half = np.sqrt(0.5)
    np.testing.assert_allclose(rows, [[0.6, 0, 0.8], [1, 0, 0], [half, -half, 0]], rtol=1e-6)
    assert rows.dtype == np.float32
    assert encoder.encode("vector", []).shape == (0, 3)
    for content, message in (
        (b"\0" * 8, r"3 float32 values \(12 bytes\); got 2 values \(8 bytes\)"),
        (b"\0" * 13, "got 3.25 values"),
        (
            np.array([1, np.nan, np.inf], dtype="<f4").tobytes(),
            "got 2 NaN or infinite, the first at 1",
        ),
        (b"\0" * 12, "got 3 zeros"),
    ):
        with pytest.raises(InvalidVectorError, match=message):
            encoder.prepare("vector", content)


def test_fingerprints(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"abc")
    assert file_sha256(file).startswith("ba7816bf8f01cfea")  # FIPS 180-2, its first example
    base = {"kind": "k", "revision": 1, "modality": "text", "options": {"a": 1}, "files": [file]}
    first = fingerprint(**base)  # type: ignore[arg-type]
    assert len(first) == 32 and int(first, 16)
    assert fingerprint(**base) == first  # type: ignore[arg-type]
    changes = (
        {"kind": "l"},
        {"revision": 2},
        {"modality": "image"},
        {"options": {"a": 2}},
        {"files": []},
    )
    assert len({fingerprint(**{**base, **change}) for change in changes} | {first}) == 6  # type: ignore[arg-type]
    moved = tmp_path / "elsewhere" / "weights"
    moved.parent.mkdir()
    moved.write_bytes(b"abc")
    assert fingerprint(**{**base, "files": [moved]}) == first  # type: ignore[arg-type]
    file.write_bytes(b"abcd")
    assert fingerprint(**base) != first  # type: ignore[arg-type]
