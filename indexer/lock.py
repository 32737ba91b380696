"""Locks that die with their process: one writer per index, and readers that hold a generation."""

from __future__ import annotations

import fcntl
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .durable import translated_os_errors
from .errors import IndexLockedError

# Descriptors that carry locks. A forked child would keep its parent's locks beyond the parent's
# death: it lets go of its copies at once, which leaves the parent's as they are.
_carriers: dict[object, int] = {}


def _open(path: Path, flags: int) -> tuple[object, int]:
    token = object()
    descriptor = _carriers[token] = os.open(path, flags | os.O_CLOEXEC, 0o644)
    return token, descriptor


def _close(token: object) -> None:
    descriptor = _carriers.pop(token, None)
    if descriptor is not None:
        os.close(descriptor)


def _leave_to_parent() -> None:
    for token in list(_carriers):
        _close(token)


os.register_at_fork(after_in_child=_leave_to_parent)


@contextmanager
def writer_lock(path: Path) -> Iterator[None]:
    """Hold the index's writer lock.

    `flock` is released by the kernel when the process ends, however it ends, so a lock is
    never stale. The file holds the writer's pid for the error of the one who came second.

    Raises:
        IndexLockedError: another process holds it; the message names its pid.
    """
    with translated_os_errors(f"lock {path}"):
        token, descriptor = _open(path, os.O_RDWR | os.O_CREAT)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise IndexLockedError(
                f"index {path.parent}",
                expected="no other writer",
                got=f"process {holder} writing to it",
                remedy="Wait for it to finish, or stop it; nothing will be lost.",
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        _close(token)


class ReaderHold:
    """A reader's hold on a file: `unheld` tells whether there is none, in any process.

    It ends with `release`, with the object, or with the process, however that ends.
    """

    def __init__(self, path: Path) -> None:
        token, descriptor = _open(path, os.O_RDONLY)
        self.release = weakref.finalize(self, _close, token)
        fcntl.flock(descriptor, fcntl.LOCK_SH)


@contextmanager
def unheld(path: Path) -> Iterator[bool]:
    """Whether no reader holds a file; until the end of the block none can. A file that is not there
    nobody holds."""
    try:
        token, descriptor = _open(path, os.O_RDONLY)
    except FileNotFoundError:
        yield True
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        _close(token)
