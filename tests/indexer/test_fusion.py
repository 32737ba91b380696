"""Fusion against its own formula, worked out in float64 by numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders import SpaceSpec
from indexer.errors import CorruptIndexError
from indexer.fusion import (
    BLOCK_ALIGNMENT,
    ConcatFusion,
    Fusion,
    SpaceTransform,
    dump_fusion,
    load_fusion,
    unit_rows,
)


def spec(name: str, **options: Any) -> SpaceSpec:
    encoder = {"kind": "vector", "dimension": 1}
    return SpaceSpec.model_validate(
        {"name": name, "item": "text", "encoders": {"text": encoder}, **options}
    )


def random_units(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    x = rng.standard_normal((n, d)) + rng.standard_normal(d)
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    count = draw(st.integers(1, 5))
    return {
        "dims": draw(st.lists(st.integers(2, 40), min_size=count, max_size=count)),
        "defaults": draw(st.lists(st.floats(0.01, 20), min_size=count, max_size=count)),
        "asked": draw(st.lists(st.floats(-3, 3), min_size=count, max_size=count)),
        "in_query": draw(st.lists(st.booleans(), min_size=count, max_size=count)),
        "in_item": draw(st.lists(st.booleans(), min_size=count, max_size=count)),
        "seed": draw(st.integers(0, 2**31)),
    }


@settings(max_examples=150)
@given(case=cases())
def test_inner_product_is_the_weighted_sum_of_cosines(case: dict[str, Any]) -> None:
    rng = np.random.default_rng(case["seed"])
    names = [f"s{n}" for n in range(len(case["dims"]))]
    raw = {name: random_units(rng, 30, d) for name, d in zip(names, case["dims"], strict=True)}
    transforms = {name: SpaceTransform.fit({"text": raw[name]}, spec(name)) for name in names}
    fusion = ConcatFusion(transforms, dict(zip(names, case["defaults"], strict=True)))
    has = dict(zip(names, case["in_item"], strict=True))
    items = fusion.fuse_items(
        {n: transforms[n].item_blocks(raw[n]) * np.float32(has[n]) for n in names}
    )
    asked = {
        name: weight
        for name, weight, here in zip(names, case["asked"], case["in_query"], strict=True)
        if here
    }
    wanted = {name: random_units(rng, 1, raw[name].shape[1])[0] for name in asked}
    query = fusion.fuse_query(
        {n: [(u, transforms[n].query_block(wanted[n], "text"))] for n, u in asked.items()}
    ).vector

    expected = np.zeros((30, len(names)))
    for column, name in enumerate(names):
        if name in asked and has[name]:
            mean = raw[name].astype(np.float64).sum(axis=0) / 31  # one pseudo-observation
            expected[:, column] = [
                asked[name] * cosine(wanted[name] - mean, x - mean) for x in raw[name]
            ]
    assert items.shape == (30, fusion.dimension)
    assert items @ query == pytest.approx(expected.sum(axis=1), abs=1e-4)
    for column, where in enumerate(fusion.blocks.values()):
        assert items[:, where] @ query[where] == pytest.approx(expected[:, column], abs=1e-4)


def test_blocks_are_aligned_and_apart() -> None:
    rng = np.random.default_rng(0)
    for dims in ([3, 5, 4], [1, 1, 1], [2, 7, 64, 33], [4]):
        transforms = {
            f"s{n}": SpaceTransform.fit({"text": random_units(rng, 9, d)}, spec(f"s{n}"))
            for n, d in enumerate(dims)
        }
        fusion = ConcatFusion(transforms, dict.fromkeys(transforms, 1.0))
        end = 0
        for where, d in zip(fusion.blocks.values(), dims, strict=True):
            assert where.start == end and where.start % BLOCK_ALIGNMENT == 0
            assert where.stop - where.start == d
            end = -(-where.stop // BLOCK_ALIGNMENT) * BLOCK_ALIGNMENT
        assert fusion.dimension == end


def test_missing_block_scores_as_the_average_item_does() -> None:
    rng = np.random.default_rng(3)
    x = random_units(rng, 4000, 24)
    transform = SpaceTransform.fit({"text": x}, spec("s"))
    blocks = transform.item_blocks(x)
    scores = blocks @ transform.query_block(x[0], "text")
    # Zero is what a missing block adds: on average over the catalog, a present one adds the same.
    assert abs(scores.mean()) < 0.01
    assert scores.std() > 0.1


def test_mean_counts_one_observation_at_the_origin() -> None:
    x = random_units(np.random.default_rng(0), 7, 5)
    transform = SpaceTransform.fit({"text": x}, spec("s"))
    assert transform.means["text"] == pytest.approx(x.sum(axis=0) / 8, abs=1e-6)
    alone = SpaceTransform.fit({"text": x[:1]}, spec("s"))
    assert alone.item_blocks(x[:1])[0] == pytest.approx(x[0], abs=1e-6)


def test_reduction_keeps_the_leading_singular_directions() -> None:
    rng = np.random.default_rng(5)
    x = rng.standard_normal((600, 30)) * np.linspace(3, 0.1, 30) @ rng.standard_normal((30, 30))
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    transform = SpaceTransform.fit({"text": x}, spec("s", reduce=6))
    assert transform.dimension == 6
    centred = x.astype(np.float64) - x.sum(axis=0) / 601
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    wanted = directions[:6].T
    assert transform.components is not None
    kept = transform.components.astype(np.float64)
    assert kept.T @ kept == pytest.approx(np.eye(6), abs=1e-5)
    assert kept @ kept.T == pytest.approx(wanted @ wanted.T, abs=1e-4)  # the same subspace
    projected = centred @ wanted
    projected /= np.linalg.norm(projected, axis=1, keepdims=True)
    blocks = transform.item_blocks(x)
    assert blocks @ blocks.T == pytest.approx(projected @ projected.T, abs=1e-3)


@pytest.mark.parametrize(("rows", "reduced"), [(23, False), (24, True)])
def test_few_rows_are_not_reduced(rows: int, reduced: bool) -> None:
    x = random_units(np.random.default_rng(0), rows, 30)
    transform = SpaceTransform.fit({"text": x}, spec("s", reduce=6))
    assert transform.dimension == (6 if reduced else 30)


def test_cosine_spaces_keep_the_order_of_plain_cosine() -> None:
    rng = np.random.default_rng(8)
    x = random_units(rng, 500, 16)
    transform = SpaceTransform.fit({"text": x}, spec("s", compare="cosine"))
    blocks = transform.item_blocks(x)
    for query in random_units(rng, 40, 16):
        block = transform.query_block(query, "text")
        cosines = x.astype(np.float64) @ query.astype(np.float64)
        scores = blocks @ block
        # The difference is one constant, the average item's cosine: so the order is the same.
        assert np.ptp(cosines - scores) < 1e-5
        assert cosines - scores == pytest.approx(
            float(transform.average_similarity(block)), abs=1e-5
        )
        assert np.argmax(scores) == np.argmax(cosines)
        assert transform.item_as_query(blocks[3]) == pytest.approx(x[3], abs=1e-5)


def test_unit_rows_leave_zeros() -> None:
    x = np.array([[3, 4], [0, 0], [1e-3, 0]], dtype=np.float32)
    assert unit_rows(x) == pytest.approx(np.array([[0.6, 0.8], [0, 0], [1, 0]]))


def fusion_of(specs: list[SpaceSpec], dims: list[int]) -> ConcatFusion:
    rng = np.random.default_rng(2)
    transforms = {
        one.name: SpaceTransform.fit({"text": random_units(rng, 200, d)}, one)
        for one, d in zip(specs, dims, strict=True)
    }
    return ConcatFusion(transforms, {one.name: one.weight for one in specs})


def load(data: bytes, specs: list[SpaceSpec]) -> Fusion:
    weights = {one.name: one.weight for one in specs}
    return load_fusion(data, "concat", specs, weights, {one.name: ["text"] for one in specs})


def test_saving_keeps_every_bit() -> None:
    specs = [spec("a", reduce=8), spec("b", compare="cosine", weight=0.3), spec("c")]
    fusion = fusion_of(specs, [40, 7, 12])
    loaded = load(dump_fusion(fusion), specs)
    assert isinstance(loaded, ConcatFusion)
    assert loaded.blocks == fusion.blocks and loaded.weights == fusion.weights
    for name, transform in fusion.transforms.items():
        other = loaded.transforms[name]
        assert np.array_equal(transform.means["text"], other.means["text"])
        assert (transform.components is None) == (other.components is None)
        if transform.components is not None and other.components is not None:
            assert np.array_equal(transform.components, other.components)
        assert (transform.item, transform.centred) == (other.item, other.centred)
    assert dump_fusion(loaded) == dump_fusion(fusion)


@settings(max_examples=200)
@given(data=st.data())
def test_mangled_files_raise_our_error_or_load(data: st.DataObject) -> None:
    specs = [spec("a"), spec("b")]
    sound = dump_fusion(fusion_of(specs, [8, 4]))
    broken = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 4))):
        broken[data.draw(st.integers(0, len(sound) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(broken[: data.draw(st.integers(0, len(sound)))])
    try:
        load(cut, specs)
    except CorruptIndexError as error:
        assert "expected" in str(error)


def test_tensors_of_other_spaces_are_refused() -> None:
    data = dump_fusion(fusion_of([spec("a")], [8]))
    with pytest.raises(CorruptIndexError, match="'b'"):
        load(data, [spec("a"), spec("b")])
