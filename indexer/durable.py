"""Files that are on the disk when a call returns: written, synced, hashed."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import DiskFullError, OutputFolderError, StoreUnavailableError

_HASH_CHUNK = 1 << 22


@contextmanager
def translated_os_errors(what: str) -> Iterator[None]:
    """Turn the operating system's errors about space and permission into ours."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DiskFullError(
                what,
                expected="room on the disk",
                got=os.strerror(error.errno),
                remedy="Free some space and run the same command again; the index is unharmed.",
            ) from error
        if error.errno in (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG):
            raise OutputFolderError(
                what,
                expected="a path that can be a folder of an index",
                got=str(error),
                remedy="Choose another path.",
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise StoreUnavailableError(
                what,
                expected="files and folders that may be read, and written to by who writes",
                got=str(error),
                remedy="Check its owner and mode, or choose another folder.",
            ) from error
        raise


class HashedFile:
    """A new file, written in order, its SHA-256 computed on the way; synced on close."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("xb")
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes | memoryview) -> None:
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)

    def close(self) -> tuple[int, str]:
        """Sync and close; return size in bytes and SHA-256 as hex."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return self.size, self._hash.hexdigest()

    def __enter__(self) -> HashedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def write_file(path: Path, data: bytes) -> tuple[int, str]:
    """Write `data` to a new file and sync it; return size and SHA-256."""
    with HashedFile(path) as file:
        file.write(data)
        return file.close()


def link_file(source: Path, target: Path) -> None:
    """Make a file that is on the disk appear under another name too; copied where links cannot be
    made."""
    try:
        target.hardlink_to(source)
    except OSError:
        with source.open("rb") as old, HashedFile(target) as new:
            while chunk := old.read(_HASH_CHUNK):
                new.write(chunk)
            new.close()


def sync_folder(path: Path) -> None:
    """Make the names inside a folder durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_file(path: Path) -> str:
    """SHA-256 of a whole file as hex, read in chunks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_HASH_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
