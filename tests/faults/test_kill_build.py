"""kill -9 at any moment of a build: the old index or the new, whole, and a later build ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from catalens import Query, Retriever
from indexer import IndexLayout, verify_index
from indexer.errors import NotAnIndexError
from tests.catalogs import build_toy, toy_rows
from tests.processes import ROOT, run_python

OLD, NEW = 60, 700

BUILDS = """
import sys
from tests.catalogs import build_toy, toy_rows
print("started", flush=True)
build_toy(sys.argv[1], toy_rows(int(sys.argv[2]), pictures=False))
print("ended", flush=True)
"""

KILLS_ITSELF = """
import sys
from tests.catalogs import build_toy, toy_rows
import indexer.publish, indexer.derive, indexer.durable
from tests.dying import Dying
dies = Dying(int(sys.argv[2]))
# Every step that makes something durable: a commit, a file, a folder, a rename, a sweep.
from indexer.environment import Environment
from pathlib import Path
Environment.write = dies(Environment.write)
Path.rename = dies(Path.rename)
indexer.publish.sync_folder = dies(indexer.publish.sync_folder)
indexer.derive.sync_folder = dies(indexer.derive.sync_folder)
indexer.derive.write_file = dies(indexer.derive.write_file)
indexer.publish.write_file = dies(indexer.publish.write_file)
indexer.publish.shutil.rmtree = dies(indexer.publish.shutil.rmtree)
build_toy(sys.argv[1], toy_rows(int(sys.argv[3]), pictures=False))
print("steps left", dies.left)
"""


def items(index: Path) -> int | None:
    """Items of the index, every one of which answers; None when there is none yet."""
    try:
        with Retriever.open(index, device="cpu") as retriever:
            found = retriever.search(Query(text="red"), len(retriever), where="number >= 0")
            assert len({hit.id for hit in found}) == len(retriever)
            return len(retriever)
    except NotAnIndexError:
        return None


def check_and_finish(index: Path, before: int | None, after: int) -> int | None:
    """Whole, old or new; then a later build succeeds and leaves no trace of the killed one."""
    seen = items(index)
    assert seen in (before, after)
    if seen is not None:
        assert verify_index(index).problems == []
    build_toy(index, toy_rows(after, pictures=False))
    assert items(index) == after
    assert verify_index(index).problems == []
    assert len(list(IndexLayout(index).generations.iterdir())) == 1
    return seen


def kill_after(index: Path, count: int, seconds: float) -> bool:
    """Start a build and kill it; whether it was killed before its end."""
    process = subprocess.Popen(
        [sys.executable, "-c", BUILDS, index, str(count)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "started\n"
    time.sleep(seconds)
    os.kill(process.pid, signal.SIGKILL)
    rest, _ = process.communicate()
    return "ended" not in rest


@pytest.fixture(scope="module")
def duration(tmp_path_factory: pytest.TempPathFactory) -> float:
    """How long the build takes here, to spread the kills over it."""
    out = tmp_path_factory.mktemp("timed") / "index"
    with subprocess.Popen(
        [sys.executable, "-c", BUILDS, out, str(NEW)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout and process.stdout.readline() == "started\n"
        started = time.monotonic()
        assert process.stdout.readline() == "ended\n"
        return time.monotonic() - started


@pytest.mark.parametrize("existing", [None, OLD], ids=["first build", "rebuild"])
def test_killed_at_random_moments(tmp_path: Path, duration: float, existing: int | None) -> None:
    moments = np.random.default_rng(OLD).uniform(0, 1.1 * duration, size=8)
    killed = 0
    for number, seconds in enumerate(moments):
        index = tmp_path / f"index-{number}"
        if existing:
            build_toy(index, toy_rows(existing, pictures=False))
        killed += kill_after(index, NEW, seconds)
        check_and_finish(index, existing, NEW)
    assert killed >= 3  # or the moments show nothing


@pytest.mark.parametrize(("existing", "stride"), [(None, 3), (OLD, 1)])
def test_killed_before_each_durable_step(tmp_path: Path, existing: int | None, stride: int) -> None:
    outcomes = set()
    for steps in range(0, 40, stride):
        index = tmp_path / f"index-{steps}"
        if existing:
            build_toy(index, toy_rows(existing, pictures=False))
        done = run_python(KILLS_ITSELF, index, steps, 100)
        if done.returncode == 0:
            assert int(done.stdout.split()[-1]) < stride  # the build has no later step
            break
        assert done.returncode == -9, done.stderr
        outcomes.add(check_and_finish(index, existing, 100))
    else:
        pytest.fail("the build has more than 40 steps")
    assert existing in outcomes
    assert stride > 1 or 100 in outcomes  # some kills came before the commit, some after


def test_killed_again_and_again_it_still_gets_there(tmp_path: Path, duration: float) -> None:
    index = tmp_path / "index"
    for _ in range(6):
        kill_after(index, NEW, duration * 0.5)
        assert items(index) in (None, NEW)
    build_toy(index, toy_rows(NEW, pictures=False))
    assert items(index) == NEW
    assert verify_index(index).problems == []
