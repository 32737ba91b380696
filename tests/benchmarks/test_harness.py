"""The harness, without an index: turns, recall, results, the table, the pictures."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import harness
from benchmarks.harness import Result, Target, Timings, interleave, tie_aware_recall
from benchmarks.table import load_results, markdown

_MACHINE = {
    "cpu": "Abacus",
    "cores": 2,
    "ram_gib": 4.0,
    "python": "3.11",
    "libraries": {"faiss-cpu": "1.15.1"},
}


def _result(benchmark: str = "recall", **figures: Any) -> Result:
    targets = [Target("speed", ">= 5x", "7.0x", True), Target("a|b", "< 1 s", "2.00 s", False)]
    return Result(benchmark, {"k": 10}, figures, targets, _MACHINE, "2026-01-02T03:04:05+00:00")


def test_contestants_take_turns_on_different_numbers() -> None:
    called: list[tuple[str, int]] = []
    contestants = {name: (lambda number, name=name: called.append((name, number))) for name in "ab"}
    interleave(contestants, 4, rounds=2)
    assert len(called) == 2 * 4 * 3  # a round more than is timed
    for start in range(0, len(called), 8):
        turns = called[start : start + 8]
        assert [who for who, _ in turns] == ["a", "b", "b", "a"] * 2
        assert all(x[1] != y[1] for x, y in zip(turns[::2], turns[1::2], strict=True))
        assert {number for who, number in turns if who == "a"} == {0, 1, 2, 3}
        assert {number for who, number in turns if who == "b"} == {0, 1, 2, 3}


def test_times_only_the_call_and_keeps_the_last_answers() -> None:
    def keep(answer: int) -> int:
        time.sleep(0.02)
        return answer + 1

    timed = interleave({"slow": lambda n: time.sleep(0.002) or n}, 5, rounds=2, keep=keep)["slow"]
    assert timed.seconds.shape == (2, 5)
    assert timed.seconds.min() >= 0.002 and np.median(timed.seconds) < 0.02
    assert timed.answers == [1, 2, 3, 4, 5]


def test_percentiles_are_the_median_of_the_rounds() -> None:
    timings = Timings(np.array([[0.001] * 3, [0.002] * 3, [0.9] * 3]))
    assert timings.p50 == pytest.approx(2.0)
    assert timings.per_second == pytest.approx(500)
    assert timings.summary()["p50_ms_of_each_round"] == [1.0, 2.0, 900.0]


def test_long_calls_change_who_goes_first() -> None:
    order: list[str] = []

    def call(name: str, seconds: float) -> Any:
        return lambda: order.append(name) or seconds

    took = harness.interleave_whole({"a": call("a", 1.0), "b": call("b", 2.0)}, rounds=2)
    assert order == ["a", "b", "b", "a"]
    assert took == {"a": [1.0, 1.0], "b": [2.0, 2.0]}


@pytest.mark.parametrize(
    ("found", "recall"),
    [
        ([[0.9, 0.8]], 1.0),
        ([[0.9, 0.8 - 5e-7]], 1.0),  # a tie with the k-th but for rounding
        ([[0.9, 0.7]], 0.5),
        ([[0.9]], 0.5),
        ([[0.9, 0.8, 0.8]], 1.0),  # more ties than k count k times
        ([[0.9, 0.8], []], 0.5),
    ],
)
def test_recall_allows_ties(found: list[list[float]], recall: float) -> None:
    kth = np.full(len(found), 0.8)
    assert tie_aware_recall([np.array(one) for one in found], kth, 2) == recall


def test_results_are_read_as_written(tmp_path: Path) -> None:
    result = _result(share=0.5, rows=np.int64(3))
    path = result.write(tmp_path / "new")
    assert path.name == "recall.json"
    assert [p.name for p in path.parent.iterdir()] == ["recall.json"]
    read = Result.read(path)
    assert read.figures == {"share": 0.5, "rows": 3}
    assert (read.targets, read.machine, read.date) == (result.targets, _MACHINE, result.date)
    assert json.loads(path.read_text())["targets"][1]["met"] is False


def test_machine_says_what_a_reader_needs() -> None:
    facts = harness.machine()
    assert facts["cpu"] and facts["cores"] >= 1 and facts["ram_gib"] > 0
    assert facts["libraries"]["numpy"] == np.__version__


def test_table_has_a_row_for_each_target(tmp_path: Path) -> None:
    for name in ("opening", "recall"):
        _result(name).write(tmp_path)
    lines = markdown(load_results(tmp_path)).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:6]] == ["| recall"] * 2 + ["| opening"] * 2
    assert lines[2] == "| recall | speed | >= 5x | 7.0x | yes |"
    assert lines[3] == r"| recall | a\|b | < 1 s | 2.00 s | **no** |"
    assert lines[-1].startswith("recall, opening: measured 2026-01-02 on Abacus, 2 cores, 4.0 GiB")


def test_threads_are_pinned_by_starting_over_once(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[list[str], dict[str, str]]] = []

    def execve(program: str, arguments: list[str], environment: dict[str, str]) -> None:
        started.append((arguments, environment))

    monkeypatch.setattr(os, "execve", execve)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    harness.pin_threads(1)
    (arguments, environment), *others = started
    assert arguments == [sys.executable, *sys.orig_argv[1:]]
    assert environment["OMP_NUM_THREADS"] == environment["OPENBLAS_NUM_THREADS"] == "1"
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    harness.pin_threads(1)
    assert not others and len(started) == 1


def test_trials_do_not_replace_kept_results() -> None:
    assert harness.parse_options("recall", None, []).out == harness.RESULTS
    trial = harness.parse_options("recall", None, ["--items", "100", "--json-only"])
    assert (trial.items, trial.out, trial.plots) == (100, harness.TRIALS, False)


def test_pictures_are_drawn_from_what_is_kept(tmp_path: Path) -> None:
    from benchmarks.figures import draw

    timings = Timings(np.array([[0.001, 0.002, 0.003]])).summary()
    figures = {
        "index": "Flat",
        "ratio_p50": 1.2,
        "catalens": timings,
        "bare FAISS": timings,
        "step_p50_ms": {"compose": 0.02, "hits": 0.1},
    }
    result = Result.read(_result("overhead", **figures).write(tmp_path))
    (picture,) = draw(result, tmp_path)
    assert picture.read_bytes().startswith(b"\x89PNG")
