"""From a media path in a dump to a file that may be read."""

from __future__ import annotations

import re
import stat
from pathlib import Path, PurePosixPath

from encoders.errors import MissingMediaError, UnsafePathError

from .values import shown

_FOREIGN = re.compile(r"data:|[a-z][a-z0-9+.-]+://|[a-z]:[\\/]", re.IGNORECASE)
"""URLs, and absolute paths of Windows."""


def resolve_media(root: Path, written: str) -> Path:
    """Return the file a path in a dump means.

    A dump is not trusted to name files at will: the path has to be relative, and must not leave
    the root, whether by `..` or by a symbolic link. Backslashes separate like slashes, because
    dumps written on Windows have them.

    Args:
        root: the media root, resolved.
        written: the path as the dump has it.

    Raises:
        UnsafePathError: absolute, a URL, with `..` or NUL, or a link out of the root.
        MissingMediaError: there is no such file, or it is a folder, a pipe or a device.
    """
    name = shown(written).removeprefix("str ")
    path = PurePosixPath(written.replace("\\", "/"))
    is_foreign = _FOREIGN.match(written)
    if is_foreign or path.is_absolute() or ".." in path.parts or not _is_plain(written):
        raise UnsafePathError(
            f"media path {name}",
            expected="a relative path below the media root",
            got="a URL or drive" if is_foreign else "a path that may lead elsewhere",
            remedy="Put the file below the media root (nothing is downloaded) and name it there.",
        )
    try:
        file = (root / path).resolve(strict=True)
        if not file.is_relative_to(root):
            raise UnsafePathError(
                f"media path {name}",
                expected=f"a file below {root}",
                got="a link that leaves it",
                remedy="Copy the file below the media root, or name a root that holds both.",
            )
        mode = file.stat().st_mode
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links.
        raise MissingMediaError(
            f"media path {name}",
            expected=f"a readable file below {root}",
            got=getattr(error, "strerror", None) or "a loop of links",
            remedy="Restore the file or correct the path.",
        ) from None
    if not stat.S_ISREG(mode):
        raise MissingMediaError(
            f"media path {name}",
            expected="a regular file",
            got="a folder" if stat.S_ISDIR(mode) else "a pipe or device",
            remedy="Name the file itself.",
        )
    return file


def _is_plain(written: str) -> bool:
    """Tell whether a file system can be asked for the path at all."""
    try:
        written.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in written
