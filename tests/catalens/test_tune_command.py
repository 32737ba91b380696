"""`catalens tune`, `query --recall` and what `inspect` tells of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.catalogs import Opened, build_vectors, clustered
from tests.processes import run_command


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built") / "index"
    build_vectors(out, clustered(5_000, 16))
    return out


@pytest.fixture
def index(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "index"))


def test_tune_for_people_marks_the_default(index: Path) -> None:
    done = run_command("tune", index, "--target", "0.9")
    assert (done.returncode, done.stderr) == (0, "")
    assert sum("default " in line for line in done.stdout.splitlines()) == 1
    assert "filter 0.1 %, far" in done.stdout and "0.9 of the 10 best" in done.stdout
    assert "against a space" not in done.stdout  # there is one space


def test_tune_json_is_what_inspect_tells(index: Path) -> None:
    (index.parent / "q.jsonl").write_text(
        "\n".join(json.dumps({"like": [f"v{n}"], "weights": {"vector": 2}}) for n in range(9))
    )
    done = run_command("tune", index, "--queries", index.parent / "q.jsonl", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert told["queries"] == 9 and told["reached"] is True and told["target"] == 0.95
    inspected = json.loads(run_command("inspect", index, "--json").stdout)
    shared = {
        *("target", "operating_point", "operating_point_against", "recall_at_10"),
        *("points", "points_against", "exact_rows", "threads", "rows_recall"),
    }
    assert set(told) == shared | {"index", "reached", "queries", "seconds"}
    assert {name: told[name] for name in shared} == {name: inspected[name] for name in shared}
    assert told["operating_point"] in told["points"]
    assert "real queries" in told["recall_at_10"]
    people = run_command("inspect", index).stdout
    assert "worst recall@10" in people
    assert sum(line.startswith("default") for line in people.splitlines()) == 1


def test_query_with_a_recall(index: Path) -> None:
    done = run_command("query", index, "--like", "v7", "--recall", 1, "-k", 5, "--json")
    assert done.returncode == 0, done.stderr
    x = clustered(5_000, 16)
    best = [f"v{n}" for n in np.argsort(-(x @ x[7]))[1:6]]
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == best


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("", "no line"),
        ('{"text": ', "line 1"),
        ('{"like": ["v1"]}\n{"colour": 1}', "line 2"),
        ('{"like": [7]}', "line 1"),
        ('{"weights": {}}', "line 1"),
        ("red shoe", "text"),
        ('{"like": "nobody"}', "nobody"),
    ],
)
def test_bad_queries_are_one_line_and_change_nothing(index: Path, lines: str, told: str) -> None:
    (index.parent / "q").write_text(lines)
    done = run_command("tune", index, "--queries", index.parent / "q")
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and told in done.stderr
    assert Opened(index).current.generation == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("tune", "{index}", "--target", "1.5"),
        ("tune", "{index}", "--queries", "nowhere"),
        ("tune", "nowhere"),
        ("query", "{index}", "--like", "v1", "--recall", "0"),
    ],
)
def test_bad_arguments_are_one_line(built: Path, arguments: tuple[str, ...]) -> None:
    done = run_command(*(one.format(index=built) for one in arguments))
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("error: ")
