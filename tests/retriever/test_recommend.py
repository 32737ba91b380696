"""Recommendations against brute force on the stored embeddings, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from catalens import Hit, Retriever, Writer, learn_behaviour
from encoders.errors import CatalensError
from indexer.behaviour import digest_of
from retriever.diversity import dealt, interests_of, marginal_relevance
from retriever.errors import (
    HistoriesNotKeptError,
    HistoryError,
    InvalidKError,
    NoPopularityError,
    RecommendOptionError,
)
from tests.catalogs import Opened, build_vectors, clustered

N, D = 90, 12
X = clustered(N, D, seed=4, clusters=6)
LIKED, NEUTRAL = 4.0, 2.0
HALF_LIFE = 50.0


def ratings() -> list[dict[str, Any]]:
    """Users who rate what is near a taste of theirs 5, and some others 1 to 3."""
    rng = np.random.default_rng(1)
    rows = []
    for user in range(70):
        near = np.argsort(-X[:80] @ X[rng.integers(N)])[:12]
        for time, item in enumerate(rng.permutation(near)[:9].tolist()):
            rows.append({"user": f"u{user}", "item": f"v{item}", "value": 5, "time": time})
        for item in rng.integers(80, size=3).tolist():
            value = int(rng.integers(1, 4))
            rows.append({"user": f"u{user}", "item": f"v{item}", "value": value, "time": 20})
    return rows


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("recommend") / "index"
    build_vectors(out, X, number=range(N), even=[n % 2 == 0 for n in range(N)])
    learn_behaviour(out, ratings(), neutral=NEUTRAL, liked=LIKED, keep_histories=True)
    return out


class Oracle:
    """Every part of a recommendation from the embeddings, by numpy alone."""

    def __init__(self, path: Path) -> None:
        opened = Opened(path)
        self.spaces = {s.spec.name: s for s in opened.manifest.spaces}
        fingerprints = self.spaces["behaviour"].fingerprints
        with Retriever.open(path) as retriever:
            snapshot = retriever._view.snapshot
            found = {
                modality: [
                    snapshot.embedding(bytes.fromhex(fingerprint + digest_of(f"v{n}")))
                    for n in range(N)
                ]
                for modality, fingerprint in fingerprints.items()
            }
            popularity = retriever._view.generation.popularity()
        assert popularity is not None
        self.popularity = popularity
        width = self.spaces["behaviour"].dimension
        nothing = np.zeros(width, dtype=np.float32)
        self.touched = np.array([v is not None for v in found["behaviour"]])
        self.liked = np.stack([nothing if v is None else v for v in found["behaviour:liked"]])
        means = opened.fusion.transforms
        own = np.stack([nothing if v is None else v for v in found["behaviour"]])
        self.items = own - means["behaviour"].means["behaviour"]
        where = opened.fusion.blocks["behaviour"]  # type: ignore[attr-defined]
        weight = self.spaces["behaviour"].spec.weight
        imputed = opened.rows[:, where] / weight**0.5
        self.items[~self.touched] = imputed[~self.touched]
        self.content = X - means["vector"].means["vector:vector"]

    def weights(self, history: list[tuple[str, float, float]]) -> dict[int, float]:
        ordered = sorted(history, key=lambda one: one[2])
        found: dict[int, float] = {}
        for age, (item, value, _) in enumerate(reversed(ordered)):
            liking = max(-1.0, min(1.0, (value - NEUTRAL) / (LIKED - NEUTRAL)))
            number = int(item[1:])
            found[number] = found.get(number, 0.0) + liking * 0.5 ** (age / HALF_LIFE)
        return found

    def scores(self, history: list[tuple[str, float, float]], **given: float) -> np.ndarray:
        weights = self.weights(history)
        total = sum(map(abs, weights.values()))
        content, behaviour = np.zeros(D), np.zeros(self.items.shape[1])
        for number, weight in weights.items():
            content += weight / total * X[number]
            behaviour += weight / total * self.liked[number]
        use = {name: given.get(name, s.spec.weight) for name, s in self.spaces.items()}
        return np.asarray(
            use["vector"] * self.content @ content + use["behaviour"] * self.items @ behaviour
        )


HISTORY = [
    ("v3", 5.0, 30.0),
    ("v17", 4.0, 10.0),
    ("v40", 1.0, 20.0),
    ("v8", 3.0, 40.0),
    ("v50", 2.0, 50.0),
]


def agree(hits: list[Hit], scores: np.ndarray, allowed: np.ndarray) -> None:
    """The hits are the best allowed ones, ties within half precision aside."""
    ordered = np.sort(scores[allowed])[::-1]
    tolerance = 3e-3 * float(np.abs(scores).max())
    for rank, hit in enumerate(hits):
        number = int(hit.id[1:])
        assert allowed[number]
        assert hit.score == pytest.approx(float(scores[number]), abs=tolerance)
        assert scores[number] >= ordered[rank] - 2 * tolerance


@pytest.mark.parametrize("given", [{}, {"vector": 0.0}, {"behaviour": 0.0}, {"behaviour": 3.0}])
def test_hits_are_those_of_brute_force(path: Path, given: dict[str, float]) -> None:
    oracle = Oracle(path)
    unseen = ~np.isin(np.arange(N), [3, 17, 40, 8, 50])
    with Retriever.open(path) as retriever:
        hits = retriever.recommend(HISTORY, 15, weights=given)
        seen_too = retriever.recommend(HISTORY, 15, weights=given, exclude_seen=False)
        even = retriever.recommend(HISTORY, 15, weights=given, where="even = true")
        # Of equal times none, the order is that of time.
        by_order = retriever.recommend(
            [h[:2] for h in sorted(HISTORY, key=lambda h: h[2])], 15, weights=given
        )
    scores = oracle.scores(HISTORY, **given)
    agree(hits, scores, unseen)
    agree(seen_too, scores, np.ones(N, dtype=bool))
    agree(even, scores, unseen & (np.arange(N) % 2 == 0))
    assert [hit.id for hit in by_order] == [hit.id for hit in hits]
    for hit in hits:
        assert hit.score == pytest.approx(
            sum(m.contribution for m in hit.spaces.values()), rel=1e-4
        )


def test_many_are_answered_as_each_alone(path: Path) -> None:
    histories = [HISTORY, [], HISTORY[:2], [("v1", 1.0, 0.0)], ["v3", "v4"]]
    with Retriever.open(path) as retriever:
        together = retriever.recommend_many(histories, 5)
        assert together == [retriever.recommend(one, 5) for one in histories]


def test_a_known_user_is_recommended_by_what_is_kept(path: Path) -> None:
    own = [(r["item"], float(r["value"]), float(r["time"])) for r in ratings() if r["user"] == "u7"]
    with Retriever.open(path) as retriever:
        assert retriever.recommend(user="u7", k=8) == retriever.recommend(own, k=8)


def test_cold_users_get_what_is_popular_within_the_filter(path: Path) -> None:
    oracle = Oracle(path)
    likes = np.zeros(N)
    best: dict[tuple[str, str], float] = {}
    for row in ratings():
        key = (row["user"], row["item"])
        liking = max(0.0, min(1.0, (row["value"] - NEUTRAL) / (LIKED - NEUTRAL)))
        best[key] = max(best.get(key, 0.0), liking)
    for (_, item), liking in best.items():
        likes[int(item[1:])] += liking
    np.testing.assert_allclose(oracle.popularity, likes, atol=1e-5)
    wanted = [f"v{n}" for n in np.argsort(-likes, kind="stable")]
    even = [one for one in wanted if int(one[1:]) % 2 == 0]
    disliked = [(wanted[0], 1.0, 0.0)]
    with Retriever.open(path) as retriever:
        assert [h.id for h in retriever.recommend([], 5)] == wanted[:5]
        assert [h.id for h in retriever.recommend(user="nobody", k=5)] == wanted[:5]
        found = retriever.recommend(["gone"], 5, where="even = true")
        assert [h.id for h in found] == even[:5]
        assert found[0].metadata["even"] is True
        assert found[0].spaces["behaviour"].similarity is None
        # Who likes nothing has no taste to go by; what was seen is left out.
        assert [h.id for h in retriever.recommend(disliked, 5)] == wanted[1:6]
        bare = retriever.recommend([], 5, explain=False)
        assert [(h.id, h.score) for h in bare] == [
            (h.id, h.score) for h in retriever.recommend([], 5)
        ]


def test_dislikes_push_away(path: Path) -> None:
    with Retriever.open(path) as retriever:
        scores = [
            {h.id: h.score for h in retriever.recommend(one, N - 2)}
            for one in ([("v3", 5.0), ("v5", 4.0)], [("v3", 5.0), ("v5", 1.0)])
        ]
    near = [f"v{n}" for n in np.argsort(-X @ X[5])[1:4] if n not in (3, 5)]
    shared = np.array([[s[one] for s in scores] for one in near])
    assert (shared[:, 1] < shared[:, 0]).all()


def test_new_and_deleted_items(path: Path, tmp_path: Path) -> None:
    import shutil

    index = tmp_path / "index"
    shutil.copytree(path, index, ignore=shutil.ignore_patterns("lock.mdb"))
    with Writer.open(index) as writer:
        writer.add([{"id": "new", "v": X[3], "number": 500, "even": True}])
        writer.delete(["v0"])
        writer.commit()
    with Retriever.open(index) as retriever:
        hits = retriever.recommend(["v3", "v0"], N - 1)
        match = {hit.id: hit.spaces["behaviour"] for hit in hits}
        assert "v0" not in match and "v3" not in match
        assert match["new"].imputed
        assert retriever.recommend([], N)[-1].id == "new"  # not popular yet


def test_interests_deal_hits_by_what_they_weigh(path: Path) -> None:
    far = int(np.argmin(X @ X[0]))
    a, b = (np.argsort(-X @ X[n])[:8] for n in (0, far))
    history = [f"v{n}" for n in (*a, *b) if n < 80]
    with Retriever.open(path) as retriever:
        one = retriever.recommend(history, 10, weights={"behaviour": 0.0})
        two = retriever.recommend(history, 10, weights={"behaviour": 0.0}, interests=2)
    assert len({hit.id for hit in two}) == 10
    assert not {hit.id for hit in two} & set(history)
    # Both tastes have a place near the top.
    top = [int(hit.id[1:]) for hit in two[:4]]
    nearest = {int(np.argmax([X[n] @ X[0], X[n] @ X[far]])) for n in top}
    assert nearest == {0, 1}
    assert one != two


def test_clusters_and_deals() -> None:
    rows = np.concatenate([np.tile([1.0, 0.1], (10, 1)), np.tile([0.1, 1.0], (20, 1))])
    groups = interests_of(rows.astype(np.float32), np.ones(30, dtype=np.float32), 2)
    assert [sorted(group.tolist()) for group in groups] == [list(range(10, 30)), list(range(10))]
    assert len(interests_of(rows.astype(np.float32)[:9], np.ones(9, np.float32), 5)) == 1
    lists = [np.array([1, 2, 3, 4]), np.array([2, 9, 8])]
    assert dealt(lists, [2 / 3, 1 / 3], 4) == [(0, 0), (1, 0), (0, 2), (1, 1)]


def test_marginal_relevance_against_its_definition() -> None:
    rng = np.random.default_rng(0)
    rows, scores = clustered(40, 6), np.sort(rng.random(40))[::-1].astype(np.float32)
    scaled = (scores - scores.min()) / np.ptp(scores)
    for diversity in (0.0, 0.4, 1.0):
        chosen = marginal_relevance(scores, rows, 12, diversity).tolist()
        for place, number in enumerate(chosen):
            worth = {
                n: (1 - diversity) * scaled[n]
                - diversity * max((float(rows[n] @ rows[c]) for c in chosen[:place]), default=0.0)
                for n in range(40)
                if n not in chosen[:place]
            }
            assert worth[number] >= max(worth.values()) - 1e-5
    assert marginal_relevance(scores, rows, 12, 0.0).tolist() == list(range(12))


def test_diversity_makes_hits_less_alike(path: Path) -> None:
    def alike(hits: list[Hit]) -> float:
        some = X[[int(hit.id[1:]) for hit in hits]]
        return float((some @ some.T).mean())

    with Retriever.open(path) as retriever:
        plain = retriever.recommend(["v3", "v9"], 10)
        assert alike(retriever.recommend(["v3", "v9"], 10, diversity=0.7)) < alike(plain)


@pytest.mark.parametrize(
    ("given", "error", "told"),
    [
        ({"history": "v3"}, HistoryError, "a list of ids"),
        ({"history": [3]}, HistoryError, "entry 1.*got 3"),
        ({"history": [("v3", "much")]}, HistoryError, "entry 1.*'much'"),
        ({"history": [("v3", 1, "soon")]}, HistoryError, "ISO 8601"),
        ({"history": [("v3", 1, 5), ("v4", 1)]}, HistoryError, "1 of 2 without"),
        ({"history": [("v3", 1, 2, 3)]}, HistoryError, "entry 1"),
        ({}, HistoryError, "got neither"),
        ({"history": [], "user": "u1"}, HistoryError, "got both"),
        ({"history": [], "half_life": 0}, RecommendOptionError, "above 0"),
        ({"history": [], "half_life": float("nan")}, RecommendOptionError, "above 0"),
        ({"history": [], "diversity": 1.5}, RecommendOptionError, "from 0 to 1"),
        ({"history": [], "interests": 0}, RecommendOptionError, "from 1 to 20"),
        ({"history": [], "k": 0}, InvalidKError, "at least one"),
        ({"history": ["v3"], "weights": {"none": 1}}, CatalensError, "'none'"),
        ({"history": ["v3"], "where": "colour = 1"}, CatalensError, "colour"),
        ({"history": [], "where": "colour = 1"}, CatalensError, "colour"),
    ],
)
def test_what_cannot_be_is_refused(
    path: Path, given: dict[str, Any], error: type[Exception], told: str
) -> None:
    with Retriever.open(path) as retriever, pytest.raises(error, match=told):
        retriever.recommend(**given)


def test_without_behaviour_content_alone_recommends(tmp_path: Path) -> None:
    build_vectors(tmp_path / "i", X)
    with Retriever.open(tmp_path / "i") as retriever:
        hits = retriever.recommend([("v3", 1.0), ("v5", -1.0)], 5)
        assert len(hits) == 5
        with pytest.raises(NoPopularityError, match="learn behaviour"):
            retriever.recommend([])
        with pytest.raises(HistoriesNotKeptError, match="--keep-histories"):
            retriever.recommend(user="u1")


def test_recommending_imports_neither_torch_nor_scipy(path: Path) -> None:
    code = (
        "import sys; from catalens import Retriever\n"
        f"with Retriever.open({str(path)!r}) as r: r.recommend(user='u1', k=3, diversity=0.2)\n"
        "print(*[m for m in ('torch', 'scipy', 'implicit', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
