"""Where an index stands, who may write there, and what the clock says."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from catalens import Retriever, Writer
from indexer import IndexLayout, verify_index
from tests.processes import run_python

from .mounts import run_bound_by_modes, run_mounted
from .stages import OLD, build_vectors, mix
from .stock import read, state_of

# What can be done to an index that nobody may write to: reading alone.
READS_ONLY = """
import sys
from pathlib import Path
from catalens import CatalensError, Writer, build_index, rebuild_index, tune_index
from indexer import verify_index
from tests.faults.stages import OLD
from tests.faults.stock import read, rows
index = Path(sys.argv[1])
print(read(index) == OLD, verify_index(index).problems)
for write in (
    Writer.open,
    rebuild_index,
    tune_index,
    lambda path: build_index(rows(OLD), path, vector="v"),
    lambda path: build_index(rows(OLD), path.parent / "other", vector="v"),
):
    try:
        write(index)
        print("written")
    except CatalensError as error:
        print(type(error).__name__, error.exit_code, "mode" in str(error))
print(read(index) == OLD)
"""
REFUSED = ["True []", *["StoreUnavailableError 1 True"] * 5, "True"]


@pytest.fixture
def index(tmp_path: Path) -> Path:
    build_vectors(tmp_path / "catalog" / "index", OLD)
    return tmp_path / "catalog" / "index"


@pytest.mark.parametrize("has_lock", [True, False])
def test_read_only_file_system_is_read(index: Path, has_lock: bool) -> None:
    if not has_lock:
        (index / "store" / "lock.mdb").unlink()
    folder = index.parent
    mount = f'mount --bind "{folder}" "{folder}"; mount -o remount,bind,ro "{folder}"'
    done = run_mounted(mount, "-c", READS_ONLY, index)
    assert done.stdout.splitlines() == REFUSED, done.stderr


def test_read_only_folder_is_read(index: Path) -> None:
    paths = [index.parent, *index.parent.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        done = run_bound_by_modes("-c", READS_ONLY, index)
    finally:
        for path in paths:
            path.chmod(0o755)
    assert done.stdout.splitlines() == REFUSED, done.stderr


UNREADABLE = """
import sys
from pathlib import Path
from catalens import CatalensError, Retriever, Writer
from indexer import verify_index
for opener in (Retriever.open, Writer.open, verify_index):
    try:
        opened = opener(sys.argv[1])
        if isinstance(opened, Writer):
            print("OPEN", "generations" in sys.argv[2])  # it needs the store alone
        else:
            print("PROBLEMS", "Permission denied" in opened.problems[0])
    except CatalensError as error:
        print(type(error).__name__, "Permission denied" in str(error))
"""


@pytest.mark.parametrize("name", ["store/data.mdb", "generations/000001/manifest.json", "store"])
def test_what_may_not_be_read_is_our_error(index: Path, name: str) -> None:
    (index / name).chmod(0)
    done = run_bound_by_modes("-c", UNREADABLE, index, name)
    (index / name).chmod(0o755)
    told = [line.split() for line in done.stdout.splitlines()]
    assert [denied for _, denied in told] == ["True"] * 3, done.stdout + done.stderr


def test_moved_while_closed_it_goes_on(index: Path, tmp_path: Path) -> None:
    """Moved, copied, and named by a link; the old place is free for another."""
    moved, copied = tmp_path / "moved", tmp_path / "copied"
    with Writer.open(index) as writer:
        state = mix(writer, OLD, 1)
    shutil.move(index, moved)
    shutil.copytree(moved, copied)
    build_vectors(index, OLD)
    with Retriever.open(index) as one, Retriever.open(moved) as two:
        assert (state_of(one), state_of(two)) == (OLD, state)
        with Writer.open(copied) as writer:
            later = mix(writer, state, 2)
            writer.commit()
            writer.compact()
        assert not one.refresh() and not two.refresh()
    (tmp_path / "link").symlink_to(copied)
    assert read(tmp_path / "link") == later
    for path in (index, moved, copied):
        assert verify_index(path).problems == []


CLOCK_BACK = """
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from catalens import Retriever, Writer, rebuild_index
import indexer.publish
from tests.faults.stages import OLD, mix
from tests.faults.stock import state_of

class Back(datetime):
    # Each look at the clock is an hour earlier than the one before.
    hours = 0
    @classmethod
    def now(cls, zone=None):
        Back.hours += 1
        return datetime(1999, 1, 1, tzinfo=zone) - timedelta(hours=Back.hours)

indexer.publish.datetime = Back
state = OLD
with Retriever.open(sys.argv[1]) as shop:
    for batch in range(1, 4):
        with Writer.open(sys.argv[1]) as writer:
            state = mix(writer, state, batch)
            writer.commit()
            assert shop.refresh() and state_of(shop) == state
            writer.compact()
        assert shop.refresh() and state_of(shop) == state
        rebuild_index(sys.argv[1], profile="exact")
        assert shop.refresh() and state_of(shop) == state
        print(shop.manifest.generation, shop.manifest.created)
"""


def test_a_clock_set_back_changes_nothing(index: Path) -> None:
    """No order is by time: generations are numbered, commits are LMDB's."""
    for path in (index, *index.rglob("*")):
        os.utime(path, (2_000_000_000, 2_000_000_000))
    done = run_python(CLOCK_BACK, index)
    told = [line.split() for line in done.stdout.splitlines()]
    assert [int(number) for number, _ in told] == [3, 5, 7], done.stderr
    assert all(created.startswith("1998-12-31") for _, created in told)
    Writer.open(index).close()  # removes what the reader held to its end
    assert len(list(IndexLayout(index).generations.iterdir())) == 1
    assert verify_index(index).problems == []
