"""Rounded rows: zero is exact, the rest off by half a step at most, and FAISS reads the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.errors import RowTypeError
from indexer.faiss_index import FaissIndex
from indexer.plan import Plan
from indexer.row_codecs import FLOAT16, Int8, check_row_type
from tests.catalogs import clustered

# A float32 has 24 bits of fraction.
ROUNDING = 2.0**-23


def test_every_finite_half_converts_exactly() -> None:
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = halves[np.isfinite(halves)]
    assert len(finite) == 63_488
    expected = finite.astype(np.float32)
    got = FLOAT16.decode(finite)
    assert got.dtype == np.float32
    assert np.array_equal(got.view(np.uint32), expected.view(np.uint32))  # -0.0 included
    assert np.array_equal(FLOAT16.encode(expected).view(np.uint16), finite.view(np.uint16))


def scaled(n: int, dimension: int, seed: int, spread: float) -> np.ndarray:
    """Rows whose dimensions differ in size by up to `10 ** spread`; some are zero throughout."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, dimension)) * 10 ** rng.uniform(-spread, 0, dimension)
    x[rng.random(n) < 0.3, : dimension // 2] = 0
    x[:, rng.random(dimension) < 0.1] = 0
    return x.astype(np.float16).astype(np.float32)  # as rows are when they are rounded


@settings(deadline=None)
@given(
    n=st.integers(1, 200),
    dimension=st.integers(1, 40),
    seed=st.integers(0, 1000),
    spread=st.floats(0, 6),
    cut=st.integers(0, 200),
)
def test_values_are_off_by_half_a_step(
    n: int, dimension: int, seed: int, spread: float, cut: int
) -> None:
    x = scaled(n, dimension, seed, spread)
    codec = Int8.fit([part for part in (x[:cut], x[cut:]) if len(part)], dimension)
    largest = np.abs(x).max(axis=0)
    assert np.array_equal(codec.steps, largest / np.float32(127))
    codes = codec.encode(x)
    assert codes.dtype == np.uint8 and codes.shape == x.shape and codes.min(initial=128) >= 1
    back = codec.decode(codes)
    assert back.dtype == np.float32
    assert (np.abs(back - x) <= codec.steps / 2 + ROUNDING * largest).all()
    assert (back[x == 0] == 0).all() and (codes[x == 0] == 128).all()
    # The largest of a dimension keeps its size, and what was read is written alike.
    assert np.abs(back).max(axis=0) == pytest.approx(largest, rel=1e-6)
    assert np.array_equal(codec.encode(back), codes)


@pytest.mark.parametrize("dimension", [1, 7, 16, 36, 384])  # with FAISS's wide loops and without
def test_faiss_reads_what_numpy_reads(dimension: int) -> None:
    n = 300
    x = scaled(n, dimension, 1, 3)
    codec = Int8.fit([x], dimension)
    codes, plan = codec.encode(x), Plan.choose(n, dimension, [0], "exact", gpu=False, rows="int8")
    index = FaissIndex.train(plan, x[:1], gpu=False)
    index.map_rows(codes, codec.steps)
    decoded = codec.decode(codes)
    queries = np.random.default_rng(2).standard_normal((20, dimension)).astype(np.float32)
    # The reach of a dimension, of which FAISS's arithmetic is off by a few parts in 2**24.
    slack = 8 * ROUNDING * (np.abs(queries) @ (128 * codec.steps))
    exact = queries.astype(np.float64) @ decoded.T
    for query, bound, expected in zip(queries, slack, exact, strict=True):
        ((scores,), (positions,)) = index.scan_rows(query[None], n)
        assert sorted(positions.tolist()) == list(range(n))
        assert (np.abs(scores - expected[positions]) <= bound).all()
    # Value by value: a query that asks one dimension alone.
    for d in range(min(dimension, 40)):
        asked = np.zeros((1, dimension), dtype=np.float32)
        asked[0, d] = 1
        ((scores,), (positions,)) = index.scan_rows(asked, n)
        # What is zero elsewhere adds up to as much as FAISS makes of zero times zero: nothing.
        off = np.abs(scores - decoded[positions, d])
        assert (off <= 8 * ROUNDING * 128 * codec.steps[d]).all()


def test_each_dimension_has_a_step_of_its_own() -> None:
    # One space is a hundredth as long as the other, and asked alone.
    short = clustered(3_000, 24, seed=2)
    x = np.concatenate([clustered(3_000, 24, seed=1), np.float32(0.01) * short], axis=1)
    codec = Int8.fit([x], 48)
    back = codec.decode(codec.encode(x))[:, 24:]
    queries = clustered(3_100, 24, seed=2)[3_000:]
    scores, rounded = queries @ short.T, queries @ back.T
    found = np.argpartition(-rounded, 10, axis=1)[:, :10]
    bound = np.sort(scores, axis=1)[:, -10:-9] - 1e-6
    # 0.976; with one step for all dimensions 0.241.
    assert np.mean(np.take_along_axis(scores, found, axis=1) >= bound) >= 0.95


@pytest.mark.parametrize("name", ["", "float32", "INT8", "i8"])
def test_other_types_are_refused(name: str) -> None:
    with pytest.raises(RowTypeError, match="expected one of float16, int8; got "):
        check_row_type(name)


def test_known_types() -> None:
    assert [check_row_type(name) for name in ("float16", "int8")] == ["float16", "int8"]
