"""Tuning: what is measured, how it is published, and what searches make of it."""

from __future__ import annotations

import itertools
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import indexer.tune
from catalens import CatalensError, Query, Retriever, build_index, tune_index
from indexer import IndexEntry, PointEntry, TuneReport, verify_index
from indexer.durable import link_file
from indexer.errors import IndexLockedError, TargetError
from retriever.errors import InvalidRecallError
from tests.catalogs import Opened, build_vectors, clustered
from tests.processes import run_python
from tests.stopping import StopAfter, StoppedError

N = 6_000


def build(out: Path) -> Path:
    """Two spaces, a tenth of the items without the second."""
    a, b = clustered(N, 32, seed=1), clustered(N, 16, seed=2)
    lacks = np.random.default_rng(3).random(N) < 0.1
    rows = (
        {"id": str(n), "a": a[n], **({} if lacks[n] else {"b": b[n]}), "even": n % 2 == 0}
        for n in range(N)
    )
    build_index(rows, out, vector={"a": "a", "b": "b"}, device="cpu", profile="fast")
    return out


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("built") / "index")


@pytest.fixture
def index(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "index"))


@pytest.fixture(scope="module")
def tuned(built: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TuneReport]:
    path = Path(shutil.copytree(built, tmp_path_factory.mktemp("tuned") / "index"))
    return path, tune_index(path, queries=real_queries(40))


def real_queries(count: int) -> list[Query]:
    a, b = clustered(N + count, 32, seed=1)[N:], clustered(N + count, 16, seed=2)[N:]
    return [
        Query(vector={"a": a[n], "b": b[n]}, weights={"b": -0.5 if n % 4 == 0 else 2.0})
        for n in range(count)
    ]


def asked(retriever: Retriever, **options: float) -> list[list[str]]:
    hits = retriever.search_many(real_queries(20), 10, **options)
    return [[hit.id for hit in found] for found in hits]


def test_all_conditions_are_measured(tuned: tuple[Path, TuneReport]) -> None:
    _, report = tuned
    filters = {
        f"filter {share} %, {kind}"
        for share, kind in itertools.product((50, 10, 3, 1, 0.1), ("random", "near", "far"))
    }
    toward = {
        *("all spaces", "a alone", "b alone", "a 4:1", "b 4:1", "real queries"),
        *("by items with holes", "for items with holes"),
    }
    against = {"against a", "against b", "real queries against a space"}
    for points, plain in ((report.index.points, toward), (report.index.against, against)):
        assert points
        assert all(set(point.recall) == plain | filters for point in points)
        assert points == sorted(points, key=lambda point: point.worst)
        for cheap, dear in itertools.combinations(points, 2):
            assert cheap.p50_ms < dear.p50_ms or cheap.queries_per_second > dear.queries_per_second
        assert len({point.worst for point in points}) == len(points)
    assert report.queries == 40 and report.reached
    assert min(report.index.recall.values()) >= report.index.target == 0.95


def test_what_was_measured_is_in_the_manifest(tuned: tuple[Path, TuneReport]) -> None:
    path, report = tuned
    assert Opened(path).manifest.index == report.index
    assert verify_index(path).problems == []


def test_files_are_shared_and_nothing_is_derived(index: Path) -> None:
    before = Opened(index)
    nodes = {name: (before.folder / name).stat().st_ino for name in before.manifest.files}
    tune_index(index)
    after = Opened(index)
    assert after.folder != before.folder and not before.folder.exists()
    assert {name: (after.folder / name).stat().st_ino for name in nodes} == nodes
    changed = {"generation", "created", "index"}
    assert after.manifest.model_dump(exclude=changed) == before.manifest.model_dump(exclude=changed)
    assert after.current.generation == before.current.generation + 1
    assert len(list(after.folder.parent.iterdir())) == 1


