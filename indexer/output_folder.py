"""The folder that an index is to be made in."""

from __future__ import annotations

from pathlib import Path

from .environment import LOCK_FILE
from .errors import OutputFolderError
from .layout import IndexLayout

_OURS = {"store", "generations", "fitting", "runs", "writer.lock"}


def check_output_folder(layout: IndexLayout) -> None:
    """Refuse a folder that holds something else than an index.

    Raises:
        OutputFolderError: it does, or is a file.
    """
    root = layout.root
    if root.is_dir():
        others = {p.name for p in root.iterdir()} - _OURS
        if not layout.has_store:
            # A build that was stopped before it had a store leaves these folders empty, but for
            # the store's lock.
            named = [f for f in (layout.store, layout.generations) if f.exists()]
            others |= {f.name for f in named if not f.is_dir() or _holds_more(f)}
        if not others:
            return
        got = f"{root} with {', '.join(sorted(others)[:5])}"
    elif not root.exists():
        return
    else:
        got = f"the file {root}"
    raise OutputFolderError(
        "output folder",
        expected="a new or empty folder, or an index to build again",
        got=got,
        remedy="Choose another --out.",
    )


def _holds_more(folder: Path) -> bool:
    return any(path.name != LOCK_FILE for path in folder.iterdir())
