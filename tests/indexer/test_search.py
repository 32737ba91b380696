"""Search against an exact scan by numpy: recall, filters, ties, large k, determinism."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import faiss
import numpy as np
import pytest

from catalens import Query, Retriever, build_index
from indexer.faiss_index import FaissIndex
from indexer.plan import EXACT_VALUES, Plan, Profile
from tests.catalogs import Opened, build_vectors, clustered

N = 12_000
CODED = 5_000
"""Rows of smaller catalogs that get codes here all the same."""
SELECTIVITIES = (0.5, 0.1, 0.01, 0.001)


@cache
def source(space: str, n: int = N) -> np.ndarray:
    return {"a": clustered(n, 48, seed=1), "b": clustered(n, 24, seed=2)}[space]


def share(n: int, part: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(n) < n * part


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two spaces, 12,000 items, a tenth without the second; a flag for each selectivity."""
    out = tmp_path_factory.mktemp("large") / "index"
    a, b = source("a"), source("b")
    flags = {f"p{n}": share(N, part, n) for n, part in enumerate(SELECTIVITIES)}
    lacks = share(N, 0.1, 9)
    rows = (
        {
            "id": str(n),
            "a": a[n],
            **({} if lacks[n] else {"b": b[n]}),
            **{name: bool(flag[n]) for name, flag in flags.items()},
        }
        for n in range(N)
    )
    build_index(rows, out, vector={"a": "a", "b": "b"}, device="cpu", profile="fast")
    return out


@pytest.fixture(scope="module")
def oracle(large: Path) -> Opened:
    return Opened(large)


def queries(count: int) -> list[Query]:
    a, b = source("a", N + count)[N:], source("b", N + count)[N:]
    return [Query(vector={"a": a[n], "b": b[n]}) for n in range(count)]


def weighted(base: list[Query], **weights: float) -> list[Query]:
    made = []
    for query in base:
        parts = {part.value[0]: part.value[1] for part in query.parts}
        made.append(Query(vector=parts, weights=weights))
    return made


def exact_scores(oracle: Opened, retriever: Retriever, query: Query) -> np.ndarray:
    """Scores of all rows, in float64, by the formula and not by the product's fused query."""
    scores = np.zeros(len(oracle.rows))
    for part in query.parts:
        space, vector = part.value
        weight = query.weights.get(space, retriever.manifest.weights[space])
        mean = oracle.fusion.transforms[space].means[f"vector:{space}"].astype(np.float64)
        x = source(space).astype(np.float64)
        present = oracle.mask[:, [s.spec.name for s in oracle.manifest.spaces].index(space)]
        scores += part.weight * weight * np.where(present, (x - mean) @ vector, 0.0)
    return scores


def recall(hits: list[list[str]], scores: list[np.ndarray], k: int = 10) -> float:
    """Share of the k best that were found, an equal score counting as well."""
    found = 0
    for ids, all_scores in zip(hits, scores, strict=True):
        bound = np.sort(all_scores)[-k] - 1e-3  # rows are half precision
        found += sum(all_scores[int(one)] >= bound for one in ids[:k])
    return found / (k * len(hits))


# Floors, with the value usual on this catalog beside each.
@pytest.mark.parametrize(
    ("weights", "floor"),
    [
        ({}, 0.96),  # 1.0
        ({"b": 0.0}, 0.95),  # .995, a alone
        ({"a": 0.0}, 0.95),  # .988, b alone
        ({"a": 1.0, "b": 0.2}, 0.95),  # .998
        ({"a": 1.0, "b": -0.5}, 0.95),  # 1.0
    ],
)
def test_recall_at_ten(
    large: Path, oracle: Opened, weights: dict[str, float], floor: float
) -> None:
    with Retriever.open(large) as retriever:
        assert retriever.manifest.index.kind == "ivf-pq"
        asked = weighted(queries(64), **weights)
        hits = [[h.id for h in found] for found in retriever.search_many(asked, 10)]
        scores = [exact_scores(oracle, retriever, query) for query in asked]
    assert recall(hits, scores) >= floor


