"""The filter benchmark on an index that a test can afford."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import filters
from benchmarks.filters import KINDS, Filter, Trial, draw_fields, draw_filters, summary, targets
from benchmarks.harness import Result
from catalens import Query, Retriever, build_index
from tests.catalogs import Floats, clustered

ITEMS, ASKED = 1_500, 20


@pytest.fixture
def trial(tmp_path: Path) -> Any:
    """An approximate index whose items have the fields to filter on."""
    vectors = clustered(ITEMS + ASKED, 32)
    items, asked = vectors[:ITEMS], vectors[ITEMS:]
    fields = draw_fields(items)
    rows = [
        {"id": str(n), "vec": items[n], **{name: int(of[n]) for name, of in fields.items()}}
        for n in range(ITEMS)
    ]
    build_index(rows, tmp_path / "index", vector="vec", profile="fast", device="cpu")
    with Retriever.open(tmp_path / "index", device="cpu") as shop:
        yield Trial(shop, items, asked, {str(n): n for n in range(ITEMS)})


def _lying(items: Floats, filter: Filter, direction: Floats) -> tuple[Floats, Floats]:
    """Similarities to a direction of the items that pass, and of the others."""
    seen = items @ direction
    passes = np.isin(np.arange(len(items)), filter.allowed)
    return seen[passes], seen[~passes]


def test_filters_are_of_their_kind_and_share() -> None:
    items = clustered(ITEMS, 16)
    rng = np.random.default_rng(filters.SEED)
    direction = items[rng.integers(ITEMS)]
    first = [one for one in draw_filters(draw_fields(items)) if "_0 " in one.where]
    assert {one.kind for one in first} == set(KINDS)
    for one in first:
        assert len(one.allowed) >= filters.K
        assert len(one.allowed) == pytest.approx(one.share * ITEMS, abs=1)
        passing, others = _lying(items, one, direction)
        if one.kind == "near":
            assert passing.min() >= others.max() - 1e-6
        elif one.kind == "far":
            assert passing.max() <= others.min() + 1e-6
        else:
            assert passing.min() < others.max() and passing.max() > others.min()


def test_where_lets_the_same_items_pass(trial: Trial) -> None:
    for one in draw_filters(draw_fields(trial.items)):
        hits = trial.shop.search(
            Query(vector=trial.asked[0]), k=ITEMS, where=one.where, recall=1.0, explain=False
        )
        assert sorted(trial.positions[hit.id] for hit in hits) == one.allowed.tolist()


def test_compares_every_kind_at_every_share(
    trial: Trial, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from benchmarks.figures import draw

    monkeypatch.setattr(filters, "SHARES", (0.5, 0.02, 0.0001))
    monkeypatch.setattr(filters, "DRAWS", 1)
    monkeypatch.setattr(filters, "ROUNDS", 1)
    kinds = filters.compare(trial, draw_fields(trial.items))
    assert tuple(kinds) == KINDS
    for shares in kinds.values():
        assert list(shares) == ["0.5", "0.02"]
        for one in shares.values():
            assert one["recall_at_10"] > 0.9 and one["violations"] == 0
            assert min(one["ratio"], one["p50_ms"], one["first_use_ms"]) > 0
    (picture,) = draw(Result("filters", {}, {"kinds": kinds}, [], {}), tmp_path)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_hits_that_do_not_pass_are_counted(trial: Trial) -> None:
    lying = Filter("random", 0.5, "random_0 < 5000", np.arange(ITEMS // 2))
    found = trial.measure(lying)
    assert 0 < found["violations"] <= ASKED * filters.K
    assert found["recall_at_10"] < 0.95


def test_the_worst_filter_decides() -> None:
    def measured(ratio: float, recall: float, violations: int = 0) -> dict[str, Any]:
        times = dict.fromkeys(("p50_ms", "unfiltered_p50_ms", "first_use_ms"), ratio)
        return {"ratio": ratio, "recall_at_10": recall, "violations": violations, **times}

    one = summary([measured(1.0, 0.99), measured(2.0, 0.96, 1), measured(4.0, 0.97)])
    assert one == {**measured(2.0, 0.96, 1), "ratio": 4.0}
    found = targets({"near": {"0.5": one}, "far": {"0.01": measured(2.5, 0.94)}})
    assert [(target.measured, target.met) for target in found] == [
        ("4.00x (near, 50 %)", False),
        ("0.940 (far, 1 %)", False),
        ("1", False),
    ]
