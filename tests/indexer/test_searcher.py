"""Filters against numpy, for every kind of index and both ways to score: only what is allowed, and
the best of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer import Selection
from indexer.faiss_index import FaissIndex
from indexer.plan import Plan, Profile
from indexer.row_codecs import FLOAT16, Int8, RowCodec, RowType
from indexer.rows import Rows, RowWriter
from indexer.searcher import OperatingPoint, Searcher
from tests.catalogs import clustered

DIMENSION = 20
KINDS: dict[str, tuple[Profile, RowType]] = {
    **{name: (name, "float16") for name in ("exact", "fast", "gpu")},
    **{f"{name} int8": (name, "int8") for name in ("exact", "fast", "gpu")},
}


@dataclass(frozen=True)
class Made:
    """An index, and the files of its rows."""

    index: FaissIndex
    plan: Plan
    files: tuple[Path, Path]
    codec: RowCodec
    x: np.ndarray

    def searcher(self, *, checked: bool, exact_rows: int) -> Searcher:
        rows = Rows(*self.files, DIMENSION, self.codec)
        searcher = Searcher(self.index, rows, self.plan, exact_rows)
        if checked:
            assert rows.check()
        return searcher


def make(folder: Path, name: str) -> Made:
    kind, rows = KINDS[name]
    n = 700 if kind == "exact" else 5_000
    files = folder / f"{name}.rows", folder / f"{name}.crc"
    vectors = clustered(n, DIMENSION)
    codec: RowCodec = FLOAT16 if rows == "float16" else Int8.fit([vectors], DIMENSION)
    with RowWriter(*files, DIMENSION, codec) as writer:
        writer.write(vectors)
        writer.close()
    x = Rows(*files, DIMENSION, codec).take(np.arange(n))
    plan = Plan.choose(n, DIMENSION, [0, 8], kind, gpu=False, rows=rows)
    index = FaissIndex.train(plan, x, gpu=False)
    if plan.kind != "exact":
        index.add(x)
    return Made(index, plan, files, codec, x)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    folder = tmp_path_factory.mktemp("made")
    return {kind: make(folder, kind) for kind in KINDS}


def best(scores: np.ndarray, allowed: np.ndarray, k: int) -> np.ndarray:
    return np.sort(scores[allowed].astype(np.float64))[::-1][:k]


def masks(n: int, share: float, kind: str, seed: int, x: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(seed)
    order = rng.permutation(n)
    if kind != "random":
        order = np.argsort(x @ x[order[0]])[:: 1 if kind == "far" else -1]
    mask = np.zeros(n, dtype=bool)
    mask[order[: int(share * n)]] = True
    return mask


@settings(max_examples=250, deadline=None)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    checked=st.booleans(),
    exact_rows=st.sampled_from([0, 200, 10**9]),
    point=st.builds(OperatingPoint, st.integers(1, 200), st.integers(1, 20)) | st.none(),
    share=st.sampled_from([0.0, 0.0005, 0.003, 0.05, 0.3, 0.9, 1.0]),
    spread=st.sampled_from(["random", "near", "far"]),
    seed=st.integers(0, 5),
    k=st.sampled_from([1, 10, 300]),
    count=st.sampled_from([1, 9]),
)
def test_filtered_hits_are_allowed_and_as_many_as_there_can_be(
    made: dict[str, Made],
    kind: str,
    checked: bool,
    exact_rows: int,
    point: OperatingPoint | None,
    share: float,
    spread: str,
    seed: int,
    k: int,
    count: int,
) -> None:
    one = made[kind]
    mask = masks(len(one.x), share, spread, seed, one.x)
    searcher = one.searcher(checked=checked, exact_rows=exact_rows)
    queries = clustered(count, DIMENSION, seed=seed + 50)
    found = searcher.search(queries, k, point, Selection(mask))
    for query, (positions, scores) in zip(queries, found, strict=True):
        assert len(positions) == min(k, mask.sum()) == len(set(positions.tolist()))
        assert mask[positions].all()
        exact = one.x @ query
        assert scores == pytest.approx(exact[positions], abs=1e-5)
        order = np.lexsort((positions, -scores))
        assert np.array_equal(order, np.arange(len(order)))
        if one.plan.kind == "exact" or point is None or mask.sum() <= max(exact_rows, k):
            assert scores == pytest.approx(best(exact, mask, k), abs=1e-5)


@pytest.mark.parametrize("kind", ["fast", "gpu", "fast int8", "gpu int8"])
@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize("spread", ["random", "near", "far"])
def test_lists_that_hold_nothing_allowed_are_not_counted(
    made: dict[str, Made], kind: str, checked: bool, spread: str
) -> None:
    one = made[kind]
    mask = masks(len(one.x), 0.02, spread, 0, one.x)
    selection = Selection(mask)
    searcher = one.searcher(checked=checked, exact_rows=0)
    held = selection.bits(one.index).lists_held
    assert held == len(set(one.index.list_of_position[mask].tolist()))
    # As many lists as hold anything, and candidates for all: nothing can be missed.
    point = OperatingPoint(one.plan.lists, 100)
    queries = clustered(8, DIMENSION, seed=60)
    for query, (_, scores) in zip(
        queries, searcher.search(queries, 10, point, selection), strict=True
    ):
        assert scores == pytest.approx(best(one.x @ query, mask, 10), abs=1e-5)


def test_a_filter_that_allows_all_is_none(made: dict[str, Made]) -> None:
    one = made["fast"]
    searcher = one.searcher(checked=True, exact_rows=0)
    queries, point = clustered(20, DIMENSION, seed=70), OperatingPoint(4, 30)
    everything = Selection(np.ones(len(one.x), dtype=bool))
    with_filter = searcher.search(queries, 10, point, everything)
    without = searcher.search(queries, 10, point)
    agreed = [
        len(set(a.tolist()) & set(b.tolist()))
        for (a, _), (b, _) in zip(with_filter, without, strict=True)
    ]
    assert np.mean(agreed) > 9.5
