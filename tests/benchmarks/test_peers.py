"""Peers: the protocol and its failures, scoring, rounds, targets; none has to be installed."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.harness import Result
from benchmarks.peers import environments, peer, rounds, summary
from benchmarks.peers.__main__ import main
from benchmarks.peers.contestants import (
    _OUR_POINTS,
    ANCHOR,
    ANCHOR_SETTING,
    CONTESTANTS,
    Contestant,
)
from benchmarks.peers.data import write_given
from benchmarks.peers.errors import PeerFailedError
from benchmarks.peers.peer import Peer, Work
from benchmarks.peers.pictures import peers_pictures
from benchmarks.peers.rounds import Anchor, play
from benchmarks.peers.run import build_all, sum_up
from benchmarks.peers.scoring import Oracle
from benchmarks.peers.table import markdown
from benchmarks.peers.targets import judge

_K = 3
_FLAT = Contestant("flat", "faiss", {"factory": "Flat"}, [{}, {"nprobe": 1}])
_MISSING = Contestant("missing", "hnswlib", {}, [{}], "missing", ("missing>=1,<2",))


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    folder = tmp_path_factory.mktemp("work")
    random = np.random.default_rng(0)
    vectors = random.standard_normal((700, 16), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    np.save(folder / "vectors.npy", vectors[:600])
    np.save(folder / "queries.npy", vectors[600:640])
    rows = folder / "rows.jsonl"
    rows.write_text("".join(f'{{"id": "gloss-{n}", "colour": "red"}}\n' for n in range(600)))
    return Work(folder, folder / "vectors.npy", folder / "queries.npy", rows, _K)


@pytest.fixture(scope="module")
def oracle(work: Work) -> Oracle:
    return Oracle.of(np.load(work.vectors), np.load(work.queries), _K)


@pytest.fixture(scope="module")
def flat(work: Work) -> Iterator[tuple[Peer, dict[str, Any]]]:
    running = Peer(_FLAT, Path(sys.executable), work)
    yield running, running.build()
    running.close()


def _best(work: Work, number: int) -> list[int]:
    similarities = np.load(work.vectors).astype(np.float64) @ np.load(work.queries)[number]
    return [int(i) for i in np.argsort(-similarities)[:_K]]


def test_child_answers_in_a_process_of_its_own(
    flat: tuple[Peer, dict[str, Any]], work: Work, oracle: Oracle
) -> None:
    running, built = flat
    assert built["seconds"] > 0 and built["peak_memory"] > 1e6
    assert built["sizes"]["vectors"] == 600 * 16 * 4
    assert 0 < built["sizes"]["index"] < 1000 and built["sizes"]["where"] == "disk"
    answer = running.measure({}, first=38, batch_s=0.0, single_s=10.0)
    assert [sorted(row) for row in answer["ids"]] == [sorted(_best(work, n)) for n in range(40)]
    assert answer["single_numbers"] == [38, 39, *range(38)]
    assert sorted(answer["single_ids"][0]) == sorted(_best(work, 38))
    assert len(answer["batch_s"]) == 1 and len(answer["single_s"]) == 40
    assert oracle.recall(answer["ids"]) == 1.0
    assert oracle.recall(answer["single_ids"], answer["single_numbers"]) == 1.0
    # Ids of other queries are no answers.
    assert oracle.recall(answer["single_ids"]) < 0.2


def test_failed_setting_is_reported_and_the_rest_goes_on(
    flat: tuple[Peer, dict[str, Any]], oracle: Oracle
) -> None:
    running, built = flat
    points = play([running], Anchor(running, {}), oracle, rounds=2, tell=lambda line: None)
    assert [point.failure for point in points] == [None, "KeyError: 'k_factor'"]
    assert (points[0].recall, [turn.single_recall for turn in points[0].turns]) == (1.0, [1.0, 1.0])
    figures = sum_up(points, {"flat": built}, oracle)["flat"]
    assert figures["failed"] == [{"setting": {"nprobe": 1}, "reason": "KeyError: 'k_factor'"}]
    assert [point["setting"] for point in figures["points"]] == [{}]
    assert 64 < figures["bytes_per_vector"] < 66


def test_process_that_dies_says_its_last_words(work: Work) -> None:
    dying = Peer(Contestant("dying", "nowhere", {}, []), Path(sys.executable), work)
    with pytest.raises(PeerFailedError, match=r"ended with 1 .*No module named .*nowhere"):
        dying.build()
    assert not dying.alive
    dying.close()


def test_process_that_takes_too_long_is_ended(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer, "_BUILD_SECONDS", 0.01)
    slow = Peer(Contestant("slow", "faiss", {"factory": "Flat"}, []), Path(sys.executable), work)
    with pytest.raises(PeerFailedError, match=r"ended with -9 within 0\.01 s"):
        slow.build()
    slow.close()


def test_what_cannot_be_installed_is_reported_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: Work
) -> None:
    monkeypatch.setenv("CATALENS_CACHE", str(tmp_path))

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        said = "notice: old\nnotice: older\nERROR: no distribution\nERROR: for missing\n"
        failed = "pip" in command
        return subprocess.CompletedProcess(command, int(failed), "", said if failed else "")

    monkeypatch.setattr(subprocess, "run", run)
    other = Contestant("other", "faiss", {"factory": "Flat"}, [{}])
    with ExitStack() as stack:
        peers, built, not_run = build_all([_MISSING, other], work, stack)
        assert [one.contestant.name for one in peers] == list(built) == ["other"]
    assert list(not_run) == ["missing"]
    reason = "not installed: notice: older ERROR: no distribution ERROR: for missing"
    assert not_run["missing"] == reason
    assert not (tmp_path / "peers" / "missing" / "installed.json").exists()


def test_nobody_left_is_an_error(work: Work) -> None:
    with ExitStack() as stack, pytest.raises(PeerFailedError, match=r"alone not built: .*nowhere"):
        build_all([Contestant("alone", "nowhere", {}, [])], work, stack)


def test_installed_environment_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CATALENS_CACHE", str(tmp_path))
    ran: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        ran.append(command)
        folder.mkdir(parents=True, exist_ok=True)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    folder = tmp_path / "peers" / "toy"
    toy = Contestant("toy", "faiss", {}, [], "toy", ("toy>=1,<2",))
    assert environments.interpreter(toy) == folder / "bin" / "python"
    assert [command[1:3] for command in ran] == [["-m", "venv"], ["-m", "pip"]]
    assert ran[1][-1] == "toy>=1,<2"
    stamp = json.loads((folder / "installed.json").read_text())
    assert stamp == {"requirements": ["toy>=1,<2"], "python": platform.python_version()}
    environments.interpreter(toy)
    assert len(ran) == 2
    environments.interpreter(Contestant("toy", "faiss", {}, [], "toy", ("toy>=2",)))
    assert len(ran) == 4
    assert environments.interpreter(_FLAT) == Path(sys.executable)


def test_every_thread_count_is_one() -> None:
    given = peer.environment()
    assert all(given[name] == "1" for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS"))
    assert given["OMP_WAIT_POLICY"] == "PASSIVE"


def test_oracle(oracle: Oracle, work: Work) -> None:
    vectors, queries = np.load(work.vectors), np.load(work.queries)
    exact = np.sort(vectors.astype(np.float64) @ queries.astype(np.float64).T, axis=0)[-_K]
    np.testing.assert_allclose(oracle.kth, exact, rtol=0, atol=1e-12)
    best = _best(work, 7)
    assert oracle.recall([best], [7]) == 1.0
    assert oracle.recall([[best[0], best[0], best[0]]], [7]) == pytest.approx(1 / 3)
    assert oracle.recall([[best[0], -1, 600]], [7]) == pytest.approx(1 / 3)
    assert oracle.recall([[]], [7]) == 0.0


class _Recorder:
    """Stands in for a peer: notes who was asked what, in one list for all."""

    def __init__(self, name: str, settings: int, asked: list[tuple[str, int]]) -> None:
        self.contestant = Contestant(name, "none", {}, [{"n": n} for n in range(settings)])
        self._asked = asked

    def measure(self, setting: Any, **_: Any) -> dict[str, Any]:
        self._asked.append((self.contestant.name, setting["n"]))
        return {
            "batch_s": [0.5 if self.contestant.name == "a" else 0.25],
            "batch_cpu_s": 0.25,
            "single_s": [0.002, 0.004],
            "ids": [[0]] * 40,
            "single_ids": [[0]],
            "single_numbers": [0],
        }


def test_rounds_take_turns_right_after_the_anchor(oracle: Oracle) -> None:
    asked: list[tuple[str, int]] = []
    peers: list[Any] = [_Recorder("a", 2, asked), _Recorder("b", 3, asked)]
    told: list[str] = []
    points = play(peers, Anchor(peers[0], {"n": 1}), oracle, rounds=2, tell=told.append)
    assert len(asked) == 2 * 5 * 3  # a round more than is counted
    assert set(asked[::2]) == {("a", 1)}
    order = [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("b", 2)]
    turns = asked[1::2]
    assert turns[:5] == order
    assert turns[5:10] == order[1:] + order[:1]  # another goes first
    assert [(p.peer.contestant.name, p.setting["n"]) for p in points] == sorted(order)
    assert all(len(point.turns) == 2 for point in points)
    assert told[-1].startswith("round 2 of 2: 1 of 5, ") and told[-1].endswith(" left")
    figures = summary.describe(points[0], 40, summary.Pace.of(points))
    assert figures["batch_per_second"] == figures["batch_per_second_levelled"] == 80
    assert figures["batch_per_cpu_second"] == 160
    assert figures["batch_speed_to_anchor_of_each_round"] == [1.0, 1.0]
    quick = summary.describe(points[4], 40, summary.Pace.of(points))
    assert quick["batch_speed_to_anchor"] == 2.0
    assert quick["batch_per_second"] == quick["batch_per_second_levelled"] == 160
    assert figures["single_p50_ms"] == 3.0 and figures["single_calls"] == 4


def test_anchor_that_fails_ends_the_run(flat: tuple[Peer, dict[str, Any]], oracle: Oracle) -> None:
    running, _ = flat
    with pytest.raises(PeerFailedError, match="KeyError"):
        play([running], Anchor(running, {"nprobe": 1}), oracle, rounds=1, tell=lambda line: None)


def test_lowest_recall_of_any_round_counts(oracle: Oracle, work: Work) -> None:
    class Waning(_Recorder):
        def measure(self, setting: Any, **_: Any) -> dict[str, Any]:
            answer = super().measure(setting)
            best = [_best(work, n) for n in range(40)]
            answer["ids"] = [row[:1] for row in best] if len(self._asked) == 4 else best
            return answer

    waning: Any = Waning("waning", 1, [])
    (point,) = play([waning], Anchor(waning, {"n": 0}), oracle, rounds=2, tell=lambda line: None)
    assert point.recall == pytest.approx(1 / 3)


def test_unbeaten() -> None:
    recalls, speeds = [0.9, 0.95, 0.95, 0.99, 0.9], [10, 8, 7, 9, 10]
    assert summary.unbeaten(recalls, speeds) == [True, False, False, True, True]


def _point(recall: float, speed: float, time: float, single: float | None = None) -> dict[str, Any]:
    return {
        "setting": {},
        "recall_at_10": recall,
        "recall_at_10_of_single_calls": recall if single is None else single,
        "batch_speed_to_anchor": speed,
        "single_time_to_anchor": time,
        "batch_per_second_levelled": 1000 * speed,
        "single_p50_ms_levelled": 0.1 * time,
    }


def _contestant(size: float, build: float, *points: dict[str, Any]) -> dict[str, Any]:
    return {
        "bytes_per_vector": size,
        "bytes_per_vector_besides": 100.0,
        "build_s": 2 * build,
        "build_s_of_index": build,
        "peak_memory_mb": 300.0,
        "points": list(points),
    }


def _contestants() -> dict[str, dict[str, Any]]:
    contestants = {
        "Catalens": _contestant(
            800, 10, _point(0.96, 3.0, 1.5), _point(0.951, 2.0, 0.5, 0.94), _point(0.995, 1.0, 2.0)
        ),
        "Catalens, ids and scores": _contestant(
            800,
            9,
            _point(0.98, 3.5, 1.2) | {"setting": {"explain": False}},
            _point(0.97, 3.0, 1.3) | {"setting": {"explain": False, "recall": 0.95}},
        ),
        "ScaNN": _contestant(1600, 12, _point(0.94, 9.0, 0.2), _point(0.992, 1.0, 1.0)),
        "hnswlib": _contestant(1400, 30, _point(0.97, 1.0, 0.4)),
    }
    summary.mark_unbeaten(contestants)
    return contestants


def test_targets_compare_the_fastest_at_each_recall() -> None:
    targets = judge(_contestants())
    assert [(target.met, target.measured.split(" (")[0]) for target in targets] == [
        (True, "3.50x"),
        (True, "3.50x"),
        (False, "1.00x"),
        (True, "3.50x"),
        (False, "hnswlib: nothing of it reaches 0.975"),
        (False, "hnswlib: nothing of it reaches 0.99"),
        (True, "0.50x"),
        (False, "0.57x"),
        (True, "0.86x"),
        (False, "Catalens, ids and scores: nothing of it reaches 0.975"),
        (False, "Catalens, ids and scores: nothing of it reaches 0.99"),
        (True, "1.20x"),
        # 0.50 would be the ratio of the point whose single calls miss 0.95
        (True, "1.50x"),
        (True, "0.83x"),
        (False, "0.33x"),
    ]
    assert targets[0].measured == "3.50x (3,500 at 0.980, explain=False; 1,000 at 0.992)"
    alone = judge({"Catalens": _contestants()["Catalens"]})
    assert not any(target.met for target in alone)
    assert alone[-1].measured == "hnswlib: nothing of it was measured"


def test_table_and_pictures_are_made_from_what_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = {
        "items": 600,
        "contestants": _contestants(),
        "not_run": {"Slow": "not built: it ended"},
    }
    path = Result("peers", {}, figures, [], {"cpu": "Abacus"}, "2026-01-02").write(tmp_path)
    read = Result.read(path).figures
    lines = markdown(read).splitlines()
    assert lines[2:6] == [
        "| Catalens, ids and scores | **3,500** | **3,500** | - | 0.12 | 800 | 9 | 300 |",
        "| Catalens | 3,000 | **1,000** | **1,000** | 0.15 | 800 | 10 | 300 |",
        "| ScaNN | 1,000 | 1,000 | 1,000 | 0.10 | 1,600 | 12 | 300 |",
        "| hnswlib | 1,000 | - | - | 0.04 | 1,400 | 30 | 300 |",
    ]
    assert "Not measured: Slow, not built: it ended." in lines
    assert main(["--table", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == lines
    pictures = peers_pictures(read)
    assert list(pictures) == ["peers-speed", "peers-size"]
    for name, figure in pictures.items():
        figure.savefig(tmp_path / name)
        labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        assert labels == [*read["contestants"], "beaten by none in both"]


def test_contestants_are_well_formed() -> None:
    names = [contestant.name for contestant in CONTESTANTS]
    assert len(set(names)) == len(names)
    adapters = Path(environments.__file__).parent / "adapters"
    requirements: dict[str, set[tuple[str, ...]]] = {}
    for contestant in CONTESTANTS:
        assert (adapters / f"{contestant.adapter}.py").is_file()
        assert (contestant.environment is None) == (contestant.requirements == ())
        if contestant.environment is not None:
            requirements.setdefault(contestant.environment, set()).add(contestant.requirements)
            assert all("<" in one for one in contestant.requirements)
        if contestant.build.get("factory") != "Flat":
            assert 8 <= len(contestant.grid) <= 12
    assert all(len(each) == 1 for each in requirements.values())
    (anchor,) = [contestant for contestant in CONTESTANTS if contestant.name == ANCHOR]
    assert ANCHOR_SETTING in anchor.grid


def test_own_adapter_answers_with_ids_of_rows(work: Work, oracle: Oracle, tmp_path: Path) -> None:
    from benchmarks.peers.adapters.catalens import Catalens

    adapter = Catalens(_K, 0)
    adapter.rows = work.rows
    (tmp_path / "saved").mkdir()
    adapter.build(np.load(work.vectors), tmp_path / "built", {})
    sizes = adapter.sizes(tmp_path / "saved")
    assert sizes.vectors == 600 * 16 * 2
    assert sizes.index > 0 and sizes.besides > 600 * 16 * 4
    for setting in (*_OUR_POINTS, {"explain": False}, {"where": "colour = 'red'"}):
        adapter.choose(setting, oracle.queries)
        assert oracle.recall(adapter.batch_ids(adapter.batch())) == 1.0
        assert oracle.recall([adapter.one_ids(adapter.one(3))], [3]) == 1.0
    adapter.choose({"where": "colour = 'blue'"}, oracle.queries)
    assert adapter.one_ids(adapter.one(3)) == []


def test_faiss_lists_are_searched_with_the_setting(
    work: Work, oracle: Oracle, tmp_path: Path
) -> None:
    from benchmarks.peers.adapters.faiss import Faiss

    adapter = Faiss(_K, 0)
    factory = "IVF8,PQ8x4fs,Refine(SQfp16)"
    built = {"factory": factory, "train_rows": 500, "spherical": True}
    adapter.build(np.load(work.vectors), tmp_path, built)
    assert adapter.sizes(tmp_path).vectors == 600 * 16 * 2
    recalls = []
    for nprobe, k_factor in ((1, 8), (8, 1), (8, 100)):
        adapter.choose({"nprobe": nprobe, "k_factor": k_factor}, oracle.queries)
        recalls.append(oracle.recall(adapter.batch_ids(adapter.batch())))
    assert max(recalls[:2]) < 0.9 and recalls[2] > 0.98


def test_given_folder_is_cut_to_the_items(work: Work, tmp_path: Path) -> None:
    write_given(work.folder, tmp_path, 5)
    assert np.load(tmp_path / "vectors.npy").shape == (5, 16)
    assert np.load(tmp_path / "queries.npy").shape == (40, 16)
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 5


def test_stride_visits_different_queries() -> None:
    assert len({turn * rounds._STRIDE % 1000 for turn in range(10)}) == 10
