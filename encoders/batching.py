"""Batches of like length that shrink when the device runs out of memory."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
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
    not fit is halved, and the smaller size kept for what follows. `encoder.calls_at_once`
    batches are encoded side by side, and the last ones are smaller, so that all end together.

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
    threads = max(1, min(encoder.calls_at_once, -(-len(order) // size)))
    batches = _Batches(order, size, threads)

    def work() -> None:
        while rows := batches.take():
            vectors = _encode_or_none(encoder, modality, [prepared[row] for row in rows])
            if vectors is not None:
                result[rows] = vectors
            elif len(rows) == 1:
                raise out_of_memory(encoder.kind, 1)
            else:
                batches.give_back(rows)

    if threads == 1:
        work()
        return result
    with ThreadPoolExecutor(threads, thread_name_prefix="catalens-encode") as pool:
        running = [pool.submit(work) for _ in range(threads)]
        try:
            for future in running:
                future.result()
        finally:
            # After a failure, or an interrupt, the others stop at their next batch.
            batches.drop()
    return result


class _Batches:
    """Inputs still to be encoded, handed out batch by batch to so many threads."""

    def __init__(self, order: list[int], size: int, threads: int) -> None:
        self._rest = order[::-1]
        self._size = size
        self._threads = threads
        self._lock = threading.Lock()

    def take(self) -> list[int]:
        """The next batch; empty when nothing is left."""
        with self._lock:
            share = -(-len(self._rest) // self._threads)
            return [self._rest.pop() for _ in range(min(self._size, share))]

    def give_back(self, rows: list[int]) -> None:
        """Return a batch that did not fit, to be taken in halves, and all after it too."""
        with self._lock:
            self._rest += rows[::-1]
            self._size = min(self._size, len(rows) // 2)

    def drop(self) -> None:
        """Leave nothing to take."""
        with self._lock:
            self._rest.clear()


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
