"""Indexes with int8 rows against those with float16 rows: files, recall as it is told, and back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from catalens import CatalensError, Query, Retriever, build_index, rebuild_index, tune_index
from indexer import IndexEntry, Selection, verify_index
from indexer.conditions import Asked, Condition
from indexer.errors import CorruptIndexError
from indexer.searcher import OperatingPoint, Searcher
from tests.catalogs import Opened, build_toy, build_vectors, clustered, toy_rows

N, A, B = 6_000, 32, 16


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two spaces, a tenth of the items without the second, float16 rows."""
    out = tmp_path_factory.mktemp("int8") / "index"
    a, b = clustered(N, A, seed=1), clustered(N, B, seed=2)
    lacks = np.random.default_rng(3).random(N) < 0.1
    rows = [
        {"id": str(n), "a": a[n], **({} if lacks[n] else {"b": b[n]}), "even": n % 2 == 0}
        for n in range(N)
    ]
    build_index(rows, out, vector={"a": "a", "b": "b"}, device="cpu", profile="fast")
    return out


@pytest.fixture(scope="module")
def rounded(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = Path(shutil.copytree(built, tmp_path_factory.mktemp("rounded") / "index"))
    rebuild_index(out, rows="int8")
    return out


@pytest.fixture
def index(rounded: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(rounded, tmp_path / "index"))


def test_files_are_half_the_size(built: Path, rounded: Path) -> None:
    exact, kept = Opened(built).manifest.files, Opened(rounded).manifest.files
    assert set(exact) ^ set(kept) == {"rows.f16", "rows.i8", "row_steps.f32"}
    assert kept["rows.i8"].bytes == exact["rows.f16"].bytes // 2 == N * (A + B)
    assert kept["row_steps.f32"].bytes == 4 * (A + B)
    assert kept["rows.crc32"].bytes == exact["rows.crc32"].bytes
    folder = Opened(rounded).folder
    assert {path.name for path in folder.iterdir()} == {*kept, "manifest.json"}
    # What chooses candidates was trained on the exact rows, and knows nothing of it.
    assert kept["index.faiss"] == exact["index.faiss"]


def test_every_value_is_off_by_half_a_step(built: Path, rounded: Path) -> None:
    exact, kept = Opened(built), Opened(rounded)
    steps = np.abs(exact.rows).max(axis=0) / np.float32(127)
    assert (np.abs(exact.rows - kept.rows) <= steps / 2 + 1e-7).all()
    lacking = ~kept.mask[:, 1]
    assert lacking.sum() > 500
    assert not kept.rows[lacking][:, kept.fusion.blocks["b"]].any()


def test_there_and_back_is_the_same_and_encodes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "index"
    build_toy(out, toy_rows(200))
    before = (Opened(out).folder / "rows.f16").read_bytes()
    monkeypatch.setattr("encoders.Encoder.encode", None)
    monkeypatch.setattr("encoders.Encoder.prepare", None)
    for rows in ("int8", "float16"):
        rebuild_index(out, rows=rows)
        assert verify_index(out).problems == []
    folder = Opened(out).folder
    assert (folder / "rows.f16").read_bytes() == before
    assert not (folder / "rows.i8").exists() and not (folder / "row_steps.f32").exists()
    assert Opened(out).manifest.index.rows_recall == 1.0


def judged(built: Path, path: Path, **options: Any) -> float:
    """Recall@10 for held-out queries, judged by float16 rows, ties allowed."""
    a, b = clustered(N + 200, A, seed=1)[N:], clustered(N + 200, B, seed=2)[N:]
    queries = [Query(vector={"a": x, "b": y}) for x, y in zip(a, b, strict=True)]
    with Retriever.open(path, device="cpu") as shop:
        vectors = shop.fused(queries).vectors
        found = shop.search_many(queries, 10, explain=False, **options)
    scores = vectors.astype(np.float64) @ Opened(built).rows.T
    bound = np.sort(scores, axis=1)[:, -10] - 1e-6
    good = [scores[n, int(hit.id)] >= bound[n] for n, hits in enumerate(found) for hit in hits]
    assert len(good) == 10 * len(queries)
    return float(np.mean(good))


def test_recall_is_what_is_told(built: Path, rounded: Path) -> None:
    entry = Opened(rounded).manifest.index
    assert Opened(built).manifest.index.rows_recall == 1.0
    assert 0.95 < entry.rows_recall < 1  # 0.963
    assert all(point.worst <= entry.rows_recall for point in (*entry.points, *entry.against))
    # What is told is of the worst condition, less its standard error.
    assert judged(built, rounded, recall=1.0) >= entry.rows_recall  # an exact scan
    for recall in (0.8, 0.9, 0.95):
        assert judged(built, rounded, recall=recall) >= recall


def test_a_scan_is_judged_by_the_exact_rows(built: Path, rounded: Path) -> None:
    exact, kept = opened_rows(built), opened_rows(rounded)
    own = np.arange(0, N, 40)
    queries = exact.rows.take(own)
    mask = np.arange(N) % 3 == 0
    for selection in (None, Selection(mask)):
        told = Condition(exact.rows, [Asked(queries, own, selection)]).scan_recall(kept)
        scores, rounded_scores = (queries @ one.rows.take(np.arange(N)).T for one in (exact, kept))
        for one in (scores, rounded_scores):
            one[np.arange(len(own)), own] = -np.inf
            one[:, ~mask if selection else []] = -np.inf
        best = np.sort(scores, axis=1)[:, -10:-9] - 1e-5
        found = np.argsort(-rounded_scores, axis=1)[:, :10]
        each = (np.take_along_axis(scores, found, axis=1) >= best).mean(axis=1)
        assert told == pytest.approx(each.mean() - each.std() / np.sqrt(len(own)), abs=2e-3)
        assert 0.9 < told < 1
        assert Condition(exact.rows, [Asked(queries, own, selection)]).scan_recall(exact) == 1


def test_what_the_rows_lost_is_taken_from_every_recall(rounded: Path) -> None:
    searcher = opened_rows(rounded)
    own = np.arange(0, N, 40)
    asked = [Asked(searcher.rows.take(own), own)]
    for point in (OperatingPoint(2, 4), OperatingPoint(32, 20)):
        measured = Condition(searcher.rows, asked).recall(searcher, point)
        told = Condition(searcher.rows, asked, 0.9).recall(searcher, point)
        assert told == pytest.approx(measured - 0.1)
        assert Condition(searcher.rows, asked, 0.0).recall(searcher, point) == 0


def opened_rows(path: Path) -> Searcher:
    """The searcher of an index."""
    with Retriever.open(path, device="cpu") as shop:
        return shop._view.generation.searcher


def test_tuning_keeps_what_the_rows_lost(index: Path) -> None:
    before = Opened(index).manifest.index
    report = tune_index(index, target=0.9)
    after = report.index
    assert (after.rows, after.rows_recall) == ("int8", before.rows_recall)
    assert report.reached and after.default().worst >= 0.9
    assert max(point.worst for point in after.points) <= after.rows_recall
    assert verify_index(index).problems == []
    beyond = tune_index(index, target=1.0)
    assert not beyond.reached and beyond.index.default() == beyond.index.points[-1]


@pytest.mark.parametrize("n", [1, 5, 11, 300])
def test_few_items_lose_nothing_that_is_told(tmp_path: Path, n: int) -> None:
    out = tmp_path / "index"
    build_vectors(out, clustered(n, 8))
    summary = rebuild_index(out, profile="memory")
    entry = Opened(out).manifest.index
    assert (entry.kind, entry.factory, entry.code_bytes) == ("exact", "SQ8", 8)
    assert summary.recall == {"exact": entry.rows_recall}
    assert entry.rows_recall == 1.0 if n <= 10 else entry.rows_recall > 0.8
    assert verify_index(out).problems == []
    with Retriever.open(out) as shop:
        assert shop.search(Query(vector=clustered(n, 8)[0]), 1)[0].id == "v0"


@pytest.mark.parametrize("fusion", ["concat", "mean"])
def test_vectors_that_are_hard_to_tell_apart_are_sound(tmp_path: Path, fusion: str) -> None:
    rng = np.random.default_rng(0)
    x = np.repeat(rng.standard_normal((20, 64)), 60, axis=0)
    for number, vectors in enumerate((x, x + rng.normal(0, 1e-2, x.shape), np.ones((1_200, 16)))):
        out = tmp_path / str(number)
        build_vectors(out, vectors.astype(np.float32))
        rebuild_index(out, profile="memory", fusion=fusion)
        assert verify_index(out).problems == []


def test_flipped_bits_are_found(index: Path) -> None:
    file = Opened(index).folder / "rows.i8"
    sound = file.read_bytes()
    with Retriever.open(index) as shop:
        best = shop.search(Query(like=["7"]), 1)[0].id
    for bit in range(8):
        broken = bytearray(sound)
        broken[int(best) * (A + B) + bit] ^= 1 << bit
        file.write_bytes(broken)
        with Retriever.open(index) as shop, pytest.raises(CorruptIndexError, match=r"rows\.i8"):
            shop.search(Query(like=["7"]), 1)
        (problem,) = verify_index(index).problems
        assert "rows.i8" in problem


@pytest.mark.parametrize("name", ["rows.i8", "row_steps.f32", "rows.crc32"])
@pytest.mark.parametrize("what", ["missing", "cut"])
def test_lost_files_are_told_at_open(index: Path, name: str, what: str) -> None:
    file = Opened(index).folder / name
    data = file.read_bytes()
    file.unlink()
    if what == "cut":
        file.write_bytes(data[:-1])
    with pytest.raises(CatalensError, match=name.replace(".", r"\.")):
        Retriever.open(index)


def test_manifests_that_say_nothing_of_rows_are_float16(built: Path) -> None:
    value = json.loads(Opened(built).manifest.index.model_dump_json())
    told = {name: value.pop(name) for name in ("rows", "rows_recall")}
    assert told == {"rows": "float16", "rows_recall": 1.0}
    assert IndexEntry.model_validate(value) == Opened(built).manifest.index