@pytest.mark.parametrize("number", range(len(SELECTIVITIES)))
def test_filtered_search_finds_the_best_that_pass(large: Path, oracle: Opened, number: int) -> None:
    allowed = share(N, SELECTIVITIES[number], number)
    with Retriever.open(large) as retriever:
        asked = queries(24)
        found = retriever.search_many(asked, 10, where=f"p{number} = true")
        for hits in found:
            assert len(hits) == 10
            assert all(allowed[int(hit.id)] for hit in hits)
            assert all(hit.metadata[f"p{number}"] for hit in hits)
        scores = [
            np.where(allowed, exact_scores(oracle, retriever, query), -np.inf) for query in asked
        ]
    # 1.0 at 50 % and 10 %; where no more rows pass than are scanned without codes: 1.
    with Retriever.open(large) as retriever:
        exact = allowed.sum() <= retriever.manifest.index.exact_rows
    floor = 1.0 if exact else 0.94
    assert recall([[h.id for h in hits] for hits in found], scores) >= floor


def test_k_beyond_what_passes_gives_all_that_pass(large: Path) -> None:
    allowed = {str(n) for n in np.flatnonzero(share(N, 0.001, 3))}
    with Retriever.open(large) as retriever:
        hits = retriever.search(queries(1)[0], 500, where="p3 = true")
        assert {hit.id for hit in hits} == allowed
        assert retriever.search(queries(1)[0], 5, where="p3 = true and p3 = false") == []


def test_filter_far_from_the_query_still_gives_k_hits(tmp_path: Path) -> None:
    x = clustered(12_000, 32)
    scores = x @ x[0]
    worst = np.argsort(scores)[:2500]  # scored one by one: codes tell little among them
    flags = np.zeros(len(x), dtype=bool)
    flags[worst] = True
    build_vectors(tmp_path / "index", x, far=flags.tolist())
    best = set(worst[np.argsort(-scores[worst])[:10]].tolist())
    with Retriever.open(tmp_path / "index") as retriever:
        hits = retriever.search(Query(vector=x[0]), 10, where="far = true")
    assert len(hits) == 10
    assert len(best & {int(hit.id[1:]) for hit in hits}) >= 8


@pytest.mark.parametrize("k", [1000, CODED, CODED + 300])
def test_large_k_gives_k_hits(tmp_path: Path, k: int) -> None:
    x = clustered(CODED + 300, 8)
    build_vectors(tmp_path / "index", x)
    with Retriever.open(tmp_path / "index") as retriever:
        hits = retriever.search(Query(vector=x[0]), k)
    assert len(hits) == len({hit.id for hit in hits}) == k


@pytest.mark.parametrize("n", [1, 2, 3, 17, 400])
def test_exact_index_is_exact(tmp_path: Path, n: int) -> None:
    x = clustered(n, 12)
    build_vectors(tmp_path / "index", x)
    with Retriever.open(tmp_path / "index") as retriever:
        assert retriever.manifest.index.kind == "exact"
        for query in clustered(n + 20, 12)[n:]:
            hits = retriever.search(Query(vector=query), n)
            cosines = x.astype(np.float64) @ query
            assert [cosines[int(h.id[1:])] for h in hits] == pytest.approx(
                np.sort(cosines)[::-1], abs=2e-3
            )
            assert [h.score for h in hits] == sorted((h.score for h in hits), reverse=True)
            for hit in hits:
                similarity = hit.spaces["vector"].similarity
                assert similarity == pytest.approx(cosines[int(hit.id[1:])], abs=2e-3)


