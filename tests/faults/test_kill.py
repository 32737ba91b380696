"""kill -9 anywhere: the index opens, is sound, and holds each step whole or not at all.

`CATALENS_MORE_FAULTS=20` kills so many times as often, at other points and times.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.processes import run_module

from .stages import STAGES

MORE = int(os.environ.get("CATALENS_MORE_FAULTS", "1"))
POINTS, TIMES = 9 * MORE, 3 * MORE


def kills(folder: Path, stage: str, again: int = 0) -> list[dict[str, Any]]:
    """What `killer` tells of each kill."""
    arguments = [folder, stage, POINTS, TIMES, again * MORE, MORE]
    done = run_module("tests.faults.killer", *arguments, timeout=120 * MORE)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("stage", STAGES)
def test_killed_at_points_and_random_times(tmp_path: Path, stage: str) -> None:
    told = kills(tmp_path, stage)
    assert [one for one in told if one["problem"]] == []
    by_points = [one for one in told if one["where"].startswith("point")]
    assert len(told) == len(by_points) + TIMES
    assert len(by_points) >= 5
    # A kill at a point must kill, or the points are not where the work is.
    assert all(one["killed"] for one in by_points)
    if STAGES[stage].states[0] != STAGES[stage].states[-1]:
        # Some came before a step was done, some after.
        assert len({one["step"] for one in by_points}) > 1


def test_killed_again_and_again_it_still_gets_there(tmp_path: Path) -> None:
    told = kills(tmp_path, "encode", again=4)
    assert [one for one in told if one["problem"]] == []
    last = told[-1]
    assert (last["where"], last["killed"], last["step"]) == ("at last", False, 1)
