"""Readers while builds go on, here and in other processes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from catalens import Query, Retriever
from indexer import verify_index
from tests.catalogs import build_toy, build_vectors, clustered, toy_rows
from tests.processes import start_python
from tests.stopping import StopAfter


def test_reader_keeps_its_snapshot_over_rebuilds(tmp_path: Path) -> None:
    rows = toy_rows(120)
    build_toy(tmp_path / "index", rows)
    with Retriever.open(tmp_path / "index") as old:
        asked = Query(text="red green", like="item-3")
        before = old.search(asked, 20, where="number < 100")
        for seed in range(1, 4):
            other = [{**row, "id": f"new-{row['id']}"} for row in toy_rows(90, seed)]
            build_toy(tmp_path / "index", other)
            assert old.search(asked, 20, where="number < 100") == before
            # A filter and records that were not looked at before the rebuild.
            passing = old.search(Query(text="blue"), 120, where=f"number != {seed}")
            assert {h.id for h in passing} == {f"item-{n}" for n in range(120) if n != seed}
            with Retriever.open(tmp_path / "index") as new:
                assert len(new) == 90
                assert new.search(asked_of(new), 5)[0].id.startswith("new-")
    build_toy(tmp_path / "index", rows)
    assert verify_index(tmp_path / "index").problems == []


def asked_of(retriever: Retriever) -> Query:
    assert retriever.fields() == ["even", "number", "text", "words"]
    return Query(text="red")


READS = """
import sys
from catalens import Query, Retriever
from tests import toy_encoders
retriever = Retriever.open(sys.argv[1])
for line in sys.stdin:
    hits = retriever.search(Query(text="red green"), 20, where=f"number >= {line.strip()}")
    print(len(retriever), sorted(hit.id for hit in hits), flush=True)
"""


def test_reader_in_another_process_keeps_its_snapshot(tmp_path: Path) -> None:
    build_toy(tmp_path / "index", toy_rows(100))
    reader = start_python(READS, tmp_path / "index")
    assert reader.stdin and reader.stdout

    def ask(bound: int) -> str:
        assert reader.stdin and reader.stdout
        reader.stdin.write(f"{bound}\n")
        reader.stdin.flush()
        return reader.stdout.readline()

    try:
        before = ask(0)
        for seed in range(1, 5):
            build_toy(tmp_path / "index", toy_rows(50 + seed, seed))
            assert ask(0) == before
            bound = 100 - seed
            expected = sorted(f"item-{n}" for n in range(bound, 100))
            assert ask(bound) == f"100 {expected}\n"
    finally:
        _, errors = reader.communicate(timeout=30)
    assert reader.returncode == 0, errors


def test_opening_while_builds_publish_never_fails(tmp_path: Path) -> None:
    build_toy(tmp_path / "index", toy_rows(20))
    builder = start_python(
        "import sys\nfrom tests.catalogs import build_toy, toy_rows\n"
        "for seed in range(25): build_toy(sys.argv[1], toy_rows(20 + seed, seed))",
        tmp_path / "index",
    )
    sizes = set()
    while builder.poll() is None:
        with Retriever.open(tmp_path / "index") as retriever:
            sizes.add(len(retriever))
            assert len(retriever.search(Query(like="item-1"), 5)) == 5
    _, errors = builder.communicate()
    assert builder.returncode == 0, errors
    assert len(sizes) > 2 and sizes <= set(range(20, 45))


def test_verify_during_a_rebuild_finds_nothing_wrong(tmp_path: Path) -> None:
    build_toy(tmp_path / "index", toy_rows(30))

    class Rebuild(StopAfter):
        done = False

        def start(self, stage: str, total: int | None) -> None:
            if not self.done:
                self.done = True
                build_toy(tmp_path / "index", toy_rows(31))

        def advance(self, steps: int) -> None:
            return

    assert verify_index(tmp_path / "index", progress=Rebuild("", 0)).problems == []


def test_open_retriever_does_not_hinder_many_rebuilds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A server that rebuilds in its own process always has a Retriever open.
    monkeypatch.setattr("indexer.environment._MAX_DATABASES", 24)
    held: Retriever | None = None
    try:
        for seed in range(8):
            build_toy(tmp_path / "index", toy_rows(4, seed))
            fresh = Retriever.open(tmp_path / "index")
            if held is not None:
                held.close()
            held = fresh
    finally:
        if held is not None:
            held.close()


def test_rebuilds_elsewhere_do_not_exhaust_a_long_lived_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexer.environment._MAX_DATABASES", 24)
    build_toy(tmp_path / "index", toy_rows(4))
    builder = start_python(
        "import sys\nfrom tests.catalogs import build_toy, toy_rows\n"
        "for line in sys.stdin:\n"
        "    build_toy(sys.argv[1], toy_rows(4, int(line))); print('built', flush=True)",
        tmp_path / "index",
    )
    assert builder.stdin and builder.stdout
    held = Retriever.open(tmp_path / "index")
    try:
        for seed in range(8):
            builder.stdin.write(f"{seed}\n")
            builder.stdin.flush()
            assert builder.stdout.readline() == "built\n"
            fresh = Retriever.open(tmp_path / "index")
            held.close()
            held = fresh
    finally:
        held.close()
        builder.communicate(timeout=60)


def test_index_deleted_under_an_open_retriever_can_be_built_again(tmp_path: Path) -> None:
    build_vectors(tmp_path / "index", clustered(5, 8))
    with Retriever.open(tmp_path / "index"):
        shutil.rmtree(tmp_path / "index")
        build_vectors(tmp_path / "index", clustered(6, 8))
        with Retriever.open(tmp_path / "index") as retriever:
            assert len(retriever) == 6