def test_files_are_copied_where_links_cannot_be_made(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    tune_index(index)
    assert verify_index(index).problems == []


def test_link_file_copies_what_it_cannot_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"x" * 10_000_000)
    link_file(tmp_path / "a", tmp_path / "linked")
    assert (tmp_path / "linked").samefile(tmp_path / "a")
    monkeypatch.setattr(os, "link", lambda *_, **__: (_ for _ in ()).throw(OSError("no")))
    link_file(tmp_path / "a", tmp_path / "copied")
    assert (tmp_path / "copied").read_bytes() == (tmp_path / "a").read_bytes()
    assert not (tmp_path / "copied").samefile(tmp_path / "a")


def test_open_readers_stay_alive_and_new_ones_answer_the_same(index: Path) -> None:
    with Retriever.open(index) as old:
        before = asked(old), asked(old, recall=1.0)
        tune_index(index)
        assert (asked(old), asked(old, recall=1.0)) == before
        with Retriever.open(index) as new:
            assert new.manifest.generation == old.manifest.generation + 1
            assert asked(new, recall=1.0) == before[1]


def test_unreached_recall_is_exact_and_more_is_never_less(tuned: tuple[Path, TuneReport]) -> None:
    path, _ = tuned
    rows = Opened(path).rows
    with Retriever.open(path) as retriever:
        vectors = retriever.fused(real_queries(20)).vectors
        scores = vectors.astype(np.float64) @ rows.T.astype(np.float64)
        bounds = np.sort(scores, axis=1)[:, -10]
        best = 0.0
        for recall in (0.5, 0.8, 0.9, 0.95, 0.99, 1.0):
            found = asked(retriever, recall=recall)
            good = [
                scores[n, int(one)] >= bounds[n] - 1e-5
                for n, ids in enumerate(found)
                for one in ids
            ]
            assert np.mean(good) >= recall - 0.05
            assert np.mean(good) >= best - 0.02
            best = max(best, float(np.mean(good)))
        assert retriever.manifest.index.cheapest(1.0) is None or best == 1.0
        assert best == 1.0


@settings(deadline=None)
@given(
    worst=st.lists(st.floats(0, 1), min_size=1, max_size=6),
    against=st.lists(st.floats(0, 1), max_size=6),
    asked=st.lists(st.floats(0.01, 1), min_size=2, max_size=5),
    target=st.floats(0.01, 1),
)
def test_more_recall_is_never_a_cheaper_point(
    worst: list[float], against: list[float], asked: list[float], target: float
) -> None:
    def points(recalls: list[float]) -> list[PointEntry]:
        return [
            PointEntry(
                nprobe=n + 1,
                k_factor=4,
                recall={"all spaces": recall, "filter": min(1.0, recall + 0.1)},
                p50_ms=n + 1,
                p99_ms=n + 1,
                queries_per_second=1,
            )
            for n, recall in enumerate(sorted(recalls))
        ]

    index = IndexEntry(
        profile="auto",
        kind="ivf-pq",
        factory="",
        dimension=4,
        lists=8,
        code_bytes=1,
        target=target,
        points=points(worst),
        against=points(against),
        exact_rows=0,
        threads=0,
    )
    for kind, recalls in ((False, worst), (True, against or worst)):
        taken = [index.cheapest(recall, against=kind) for recall in sorted(asked)]
        costs = [np.inf if point is None else point.nprobe for point in taken]
        assert costs == sorted(costs)
        for recall, point in zip(sorted(asked), taken, strict=True):
            assert (point is None) == (recall > max(recalls))
            assert point is None or point.worst >= recall
        assert index.default(against=kind).worst >= min(target, max(recalls))
    defaults = index.default(), index.default(against=True)
    assert min(index.recall.values()) == min(point.worst for point in defaults)


@pytest.mark.parametrize("recall", [0, -1, 1.5, float("nan"), True, "0.9", float("inf")])
def test_recall_that_is_none(built: Path, recall: float) -> None:
    with (
        Retriever.open(built) as retriever,
        pytest.raises(InvalidRecallError, match="above 0, at most 1"),
    ):
        retriever.search(real_queries(1)[0], recall=recall)


