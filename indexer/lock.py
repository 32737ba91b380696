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


@contextmanager
def writer_lock(path: Path) -> Iterator[None]:
    """Hold the index's writer lock.

    `flock` is released by the kernel when the process ends, however it ends, so a lock is
    never stale. The file holds the writer's pid for the error of the one who came second.

    Raises:
        IndexLockedError: another process holds it; the message names its pid.
    """
    with translated_os_errors(f"lock {path}"):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
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
        os.close(descriptor)


class ReaderHold:
    """A reader's hold on a file: `unheld` tells whether there is none, in any process.

    It ends with `release`, with the object, or with the process, however that ends.
    """

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.release = weakref.finalize(self, os.close, descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_SH)


@contextmanager
def unheld(path: Path) -> Iterator[bool]:
    """Whether no reader holds a file; until the end of the block none can. A file that is not there
    nobody holds."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
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
        os.close(descriptor)
