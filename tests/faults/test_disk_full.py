"""A full disk at any stage: our error, an index as it was, and all works again with more room."""

from __future__ import annotations

import json
import os
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from tests.processes import run_module, run_python

from .mounts import run_mounted
from .stages import STAGES, build_vectors

MORE = int(os.environ.get("CATALENS_MORE_FAULTS", "1"))
LEVELS = 4 * MORE


def filled(folder: Path, how: str) -> subprocess.CompletedProcess[str]:
    folder.mkdir()
    module, arguments, timeout = "tests.faults.filler", (folder, how, LEVELS, MORE), 300 * MORE
    if how == "disk":
        mount = f'mount -t tmpfs -o size=64m tmpfs "{folder}"'
        return run_mounted(mount, "-m", module, *arguments, timeout=timeout)
    return run_module(module, *arguments, timeout=timeout)


@pytest.mark.parametrize("how", ["disk", "quota"])
def test_without_room(tmp_path: Path, how: str) -> None:
    done = filled(tmp_path / "small", how)
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one for one in told if one["problem"]] == []
    stages: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in told:
        stages[one["stage"]].append(one)
    assert set(stages) == set(STAGES)
    for name, levels in stages.items():
        assert levels[-1]["error"] == "" and levels[-1]["step"] == len(STAGES[name].states) - 1
        if name != "sweep":  # that needs no room
            assert levels[0]["error"]
        for one in levels:
            assert one["error"] == "" or "Free some space" in one["error"]


COMMITS_AGAIN = """
import resource, sys
from pathlib import Path
from catalens import Writer
from indexer.errors import DiskFullError
from tests.faults.stages import OLD
from tests.faults.stock import read, rows
index = Path(sys.argv[1])
new = dict.fromkeys(range(100, 400), 1)
size = (index / "store" / "data.mdb").stat().st_size
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
with Writer.open(index) as writer:
    writer.add(rows(new))
    for room in (0, 6000, 40_000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + room, hard))
        try:
            writer.commit()
        except DiskFullError:
            print("full", read(index) == OLD)
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    print(writer.commit().added, read(index) == {**OLD, **new})
"""


def test_the_same_writer_commits_when_there_is_room(tmp_path: Path) -> None:
    build_vectors(tmp_path / "index", dict.fromkeys(range(60), 0))
    done = run_python(COMMITS_AGAIN, tmp_path / "index")
    assert done.stdout.splitlines() == ["full True"] * 3 + ["300 True"], done.stderr
