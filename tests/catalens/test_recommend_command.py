"""`catalens learn behaviour` and `recommend` as people run them: processes, output, exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from catalens import Retriever
from tests.catalogs import build_vectors, clustered
from tests.processes import run_command

N = 60
X = clustered(N, 8, clusters=4)


@pytest.fixture(scope="module")
def clicks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clicks") / "clicks.csv"
    lines = ["who,what,stars,when"]
    for user in range(30):
        near = sorted(range(N), key=lambda n: -float(X[n] @ X[user]))[: 8 + user % 3]
        lines += [f"u{user},v{n},{5 if n % 5 else 1},{time}" for time, n in enumerate(near)]
    lines += ["u1,gone,5,3", "u1,v2,many,4"]
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, clicks: Path) -> Path:
    out = tmp_path_factory.mktemp("index") / "index"
    build_vectors(out, X, number=range(N))
    done = run_command(
        *("learn", "behaviour", out, clicks, "--user", "who", "--item", "what"),
        *("--value", "stars", "--time", "when", "--neutral", "2", "--liked", "4"),
        "--keep-histories",
    )
    assert done.returncode == 0, done.stderr
    for told in (
        "behaviour by ease from",
        "30 users",
        "NDCG@10 of what",
        "left out: 1 rows of 1 items that the index does not have, 1 that cannot be used",
        "line 273: value: expected a number",
    ):
        assert told in done.stdout, done.stdout
    return out


def told(*arguments: object) -> list[dict[str, Any]]:
    done = run_command(*arguments, "--json")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def refused(*arguments: object) -> str:
    done = run_command(*arguments)
    assert (done.returncode, done.stdout) == (2, ""), done
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    return done.stderr


def test_a_user_and_a_file_of_the_same_history(index: Path, tmp_path: Path, clicks: Path) -> None:
    hits = told("recommend", index, "--user", "u3", "-k", "5", "--where", "number < 50")
    with Retriever.open(index) as retriever:
        wanted = retriever.recommend(user="u3", k=5, where="number < 50")
    assert [hit["id"] for hit in hits] == [hit.id for hit in wanted]
    assert set(hits[0]) == {"rank", "id", "score", "spaces", "metadata"}
    own = tmp_path / "own.csv"
    lines = clicks.read_text().splitlines()
    own.write_text("\n".join(lines[:1] + [line for line in lines if line.startswith("u3,")]))
    columns = ("--item", "what", "--value", "stars", "--time", "when")
    again = told(
        "recommend", index, "--history", own, *columns, "-k", "5", "--where", "number < 50"
    )
    assert again == hits
    shown = run_command("recommend", index, "--user", "nobody", "-k", "3")
    assert shown.returncode == 0 and "behaviour" in shown.stdout


def test_ids_alone_are_a_history(index: Path, tmp_path: Path) -> None:
    (tmp_path / "h.jsonl").write_text('{"item": "v3"}\n{"item": "v9"}\n')
    hits = told("recommend", index, "--history", tmp_path / "h.jsonl", "-k", "4")
    with Retriever.open(index) as retriever:
        assert [hit["id"] for hit in hits] == [h.id for h in retriever.recommend(["v3", "v9"], 4)]


def test_learning_tells_json_and_inspect_shows_it(index: Path, clicks: Path) -> None:
    (found,) = told("inspect", index)
    assert found["behaviour"]["method"] == "ease" and found["behaviour"]["histories"]
    assert found["spaces"]["behaviour"]["item"] == "behaviour"
    assert "ease from" in run_command("inspect", index).stdout


def test_refusals(index: Path, clicks: Path) -> None:
    assert "got neither" in refused("recommend", index)
    assert "a column of users" in refused("learn", "behaviour", index, clicks)
    assert "one of ease, als, bpr" in refused(
        "learn", "behaviour", index, clicks, "--user", "who", "--item", "what", "--method", "knn"
    )