@pytest.mark.parametrize("target", [0, 1.01, float("nan"), True])
def test_target_that_is_none(index: Path, target: float) -> None:
    with pytest.raises(TargetError, match="above 0, at most 1"):
        tune_index(index, target=target)
    assert Opened(index).current.generation == 1


def test_target_out_of_reach_is_told(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexer.explore._K_FACTORS", (4,))
    report = tune_index(index, target=1.0)
    assert not report.reached
    assert report.index.default() == report.index.points[-1]
    assert report.index.cheapest(1.0) is None
    with Retriever.open(index) as retriever:
        rows, query = Opened(index).rows, real_queries(2)[1]
        scores = rows.astype(np.float64) @ retriever.fused([query]).vectors[0]
        hits = retriever.search(query, 10, recall=1.0)
    assert [hit.score for hit in hits] == pytest.approx(np.sort(scores)[-10:][::-1], abs=1e-5)


def test_higher_target_is_a_dearer_default(index: Path) -> None:
    chosen = [tune_index(index, target=target).index for target in (0.8, 0.99)]
    assert chosen[0].default().worst < chosen[1].default().worst
    assert all(one.default().worst >= one.target for one in chosen)


def test_exact_index_can_be_tuned(tmp_path: Path) -> None:
    build_vectors(tmp_path / "index", clustered(200, 8))
    report = tune_index(tmp_path / "index")
    assert report.index.recall == {"exact": 1.0} and report.reached
    with Retriever.open(tmp_path / "index") as retriever:
        assert len(retriever.search(Query(like="v3"), 5, recall=0.5)) == 5


def test_one_writer_at_a_time(index: Path) -> None:
    code = "import sys; from catalens import tune_index; tune_index(sys.argv[1])"
    with indexer.tune.opened_for_writing(index):
        done = run_python(code, index)
    assert done.returncode and IndexLockedError.__name__ in done.stderr


@pytest.mark.parametrize("stage", ["find exact answers", "explore"])
def test_stopped_it_leaves_the_old_index(index: Path, stage: str) -> None:
    before = Opened(index).manifest
    with pytest.raises(StoppedError):
        tune_index(index, progress=StopAfter(stage, 1))
    assert Opened(index).manifest == before


def test_query_that_cannot_be_answered_leaves_the_old_index(index: Path) -> None:
    with pytest.raises(CatalensError, match="id of the index"):
        tune_index(index, queries=[Query(like="nobody")])
    assert Opened(index).current.generation == 1


KILLS_ITSELF = """
import sys
import indexer.publish, indexer.tune
from indexer.environment import Environment
from pathlib import Path
from tests.dying import Dying
dies = Dying(int(sys.argv[2]))
from tests.catalogs import Opened
changed = Opened(Path(sys.argv[1])).manifest.index.model_copy(update={"target": 0.5})
indexer.tune.measure = lambda *_: changed
Environment.write = dies(Environment.write)
Path.rename = dies(Path.rename)
for name in ("sync_folder", "write_file", "link_file"):
    setattr(indexer.publish, name, dies(getattr(indexer.publish, name)))
indexer.publish.shutil.rmtree = dies(indexer.publish.shutil.rmtree)
indexer.tune.tune_generation(sys.argv[1])
"""


def test_killed_before_each_durable_step(built: Path, tmp_path: Path) -> None:
    old, seen = Opened(built), set()
    for steps in range(40):
        index = Path(shutil.copytree(built, tmp_path / f"index-{steps}"))
        done = run_python(KILLS_ITSELF, index, steps)
        target = Opened(index).manifest.index.target
        seen.add(target)
        assert target in (old.manifest.index.target, 0.5)
        assert np.array_equal(Opened(index).rows, old.rows)
        shutil.rmtree(index)
        if done.returncode == 0:
            break
        assert done.returncode == -9, done.stderr
    else:
        pytest.fail("tuning has more than 40 steps")
    assert steps > len(old.manifest.files) and len(seen) == 2
