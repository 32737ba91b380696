"""Batches of like length, in order, that shrink when memory runs out."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from encoders import Encoder, EncoderError, OutOfMemoryError, encode_all
from encoders.memory import device_memory
from encoders.vectors import unit_rows


class Angles(Encoder):
    """Texts to points of the circle by length; refuses batches past a size, as a device would."""

    kind = "angles"
    dimension = 2
    modalities = ("text",)
    batch_size = 16

    def __init__(self, fits: int, error: Exception | None = None) -> None:
        self.fits = fits
        self.error = error
        self.sizes: list[int] = []
        self.batches: list[list[int]] = []

    def fingerprint(self, modality: str) -> str:
        return "0" * 32

    def prepare(self, modality: str, content: bytes) -> str:
        return content.decode()

    def _encode(self, modality: str, prepared: Sequence[Any]) -> Any:
        self.sizes.append(len(prepared))
        if len(prepared) > self.fits:
            assert self.error is not None
            raise self.error
        self.batches.append([len(text) for text in prepared])
        angles = np.array([len(text) / 50 for text in prepared])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)

    def length(self, prepared: Any) -> int:
        return len(prepared)


TEXTS = ["x" * int(n) for n in np.random.default_rng(0).permutation(100)]
EXPECTED = np.array([[np.cos(len(t) / 50), np.sin(len(t) / 50)] for t in TEXTS])

MEMORY_ERRORS = [
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    torch.OutOfMemoryError("HIP out of memory"),
    RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
    RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
    MemoryError(),
    OutOfMemoryError("x", expected="x", got="x", remedy="x"),
]


def test_order_is_kept_and_batches_are_of_like_length() -> None:
    encoder = Angles(fits=16)
    vectors = encode_all(encoder, "text", TEXTS)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, EXPECTED, atol=1e-6)
    assert encoder.sizes == [16] * 6 + [4]
    for batch in encoder.batches:
        assert max(batch) - min(batch) < 16


@pytest.mark.parametrize("error", MEMORY_ERRORS, ids=lambda error: type(error).__name__)
def test_batches_halve_until_they_fit(error: Exception) -> None:
    encoder = Angles(fits=3, error=error)
    np.testing.assert_allclose(encode_all(encoder, "text", TEXTS), EXPECTED, atol=1e-6)
    assert encoder.sizes[:4] == [16, 8, 4, 2]
    assert set(encoder.sizes[4:]) == {2}


def test_one_that_does_not_fit() -> None:
    encoder = Angles(fits=0, error=MEMORY_ERRORS[0])
    with pytest.raises(OutOfMemoryError, match="batch of 1"):
        encode_all(encoder, "text", TEXTS)
    assert encoder.sizes == [16, 8, 4, 2, 1]


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shape mismatch"):
        encode_all(Angles(fits=0, error=RuntimeError("shape mismatch")), "text", TEXTS)
    with pytest.raises(RuntimeError, match="shape"), device_memory("angles", 4):
        raise RuntimeError("shape")
    with pytest.raises(OutOfMemoryError, match="batch of 4"), device_memory("angles", 4):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")


def test_batch_sizes_and_nothing() -> None:
    encoder = Angles(fits=100)
    encode_all(encoder, "text", TEXTS, batch_size=64)
    assert encoder.sizes == [64, 36]
    assert encode_all(encoder, "text", []).shape == (0, 2)
    with pytest.raises(ValueError, match="got 0"):
        encode_all(encoder, "text", TEXTS, batch_size=0)


def test_unit_rows() -> None:
    tiny, huge = 1e-200, 1e200
    rows = unit_rows([[3 * tiny, 4 * tiny], [3 * huge, -4 * huge]], rows=2, dimension=2, kind="x")
    assert rows.dtype == np.float32 and rows.flags.c_contiguous
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0.6, -0.8]], rtol=1e-6)
    with pytest.raises(EncoderError, match=r"shape \(3, 2\); got shape \(2, 2\)"):
        unit_rows(rows, rows=3, dimension=2, kind="x")
    for bad in (np.nan, np.inf):
        with pytest.raises(EncoderError, match="1 bad of 2 rows, the first at 1"):
            unit_rows([[1, 0], [bad, 0]], rows=2, dimension=2, kind="x")
    with pytest.raises(EncoderError, match="not all zero"):
        unit_rows([[0, 0]], rows=1, dimension=2, kind="x")


class Slow(Angles):
    """Two calls at once, which meet in the middle: each waits for the other to have come."""

    calls_at_once = 2

    def __init__(self) -> None:
        super().__init__(fits=16)
        self.meeting = threading.Barrier(2)

    def _encode(self, modality: str, prepared: Sequence[Any]) -> Any:
        self.meeting.wait(timeout=30)
        return super()._encode(modality, prepared)


def test_calls_run_side_by_side_and_order_is_kept() -> None:
    encoder = Slow()
    texts = TEXTS[:96]  # ten batches: the barrier needs pairs
    np.testing.assert_allclose(encode_all(encoder, "text", texts), EXPECTED[:96], atol=1e-6)
    # Of the last 16 each thread takes half of what is left, so that both end together.
    assert sorted(encoder.sizes) == [1, 1, 2, 4, 8] + [16] * 5


@pytest.mark.parametrize("error", MEMORY_ERRORS, ids=lambda error: type(error).__name__)
def test_batches_halve_until_they_fit_side_by_side(error: Exception) -> None:
    encoder = Angles(fits=3, error=error)
    encoder.calls_at_once = 3
    np.testing.assert_allclose(encode_all(encoder, "text", TEXTS), EXPECTED, atol=1e-6)
    assert max(len(batch) for batch in encoder.batches) <= 3


def test_a_failure_side_by_side_stops_the_others_and_reaches_the_caller() -> None:
    encoder = Angles(fits=0, error=RuntimeError("shape mismatch"))
    encoder.calls_at_once = 2
    with pytest.raises(RuntimeError, match="shape mismatch"):
        encode_all(encoder, "text", TEXTS, batch_size=1)
    assert len(encoder.sizes) < len(TEXTS)
