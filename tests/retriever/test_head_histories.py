"""A head for recommendations: learned from histories, on features that know nothing of what comes
after them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from catalens import (
    HeadOptions,
    Query,
    Retriever,
    build_index,
    learn_behaviour,
    learn_head,
    learn_head_from_interactions,
)
from indexer.interaction_errors import ConstantValuesError, FutureTimeError, SingleUserError
from indexer.interactions import read_interactions
from indexer.learning.preference import Scale, hold_out
from indexer.progress import Silent
from indexer.rebuild import opened_for_writing
from retriever.head.errors import TooFewQueriesError
from retriever.head.histories import _judgements, _without_what_is_asked
from retriever.head.learn import feature_spec
from retriever.view import View
from tests.catalogs import clustered, vector_rows
from tests.processes import run_command

ITEMS, CLUSTERS, USERS = 240, 8, 90
QUICK = HeadOptions(trials=1, model="linear", depth=60)
Row = dict[str, Any]


def catalog() -> list[Row]:
    """Vectors in clusters; prices that vectors say nothing of."""
    rng = np.random.default_rng(3)
    vectors = clustered(ITEMS, 16, seed=1, clusters=CLUSTERS)
    prices = rng.integers(100, size=ITEMS).tolist()
    shops = [["north", "east"][n % 2] for n in range(ITEMS)]
    return list(vector_rows(vectors, price=prices, shop=shops))


def interactions(seed: int = 0, *, last: int = 0) -> list[Row]:
    """What users did, each with a taste for one cluster, and for what is cheap; `last` draws what
    they liked last anew and leaves all before."""
    rows = catalog()
    centres = np.random.default_rng(1).integers(CLUSTERS, size=ITEMS)
    vectors = np.stack([row["v"] for row in rows])
    found = []
    for user in range(USERS):
        rng = np.random.default_rng([seed, user])
        near = np.argsort(-(vectors @ vectors[int(rng.integers(ITEMS))]))[:60]
        cheap = [n for n in near.tolist() if rows[n]["price"] < 40]
        chosen = rng.permutation(cheap)[:15].tolist()
        if last:
            other = np.random.default_rng([last, user]).permutation(ITEMS).tolist()
            held = max(1, int(len(chosen) * 0.2))
            chosen = [*chosen[:-held], *[n for n in other if n not in chosen][:held]]
        found += [
            {"user": f"u{user}", "item": f"v{item}", "value": 5, "time": 1000 + place}
            for place, item in enumerate(chosen)
        ]
        found.append({"user": f"u{user}", "item": f"v{(user * 7) % ITEMS}", "value": 1, "time": 5})
    assert len(set(centres)) == CLUSTERS
    return found


@pytest.fixture
def index(tmp_path: Path) -> Path:
    build_index(catalog(), tmp_path / "index", vector="v", device="cpu")
    return tmp_path / "index"


def test_it_recommends_better_and_says_why(index: Path) -> None:
    summary = learn_head_from_interactions(index, interactions(), options=QUICK)
    assert summary.task == "recommend" and summary.learned > summary.fused + 0.03
    assert summary.queries + summary.held_out == USERS
    others = interactions(seed=7)
    history = [(r["item"], r["value"], r["time"]) for r in others if r["user"] == "u0"]
    with Retriever.open(index) as shop:
        hits = shop.recommend(history, 10)
        plain = shop.recommend(history, 10, head=False)
        assert not {hit.id for hit in hits} & {item for item, _, _ in history}
        assert all(hit.head is None for hit in plain)
        prices = [np.mean([hit.metadata["price"] for hit in some]) for some in (hits, plain)]
        assert prices[0] < prices[1]
        for hit in hits:
            assert hit.head is not None
            told = hit.head.base + sum(hit.head.contributions.values())
            assert told == pytest.approx(hit.head.score, abs=1e-3)
        # Who asks for something else than what it has learned gets the fused order.
        for other in ({"diversity": 0.3}, {"interests": 2}, {"half_life": 3.0}):
            ours = shop.recommend(history, 10, **other)  # type: ignore[arg-type]
            assert ours == shop.recommend(history, 10, head=False, **other)  # type: ignore[arg-type]
        # Searches have a head of their own, or none.
        assert shop.search(Query(like="v3"), 3)[0].head is None
        many = shop.recommend_many([history, history], 10)
        assert many[1] == hits
    assert [path.name for path in index.parent.iterdir()] == ["index"]


def test_features_know_nothing_of_what_comes_after(index: Path) -> None:
    learn_behaviour(index, interactions(), neutral=2.0, liked=4.0)
    seen = []
    for last in (0, 11):
        with opened_for_writing(index) as opened:
            view = View.open(opened.layout, "cpu")
            entry = view.generation.manifest.behaviour
            read = read_interactions(interactions(last=last))
            held_out = hold_out(read, Scale(2.0, 4.0))
            spec = feature_spec(view, past=True)
            with _without_what_is_asked(opened, entry, read, held_out, "cpu", Silent()) as before:
                assert before is not None
                judged, _ = _judgements(before, spec, read, held_out, QUICK, Silent())
            view.let_go()
        seen.append({one.group: one for one in judged})
    one, two = seen
    assert one.keys() == two.keys() and len(one) > 60
    for user in one:
        np.testing.assert_array_equal(one[user].features, two[user].features)
    assert any((one[user].grades != two[user].grades).any() for user in one)
    assert {"popularity", "recent behaviour", "similarity behaviour", "closest"} <= set(spec.names)


def test_it_stays_when_behaviour_is_learned_again(index: Path) -> None:
    learn_behaviour(index, interactions(), neutral=2.0, liked=4.0)
    learn_head_from_interactions(index, interactions(), options=replace(QUICK, force=True))
    learn_behaviour(index, interactions(seed=2), neutral=2.0, liked=4.0)
    with Retriever.open(index) as shop:
        assert shop.recommend(["v1", "v2"], 3)[0].head is not None
        assert shop.recommend([], 3)[0].head is None  # what is popular


def test_interactions_that_cannot_teach(index: Path) -> None:
    rows = interactions()
    with pytest.raises(SingleUserError):
        learn_head_from_interactions(index, [row | {"user": "u"} for row in rows])
    with pytest.raises(ConstantValuesError):
        learn_head_from_interactions(index, [row | {"value": 3} for row in rows])
    with pytest.raises(FutureTimeError):
        learn_head_from_interactions(index, [row | {"time": 1e12} for row in rows])
    few = [row for row in rows if int(row["user"][1:]) < 30]
    with pytest.raises(TooFewQueriesError, match="different users"):
        learn_head_from_interactions(
            index, [*few, {"user": "x", "item": "gone", "value": 5, "time": 1}]
        )


def test_the_command_wants_one_source(index: Path, tmp_path: Path) -> None:
    done = run_command("learn", "head", index)
    assert done.returncode == 2 and "--judgements or --interactions" in done.stderr
    dump = tmp_path / "i.jsonl"
    dump.write_text("\n".join(json.dumps(row) for row in interactions()) + "\n")
    done = run_command(
        *("learn", "head", index, "--interactions", dump, "--trials", 1, "--depth", 60),
        *("--model", "linear", "--json"),
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["task"] == "recommend"


def test_a_search_head_and_one_for_recommendations_stand_side_by_side(tmp_path: Path) -> None:
    from tests.retriever import judged

    items = judged.rows(200)
    index = judged.build(tmp_path / "index", items)
    learn_head(index, judged.topics_of(items, judged.is_good, 60), options=QUICK)
    rng = np.random.default_rng(0)
    good = [row["id"] for row in items if row["good"]]
    rows = [
        {"user": f"u{user}", "item": str(item), "value": value, "time": place}
        for user in range(60)
        for place, (item, value) in enumerate(
            [("item-1", 0.5), *((one, 1) for one in rng.permutation(good)[:12])]
        )
    ]
    learn_head_from_interactions(index, rows, options=replace(QUICK, force=True))
    with Retriever.open(index) as shop:
        assert shop.search(Query(text="red"), 3)[0].head is not None
        assert shop.recommend(["item-3"], 3)[0].head is not None
