"""What all fusions promise: files, contributions, linearity in the weights, and what each finds."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders import SpaceSpec
from indexer.fusion import (
    FUSIONS,
    AttentionFusion,
    ConcatFusion,
    FusedQuery,
    Fusion,
    MeanFusion,
    NeuralFusion,
    Perceptron,
    SpaceTransform,
    Terms,
    dump_fusion,
    load_fusion,
    unit_rows,
)
from indexer.missing import MISSING, PRESENT

DIMENSIONS = {"text": 12, "image": 7, "audio": 5}
WEIGHTS = {"text": 1.0, "image": 0.5, "audio": 2.0}
ITEMS = 60


def spec(name: str) -> SpaceSpec:
    return SpaceSpec.model_validate(
        {
            "name": name,
            "item": name,
            "encoders": {name: {"kind": "vector", "dimension": DIMENSIONS[name]}},
        }
    )


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def perceptron(rng: np.random.Generator, d_in: int, hidden: int, d_out: int) -> Perceptron:
    return Perceptron(
        normal(rng, d_in, hidden) / np.float32(d_in**0.5),
        normal(rng, hidden) * np.float32(0.1),
        normal(rng, hidden, d_out) / np.float32(hidden**0.5),
        normal(rng, d_out) * np.float32(0.1),
    )


def random_fusion(kind: str, seed: int = 0, weights: dict[str, float] = WEIGHTS) -> Fusion:
    rng = np.random.default_rng(seed)
    transforms = {
        n: SpaceTransform(n, {n: normal(rng, d)}, None, True) for n, d in DIMENSIONS.items()
    }
    seen, spaces = sum(DIMENSIONS.values()) + len(DIMENSIONS), len(DIMENSIONS)
    if kind == "concat":
        return ConcatFusion(transforms, weights)
    if kind == "mean":
        return MeanFusion.fit(transforms, weights, random_blocks(seed + 1))
    if kind == "attention":
        gates = [perceptron(rng, seen, 9, spaces) for _ in range(2)]
        return AttentionFusion(transforms, weights, *gates)
    gates_of_spaces = np.exp(normal(rng, spaces))
    skip = normal(rng, sum(DIMENSIONS.values()), 16)
    return NeuralFusion(transforms, weights, skip, perceptron(rng, seen, 20, 16), gates_of_spaces)


def random_blocks(seed: int = 0, holes: float = 0.3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    blocks = {name: unit_rows(normal(rng, ITEMS, d)) for name, d in DIMENSIONS.items()}
    for block in blocks.values():
        block[rng.random(ITEMS) < holes] = 0
    return blocks


def random_terms(seed: int = 0, least: float = 0.1) -> Terms:
    rng = np.random.default_rng(seed)
    return {
        name: [(float(rng.uniform(least, 2)), unit_rows(normal(rng, 1, d))[0])]
        for name, d in DIMENSIONS.items()
    }


def contributions(query: FusedQuery, rows: np.ndarray) -> np.ndarray:
    return sum(rows[:, part.where] @ part.vector for part in query.parts.values())


def scaled(terms: Terms, by: Callable[[str], float]) -> Terms:
    return {name: [(u * by(name), y) for u, y in pairs] for name, pairs in terms.items()}


every_kind = pytest.mark.parametrize("kind", FUSIONS)


@every_kind
def test_a_file_gives_back_the_very_fusion(kind: str) -> None:
    fusion = random_fusion(kind)
    data = dump_fusion(fusion)
    specs = [spec(name) for name in DIMENSIONS]
    loaded = load_fusion(data, kind, specs, WEIGHTS, {name: [name] for name in DIMENSIONS})
    assert type(loaded) is type(fusion)
    assert dump_fusion(loaded) == data
    blocks, terms = random_blocks(), random_terms()
    np.testing.assert_array_equal(loaded.fuse_items(blocks), fusion.fuse_items(blocks))
    np.testing.assert_array_equal(loaded.fuse_query(terms).vector, fusion.fuse_query(terms).vector)


@every_kind
def test_contributions_of_the_spaces_add_up_to_the_score(kind: str) -> None:
    fusion = random_fusion(kind)
    rows, query = fusion.fuse_items(random_blocks()), fusion.fuse_query(random_terms())
    assert set(query.parts) == set(DIMENSIONS)
    np.testing.assert_allclose(contributions(query, rows), rows @ query.vector, atol=1e-4)


@every_kind
@pytest.mark.parametrize("factor", [0.01, 3.0, 100.0])
def test_a_query_scales_with_its_weights(kind: str, factor: float) -> None:
    fusion, terms = random_fusion(kind), random_terms()
    once = fusion.fuse_query(terms)
    many = fusion.fuse_query(scaled(terms, lambda _: factor))
    np.testing.assert_allclose(many.vector, factor * once.vector, rtol=1e-4, atol=1e-5 * factor)
    for name, part in many.parts.items():
        assert part.length == pytest.approx(factor * once.parts[name].length, rel=1e-4)
        assert part.gate == pytest.approx(once.parts[name].gate, rel=1e-4)


@every_kind
@pytest.mark.parametrize("raised", DIMENSIONS)
@pytest.mark.parametrize("seed", range(3))
def test_raising_a_weight_never_lowers_what_it_asks_for(kind: str, raised: str, seed: int) -> None:
    """If q(u) = c + u p, the best item of a larger u has no smaller <p, v>: exchange argument."""
    fusion = random_fusion(kind, seed)
    rows = fusion.fuse_items(random_blocks(seed, holes=0.0))
    terms = random_terms(seed)
    answers = []
    for factor in (0.1, 0.3, 1.0, 3.0, 10.0, 100.0):
        query = fusion.fuse_query(scaled(terms, lambda n, f=factor: f if n == raised else 1.0))
        part = query.parts[raised]
        best = int((rows @ query.vector).argmax())
        answers.append(float(rows[best, part.where] @ part.vector) / part.length)
    assert all(b >= a - 1e-5 for a, b in pairwise(answers)), answers


@every_kind
def test_spaces_whose_terms_cancel_out_are_not_asked(kind: str) -> None:
    fusion, terms = random_fusion(kind), dict(random_terms())
    ((weight, block),) = terms["image"]
    terms["image"] = [(weight, block), (-weight, block)]
    assert set(fusion.fuse_query(terms).parts) == {"text", "audio"}
    assert not fusion.fuse_query({"image": terms["image"]}).vector.any()


@pytest.mark.parametrize("kind", ["concat", "attention"])
def test_similarity_is_the_cosine_of_the_blocks(kind: str) -> None:
    fusion, blocks, terms = random_fusion(kind), random_blocks(), random_terms()
    rows, query = fusion.fuse_items(blocks), fusion.fuse_query(terms)
    for name, part in query.parts.items():
        states = np.where(blocks[name].any(axis=1), PRESENT, MISSING).astype(np.uint8)
        match = fusion.match(part, name, rows, states)
        exact = blocks[name].astype(np.float64) @ terms[name][0][1].astype(np.float64)
        np.testing.assert_allclose(match.similarity, exact, atol=1e-5)
        np.testing.assert_allclose(
            match.contribution, part.length * match.strength * match.similarity, atol=1e-5
        )


@pytest.mark.parametrize("kind", ["mean", "neural"])
def test_similarity_in_a_shared_space_is_that_to_the_whole_item(kind: str) -> None:
    fusion = random_fusion(kind)
    assert isinstance(fusion, MeanFusion | NeuralFusion)
    terms = random_terms()
    rows, query = fusion.fuse_items(random_blocks()), fusion.fuse_query(terms)
    for name, part in query.parts.items():
        match = fusion.match(part, name, rows, np.full(ITEMS, PRESENT, dtype=np.uint8))
        wanted = rows.astype(np.float64) @ fusion.project(name, terms[name][0][1])
        np.testing.assert_allclose(match.similarity, wanted, atol=1e-5)


def test_rows_of_the_neural_fusion_are_of_unit_length_and_find_themselves() -> None:
    fusion = random_fusion("neural")
    rows = fusion.fuse_items(random_blocks())
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    likes = np.stack([fusion.like_row(row, dict.fromkeys(DIMENSIONS, True)) for row in rows])
    np.testing.assert_array_equal((likes @ rows.T).argmax(axis=1), np.arange(ITEMS))


@settings(max_examples=100)
@given(
    asked=st.lists(st.floats(-3, 3), min_size=3, max_size=3),
    defaults=st.lists(st.floats(0.05, 10), min_size=3, max_size=3),
    seed=st.integers(0, 2**31),
)
def test_any_weights_are_those_of_an_index_built_with_them(
    asked: list[float], defaults: list[float], seed: int
) -> None:
    """Negative ones too: the index would hold the root of the size, and the query the sign."""
    weights = dict(zip(DIMENSIONS, defaults, strict=True))
    fusion, blocks = random_fusion("concat", weights=weights), random_blocks(seed)
    ones = {name: pairs[0][1] for name, pairs in random_terms(seed).items()}
    chosen = dict(zip(DIMENSIONS, asked, strict=True))
    query = fusion.fuse_query({name: [(chosen[name], ones[name])] for name in ones})
    rows = np.concatenate([abs(chosen[n]) ** 0.5 * blocks[n].astype(np.float64) for n in ones], 1)
    other = np.concatenate(
        [np.sign(chosen[n]) * abs(chosen[n]) ** 0.5 * ones[n].astype(np.float64) for n in ones]
    )
    np.testing.assert_allclose(fusion.fuse_items(blocks) @ query.vector, rows @ other, atol=2e-5)


def test_mean_directions_solve_the_generalised_eigenproblem() -> None:
    """MAXVAR as C a = lambda D a, with C all covariances and D those within the spaces."""
    blocks = random_blocks(seed=3)
    fusion = random_fusion("mean", seed=2)
    assert isinstance(fusion, MeanFusion)
    stacked = np.concatenate(list(blocks.values()), axis=1).astype(np.float64)
    within = scipy.linalg.block_diag(
        *(b.astype(np.float64).T @ b + 3.0 * np.eye(b.shape[1]) for b in blocks.values())
    )
    values, vectors = scipy.linalg.eigh(stacked.T @ stacked, within)
    # Each is of unit length in the norm of D, as whitened directions are; they may be turned over,
    # all spaces at once, so that inner products tell the same.
    expected = np.ascontiguousarray((vectors * values)[:, ::-1])
    start = 0
    halves = {}
    for name, d in DIMENSIONS.items():
        halves[name] = (fusion.projections[name].astype(np.float64), expected[start : start + d])
        start += d
    for got, one in halves.values():
        for other_got, other in halves.values():
            np.testing.assert_allclose(got @ other_got.T, one @ other.T, atol=1e-5)
