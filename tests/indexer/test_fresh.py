"""Fresh rows beside a generation: what codes name is what a scan of them all finds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from catalens import Query, Retriever, Writer, rebuild_index
from indexer.fresh import FreshScan
from indexer.searcher import Found, Selection
from tests.catalogs import build_vectors, clustered

N, F, D = 3000, 2500, 64
Floats = NDArray[np.float32]


@pytest.fixture(scope="module")
def vectors() -> Floats:
    return clustered(N + F + 1000, D)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, vectors: Floats) -> Path:
    path = tmp_path_factory.mktemp("fresh") / "index"
    build_vectors(path, vectors[:N], number=range(N))
    return path


@pytest.fixture
def shop(index: Path, vectors: Floats) -> Iterator[Retriever]:
    """The index with fresh rows."""
    with Writer.open(index) as writer:
        rows = [{"id": f"n{n}", "v": vectors[N + n], "number": n} for n in range(F)]
        writer.update(rows, upsert=True)
    with Retriever.open(index) as shop:
        yield shop


def settled(shop: Retriever, queries: Floats, k: int) -> list[Found]:
    live = shop._view.live
    return live.generation.searcher.search(queries, k, None)


def beside(shop: Retriever, queries: Floats, k: int, selection: Any, *, coded: bool) -> list[Found]:
    scan = shop._view.live._scan
    assert scan is not None and scan._codes is not None
    return scan.beside(queries, settled(shop, queries, k), k, selection, coded=coded)


@pytest.mark.parametrize("k", [1, 3, 10, 25])
@pytest.mark.parametrize("share", [None, 0.7, 0.01, 0.0])
def test_codes_lose_nothing(shop: Retriever, vectors: Floats, k: int, share: float | None) -> None:
    rng = np.random.default_rng(k)
    queries = np.concatenate([vectors[-100:], -vectors[-50:]])
    queries = np.concatenate([queries, rng.standard_normal((50, D)).astype(np.float32)])
    selection = None if share is None else Selection(rng.random(F) < share)
    coded = beside(shop, queries, k, selection, coded=True)
    exact = beside(shop, queries, k, selection, coded=False)
    for (found, scores), (wanted, best) in zip(coded, exact, strict=True):
        assert found.tolist() == wanted.tolist()
        assert scores == pytest.approx(best, abs=1e-6)


def test_codes_are_asked_where_they_pay(shop: Retriever) -> None:
    scan = shop._view.live._scan
    assert scan is not None
    assert scan._candidates(10, None) == 64
    assert scan._candidates(16, None) == 64
    assert scan._candidates(100, None) is None
    assert scan._candidates(10, Selection(np.arange(F) < F // 4)) is None


def test_rows_that_codes_cannot_tell_apart_are_scanned(tmp_path: Path, vectors: Floats) -> None:
    """All fresh rows are near one another, and nearer to the query than their codes tell."""
    rng = np.random.default_rng(3)
    near = vectors[0] + 0.02 * rng.standard_normal((F, D)).astype(np.float32)
    build_vectors(tmp_path / "index", vectors[:N])
    with Writer.open(tmp_path / "index") as writer:
        writer.add([{"id": f"n{n}", "v": v} for n, v in enumerate(near)])
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    queries = near[:20] + 0.02 * rng.standard_normal((20, D)).astype(np.float32)
    best = np.sort(queries @ near.T / np.linalg.norm(queries, axis=1)[:, None], axis=1)[:, :-11:-1]
    with Retriever.open(tmp_path / "index") as shop:
        found = shop.search_many([Query(vector=q) for q in queries], 10)
    for hits, wanted in zip(found, best, strict=True):
        similar = [hit.spaces["vector"].similarity for hit in hits]
        assert similar == pytest.approx(wanted, abs=1e-3)


def test_what_is_coded_is_kept_by_a_refresh(
    shop: Retriever, index: Path, vectors: Floats, monkeypatch: pytest.MonkeyPatch
) -> None:
    from indexer.faiss_index import FaissIndex

    coded: list[int] = []
    add = FaissIndex.add

    def counted(self: FaissIndex, some: Floats) -> None:
        coded.append(len(some))
        add(self, some)

    monkeypatch.setattr(FaissIndex, "add", counted)

    def codes() -> bytes:
        scan = shop._view.live._scan
        assert scan is not None and scan._codes is not None
        return scan._codes.serialize()

    with Writer.open(index) as writer:
        writer.add([{"id": "more", "v": vectors[-1], "number": 1}])
    assert shop.refresh() and coded == [1]
    extended = codes()
    with Retriever.open(index) as anew:
        assert anew._view.live._scan is not None
        assert anew._view.live._scan._codes is not None
        assert anew._view.live._scan._codes.serialize() == extended
    with Writer.open(index) as writer:
        writer.delete(["n5", "more"])
    coded.clear()
    assert shop.refresh() and sum(coded) == F - 1
    hits = shop.search(Query(vector=vectors[N + 6]), 3)
    assert hits[0].id == "n6"


def test_few_rows_and_other_codes_are_scanned(tmp_path: Path, vectors: Floats) -> None:

    def scan() -> FreshScan:
        with Retriever.open(tmp_path / "index") as shop:
            found = shop._view.live._scan
            assert found is not None
            assert shop.search(Query(vector=vectors[N + 3]), 2)[0].id == "n3"
            return found

    for profile, has_codes in (("exact", False), ("gpu", False), ("memory", True)):
        build_vectors(tmp_path / "index", vectors[:N])
        rebuild_index(tmp_path / "index", profile=profile)
        with Writer.open(tmp_path / "index") as writer:
            rows = [{"id": f"n{n}", "v": vectors[N + n]} for n in range(F)]
            writer.update(rows, upsert=True)
        assert (scan()._codes is not None) is has_codes
    with Writer.open(tmp_path / "index") as writer:
        writer.delete([f"n{n}" for n in range(1000, F)])
    assert scan()._codes is None
