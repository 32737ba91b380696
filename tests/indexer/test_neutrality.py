"""A missing picture is neither reward nor penalty: text queries find both kinds in true shares."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from catalens import Query, Retriever, build_index
from tests.catalogs import WORDS, Opened, build_toy, clustered, png, toy_rows

N, QUERIES, TOP = 2_000, 120, 50


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two spaces, half the items without the second, at random and independent of the first."""
    out = tmp_path_factory.mktemp("neutral") / "index"
    words, looks = clustered(N, 24, seed=1), clustered(N, 16, seed=2)
    pictured = np.random.default_rng(3).permutation(N) < N // 2
    rows = [
        {"id": str(n), "w": words[n], **({"p": looks[n]} if pictured[n] else {})} for n in range(N)
    ]
    build_index(rows, out, vector={"words": "w", "looks": "p"}, device="cpu")
    return out


@pytest.mark.parametrize("compare", ["one space", "both spaces"])
def test_unpictured_items_keep_their_share_of_the_top(index: Path, compare: str) -> None:
    words = clustered(N, 24, seed=1)
    shares = []
    with Retriever.open(index) as retriever:
        for n in range(QUERIES):
            parts = {"words": words[n]}
            if compare == "both spaces":
                # A picture unlike any: it may sort the pictured ones, not favour them as such.
                parts["looks"] = np.random.default_rng(n).standard_normal(16)
            hits = retriever.search(Query(vector=parts, weights={"looks": 0.05}), TOP)
            shares.append(np.mean([hit.spaces["looks"].present for hit in hits]))
    assert np.mean(shares) == pytest.approx(0.5, abs=0.03)


def test_text_queries_of_encoded_catalogs_are_neutral_too(tmp_path: Path) -> None:
    # The spaces of a preset are centred, those of ready-made vectors are not: both must hold.
    rng = np.random.default_rng(5)
    pictured = rng.permutation(1_000) < 500
    rows = toy_rows(1_000, pictures=False)
    for row, here in zip(rows, pictured, strict=True):
        row |= {"image": png(rng)} if here else {}
    build_toy(tmp_path / "index", rows)
    with Retriever.open(tmp_path / "index") as retriever:
        queries = [Query(text=f"{first} {second}") for first in WORDS for second in WORDS[:6]]
        shares = [
            np.mean([hit.spaces["colours"].present for hit in hits])
            for hits in retriever.search_many(queries, TOP)
        ]
    assert np.mean(shares) == pytest.approx(0.5, abs=0.03)


def test_dividing_by_the_spaces_present_would_fail_the_same_check(index: Path) -> None:
    # The temptation: items as unit vectors. It must fail, or the check above shows nothing.
    opened = Opened(index)
    normed = opened.rows / np.linalg.norm(opened.rows, axis=1, keepdims=True)
    where = opened.fusion.blocks["words"]
    shares = []
    for n in range(QUERIES):
        query = opened.fusion.transforms["words"].query_block(
            clustered(N, 24, seed=1)[n], "vector:words"
        )
        top = np.argsort(-(normed[:, where] @ query))[:TOP]
        shares.append(opened.mask[top, 1].mean())
    assert np.mean(shares) < 0.42
