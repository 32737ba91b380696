"""kill -9 at any moment of a writer: every batch whose commit returned is there, none by half."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from catalens import Query, Retriever, Writer
from indexer import IndexLayout, verify_index
from tests.catalogs import build_vectors, clustered
from tests.processes import run_python, start_python

N, D, BATCH = 60, 8, 10

WRITES = """
import sys
from pathlib import Path
from catalens import Writer
from indexer.environment import Environment
import indexer.publish, indexer.derive, indexer.writer, indexer.changes, indexer.transactions
from tests.catalogs import clustered
from tests.dying import Dying
index, steps, where = sys.argv[1], int(sys.argv[2]), sys.argv[3]
dies = Dying(steps)
if where == "durable steps":
    Environment.write = dies(Environment.write)
    Environment._fill_up = dies(Environment._fill_up)
    Path.rename = dies(Path.rename)
    for module in (indexer.publish, indexer.derive):
        module.sync_folder = dies(module.sync_folder)
        module.write_file = dies(module.write_file)
    indexer.publish.shutil.rmtree = dies(indexer.publish.shutil.rmtree)
elif where == "inside transactions":
    indexer.transactions.WriteTransaction.put = dies(indexer.transactions.WriteTransaction.put)
x = clustered(400, 8, seed=5)
batch = int(sys.argv[4]) if len(sys.argv) > 4 else 0
with Writer.open(index) as writer:
    while batch < (400 // 10 if where == "random moments" else 4):
        # Each batch adds ten, gives the ten before other content, and deletes the ten before those.
        first = 10 * batch
        writer.add([{"id": f"n{n}", "v": x[n], "batch": batch} for n in range(first, first + 10)])
        if batch > 0:
            writer.update(
                [{"id": f"n{n}", "v": -x[n], "batch": batch} for n in range(first - 10, first)]
            )
        if batch > 1:
            writer.delete([f"n{n}" for n in range(first - 20, first - 10)])
        print("committing", batch, flush=True)
        writer.commit()
        print("committed", batch, flush=True)
        if batch % 3 == 1:
            writer.compact()
        batch += 1
"""


def state(batch: int) -> dict[str, int]:
    """The number of the batch that each of the new items is of, once `batch` is committed."""
    held = {f"n{n}": batch for n in range(10 * batch, 10 * batch + 10)}
    return held | {f"n{n}": batch for n in range(max(0, 10 * batch - 10), 10 * batch)}


def found(index: Path) -> dict[str, int]:
    """The new items and their batches; every vector is checked against its record."""
    x = clustered(400, D, seed=5)
    with Retriever.open(index) as shop:
        hits = shop.search(Query(vector=np.ones(D)), len(shop))
        assert len({hit.id for hit in hits}) == len(shop)
        new = {hit.id: hit for hit in hits if hit.id.startswith("n")}
        assert len(shop) == N + len(new)
        for item, hit in new.items():
            n, batch = int(item[1:]), hit.metadata["batch"]
            sign = 1 if batch == n // BATCH else -1
            wanted = sign * x[n] @ np.ones(D) / np.sqrt(D)
            assert hit.spaces["vector"].similarity == pytest.approx(wanted, abs=5e-3)
        return {item: hit.metadata["batch"] for item, hit in new.items()}


def check(index: Path, told: list[str]) -> int:
    """What is there is the last batch that was committed, or the one that was being; return it."""
    committed = [int(line.split()[1]) for line in told if line.startswith("committed")]
    started = [int(line.split()[1]) for line in told if line.startswith("committing")]
    last, now = max(committed, default=-1), max(started, default=-1)
    states = {batch: state(batch) if batch >= 0 else {} for batch in (last, now)}
    seen = found(index)
    assert seen in states.values()
    assert verify_index(index).problems == []
    return max(batch for batch, one in states.items() if one == seen)


@pytest.mark.parametrize("where", ["durable steps", "inside transactions"])
def test_killed_at_each_step(tmp_path: Path, where: str) -> None:
    original = tmp_path / "original"
    build_vectors(original, clustered(N, D))
    outcomes = set()
    stride = 1 if where == "durable steps" else 61
    for steps in range(0, 100 * stride, stride):
        index = tmp_path / "index"
        run_python("import shutil, sys; shutil.copytree(*sys.argv[1:])", original, index)
        done = run_python(WRITES, index, steps, where)
        outcomes.add(check(index, done.stdout.splitlines()))
        with Writer.open(index) as writer:  # the next writer goes on, and leaves nothing behind
            writer.delete(["v1"])
            writer.commit()
            writer.compact()
        assert verify_index(index).problems == []
        assert len(list(IndexLayout(index).generations.iterdir())) == 1
        run_python("import shutil, sys; shutil.rmtree(sys.argv[1])", index)
        if done.returncode == 0:
            break
        assert done.returncode == -9, done.stderr
    else:
        pytest.fail("there are more steps")
    assert outcomes == {-1, 0, 1, 2, 3}


def test_killed_at_random_moments_and_going_on(tmp_path: Path) -> None:
    index = tmp_path / "index"
    build_vectors(index, clustered(N, D))
    rng = np.random.default_rng(1)
    batch = 0
    for _ in range(12):
        process = start_python(WRITES, index, 0, "random moments", batch)
        assert process.stdout
        first = process.stdout.readline()
        time.sleep(float(rng.uniform(0, 0.1)))
        os.kill(process.pid, signal.SIGKILL)
        rest, _ = process.communicate()
        told = [f"committed {batch - 1}"] if batch else []
        batch = check(index, [*told, first, *rest.splitlines()]) + 1
        if batch > 35:
            break
    assert batch > 5
