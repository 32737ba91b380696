"""Profiles and factory strings: each index answers like an exact scan, filtered ones too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from catalens import Query, Retriever, build_index, rebuild_index
from indexer import IndexLayout
from indexer.errors import FactoryError, ProfileError, RowTypeError
from tests.catalogs import Opened, clustered, vector_rows

N, D = 6_000, 32
WAYS: list[dict[str, str]] = [
    *({"profile": name} for name in ("auto", "exact", "fast", "memory", "gpu")),
    *(
        {"factory": name}
        for name in (
            "Flat",
            "SQ8",
            "HNSW16",
            "IVF64,Flat",
            "IVF64_HNSW16,SQ8",
            "OPQ8,IVF64,PQ8x4fs",
            "IVF64,PQ8x4fs,RFlat",
        )
    ),
    *({**way, "rows": "int8"} for way in ({"profile": "exact"}, {"profile": "fast"})),
    {"factory": "HNSW16", "rows": "int8"},
    {"profile": "memory", "rows": "float16"},
]
# Recall@10 of the worst: what the calibration aims at is .97, on other queries.
FLOOR = 0.93
# What a scan of int8 rows finds is 0.99.
SCAN_FLOOR = {"float16": 1.0, "int8": 0.97}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("profiles") / "index"
    shares = {f"p{n}": np.arange(N) % n == 0 for n in (2, 7, 100)}
    rows = vector_rows(clustered(N, D), **{name: flag.tolist() for name, flag in shares.items()})
    build_index(list(rows), out, vector="v", device="cpu")
    return out


@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: " ".join(way.values()))
def test_each_index_answers_like_a_scan(base: Path, way: dict[str, Any], checked: bool) -> None:
    summary = rebuild_index(base, **way)
    x, queries = clustered(N, D), clustered(N + 40, D)[N:]
    scores = queries.astype(np.float64) @ x.T
    with Retriever.open(base, device="cpu") as shop:
        entry = shop.manifest.index
        assert entry.profile == way.get("profile", "auto")
        assert entry.rows == way.get(
            "rows", "int8" if way.get("profile") == "memory" else "float16"
        )
        assert "factory" not in way or (entry.kind, entry.factory) == ("custom", way["factory"])
        if not checked:
            keep_unchecked(shop)
        for step in (1, 2, 7, 100):
            allowed = np.arange(N) % step == 0
            found = shop.search_many(
                [Query(vector=q) for q in queries],
                10,
                where=f"p{step} = true" if step > 1 else None,
            )
            got = [[int(hit.id[1:]) for hit in hits] for hits in found]
            assert all(len(one) == 10 and allowed[one].all() for one in got)
            passing = np.where(allowed, scores, -np.inf)
            bound = np.sort(passing, axis=1)[:, -10] - 1e-3
            good = np.mean([passing[n, one] >= bound[n] for n, one in enumerate(got)])
            least = SCAN_FLOOR[entry.rows] if entry.kind == "exact" else FLOOR
            assert good >= least, (step, good, summary.recall)


def keep_unchecked(shop: Any) -> None:
    """As while no more than what is read was checked: rows are scored by numpy."""
    rows = shop._view.generation.searcher.rows
    rows.check = lambda blocks=None: False


def test_profile_and_factory_are_kept_until_told_otherwise(tmp_path: Path) -> None:
    rows = list(vector_rows(clustered(2_000, 16)))

    def build(**options: str) -> str:
        return build_index(rows, tmp_path / "index", vector="v", device="cpu", **options).index

    coded = build(profile="memory")
    assert coded.startswith("IVF") and build() == coded
    assert build(factory="HNSW8") == build() == "HNSW8"
    rebuild_index(tmp_path / "index", missing="neutral")
    assert build() == "HNSW8"
    assert build(profile="auto") == build() == "SQfp16"


def test_rows_are_kept_until_told_otherwise(tmp_path: Path) -> None:
    rows, out = list(vector_rows(clustered(1_200, 16))), tmp_path / "index"

    def built(**options: str) -> str:
        build_index(rows, out, vector="v", device="cpu", **options)
        return Opened(out).manifest.index.rows

    def rebuilt(**options: str) -> str:
        rebuild_index(out, **options)
        return Opened(out).manifest.index.rows

    assert built() == "float16"
    assert built(rows="int8") == built() == rebuilt(missing="neutral") == "int8"
    # A profile or factory string brings its own with it.
    assert rebuilt(profile="fast") == built() == "float16"
    assert rebuilt(profile="memory") == built() == rebuilt() == "int8"
    assert rebuilt(profile="memory", rows="float16") == built() == "float16"
    assert Opened(out).manifest.index.profile == "memory"
    assert rebuilt(rows="int8") == "int8" and rebuilt(factory="HNSW8") == "float16"
    assert built(factory="HNSW8", rows="int8") == built() == "int8"


@pytest.mark.parametrize(
    ("error", "options"),
    [
        (ProfileError, {"profile": "fastest"}),
        (ProfileError, {"profile": "fast", "factory": "Flat"}),
        (RowTypeError, {"rows": "float32"}),
        (RowTypeError, {"profile": "memory", "rows": ""}),
        (FactoryError, {"factory": "IVF10,Nonsense"}),
        (FactoryError, {"factory": "PQ7"}),  # 16 dimensions are not 7 parts
        (FactoryError, {"factory": ""}),
        (FactoryError, {"factory": "PQ4x4fs"}),  # FAISS cannot filter it
    ],
)
def test_what_cannot_be_built_is_told(
    tmp_path: Path, error: type[Exception], options: dict[str, str]
) -> None:
    rows = list(vector_rows(clustered(300, 16)))
    build: list[Callable[[], object]] = [
        lambda: build_index(rows, tmp_path / "index", vector="v", device="cpu", **options)
    ]
    build_index(rows, tmp_path / "whole", vector="v", device="cpu")
    build.append(lambda: rebuild_index(tmp_path / "whole", **options))
    for one in build:
        with pytest.raises(error, match="expected"):
            one()
    with Retriever.open(tmp_path / "whole") as shop:
        assert len(shop.search(Query(vector=clustered(1, 16)[0]), 5)) == 5
    assert len(IndexLayout(tmp_path / "whole").generation_folders()) >= 1
