"""Run by `test_disk_full`: run every stage with more and more room, and look at what is left.

    python -m tests.faults.filler FOLDER HOW LEVELS SEED

HOW is `disk`: FOLDER is on a small file system of its own, all but a little of which is filled by
another file; or `quota`: no file may grow beyond a size. Prints a line of JSON for each level: the
stage, how much room there was, the stage's error, if any, the step that the index was left at, and
the problem, if any.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from indexer.errors import DiskFullError

from .forked import FailedError, log_to, preload, result_of, said
from .stages import STAGES, Stage

_PAGE = 4096
_FIRST = 8 * _PAGE


class Filler:
    """Runs one stage with so much room, each time from the same start."""

    def __init__(self, folder: Path, stage: Stage, how: str) -> None:
        self.stage = stage
        self.how = how
        self.start, self.index = folder / "start", folder / "index"
        self.log = Path(tempfile.mkstemp()[1])  # not where there is no room
        self.filler = folder / "filler"
        result_of(stage.prepare, self.start)

    def again(self) -> None:
        """The index as it was before."""
        shutil.rmtree(self.index, ignore_errors=True)
        if self.start.exists():
            shutil.copytree(self.start, self.index)
        self.log.unlink(missing_ok=True)

    @contextmanager
    def room(self, size: int) -> Iterator[None]:
        """So many bytes are left, until the end of the block."""
        if self.how == "disk":
            status = os.statvfs(self.filler.parent)
            left = status.f_bavail * status.f_frsize - size
            with self.filler.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, max(left, 1))
        try:
            yield
        finally:
            self.filler.unlink(missing_ok=True)

    def work(self, size: int) -> str:
        """The stage; the error that ended it, or nothing."""
        if self.how == "quota":
            # Python ignores the signal, and calls fail with EFBIG.
            size = max(size, _PAGE)  # the log needs some
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        try:
            self.stage.run(self.index, log_to(self.log))
        except DiskFullError as error:
            return str(error)
        return ""

    def outcome(self) -> int:
        """The step that the index is at, as readers see it while there is no room."""
        return self.stage.outcome(self.index, said(self.log))

    def strike(self, size: int, *, told: bool = True) -> bool:
        """Run it once and tell; whether it came to its end."""
        found: dict[str, object] = {"stage": self.stage.name, "room": size, "problem": ""}
        self.again()
        try:
            with self.room(size):
                found["error"] = result_of(self.work, size)
                found["step"] = result_of(self.outcome)
            result_of(self.stage.go_on, self.index)
        except FailedError as error:
            found["problem"] = str(error)
        if told:
            print(json.dumps(found), flush=True)
        return found.get("error") == ""


def fill(folder: Path, stage: Stage, how: str, levels: int, rng: np.random.Generator) -> None:
    """Run a stage with no room, with just enough, and with some levels in between."""
    folder.mkdir()
    filler = Filler(folder, stage, how)
    enough = _FIRST
    while not filler.strike(enough, told=False):
        enough *= 2
        assert enough < 1 << 26, "no room is enough"
    pages = rng.integers(0, enough // _PAGE, size=levels - 2)
    for level in (0, *sorted(pages.tolist()), enough // _PAGE):
        filler.strike(level * _PAGE)
    filler.log.unlink(missing_ok=True)
    shutil.rmtree(folder)


def main() -> None:
    """Fill as the command line says."""
    root, how = Path(sys.argv[1]), sys.argv[2]
    levels, seed = map(int, sys.argv[3:])
    preload()
    rng = np.random.default_rng(seed)
    for stage in STAGES.values():
        fill(root / stage.name.replace(" ", "-"), stage, how, levels, rng)


if __name__ == "__main__":
    main()
