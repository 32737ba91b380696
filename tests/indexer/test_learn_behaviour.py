"""Behaviour on whole indexes: what is learned, kept, imputed, refused, and what survives."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from catalens import (
    Query,
    Retriever,
    Writer,
    build_index,
    export_index,
    import_index,
    learn_alignment,
    learn_behaviour,
    learn_fusion,
    repair_index,
)
from indexer import verify_index
from indexer.behaviour import digest_of
from indexer.interaction_errors import (
    BehaviourOptionError,
    InteractionsError,
    NoLikesError,
    SingleUserError,
    SpaceNameError,
)
from indexer.interactions import read_interactions
from indexer.learning.imputing import learn_imputer
from indexer.learning.preference import Scale, hold_out, likes_matrix
from tests.catalogs import Opened, build_toy, build_vectors, clustered

ITEMS, USERS = 60, 80
UNTOUCHED = [f"item-{n}" for n in range(50, ITEMS)]


def topical_rows(n: int = ITEMS) -> list[dict[str, Any]]:
    """Items of four topics, each told by its words."""
    return [
        {"id": f"item-{k}", "text": f"{['red', 'green', 'blue', 'round'][k % 4]} thing{k}", "n": k}
        for k in range(n)
    ]


def clicks(seed: int = 0) -> list[dict[str, Any]]:
    """Users who like one topic, and nothing of the last ten items."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(USERS):
        own = [k for k in range(50) if k % 4 == user % 4]
        for time, item in enumerate(rng.permutation(own)[:8].tolist()):
            rows.append({"user": f"u{user}", "item": f"item-{item}", "value": 1, "time": time})
        rows.append({"user": f"u{user}", "item": f"item-{rng.integers(50)}", "value": 1, "time": 9})
    return rows


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("learned") / "index"
    build_toy(out, topical_rows())
    summary = learn_behaviour(out, clicks(), keep_histories=True)
    assert (summary.users, summary.items, summary.imputed) == (USERS, 50, 10)
    assert summary.chosen.behaviour is not None
    assert summary.chosen.behaviour > (summary.chosen.popularity or 0)
    return out


def copied(index: Path, to: Path) -> Path:
    return Path(shutil.copytree(index, to, ignore=shutil.ignore_patterns("lock.mdb")))


def test_the_space_is_there_whole_and_the_index_sound(learned: Path) -> None:
    opened = Opened(learned)
    entry = opened.manifest.spaces[-1]
    assert (entry.spec.name, entry.spec.item) == ("behaviour", "behaviour")
    assert (entry.coverage, entry.imputed) == (50, 10)
    assert opened.manifest.behaviour is not None and opened.manifest.behaviour.users == USERS
    assert verify_index(learned).problems == []


def test_a_repair_writes_popularity_again(learned: Path, tmp_path: Path) -> None:
    index = copied(learned, tmp_path / "index")
    file = Opened(index).folder / "popularity.f32"
    written = file.read_bytes()
    file.unlink()
    summary = repair_index(index)
    assert "popularity.f32" in summary.restored and not summary.changed and not summary.lost
    assert (Opened(index).folder / "popularity.f32").read_bytes() == written


def test_an_item_is_found_by_what_was_liked_beside_it(learned: Path) -> None:
    with Retriever.open(learned) as retriever:
        hits = retriever.search(Query(like=["item-0"], weights={"words": 0.0}), k=8)
    assert [int(hit.id.split("-")[1]) % 4 for hit in hits] == [0] * 8


def test_scores_are_the_products_of_the_stored_pairs(learned: Path) -> None:
    opened = Opened(learned)
    entry = opened.manifest.spaces[-1]
    with Retriever.open(learned) as retriever:
        view = retriever._view
        vectors = {
            modality: np.stack(
                [
                    view.snapshot.embedding(bytes.fromhex(fingerprint + digest_of(f"item-{n}")))
                    for n in range(50)
                ]
            )
            for modality, fingerprint in entry.fingerprints.items()
        }
        hits = retriever.search(
            Query(like=[("item-3", 1.0), ("item-8", -0.5)], weights={"words": 0.0}), k=58
        )
    asked = vectors["behaviour:liked"][3] - 0.5 * vectors["behaviour:liked"][8]
    centre = opened.fusion.transforms["behaviour"].means["behaviour"]
    wanted = (vectors["behaviour"] - centre) @ asked * entry.spec.weight
    got = {hit.id: hit.score for hit in hits}
    for n in range(50):
        if n not in (3, 8):
            assert got[f"item-{n}"] == pytest.approx(
                wanted[n], abs=2e-3 * float(np.abs(wanted).max())
            )


def test_untouched_items_are_imputed_from_their_words_and_told_so(learned: Path) -> None:
    with Retriever.open(learned) as retriever:
        liked = [f"item-{n}" for n in range(0, 20, 4)]
        hits = retriever.search(Query(like=liked, weights={"words": 0.0}), k=55)
    match = {hit.id: hit.spaces["behaviour"] for hit in hits}
    assert all(match[one].imputed and not match[one].present for one in UNTOUCHED)
    assert match["item-40"].present and not match["item-40"].imputed
    topic = {one: match[one].contribution for one in UNTOUCHED}
    own = [v for one, v in topic.items() if int(one.split("-")[1]) % 4 == 0]
    others = [v for one, v in topic.items() if int(one.split("-")[1]) % 4]
    assert min(own) > max(others)


