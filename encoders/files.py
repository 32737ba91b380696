"""Reading an input from disk: regular files of bounded size only."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from .errors import MediaTooLargeError, MissingMediaError
from .limits import DEFAULT_LIMITS, Limits


def read_bytes(path: str | os.PathLike[str], limits: Limits = DEFAULT_LIMITS) -> bytes:
    """Return the content of a regular file.

    The file is opened without blocking and examined through its descriptor, so that a FIFO or a
    device put in its place neither hangs nor is read.

    Raises:
        MissingMediaError: there is no such file, it does not open, or it is no regular file.
        MediaTooLargeError: more than `limits.max_bytes`, by size or while reading.
    """
    # Windows has no O_NONBLOCK, and no FIFOs in the file system to block on.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags | getattr(os, "O_CLOEXEC", 0))
    except (OSError, ValueError) as error:
        raise MissingMediaError(
            f"media file {os.fspath(path)!r}",
            expected="a file that opens",
            got=getattr(error, "strerror", None) or str(error),
            remedy="Correct the path in the catalog, or restore the file.",
        ) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise MissingMediaError(
                f"media file {os.fspath(path)!r}",
                expected="a regular file",
                got=_type_name(status.st_mode),
                remedy="Point the catalog at a file.",
            )
        if status.st_size > limits.max_bytes:
            raise _too_large(path, status.st_size, limits)
        with os.fdopen(descriptor, "rb", closefd=False) as stream:
            # One byte more than the size says: the file may have grown since.
            content = stream.read(status.st_size + 1)
            if len(content) > status.st_size:
                content += stream.read(limits.max_bytes + 1 - len(content))
    except OSError as error:
        raise MissingMediaError(
            f"media file {os.fspath(path)!r}",
            expected="a file that reads to its end",
            got=error.strerror or type(error).__name__,
            remedy="Check the disk or network share it lies on.",
        ) from error
    finally:
        os.close(descriptor)
    if len(content) > limits.max_bytes:
        raise _too_large(path, len(content), limits)
    return content


def check_size(content: bytes, limits: Limits) -> None:
    """Refuse content that did not come through `read_bytes` and is too large.

    Raises:
        MediaTooLargeError: more than `limits.max_bytes`.
    """
    if len(content) > limits.max_bytes:
        raise _too_large(None, len(content), limits)


def _too_large(
    path: str | os.PathLike[str] | None, size: int, limits: Limits
) -> MediaTooLargeError:
    return MediaTooLargeError(
        f"media file {Path(path)}" if path is not None else "media",
        expected=f"at most {limits.max_bytes:,} bytes",
        got=f"{size:,} bytes",
        remedy="Shrink it, or raise Limits.max_bytes.",
    )


def _type_name(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFCHR: "a character device",
        stat.S_IFBLK: "a block device",
        stat.S_IFSOCK: "a socket",
    }
    return kinds.get(stat.S_IFMT(mode), "something else")
