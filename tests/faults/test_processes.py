"""Processes that share an index: forked ones, two writers, readers that died, too little memory."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from catalens import Retriever, Writer
from indexer import IndexLayout, verify_index
from indexer.errors import IndexLockedError
from tests.processes import run_python, start_python

from .stages import OLD, build_vectors, mix
from .stock import read, state_of


@pytest.fixture
def index(tmp_path: Path) -> Path:
    build_vectors(tmp_path / "index", OLD)
    return tmp_path / "index"


FORKS = """
import os, sys, threading
from pathlib import Path
import numpy as np
from catalens import Query, Retriever, Writer
from indexer.errors import ForkedStoreError, IndexLockedError
from tests.faults.stages import OLD
from tests.faults.stock import read, rows, state_of
index = Path(sys.argv[1])
shop, writer = Retriever.open(index), Writer.open(index)
writer.add(rows({100: 1}))
query = Query(vector=np.ones(8))
uses = (
    lambda: shop.search(query, 3),
    lambda: shop.search(query, 3, explain=False),
    lambda: shop.search(query, 3, where="n > 3"),
    shop.refresh,
    shop.fields,
    writer.commit,
    writer.compact,
    lambda: writer.add(rows({101: 1})),
    lambda: writer.delete(["item-3"]),
)
held = threading.Event()
def hold():  # a thread that is not there in the child
    with shop._lock, shop._refreshing:
        held.set()
        threading.Event().wait()
threading.Thread(target=hold, daemon=True).start()
held.wait()
if os.fork() == 0:
    refused = 0
    for use in uses:
        try:
            use()
        except ForkedStoreError as error:
            refused += str(os.getppid()) in str(error)
    shop.close()
    writer.close()
    try:
        Writer.open(index)
    except IndexLockedError as error:
        refused += f"process {os.getppid()} " in str(error)
    if read(index) != OLD:  # opened anew
        refused = -1
    os._exit(refused)
_, status = os.wait()
print(os.waitstatus_to_exitcode(status), len(uses) + 1)
print(writer.commit().added, read(index) == {**OLD, 100: 1})
"""


def test_a_forked_child_is_refused_and_harms_nothing(index: Path) -> None:
    done = run_python(FORKS, index, timeout=60)
    assert done.stdout.splitlines() == ["10 10", "1 True"], done.stderr
    assert verify_index(index).problems == []


# The child outlives its parent, and must not keep what the parent held.
ORPHAN = """
import os, sys
from catalens import Retriever, Writer
shop, writer = Retriever.open(sys.argv[1]), Writer.open(sys.argv[1])
child = os.fork()
if child == 0:
    sys.stdin.readline()
    os._exit(0)
print(child, flush=True)
os.kill(os.getpid(), 9)
"""


def test_locks_die_with_the_process_that_took_them(index: Path) -> None:
    parent = start_python(ORPHAN, index)
    assert parent.stdout
    child = int(parent.stdout.readline())
    try:
        assert parent.wait(60) == -signal.SIGKILL
        os.kill(child, 0)  # alive
        with Writer.open(index) as writer:
            mix(writer, OLD, 1)
            writer.commit()
            writer.compact()
        assert len(list(IndexLayout(index).generations.iterdir())) == 1
    finally:
        parent.communicate("\n", timeout=60)


HOLDS = """
import sys
from catalens import Writer
with Writer.open(sys.argv[1]) as writer:
    print("holding", flush=True)
    sys.stdin.readline()
"""


def test_a_second_writer_is_let_in_when_the_first_is_killed(index: Path) -> None:
    first = start_python(HOLDS, index)
    assert first.stdout and first.stdout.readline() == "holding\n"
    with pytest.raises(IndexLockedError, match=f"process {first.pid} "):
        Writer.open(index)
    first.kill()
    first.communicate()
    with Writer.open(index) as writer, pytest.raises(IndexLockedError, match=f"{os.getpid()} "):
        mix(writer, OLD, 1)
        Writer.open(index)


READS = """
import sys
from catalens import Retriever
with Retriever.open(sys.argv[1]) as shop:
    print("reading", flush=True)
    sys.stdin.readline()
"""


def test_what_a_dead_reader_held_is_cleared(index: Path) -> None:
    """Its generation is removed and its pages are used again; while it lived, neither was."""
    state, data = OLD, IndexLayout(index).store_data
    reader = start_python(READS, index)
    assert reader.stdout and reader.stdout.readline() == "reading\n"

    def write(batches: range) -> None:
        nonlocal state
        for batch in batches:
            with Writer.open(index) as writer:
                state = mix(writer, state, batch)
                writer.commit()
                writer.compact()

    write(range(1, 11))
    held = [path.name for path in IndexLayout(index).generations.iterdir()]
    assert "000001" in held and len(held) == 2
    reader.kill()
    reader.communicate()
    write(range(11, 21))
    assert len(list(IndexLayout(index).generations.iterdir())) == 1
    # Ten commits took new pages; twenty more take those.
    size = data.stat().st_size
    write(range(21, 41))
    assert data.stat().st_size == size
    with Retriever.open(index) as shop:
        assert state_of(shop) == state


NO_ADDRESSES = """
import resource, sys
from pathlib import Path
from catalens import Retriever, Writer
from indexer.errors import StoreFullError
from tests.faults.stages import OLD
from tests.faults.stock import read, state_of
index = Path(sys.argv[1])
state_of  # imported, as what it needs
import faiss, pyroaring
pages = int(Path("/proc/self/statm").read_text().split()[0])
free = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + (32 << 20), free[1]))
for opener in (Retriever.open, Writer.open):
    try:
        opener(index)
    except StoreFullError as error:
        print("ulimit" in str(error), error.exit_code)
resource.setrlimit(resource.RLIMIT_AS, free)
print(read(index) == OLD)
"""


def test_a_map_that_cannot_be_made_is_our_error(index: Path) -> None:
    done = run_python(NO_ADDRESSES, index)
    assert done.stdout.splitlines() == ["True 1", "True 1", "True"], done.stderr
    assert read(index) == OLD
