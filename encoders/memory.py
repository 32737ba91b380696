"""Running out of memory, told apart from other failures in one place."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import OutOfMemoryError

_SIGNS = ("out of memory", "can't allocate memory", "cublas_status_alloc_failed")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception of ours, of Python, of torch or of OpenVINO says memory ran out.

    torch's own class derives from RuntimeError; cuDNN, cuBLAS, MPS and the CPU allocator raise a
    bare RuntimeError, whose text is all there is to go by.
    """
    if isinstance(error, OutOfMemoryError | MemoryError):
        return True
    if not isinstance(error, RuntimeError):
        return False
    text = str(error).lower()
    return type(error).__name__ == "OutOfMemoryError" or any(sign in text for sign in _SIGNS)


@contextmanager
def device_memory(kind: str, rows: int) -> Iterator[None]:
    """Translate an out-of-memory failure inside the block.

    Raises:
        OutOfMemoryError: memory ran out; every other exception passes.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, OutOfMemoryError) or not is_out_of_memory(error):
            raise
        raise out_of_memory(kind, rows) from error


def out_of_memory(kind: str, rows: int) -> OutOfMemoryError:
    """Return the error for a batch of `rows` inputs that does not fit."""
    return OutOfMemoryError(
        f"encoder {kind!r}",
        expected=f"memory for a batch of {rows}",
        got="out of memory",
        remedy="Use a smaller batch, free the device, or use device 'cpu'.",
    )


def release_device_memory() -> None:
    """Return cached blocks to the device; nothing where torch was never imported."""
    torch = sys.modules.get("torch")
    if torch is None:
        return
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()
