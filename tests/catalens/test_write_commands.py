"""`catalens add | update | delete` as people run them: real processes, output, exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.catalogs import clustered
from tests.processes import run_command

X = clustered(1300, 8)


def write(path: Path, rows: range, **changed: Any) -> Path:
    lines = [json.dumps({"id": f"v{n}", "v": X[n].tolist(), "number": n, **changed}) for n in rows]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def index(tmp_path: Path) -> Path:
    dump = write(tmp_path / "c.jsonl", range(40))
    done = run_command("build", dump, "--out", tmp_path / "index", "--vector", "v", "--text", "")
    assert done.returncode == 0, done.stderr
    return tmp_path / "index"


def told(*arguments: object) -> dict[str, Any]:
    done = run_command(*arguments, "--json")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def refused(*arguments: object) -> str:
    done = run_command(*arguments)
    assert (done.returncode, done.stdout) == (2, ""), done
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    return done.stderr


def test_add_update_delete(tmp_path: Path, index: Path) -> None:
    more = write(tmp_path / "more.jsonl", range(40, 50))
    found = told("add", index, more)
    assert set(found) == {
        *("path", "added", "updated", "metadata_only", "unchanged", "deleted", "items", "fresh"),
        *("dead", "compact_due", "inputs", "encoded", "rejected_rows", "rejected_inputs"),
        "seconds",
    }
    assert (found["added"], found["items"], found["encoded"]) == (10, 50, {"vector": 10})
    labelled = write(tmp_path / "labelled.jsonl", range(45, 55), label="new")
    found = told("update", index, labelled, "--upsert")
    assert (found["metadata_only"], found["added"], found["encoded"]["vector"]) == (5, 5, 5)
    assert told("delete", index, "v3", "v44")["deleted"] == 2
    gone = tmp_path / "gone.csv"
    gone.write_text("sku,why\nv5,sold\nv50,sold\n")
    assert told("delete", index, "--from", gone, "--id", "sku", "v6")["deleted"] == 3
    shown = told("inspect", index)
    assert shown["items"] == 50
    assert shown["uncompacted"] == {
        "fresh": 13,
        "dead": 3,
        "generation_rows": 40,
        "compact_due": False,
    }
    assert told("verify", index)["sound"] is True
    done = run_command("query", index, "--like", "v45", "--where", "label = 'new'", "--json")
    hits = [json.loads(line)["id"] for line in done.stdout.splitlines()]
    assert {*hits} == {f"v{n}" for n in range(46, 55)} - {"v50"}


def test_mistakes_are_told_in_one_line(tmp_path: Path, index: Path) -> None:
    more = write(tmp_path / "more.jsonl", range(38, 42))
    assert "row 1, item 'v38'" in refused("add", index, more)
    assert "upsert" in refused("update", index, more)
    assert "'nobody'" in refused("delete", index, "v1", "nobody")
    assert "catalens build" in refused("add", tmp_path / "nowhere", more)
    assert "twice" in refused("delete", index, "v1", "v1")
    assert "suffix" in refused("delete", index, "--from", tmp_path / "gone.txt")
    done = run_command("delete", index)
    assert done.returncode == 2 and "--from" in done.stderr
    assert told("inspect", index)["items"] == 40


def test_add_tells_people_what_it_did_and_when_to_compact(tmp_path: Path, index: Path) -> None:
    done = run_command("add", index, write(tmp_path / "more.jsonl", range(40, 45)))
    assert (done.returncode, done.stderr) == (0, "")
    assert "5 added" in done.stdout and "45 items" in done.stdout
    assert "vector: 5 inputs, 5 encoded" in done.stdout and "faster" not in done.stdout
    done = run_command("add", index, write(tmp_path / "many.jsonl", range(45, 1300)))
    assert "1,260 items are searched beside the generation" in done.stdout
    assert "compaction is due" in run_command("inspect", index).stdout
    found = told("compact", index)
    assert (found["items"], found["folded"], found["dropped"]) == (1300, 1260, 0)
    assert "0 folded in" in run_command("compact", index).stdout
    told("delete", index, *(f"v{n}" for n in range(1100)))
    again = write(tmp_path / "again.jsonl", range(10))
    found = told("add", index, again, "--auto-compact")
    assert (found["items"], found["fresh"], found["dead"]) == (210, 0, 0)


def test_export_and_import(tmp_path: Path, index: Path) -> None:
    out = tmp_path / "out.parquet"
    told("delete", index, "v7")
    found = told("export", index, out)
    assert (found["items"], found["inputs"], found["path"]) == (39, 39, str(out))
    assert found["bytes"] == out.stat().st_size
    assert "there already" in refused("export", index, out)
    found = told("import", out, "--out", tmp_path / "again")
    assert (found["items"], found["inputs"], found["fusion"]) == (39, 39, "concat")
    assert told("verify", tmp_path / "again")["sound"] is True
    assert "new or empty" in refused("import", out, "--out", tmp_path / "again")
    assert "catalens export" in refused("import", index / "writer.lock", "-o", tmp_path / "other")
    done = run_command("import", out, "--out", tmp_path / "third")
    assert "39 items, 39 inputs" in done.stdout and done.stderr == ""
