"""Answers from int8 rows: filters, scores and explanations are those of the rows as kept."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from catalens import Query, Retriever, build_index, rebuild_index
from tests.catalogs import Opened, clustered

N, A, B = 3_000, 24, 16
LACKS = np.random.default_rng(3).random(N) < 0.5


@pytest.fixture(scope="module", params=["exact", "fast"])
def index(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """Two spaces, half of the items without the second."""
    out = tmp_path_factory.mktemp("int8") / "index"
    a, b = clustered(N, A, seed=1), clustered(N, B, seed=2)
    rows = [
        {"id": str(n), "number": n, "a": a[n], **({} if LACKS[n] else {"b": b[n]})}
        for n in range(N)
    ]
    build_index(
        rows, out, vector={"a": "a", "b": "b"}, device="cpu", profile=request.param, rows="int8"
    )
    return out


def queries(**options: object) -> list[Query]:
    a, b = clustered(N + 20, A, seed=1)[N:], clustered(N + 20, B, seed=2)[N:]
    return [
        Query(vector={"a": x, "b": y}, weights={"b": (-1) ** n * 0.5}, **options)  # type: ignore[arg-type]
        for n, (x, y) in enumerate(zip(a, b, strict=True))
    ]


@pytest.mark.parametrize("checked", [False, True])  # scored by numpy, and by FAISS
def test_scores_are_those_of_the_rows_and_explained(index: Path, checked: bool) -> None:
    rows = Opened(index).rows.astype(np.float64)
    with Retriever.open(index, device="cpu") as shop:
        searcher = shop._view.generation.searcher
        if checked:
            assert searcher.rows.check()
        else:
            searcher.rows.check = lambda blocks=None: False
        asked = queries()
        vectors = shop.fused(asked).vectors
        for where, allowed in ((None, N), ("number < 700", 700), ("number < 30", 30)):
            told = shop.search_many(asked, 10, where=where)
            for vector, hits in zip(vectors, told, strict=True):
                assert len(hits) == 10 and all(int(hit.id) < allowed for hit in hits)
                exact = [rows[int(hit.id)] @ vector for hit in hits]
                assert [hit.score for hit in hits] == pytest.approx(exact, abs=1e-5)
                for hit in hits:
                    parts = [match.contribution for match in hit.spaces.values()]
                    assert sum(parts) == pytest.approx(hit.score, abs=1e-5)


def test_what_an_item_lacks_contributes_nothing(index: Path) -> None:
    seen = 0
    with Retriever.open(index, device="cpu") as shop:
        blocks = shop._view.generation.fusion.blocks  # type: ignore[attr-defined]
        rows = shop._view.generation.searcher.rows.take(np.arange(N))
        assert (rows[LACKS][:, blocks["b"]] == 0).all() and (rows[~LACKS][:, blocks["b"]]).any()
        for hits in shop.search_many(queries(), 20):
            for hit in hits:
                if LACKS[int(hit.id)]:
                    seen += 1
                    assert not hit.spaces["b"].present
                    assert hit.spaces["b"].contribution == 0
                    assert hit.spaces["a"].contribution == pytest.approx(hit.score, abs=1e-6)
        # To FAISS too, but for the rounding of its arithmetic.
        alone = np.zeros((1, rows.shape[1]), dtype=np.float32)
        alone[:, blocks["b"]] = clustered(1, B)
        ((positions, scores),) = shop._view.generation.searcher.search(alone, N, None)
    assert seen > 50
    assert np.abs(scores[LACKS[positions]]).max() <= 1e-7


def test_policies_find_what_they_do_in_float16(index: Path, tmp_path: Path) -> None:
    exact = Path(shutil.copytree(index, tmp_path / "exact"))
    rebuild_index(exact, rows="float16")
    with Retriever.open(index) as rounded, Retriever.open(exact) as plain:
        for options in ({}, {"missing": "renormalise"}, {"missing": "drop"}):
            asked = queries(**options)
            ways = [shop.search_many(asked, 10, recall=1.0) for shop in (rounded, plain)]
            same = [
                len({hit.id for hit in one} & {hit.id for hit in other})
                for one, other in zip(*ways, strict=True)
            ]
            assert np.mean(same) >= 9 and min(same) >= 5, same
