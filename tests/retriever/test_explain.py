"""Hits without explanation: the same items and scores as with it, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from catalens import Query, Retriever, build_index
from indexer.ids import Ids, write_ids
from tests.catalogs import clustered

NAMES = ["a", "", "schön", "日本語-商品", "x" * 300, "é", "b"]


@pytest.mark.parametrize("count", [0, 1, 2, len(NAMES)])
def test_ids_come_back_in_any_order(tmp_path: Path, count: int) -> None:
    write_ids(tmp_path / "ids", NAMES[:count])
    ids = Ids(tmp_path / "ids")
    assert len(ids) == count
    for order in ([], range(count), range(count)[::-1], [0] * min(count, 1)):
        chosen = np.array(list(order), dtype=np.int64)
        assert ids.take(chosen) == [NAMES[n] for n in chosen]


@pytest.mark.parametrize("n", [300, 2000])
@pytest.mark.parametrize("missing", ["neutral", "renormalise", "drop"])
@pytest.mark.parametrize("kept", ["float16", "int8"])
def test_the_same_items_and_scores(tmp_path: Path, n: int, missing: str, kept: str) -> None:
    a, b = clustered(n, 16, seed=1), clustered(n, 8, seed=2)
    rows = [
        {"id": f"nº {i}", "a": a[i], "even": i % 2 == 0, **({"b": b[i]} if i % 3 else {})}
        for i in range(n)
    ]
    build_index(
        rows,
        tmp_path / "index",
        vector={"a": "a", "b": "b"},
        device="cpu",
        profile="fast",
        rows=kept,
    )
    queries = [
        *(Query(vector={"a": a[i], "b": b[i]}, missing=missing) for i in range(9)),
        *(Query(like=[f"nº {i}"], weights={"b": -0.5}, missing=missing) for i in (1, 4, 7)),
    ]
    with Retriever.open(tmp_path / "index") as shop:
        for where in (None, "even = true"):
            told = shop.search_many(queries, 7, where=where)
            bare = shop.search_many(queries, 7, where=where, explain=False)
            assert [[(h.id, h.score) for h in hits] for hits in bare] == [
                [(h.id, h.score) for h in hits] for hits in told
            ]
            assert all(not h.spaces and not h.metadata for hits in bare for h in hits)
            assert all(h.spaces and h.metadata for hits in told for h in hits)
