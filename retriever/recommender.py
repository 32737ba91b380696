"""Recommendations: histories to queries, and what these find to hits that differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from indexer.behaviour import history_of
from indexer.learning.preference import HALF_LIFE

from .compose import Composed, Past
from .diversity import dealt, interests_of, marginal_relevance
from .errors import HistoriesNotKeptError
from .head.features import Candidates
from .hit import Hit
from .profile import PLAIN, Profile, Wish, profile_of
from .query import Query
from .view import Ranked, View

# For each hit that is wanted, so many candidates to choose different ones from, and at least.
_POOL = 10
_LEAST_POOL = 100
# Weights are divided by their sum; smaller ones than this say nothing.
_LEAST_WEIGHT = 1e-9
RECENT = 5.0
"""Half-life, in interactions, of what a head takes for recent."""


class _Asked(NamedTuple):
    """A query for one interest of a user, and the part of what the user likes that it stands
    for."""

    user: int
    share: float
    query: Composed


class Recommender:
    """Recommends the items of one state of an index."""

    def __init__(self, view: View) -> None:
        self._view = view

    def history(self, user: str) -> Sequence[tuple[str, float, float]]:
        """What the index knows of a user; empty where that is nothing.

        Raises:
            HistoriesNotKeptError: it keeps no histories.
        """
        behaviour = self._view.generation.manifest.behaviour
        if behaviour is None or not behaviour.histories:
            raise HistoriesNotKeptError(
                "user",
                expected="an index that keeps histories",
                got="one that keeps none",
                remedy="Give the history itself, or learn it: "
                "catalens learn behaviour INDEX INTERACTIONS --keep-histories.",
            )
        return history_of(self._view.snapshot, user) or ()

    def recommend(
        self, histories: Sequence[Sequence[object]], k: int, wish: Wish
    ) -> list[list[Hit]]:
        """See `Retriever.recommend_many`."""
        known = self._weighed(histories, wish.half_life)
        seen = [list(positions) if wish.exclude_seen else [] for positions in known]
        asked = self._asked(known, seen, wish)
        reranker = self._view.reranker("recommend") if wish.is_plain else None
        if reranker is not None:
            asked = self._with_past(asked, known, histories)
        most = min(k, len(self._view.live))
        if wish.diversity:
            most = min(max(_POOL * k, _LEAST_POOL), len(self._view.live))
        queries = [one.query for one in asked]
        rerankers = [reranker] * len(queries)
        ranked = self._view.rank(queries, most, wish.where, wish.recall, rerankers)
        by_user: dict[int, list[tuple[_Asked, Ranked]]] = {}
        for one, found in zip(asked, ranked, strict=True):
            by_user.setdefault(one.user, []).append((one, found))
        return [
            self._hits(by_user[user], k, wish)
            if user in by_user
            else self._popular(k, seen[user], wish)
            for user in range(len(histories))
        ]

    def candidates(
        self, histories: Sequence[Sequence[object]], depth: int
    ) -> list[tuple[int, Candidates]]:
        """For each history that likes anything, its number and what retrieval returns for it, for a
        head to learn from."""
        known = self._weighed(histories, HALF_LIFE)
        asked = self._asked(known, [list(positions) for positions in known], PLAIN)
        asked = self._with_past(asked, known, histories)
        found = self._view.candidates([one.query for one in asked], depth)
        return [(one.user, candidates) for one, candidates in zip(asked, found, strict=True)]

    def _weighed(
        self, histories: Sequence[Sequence[object]], half_life: float
    ) -> list[dict[int, float]]:
        behaviour = self._view.generation.manifest.behaviour
        return [self._known(profile_of(one, behaviour, half_life)) for one in histories]

    def _with_past(
        self,
        asked: list[_Asked],
        known: list[dict[int, float]],
        histories: Sequence[Sequence[object]],
    ) -> list[_Asked]:
        """The same with the history beside each query, for a head to look at."""
        users = [one.user for one in asked]
        recent = self._weighed([histories[user] for user in users], RECENT)
        nothing_seen: list[list[int]] = [[] for _ in recent]
        latest = {users[one.user]: one.query for one in self._asked(recent, nothing_seen, PLAIN)}
        found = []
        for one in asked:
            weights = {p: w for p, w in known[one.user].items() if w > 0}
            liked = np.array(list(weights), dtype=np.int64)
            shares = np.array(list(weights.values()), dtype=np.float32)
            # Of a history whose last likes weigh nothing the whole stands for the last.
            past = Past(latest.get(one.user, one.query), liked, shares / shares.sum())
            found.append(one._replace(query=one.query._replace(past=past)))
        return found

    def _known(self, profile: Profile) -> dict[int, float]:
        """How much each item that is in the index counts, by position; what a user did several
        times adds up."""
        found: dict[int, float] = {}
        for item, weight in zip(profile.items, profile.weights.tolist(), strict=True):
            position = self._view.composer.find(item)
            if position is not None:
                found[position] = found.get(position, 0.0) + weight
        return found

    def _asked(
        self,
        known: list[dict[int, float]],
        seen: list[list[int]],
        wish: Wish,
    ) -> list[_Asked]:
        """The queries of users who like anything."""
        users, shares, queries = [], [], []
        for user, weights in enumerate(known):
            total = sum(map(abs, weights.values()))
            liked = [p for p, w in weights.items() if w > _LEAST_WEIGHT * total]
            disliked = [p for p, w in weights.items() if w < -_LEAST_WEIGHT * total]
            for share, interest in self._interests(liked, weights, wish.interests):
                parts = [(p, weights[p] / total) for p in (*interest, *disliked)]
                ids = self._view.live.ids(np.array([p for p, _ in parts], dtype=np.int64))
                like = [(one, weight) for one, (_, weight) in zip(ids, parts, strict=True)]
                users.append(user)
                shares.append(share)
                queries.append(Query(like=like, weights=wish.weights))
        composed = self._view.composer.compose(queries)
        return [
            _Asked(user, share, query._replace(excluded=seen[user]))
            for user, share, query in zip(users, shares, composed, strict=True)
        ]

    def _interests(
        self, liked: list[int], weights: dict[int, float], wanted: int
    ) -> list[tuple[float, list[int]]]:
        """Liked positions by interest, each with its part of what is liked."""
        if not liked:
            return []
        if wanted == 1:
            return [(1.0, liked)]
        counts = np.array([weights[p] for p in liked], dtype=np.float32)
        rows = self._view.live.rows(np.array(liked, dtype=np.int64))
        return [
            (float(counts[group].sum() / counts.sum()), [liked[n] for n in group.tolist()])
            for group in interests_of(rows, counts, wanted)
        ]

    def _hits(self, found: list[tuple[_Asked, Ranked]], k: int, wish: Wish) -> list[Hit]:
        """The hits of one user, of all interests."""
        queries = [one.query for one, _ in found]
        lists = [self._diverse(ranked, k, wish.diversity) for _, ranked in found]
        order = dealt([ranked.positions for ranked in lists], [one.share for one, _ in found], k)
        told = list(self._view.tell(queries, lists, wish.explain))
        return [told[number][rank] for number, rank in order]

    def _diverse(self, ranked: Ranked, k: int, diversity: float) -> Ranked:
        if not diversity or not len(ranked.positions):
            return ranked
        rows = self._view.live.rows(ranked.positions)
        chosen: NDArray[np.int64] = marginal_relevance(ranked.scores, rows, k, diversity)
        return ranked.take(chosen)

    def _popular(self, k: int, seen: list[int], wish: Wish) -> list[Hit]:
        ranked = self._view.popular(k, wish.where, seen)
        return self._view.popular_hits(ranked, wish.explain)