def test_it_survives_writes_compaction_and_another_build(learned: Path, tmp_path: Path) -> None:
    index = copied(learned, tmp_path / "index")
    with Writer.open(index) as writer:
        writer.add([{"id": "new", "text": "red new"}])
        writer.update([{"id": "item-4", "text": "red other words"}])
        writer.delete(["item-8"])
        writer.commit()

        def states() -> dict[str, tuple[bool, bool]]:
            with Retriever.open(index) as retriever:
                found = retriever.search(Query(like=["item-0"]), k=59)
            return {
                h.id: (h.spaces["behaviour"].present, h.spaces["behaviour"].imputed) for h in found
            }

        fresh = states()
        assert fresh["new"] == (False, True)
        assert fresh["item-4"] == (True, False)  # its behaviour is that of its id
        assert "item-8" not in fresh
        writer.compact()
        assert states() == fresh
    assert verify_index(index).problems == []
    rows = [*topical_rows(), {"id": "new", "text": "red new"}]
    summary = build_toy(index, rows)
    assert summary.notes == ()
    assert summary.coverage["behaviour"] == 49  # item-8 was let go of when it was compacted
    with Retriever.open(index) as retriever:
        assert retriever.manifest.behaviour is not None
        assert retriever.recommend(user="u0", k=3)
        assert retriever.recommend([], k=1)[0].score > 0
    assert verify_index(index).problems == []


def test_learning_again_takes_the_place_of_what_was_learned(learned: Path, tmp_path: Path) -> None:
    index = copied(learned, tmp_path / "index")
    before = Opened(index).manifest.spaces[-1]
    some = [row for row in clicks(1) if row["item"] not in ("item-0", "item-1")]
    summary = learn_behaviour(index, some, method="als", rank=8)
    opened = Opened(index)
    entry = opened.manifest.spaces[-1]
    assert [space.spec.name for space in opened.manifest.spaces] == ["words", "behaviour"]
    assert entry.fingerprints != before.fingerprints
    assert (entry.coverage, entry.dimension) == (48, 10)
    assert summary.chosen.setting == summary.rank == 8
    with Retriever.open(index) as retriever:
        snapshot = retriever._view.snapshot
        for fingerprint in before.fingerprints.values():  # nothing is left of the old vectors
            assert snapshot.embedding(bytes.fromhex(fingerprint + digest_of("item-4"))) is None
        for inputs in snapshot.inputs([0, 4]):
            bits = sum(1 << space.bit for space in opened.manifest.spaces)
            assert inputs.mask & ~bits == 0
        assert "behaviour" not in snapshot.inputs([0])[0].hashes
        with pytest.raises(Exception, match="keeps histories"):  # not asked for this time
            retriever.recommend(user="u0")
    assert verify_index(index).problems == []


def test_the_same_interactions_give_the_same_index(tmp_path: Path) -> None:
    found = []
    for name in ("a", "b"):
        build_toy(tmp_path / name, topical_rows())
        learn_behaviour(tmp_path / name, clicks())
        found.append(Opened(tmp_path / name))
    assert found[0].manifest.spaces[-1].fingerprints == found[1].manifest.spaces[-1].fingerprints
    np.testing.assert_array_equal(found[0].rows, found[1].rows)


def test_it_is_exported_and_imported(learned: Path, tmp_path: Path) -> None:
    export_index(learned, tmp_path / "index.parquet")
    import_index(tmp_path / "index.parquet", tmp_path / "again", device="cpu")
    query = Query(like=["item-5"])
    with Retriever.open(learned) as a, Retriever.open(tmp_path / "again") as b:
        assert a.search(query, k=20) == b.search(query, k=20)
        assert b.manifest.behaviour is not None and not b.manifest.behaviour.histories
    assert verify_index(tmp_path / "again").problems == []


def test_alignment_leaves_its_heads_as_they_were(tmp_path: Path) -> None:
    a = clustered(150, 12, seed=1, clusters=150)
    b = a @ np.random.default_rng(0).standard_normal((12, 8))
    rows = [{"id": f"item-{n}", "a": a[n], "b": b[n]} for n in range(150)]
    build_index(rows, tmp_path / "i", vector={"a": "a", "b": "b"}, device="cpu")
    learn_behaviour(tmp_path / "i", clicks())
    before = Opened(tmp_path / "i").manifest.spaces[-1]
    learn_alignment(tmp_path / "i")
    spaces = Opened(tmp_path / "i").manifest.spaces
    assert spaces[0].heads and spaces[1].heads
    assert (spaces[2].spec, spaces[2].heads) == (before.spec, before.heads)


