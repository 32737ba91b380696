"""One state of an index, opened for searching: what it answers never changes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from itertools import chain, repeat
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from encoders import Limits
from indexer import (
    Chosen,
    FusedQueries,
    Generation,
    IndexLayout,
    Live,
    Snapshot,
    Store,
    open_latest,
    wants_gpu,
)
from indexer.ranking import read_ranking

from .compose import Composed, Composer
from .filters import parse
from .head.features import Candidates
from .head.files import load_ranking
from .head.rerank import Reranker
from .hit import HeadMatch, Hit
from .predicates import evaluate
from .query import Query
from .query_encoder import QueryEncoder
from .scoring import Account, Scorer

Floats = NDArray[np.float32]

_SELECTIONS_KEPT = 32
# Where scores are not the inner product that the index knows, so many times the hits wanted are
# scored exactly, and at least so many.
_OVER_FETCHED = 10
_LEAST_RESCORED = 200
_NOTHING: Mapping[str, Any] = MappingProxyType({})
# What `Hit._make` does, without a step in Python for each hit.
_hit = partial(tuple.__new__, Hit)


class _Way(NamedTuple):
    """How a query is searched: `having` are the spaces that its hits must have."""

    having: tuple[str, ...]
    rescored: bool
    against: bool
    headed: bool


class _Ranked(NamedTuple):
    """Hits (h,) of a query, best first; what is known of why where scoring had to know."""

    positions: NDArray[np.int64]
    scores: Floats
    account: Account | None
    headed: _Headed | None = None

    def take(self, order: NDArray[np.int64]) -> _Ranked:
        """Some of them, in another order."""
        account = None if self.account is None else self.account.take(order)
        return _Ranked(self.positions[order], self.scores[order], account)


class _Headed(NamedTuple):
    """What the head makes of the first hits: scores (h,), and features (h, F)."""

    scores: Floats
    features: Floats


class View:
    """A snapshot of the store and the generation that it names; safe to use from many threads.

    It is held by whoever uses it, and closed when the last one lets go: a retriever that moves on
    waits for no search, and no search loses what it works on.
    """

    def __init__(
        self, store: Store, snapshot: Snapshot, generation: Generation, encoder: QueryEncoder
    ) -> None:
        self.store = store
        self.snapshot = snapshot
        self.generation = generation
        self.live = Live(generation, snapshot)
        self.encoder = encoder
        self.composer = Composer(self.live, snapshot, encoder)
        self.scorer = Scorer(self.live, snapshot)
        self._names = [space.spec.name for space in generation.manifest.spaces]
        self._ranking = read_ranking(generation.layout, generation.manifest)
        self._selections: OrderedDict[tuple[str | None, tuple[str, ...]], Chosen] = OrderedDict()
        self._lock = threading.Lock()
        self._holders = 1

    @classmethod
    def open(cls, layout: IndexLayout, device: str, before: View | None = None) -> View:
        """Open what an index names current; what an earlier view has open of it is taken over.

        Raises:
            NotAnIndexError, CorruptIndexError, UnsupportedFormatError: the index itself.
        """

        def opened(snapshot: Snapshot) -> Generation:
            known = before is not None and before.snapshot.current.generation_key
            if before is not None and known == snapshot.current.generation_key:
                return before.generation.held_again()
            return Generation.open(layout, snapshot.current, gpu=wants_gpu(device))

        store, snapshot, generation = open_latest(layout, opened)
        try:
            spaces = generation.manifest.spaces
            encoder = (
                QueryEncoder(spaces, device, Limits())
                if before is None
                else before.encoder.for_spaces(spaces)
            )
            return cls(store, snapshot, generation, encoder)
        except BaseException:
            generation.close()
            snapshot.close()
            store.close()
            raise

    def hold(self) -> None:
        """Keep it open until `let_go` is called once more; for who knows that it is open."""
        with self._lock:
            self._holders += 1

    def let_go(self) -> None:
        """The last one closes it."""
        with self._lock:
            self._holders -= 1
            if self._holders:
                return
        self.generation.close()
        self.snapshot.close()
        self.store.close()

    def has(self, item_id: str) -> bool:
        """Whether there is a living item of that id."""
        return self.composer.find(item_id) is not None

    def is_latest(self) -> bool:
        """Whether nothing has been committed since."""
        return self.store.current() == self.snapshot.current

    def answer(
        self,
        queries: Sequence[Query],
        k: int,
        where: str | None,
        recall: float | None,
        explain: bool,
        head: bool,
    ) -> list[list[Hit]]:
        """See `Retriever.search_many`; queries must be some, and `k` one that can be had."""
        if where is not None:
            # A filter that does not read is refused before anything is encoded.
            self._allowed(where)
        composed = self.composer.compose(queries)
        # Queries that are searched in one way are searched together.
        ways: dict[_Way, list[int]] = {}
        for number, (query, one) in enumerate(zip(queries, composed, strict=True)):
            ways.setdefault(self._way(one, head and self._suits(query)), []).append(number)
        hits: list[list[Hit]] = [[] for _ in composed]
        for way, numbers in ways.items():
            together = [composed[number] for number in numbers]
            ranked = self._search(together, k, way, where, recall)
            told = self._explained(together, ranked) if explain else self._bare(ranked)
            for number, found in zip(numbers, told, strict=True):
                hits[number] = found
        return hits

    def fused(self, queries: Sequence[Query]) -> FusedQueries:
        """See `Retriever.fused`."""
        composed = self.composer.compose(queries)
        return FusedQueries(
            np.stack([one.vector for one in composed]),
            np.array([one.is_against for one in composed]),
        )

    @cached_property
    def _reranker(self) -> Reranker | None:
        """The head for searches, where the index has learned one."""
        heads = load_ranking(self._ranking, self._names)
        head = heads.get("search")
        return None if head is None else Reranker(head, self.live, self.snapshot)

    def _suits(self, query: Query) -> bool:
        """Whether the head re-ranks a query: one like those that it learned from. Whoever gives
        weights or a policy says how spaces are to count, and is not outvoted."""
        if self._ranking is None or query.weights or query.missing is not None:
            return False
        asked = all(part.kind == "text" and part.weight > 0 for part in query.parts)
        return asked and self._reranker is not None

    def _way(self, query: Composed, headed: bool) -> _Way:
        return _Way(
            tuple(query.parts) if query.missing == "drop" else (),
            self.scorer.rescores(query),
            query.is_against,
            headed,
        )

    def candidates(self, queries: Sequence[Query], depth: int) -> list[Candidates]:
        """What retrieval returns for queries, for a head to learn from: at most `depth` each."""
        composed = self.composer.compose(queries)
        ways: dict[_Way, list[int]] = {}
        for number, one in enumerate(composed):
            ways.setdefault(self._way(one, False), []).append(number)
        found: dict[int, Candidates] = {}
        for way, numbers in ways.items():
            together = [composed[number] for number in numbers]
            ranked = self._search(together, min(depth, len(self.live)), way, None, None)
            for number, query, hits in zip(numbers, together, ranked, strict=True):
                found[number] = self._candidates(query, hits)
        return [found[number] for number in range(len(composed))]

    def _candidates(self, query: Composed, ranked: _Ranked) -> Candidates:
        rows = self.live.rows(ranked.positions)
        account = ranked.account or self.scorer.account(query, ranked.positions, rows)
        return Candidates(ranked.positions, ranked.scores, rows, account)

    def _search(
        self,
        composed: list[Composed],
        k: int,
        way: _Way,
        where: str | None,
        recall: float | None,
    ) -> list[_Ranked]:
        vectors = np.concatenate([one.vector for one in composed]).reshape(len(composed), -1)
        wanted = k
        if way.headed and self._reranker is not None:
            k = max(k, self._reranker.depth)
        most = k + max(len(one.excluded) for one in composed)
        if way.rescored:
            most = max(_OVER_FETCHED * most, _LEAST_RESCORED)
        point = self.generation.point_for(recall, against=way.against)
        allowed = self._allowed(where, way.having) if where is not None or way.having else None
        found = self.live.search(vectors, min(most, len(self.live)), point, allowed)
        if most == k and not way.rescored:
            ranked = [_Ranked(positions, scores, None) for positions, scores in found]
        else:
            ranked = [
                self._ranked(one, k, way, *hits) for one, hits in zip(composed, found, strict=True)
            ]
        if way.headed and self._reranker is not None:
            reranker = self._reranker
            ranked = [
                self._reranked(reranker, one, hits, wanted)
                for one, hits in zip(composed, ranked, strict=True)
            ]
        return ranked

    def _reranked(self, reranker: Reranker, query: Composed, ranked: _Ranked, k: int) -> _Ranked:
        """The first of what was found in the head's order, the others behind them; the k best."""
        first = ranked.take(np.arange(min(reranker.depth, len(ranked.positions))))
        candidates = self._candidates(query, first)
        scores, features = reranker.scores(candidates)
        order = (-scores).argsort(kind="stable")
        head = first._replace(account=candidates.account).take(order[:k])
        headed = _Headed(scores[order[:k]], features[order[:k]])
        if k <= len(order):
            return head._replace(headed=headed)
        positions = np.concatenate([head.positions, ranked.positions[len(order) : k]])
        return _Ranked(
            positions,
            np.concatenate([head.scores, ranked.scores[len(order) : k]]),
            None,
            headed,
        )

    def _ranked(
        self, query: Composed, k: int, way: _Way, positions: NDArray[np.int64], scores: Floats
    ) -> _Ranked:
        """The k best of what was found, scored anew where scores are no inner product."""
        if query.excluded:
            keep = [n for n, p in enumerate(positions.tolist()) if p not in query.excluded]
            positions, scores = positions[keep], scores[keep]
        if not way.rescored:
            return _Ranked(positions[:k], scores[:k], None)
        account = self._account(query, positions)
        scores = account.scores()
        order = (-scores).argsort(kind="stable")[:k]
        return _Ranked(positions[order], scores[order], account.take(order))

    def _account(self, query: Composed, positions: NDArray[np.int64]) -> Account:
        rows = self.live.rows(positions)
        return self.scorer.account(query, positions, rows)

    def _explained(self, queries: list[Composed], ranked: list[_Ranked]) -> Iterator[list[Hit]]:
        """Hits with all that is known of them; the records of all are read at once."""
        positions = np.concatenate([one.positions for one in ranked])
        numbers = self.live.row_numbers.take(positions)
        records = iter(self.snapshot.records(numbers.tolist()))
        for query, (found, scores, known, headed) in zip(queries, ranked, strict=True):
            account = self._account(query, found) if known is None else known
            matches = zip(*self.scorer.matches(account, query), strict=True)
            # Hits first: where they end, no record must be taken.
            heads: Iterable[HeadMatch | None] = repeat(None)
            if headed is not None and self._reranker is not None:
                heads = chain(self._reranker.matches(*headed), repeat(None))
            yield [
                Hit(
                    record.id,
                    score,
                    dict(zip(self._names, spaces, strict=True)),
                    record.metadata,
                    head,
                )
                for score, spaces, head, record in zip(
                    scores.tolist(), matches, heads, records, strict=False
                )
            ]

    def _bare(self, ranked: list[_Ranked]) -> Iterator[list[Hit]]:
        """Ids and scores alone: all ids are looked up at once, and no record is read."""
        ids = self.live.ids(np.concatenate([one.positions for one in ranked]))
        scores = np.concatenate([one.scores for one in ranked]).tolist()
        hits = list(map(_hit, zip(ids, scores, repeat(_NOTHING), repeat(_NOTHING), repeat(None))))
        end = 0
        for one in ranked:
            start, end = end, end + len(one.positions)
            yield hits[start:end]

    def _allowed(self, where: str | None, having: tuple[str, ...] = ()) -> Chosen:
        """Which positions pass a filter and have some spaces; the last few are remembered."""
        key = (where, having)
        with self._lock:
            if key in self._selections:
                self._selections.move_to_end(key)
                return self._selections[key]
        passing = self.scorer.having(having)
        if where is not None:
            passing &= self._passing(where)
        allowed = self.live.choose(passing)
        with self._lock:
            self._selections[key] = allowed
            while len(self._selections) > _SELECTIONS_KEPT:
                self._selections.popitem(last=False)
        return allowed

    def _passing(self, where: str) -> NDArray[np.bool_]:
        rows = np.asarray(evaluate(parse(where), self.snapshot.postings()).to_array())
        passing = np.zeros(self.snapshot.next_row, dtype=bool)
        passing[rows] = True
        return passing[self.live.row_numbers]