@pytest.mark.parametrize("n", [60, CODED + 200])
def test_ties_come_by_position_and_prefixes_agree(tmp_path: Path, n: int) -> None:
    x = np.tile(clustered(10, 8), (-(-n // 10), 1))[:n]
    build_vectors(tmp_path / "index", x)
    with Retriever.open(tmp_path / "index") as retriever:
        query = Query(vector=x[4])
        ten = [int(h.id[1:]) for h in retriever.search(query, 6)]
        assert all(position % 10 == 4 for position in ten)
        assert ten == sorted(ten)
        if n == 60:
            for k in range(1, 6):
                assert [int(h.id[1:]) for h in retriever.search(query, k)] == ten[:k]


@pytest.mark.parametrize("dimension", [1, 2, 3, 4, 5, 8, 33])
def test_any_dimension_gets_an_index(tmp_path: Path, dimension: int) -> None:
    x = clustered(CODED, dimension)
    build_vectors(tmp_path / "index", x)
    cosines = x.astype(np.float64) @ x[:20].T
    with Retriever.open(tmp_path / "index") as retriever:
        found = 0
        for n in range(20):
            hits = retriever.search(Query(vector=x[n]), 10)
            bound = np.sort(cosines[:, n])[-10] - 2e-3
            found += sum(cosines[int(h.id[1:]), n] >= bound for h in hits)
    assert found / 200 >= 0.9


def test_codes_never_straddle_two_spaces(large: Path, oracle: Opened) -> None:
    index = faiss.read_index(str(oracle.folder / "index.faiss"))
    assert isinstance(index, faiss.IndexIVFPQFastScan)
    assert index.pq.dsub == 4
    assert index.d == oracle.manifest.dimension
    assert index.ntotal == N
    for where in oracle.fusion.blocks.values():
        assert where.start % index.pq.dsub == 0


@pytest.mark.parametrize("n", [100, CODED + 10])
def test_same_catalog_gives_the_same_bytes(tmp_path: Path, n: int) -> None:
    x = clustered(n, 16)
    digests = []
    for name in ("first", "second"):
        build_vectors(tmp_path / name, x)
        folder = tmp_path / name / "generations" / "000001"
        digests.append(
            {
                path.name: hashlib.sha256(path.read_bytes()).hexdigest()
                for path in folder.iterdir()
                if path.name != "manifest.json"  # it tells when it was made
            }
        )
    assert digests[0] == digests[1] and len(digests[0]) == 8


@pytest.mark.parametrize(
    ("n", "profile", "kind", "lists"),
    [
        (1, "fast", "exact", 1),
        (999, "gpu", "exact", 1),
        (1000, "fast", "ivf-pq", 64),
        (EXACT_VALUES // 64, "auto", "exact", 1),
        (EXACT_VALUES // 64 + 1, "auto", "ivf-pq", 1024),
        (10_000_000, "exact", "exact", 1),
    ],
)
def test_plan_is_chosen_by_size(n: int, profile: Profile, kind: str, lists: int) -> None:
    plan = Plan.choose(n, 64, [0], profile, gpu=False)
    assert (plan.kind, plan.lists) == (kind, lists)
    assert plan.train_rows <= n


def test_training_sample_is_bounded() -> None:
    plan = Plan.choose(10_000_000, 768, [0, 384], "auto", gpu=False)
    assert plan.train_rows < 10_000_000 / 10
    assert plan.code_bytes == 96


def test_faiss_index_survives_its_bytes() -> None:
    x = clustered(CODED, 16)
    plan = Plan.choose(len(x), 16, [0], "fast", gpu=False)
    index = FaissIndex.train(plan, x, gpu=False)
    index.add(x)
    again = FaissIndex.deserialize(plan, index.serialize(), gpu=False)
    assert len(again) == len(x)
    for one, other in zip(
        index.search(x[:5], 7, nprobe=9), again.search(x[:5], 7, nprobe=9), strict=True
    ):
        assert np.array_equal(one, other)


def test_points_in_the_manifest_go_from_cheap_to_dear(oracle: Opened) -> None:
    index = oracle.manifest.index
    filters = {"filter 10 %, near", "filter 3 %, random", "filter 3 %, near"}
    for points, plain in (
        (index.points, {"all spaces", "a alone", "b alone"}),
        (index.against, {"against a", "against b"}),
    ):
        assert all(set(point.recall) == plain | filters for point in points)
        assert points == sorted(points, key=lambda point: point.worst)
        assert all(point.p99_ms >= point.p50_ms > 0 for point in points)
    assert min(index.recall.values()) >= index.target == 0.96
