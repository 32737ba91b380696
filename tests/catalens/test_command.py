"""The command line as people run it: real processes, their output, exit codes and signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.catalogs import clustered
from tests.processes import COMMAND, ROOT, run_command


def write_catalog(path: Path, n: int, *, bad: bool = False) -> Path:
    x = clustered(n, 8)
    rows = [
        {"id": f"v{i}", "v": x[i].tolist(), "number": i, "tags": ["a", str(i % 3)], "name": "é [b]"}
        for i in range(n)
    ]
    lines = [json.dumps(row) for row in rows]
    if bad:
        lines += ["{broken", json.dumps(rows[0]), json.dumps({"id": "short", "v": [1, 2]})]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("command")
    catalog = write_catalog(folder / "c.jsonl", 40, bad=True)
    done = run_command("build", catalog, "--out", folder / "index", "--vector", "v", "--text", "")
    assert done.returncode == 0, done.stderr
    return folder / "index"


def lines_of(*arguments: object) -> list[dict[str, Any]]:
    done = run_command(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_build_tells_what_it_did_and_shows_no_bar_in_a_pipe(tmp_path: Path) -> None:
    catalog = write_catalog(tmp_path / "c.jsonl", 12, bad=True)
    arguments = ("build", catalog, "-o", tmp_path / "index", "--vector", "v", "--text", "")
    done = run_command(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert "12 items" in done.stdout and "line 13" in done.stdout
    [summary] = lines_of(*arguments, "--json")
    assert summary["items"] == 12
    assert summary["inputs"] == {"vector": 12} and summary["encoded"] == {"vector": 0}
    assert summary["rejected_rows"] == 3 and summary["coverage"] == {"vector": 12}
    assert set(summary) == {
        "index",
        "items",
        "inputs",
        "encoded",
        "rejected_rows",
        "rejected_inputs",
        "coverage",
        "kind",
        "notes",
        "seconds",
    }


def test_query_json_has_this_shape_and_no_other(index: Path) -> None:
    hits = lines_of("query", index, "--like", "v3", "-k", 4, "--json")
    assert [hit["rank"] for hit in hits] == [1, 2, 3, 4]
    assert [hit["score"] for hit in hits] == sorted((h["score"] for h in hits), reverse=True)
    for hit in hits:
        assert list(hit) == ["rank", "id", "score", "spaces", "metadata"]
        assert list(hit["spaces"]) == ["vector"]
        match = hit["spaces"]["vector"]
        assert list(match) == [
            *("similarity", "present", "imputed", "weight", "gate", "contribution")
        ]
        assert match["contribution"] == pytest.approx(hit["score"], abs=1e-4)
        assert hit["spaces"]["vector"]["present"] is True
        number = hit["metadata"]["number"]
        assert hit["id"] == f"v{number}" != "v3"
        assert hit["metadata"] == {
            "number": number,
            "tags": ["a", str(number % 3)],
            "name": "é [b]",
        }


def test_query_filters_and_weighs(index: Path) -> None:
    hits = lines_of(
        *("query", index, "--like", "v3", "--unlike", "v4", "--weight", "vector=2"),
        *("--where", "number < 5 and tags in ('0', '1')", "-k", 10, "--json"),
    )
    assert {hit["id"] for hit in hits} == {"v0", "v1"}


def test_query_for_people_is_a_table(index: Path) -> None:
    done = run_command("query", index, "--like", "v3", "-k", 2)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == 3 and "score" in lines[0] and "vector" in lines[0]
    assert "é [b]" in lines[1]  # brackets are no markup
    assert "■" in lines[1]


def test_no_hit_is_no_error(index: Path) -> None:
    done = run_command("query", index, "--like", "v3", "--where", "number < 0")
    assert (done.returncode, done.stdout) == (0, "No item passes the filter.\n")


def test_inspect_tells_items_spaces_and_rejects(index: Path) -> None:
    [found] = lines_of("inspect", index, "--json")
    assert found["items"] == 40 and found["kind"] == "exact"
    assert found["fields"] == ["name", "number", "tags"]
    assert found["rejects"] == {"rows": 3, "inputs": 1}
    space = found["spaces"]["vector"]
    assert (space["dimension"], space["items"], space["coverage"]) == (8, 40, 1.0)
    rejects = lines_of("inspect", index, "--rejects")
    assert [(r["line"], r["id"], r["modality"]) for r in rejects] == [
        (41, None, None),
        (42, "v0", None),
        (43, "short", "vector:vector"),
        (43, "short", None),
    ]
    assert all("expected" in r["reason"] and "got" in r["reason"] for r in rejects)
    done = run_command("inspect", index)
    assert done.returncode == 0 and "40" in done.stdout


def test_verify_of_a_sound_and_a_broken_index(index: Path, tmp_path: Path) -> None:
    done = run_command("verify", index)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("sound: 40 items")
    [report] = lines_of("verify", index, "--json")
    assert report["sound"] is True and report["problems"] == []
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", index, copy], check=True)
    rows = copy / "generations" / "000001" / "rows.f16"
    rows.write_bytes(rows.read_bytes()[::-1])
    done = run_command("verify", copy)
    assert (
        done.returncode == 1 and done.stdout.startswith("problem: ") and "rows.f16" in done.stdout
    )
    done = run_command("query", copy, "--like", "v3", "-k", 1)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_int8_rows_are_built_kept_and_told(tmp_path: Path) -> None:
    catalog, index = write_catalog(tmp_path / "c.jsonl", 40), tmp_path / "index"
    build = ("build", catalog, "-o", index, "--vector", "v", "--text", "", "--json")
    lines_of(*build, "--rows", "int8")
    for again, rows in (
        (build, "int8"),
        (("rebuild", index, "--rows", "float16", "--json"), "float16"),
        (("rebuild", index, "--profile", "memory", "--json"), "int8"),
    ):
        lines_of(*again)
        [found] = lines_of("inspect", index, "--json")
        assert found["rows"] == rows
        assert found["rows_recall"] == found["recall_at_10"]["exact"]
        assert found["bytes_per_item"]["codes"] == (8 if rows == "int8" else 16)
    people = run_command("inspect", index).stdout
    assert f"int8, recall@10 of a scan {found['rows_recall']:.3f}" in people
    hits = lines_of("query", index, "--like", "v3", "--where", "number < 20", "--json")
    assert len(hits) == 10
    for hit in hits:
        contribution = hit["spaces"]["vector"]["contribution"]
        assert contribution == pytest.approx(hit["score"], abs=1e-4)


MISTAKES = {
    "no index": (("query", "{tmp}/none", "--like", "a"), "no such folder"),
    "folder that is no index": (("query", "{tmp}", "--like", "a"), "without a finished index"),
    "inspect no index": (("inspect", "{tmp}/none"), "no such folder"),
    "verify no index": (("verify", "{tmp}/none"), "no such folder"),
    "no part": (("query", "{index}"), "at least one of text"),
    "unknown item": (("query", "{index}", "--like", "zzz"), "an id of the index"),
    "item of bytes": (("query", "{index}", "--like", b"\xff\xfe"), "an id of the index"),
    "k of 0": (("query", "{index}", "--like", "v1", "-k", "0"), "from 1 to 40"),
    "k below 0": (("query", "{index}", "--like", "v1", "-k", "-3"), "from 1 to 40"),
    "k too large": (("query", "{index}", "--like", "v1", "-k", "41"), "from 1 to 40"),
    "unknown weight": (("query", "{index}", "--like", "v1", "--weight", "x=1"), "vector"),
    "weight nan": (("query", "{index}", "--like", "v1", "--weight", "vector=nan"), "finite"),
    "weight zero": (
        ("query", "{index}", "--like", "v1", "--weight", "vector=0"),
        "other than zero",
    ),
    "not indexed": (("query", "{index}", "--text", "red"), "modalities"),
    "bad filter": (("query", "{index}", "--like", "v1", "--where", "number <"), "column"),
    "unknown field": (("query", "{index}", "--like", "v1", "--where", "nmber = 1"), "Did you mean"),
    "bad device": (("query", "{index}", "--like", "v1", "--device", "tpu"), "tpu"),
    "no catalog": (("build", "{tmp}/none.jsonl", "-o", "{tmp}/o"), "no such file"),
    "empty catalog": (("build", "{tmp}/empty.jsonl", "-o", "{tmp}/o"), "at least one row"),
    "wrong suffix": (("build", "{tmp}/a.txt", "-o", "{tmp}/o"), "suffix"),
    "unknown preset": (
        ("build", "{tmp}/c.jsonl", "-o", "{tmp}/o", "--preset", "clop"),
        "clip, local",
    ),
    "unknown column": (
        ("build", "{tmp}/c.jsonl", "-o", "{tmp}/o", "--vector", "vec"),
        "a column of the dump",
    ),
    "foreign folder": (
        ("build", "{tmp}/c.jsonl", "-o", "{tmp}", "--vector", "v"),
        "a new or empty folder",
    ),
    "unknown rows": (
        ("build", "{tmp}/c.jsonl", "-o", "{tmp}/o", "--vector", "v", "--rows", "float32"),
        "float16, int8",
    ),
    "strict": (
        ("build", "{tmp}/bad.jsonl", "-o", "{tmp}/o", "--vector", "v", "--text", "", "--strict"),
        "--strict",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_one_line_and_exit_code_two(name: str, index: Path, tmp_path: Path) -> None:
    write_catalog(tmp_path / "c.jsonl", 3)
    write_catalog(tmp_path / "bad.jsonl", 3, bad=True)
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "a.txt").write_text("x")
    arguments, expected = MISTAKES[name]
    filled = [
        a if isinstance(a, bytes) else a.format(tmp=tmp_path, index=index).encode()
        for a in arguments
    ]
    done = subprocess.run(
        [str(COMMAND).encode(), *filled], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert expected in done.stderr
    assert "; got " in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("query", "{index}", "--like", "v1", "-k", "three"),
        ("query", "{index}", "--like", "v1", "--weight", "vector"),
        ("query", "{index}", "--like", "v1", "--weight", "vector=two"),
        ("query", "{index}", "--no-such-option"),
        ("build", "{index}"),
        ("nonsense",),
    ],
)
def test_misused_options_are_no_traceback(arguments: tuple[str, ...], index: Path) -> None:
    done = run_command(*(a.format(index=index) for a in arguments))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr and done.stdout == ""


# Neither is a number of bytes or pixels.
@pytest.mark.parametrize(
    "option",
    [
        *(f"--max-megapixels={value}" for value in ("nan", "inf", "0", "-1")),
        *("--max-megabytes=inf", "--max-megabytes=1e300", "--max-seconds=nan", "--max-seconds=0"),
    ],
)
def test_limits_that_are_no_numbers_are_no_traceback(option: str, tmp_path: Path) -> None:
    catalog = write_catalog(tmp_path / "c.jsonl", 3)
    done = run_command("build", catalog, "-o", tmp_path / "o", "--vector", "v", option)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "a number above 0" in " ".join(done.stderr.split())


@pytest.mark.parametrize("out", ["file/below", "x" * 300])
def test_output_that_cannot_be_made_is_no_traceback(out: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    catalog = write_catalog(tmp_path / "c.jsonl", 3)
    done = run_command("build", catalog, "-o", tmp_path / out, "--vector", "v", "--text", "")
    assert done.returncode in (1, 2) and "Traceback" not in done.stderr


def test_small_catalog_answers_without_k(tmp_path: Path) -> None:
    catalog = write_catalog(tmp_path / "c.jsonl", 3)
    run_command("build", catalog, "-o", tmp_path / "o", "--vector", "v", "--text", "")
    done = run_command("query", tmp_path / "o", "--like", "v0", "--json")
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 2), done.stderr


def test_reader_that_goes_away_is_no_traceback(index: Path) -> None:
    command = f"'{COMMAND}' query '{index}' --like v1 -k 39 --json | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["rank"] == 1


@pytest.mark.parametrize("form", ["--json", ""])
def test_reader_that_was_never_there_is_exit_code_141(index: Path, form: str) -> None:
    command = f"'{COMMAND}' query '{index}' --like v1 {form} | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("141\n", "")


@pytest.mark.parametrize("arguments", [(), ("--help",), ("query", "--help")])
def test_help_is_shown(arguments: tuple[str, ...]) -> None:
    done = run_command(*arguments)
    assert done.returncode == (0 if arguments else 2)
    assert "Usage" in done.stdout + done.stderr


def test_module_runs_as_the_command_does(index: Path) -> None:
    import sys

    done = subprocess.run(
        [sys.executable, "-m", "catalens", "inspect", str(index), "--json"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0 and json.loads(done.stdout)["items"] == 40


@pytest.fixture
def interrupted(tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """A build that got SIGINT once something was committed."""
    catalog = write_catalog(tmp_path / "c.jsonl", 60_000)
    process = subprocess.Popen(
        [COMMAND, "build", catalog, "-o", tmp_path / "o", "--vector", "v", "--text", ""],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    store = tmp_path / "o" / "store" / "data.mdb"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (store.exists() and store.stat().st_size > 100_000):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    return subprocess.CompletedProcess([], process.returncode, out, errors)


def test_interrupt_stops_quietly_and_the_build_goes_on(
    interrupted: subprocess.CompletedProcess[str], tmp_path: Path
) -> None:
    assert "Traceback" not in interrupted.stderr and interrupted.returncode != 0
    catalog = tmp_path / "c.jsonl"
    lines = catalog.read_text().splitlines()[:4000]  # what was committed first is among these
    catalog.write_text("\n".join(lines) + "\n")
    [summary] = lines_of(
        *("build", catalog, "-o", tmp_path / "o", "--vector", "v", "--text", "", "--json")
    )
    assert summary["items"] == 4000
    assert summary["encoded"]["vector"] < 4000  # some were known


def test_interrupt_says_how_to_go_on(interrupted: subprocess.CompletedProcess[str]) -> None:
    assert interrupted.returncode == 130, interrupted.stderr
    assert interrupted.stderr == "stopped; run the same command again to go on\n"


def test_learn_and_rebuild_tell_what_they_did(tmp_path: Path, index: Path) -> None:
    rng = np.random.default_rng(0)
    a = rng.standard_normal((200, 12))
    b = a @ rng.standard_normal((12, 8))
    rows = [
        {"id": f"x{n}y", "a": list(u), **({"b": list(v)} if n % 4 else {})}
        for n, (u, v) in enumerate(zip(a, b, strict=True))
    ]
    catalog = tmp_path / "pairs.jsonl"
    catalog.write_text("\n".join(map(json.dumps, rows)) + "\n")
    pairs = tmp_path / "pairs"
    lines_of("build", catalog, "-o", pairs, "--vector", "a=a,b=b", "--text", "", "--json")
    [found] = lines_of("learn", "alignment", pairs, "--json")
    assert [head["pairs"] for head in found["heads"]] == [150, 150]
    assert all(head["ridge"]["10"] > head["chance"]["10"] for head in found["heads"])
    [found] = lines_of("rebuild", pairs, "--missing", "impute", "--weight", "b=0.5", "--json")
    assert (found["missing"], found["weights"]) == ("impute", {"a": 1.0, "b": 0.5})
    assert found["imputed"] == {"a": 0, "b": 50}
    [found] = lines_of("inspect", pairs, "--json")
    assert found["spaces"]["b"]["imputed"] == 50 and found["missing"] == "impute"
    assert found["spaces"]["b"]["heads"]["vector:a"]["source"] == "a"
    done = run_command("inspect", pairs)
    assert "vector:a (head)" in done.stdout and "imputed" in done.stdout
    [hit] = lines_of("query", pairs, "--like", "x4y", "-k", 1, "--missing", "drop", "--json")
    assert hit["spaces"]["a"]["present"]
    for command in (
        ("learn", "fusion", index),
        ("rebuild", pairs, "--fusion", "neural"),
        ("rebuild", pairs, "--missing", "skip"),
        ("learn", "alignment", index),
    ):
        done = run_command(*command)
        assert done.returncode == 2 and done.stdout == ""
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
