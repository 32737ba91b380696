"""Batches of like length that shrink when the device runs out of memory."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from .base import Encoder, Vectors
from .errors import OutOfMemoryError


def encode_all(
    encoder: Encoder, modality: str, prepared: Sequence[Any], batch_size: int | None = None
) -> Vectors:
    """Encode any number of prepared inputs, in the order given.

    Inputs are sorted by `encoder.length` first, the longest before the rest: a batch is padded to
    its longest input, and running out of memory shows at the start and not after an hour. A batch
    that does not fit is halved, and the smaller size kept for what follows.

    Args:
        encoder: the encoder.
        modality: one of its modalities.
        prepared: what `encoder.prepare` returned, one per input.
        batch_size: inputs per call; None takes the encoder's own.

    Returns:
        float32 array with shape (len(prepared), encoder.dimension), rows of unit length.

    Raises:
        OutOfMemoryError: one input alone does not fit on the device.
        ValueError: `batch_size` is less than 1.
    """
    size = encoder.batch_size if batch_size is None else batch_size
    if size < 1:
        raise ValueError(f"batch_size: expected 1 or more; got {size}")
    order = sorted(range(len(prepared)), key=lambda i: encoder.length(prepared[i]), reverse=True)
    result = np.empty((len(prepared), encoder.dimension), dtype=np.float32)
    start = 0
    while start < len(order):
        rows = order[start : start + size]
        vectors = _encode_or_none(encoder, modality, [prepared[row] for row in rows])
        if vectors is not None:
            result[rows] = vectors
            start += len(rows)
        elif len(rows) == 1:
            raise OutOfMemoryError(
                f"encoder {encoder.kind!r}, {modality}",
                expected="memory on the device for a batch of one",
                got="out of memory",
                remedy="Free the device, use device 'cpu', or choose a smaller model.",
            )
        else:
            size = len(rows) // 2
    return result


def _encode_or_none(encoder: Encoder, modality: str, batch: list[Any]) -> Vectors | None:
    """Return the vectors, or None when the batch does not fit.

    The exception is dropped before anything is tried again: its traceback holds the frames, and
    with them the tensors that filled the device.
    """
    try:
        return encoder.encode(modality, batch)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    _release_device_memory()
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception of ours or of torch says that memory ran out.

    torch's own class derives from RuntimeError; cuDNN, cuBLAS, MPS and the CPU allocator raise a
    bare RuntimeError whose text is all there is to go by.
    """
    if isinstance(error, OutOfMemoryError | MemoryError):
        return True
    if not isinstance(error, RuntimeError):
        return False
    text = str(error).lower()
    return any(sign in text for sign in _SIGNS) or type(error).__name__ == "OutOfMemoryError"


_SIGNS = ("out of memory", "can't allocate memory", "cublas_status_alloc_failed")


def _release_device_memory() -> None:
    """Return cached blocks to the device; a no-op when torch was never imported."""
    torch = sys.modules.get("torch")
    if torch is None:
        return
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()
