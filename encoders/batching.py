"""Batches of like length that shrink when the device runs out of memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .base import Encoder
from .memory import is_out_of_memory, out_of_memory, release_device_memory
from .vectors import Vectors


def encode_all(
    encoder: Encoder, modality: str, prepared: Sequence[Any], batch_size: int | None = None
) -> Vectors:
    """Encode any number of prepared inputs, in the order given.

    Inputs are sorted by `encoder.length`, the longest first: a batch is padded to its longest
    input, and running out of memory shows at the start and not after an hour. A batch that does
    not fit is halved, and the smaller size kept for what follows.

    Args:
        encoder: the encoder.
        modality: one of its modalities.
        prepared: what `encoder.prepare` returned, one per input.
        batch_size: inputs per call; None takes the encoder's own.

    Returns:
        float32 array with shape (len(prepared), encoder.dimension), rows of unit length.

    Raises:
        OutOfMemoryError: one input alone does not fit on the device.
        UnsupportedModalityError: the encoder does not reach `modality`.
        ValueError: `batch_size` is less than 1.
    """
    encoder.check_modality(modality)
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
            raise out_of_memory(encoder.kind, 1)
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
    release_device_memory()
    return None