def test_weights_that_words_teach_leave_its_own(tmp_path: Path) -> None:
    vectors = clustered(ITEMS, 8)
    rows = [{**row, "a": vectors[n]} for n, row in enumerate(topical_rows())]
    build_toy(tmp_path / "i", rows, vector={"a": "a"})
    learn_behaviour(tmp_path / "i", clicks())
    before = Opened(tmp_path / "i").manifest.spaces[-1]
    assert learn_fusion(tmp_path / "i", fusion="concat").weights["behaviour"] == before.spec.weight


@pytest.mark.parametrize(
    ("changed", "error", "told"),
    [
        ({"method": "svd"}, BehaviourOptionError, "one of ease, als, bpr; got 'svd'"),
        ({"rank": 0}, BehaviourOptionError, "from 1 to 1,024; got 0"),
        ({"neutral": 4.0, "liked": 2.0}, BehaviourOptionError, "neutral 4.0, liked 2.0"),
        ({"neutral": 5.0}, NoLikesError, "above the neutral one, 5; got at most 1"),
        ({"user": "who"}, InteractionsError, "'who'"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    learned: Path, changed: dict[str, Any], error: type[Exception], told: str
) -> None:
    before = Opened(learned).current
    with pytest.raises(error, match=told):
        learn_behaviour(learned, clicks(), **changed)
    assert Opened(learned).current == before


def test_a_single_user_is_refused(learned: Path) -> None:
    with pytest.raises(SingleUserError):
        learn_behaviour(learned, [{"user": "u", "item": "item-1"}, {"user": "u", "item": "item-2"}])


def test_a_space_of_that_name_is_not_taken_over(tmp_path: Path) -> None:
    build_toy(
        tmp_path / "i",
        [{"id": "a", "v": [1.0, 0]}, {"id": "b", "v": [0, 1.0]}],
        preset="local",
        vector={"behaviour": "v"},
        text=[],
    )
    with pytest.raises(SpaceNameError):
        learn_behaviour(tmp_path / "i", [{"user": u, "item": "a"} for u in "xy"])


def test_few_users_take_the_defaults_and_are_told(tmp_path: Path) -> None:
    build_vectors(tmp_path / "i", clustered(30, 8))
    rows = [{"user": u, "item": f"v{n}"} for u in ("x", "y") for n in range(4)]
    rows.append({"user": "x", "item": "gone"})
    summary = learn_behaviour(tmp_path / "i", rows)
    assert (summary.chosen.users, summary.chosen.both) == (0, None)
    assert (summary.interactions.unknown_rows, summary.interactions.unknown_items) == (1, 1)
    assert (summary.items, summary.imputed, summary.explained) == (4, 0, {"vector": 0.0})
    assert verify_index(tmp_path / "i").problems == []


def test_an_imputer_explains_what_is_linear_and_refuses_noise() -> None:
    rng = np.random.default_rng(0)
    x = clustered(200, 12, clusters=200)
    y = np.concatenate([0.3 * (x @ rng.standard_normal((12, 6))), rng.random((200, 2))], axis=1)
    found = learn_imputer(x, y.astype(np.float32), 6, seed=0)
    assert found is not None and found.explained > 0.9
    assert learn_imputer(x, rng.standard_normal((200, 8)).astype(np.float32), 6, seed=0) is None
    assert learn_imputer(x[:10], y[:10].astype(np.float32), 6, seed=0) is None


def test_likes_of_one_item_do_not_add_up_and_dislikes_are_no_likes() -> None:
    rows = [
        {"user": "a", "item": "x", "value": 3, "time": 1},
        {"user": "a", "item": "x", "value": 5, "time": 2},
        {"user": "a", "item": "y", "value": 1, "time": 3},
        {"user": "b", "item": "y", "value": 3, "time": 3},
    ]
    read = read_interactions(rows)
    matrix = likes_matrix(read.histories(), 2, Scale(2, 4)).toarray()
    assert matrix.tolist() == [[1.0, 0.0], [0.0, 0.5]]


def test_what_is_held_out_is_in_no_history() -> None:
    read = read_interactions(clicks())
    held = hold_out(read, Scale(0, 1))
    assert len(held.asked) > USERS / 2  # others held out what they had before
    for number, relevant in zip(held.asked, held.relevant, strict=True):
        before, whole = held.histories[number], read.histories()[number]
        assert not set(relevant) & set(before.items.tolist())
        assert len(before) < len(whole)


def test_histories_are_kept_only_where_asked(learned: Path, tmp_path: Path) -> None:
    build_toy(tmp_path / "i", topical_rows())
    learn_behaviour(tmp_path / "i", clicks())
    for index, kept in ((tmp_path / "i", 0), (learned, USERS)):
        with Retriever.open(index) as retriever:
            assert retriever._view.snapshot.view.count("histories") == kept
    learn_behaviour(tmp_path / "i", clicks(), keep_histories=True)
    learn_behaviour(tmp_path / "i", clicks())
    with Retriever.open(tmp_path / "i") as retriever:
        assert retriever._view.snapshot.view.count("histories") == 0
