"""The reading side of an index: queries in, explained hits out."""

from __future__ import annotations

import operator
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from numbers import Real
from pathlib import Path
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
    Manifest,
    Snapshot,
    Store,
    open_latest,
    take_latest,
    wants_gpu,
)

from .compose import Composed, Composer
from .errors import InvalidKError, InvalidRecallError, RetrieverClosedError
from .filters import parse
from .gate import Gate
from .hit import Hit
from .predicates import evaluate
from .query import Query
from .query_encoder import QueryEncoder
from .scoring import Account, Scorer

Floats = NDArray[np.float32]

_SELECTIONS_KEPT = 32
_DEFAULT_K = 10
# Where scores are not the inner product that the index knows, so many times the hits wanted are
# scored exactly, and at least so many.
_OVER_FETCHED = 10
_LEAST_RESCORED = 200
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class _Way(NamedTuple):
    """How a query is searched: `having` are the spaces that its hits must have."""

    having: tuple[str, ...]
    rescored: bool
    against: bool


class _Ranked(NamedTuple):
    """Hits (h,) of a query, best first; what is known of why where scoring had to know."""

    positions: NDArray[np.int64]
    scores: Floats
    account: Account | None


class Retriever:
    """An index opened for searching; safe to use from many threads.

    It sees the index as it was when opened, or refreshed last, whatever a build or a writer does
    meanwhile. Encoders are loaded when a query first needs them: a query by item id or vector
    imports no model.
    """

    def __init__(
        self,
        store: Store,
        snapshot: Snapshot,
        generation: Generation,
        layout: IndexLayout,
        device: str,
    ):
        self._store = store
        self._layout = layout
        self._device = device
        self._encoder = QueryEncoder(generation.manifest.spaces, device, Limits())
        self._gate = Gate()
        self._refreshing = threading.Lock()
        self._lock = threading.Lock()
        self._closed = False
        self._show(snapshot, generation, Live(generation, snapshot))

    def _show(self, snapshot: Snapshot, generation: Generation, live: Live) -> None:
        """Search in this state of the index from now on."""
        manifest = generation.manifest
        self._snapshot = snapshot
        self._generation = generation
        self._live = live
        self._encoder = self._encoder.for_spaces(manifest.spaces)
        self._composer = Composer(live, snapshot, self._encoder)
        self._names = [space.spec.name for space in manifest.spaces]
        self._scorer = Scorer(live, snapshot)
        self._selections: OrderedDict[tuple[str | None, tuple[str, ...]], Chosen] = OrderedDict()

    @classmethod
    def open(cls, path: str | Path, *, device: str = "auto") -> Retriever:
        """Open an index.

        Args:
            path: the folder that `build_index` made.
            device: `auto`, `cpu`, `cuda` or `mps`: where queries are encoded and, with faiss-gpu,
                searched.

        Raises:
            NotAnIndexError: the folder is no index.
            CorruptIndexError: a file is missing, cut, or not what was written.
            UnsupportedFormatError: a newer format.
        """
        layout = IndexLayout(Path(path))
        gpu = wants_gpu(device)
        store, snapshot, generation = open_latest(
            layout, lambda snapshot: Generation.open(layout, snapshot.current, gpu=gpu)
        )
        try:
            return cls(store, snapshot, generation, layout, device)
        except BaseException:
            snapshot.close()
            store.close()
            raise

    def refresh(self) -> bool:
        """Move on to what the index holds now; return whether that is anything new.

        Searches in other threads end in the state that they began in. Where nothing was committed
        since, this takes a look at one value of the store.

        Raises:
            CorruptIndexError: a file is missing, cut, or not what was written; the retriever then
                stays where it was.
        """
        self._check_open()
        with self._refreshing:
            if self._store.current() == self._snapshot.current:
                return False
            snapshot, generation = take_latest(self._store, self._generation_of)
            try:
                live = Live(generation, snapshot)
            except BaseException:
                snapshot.close()
                raise
            snapshot_before, generation_before = self._snapshot, self._generation
            with self._gate.shut():
                self._show(snapshot, generation, live)
            snapshot_before.close()
            if generation is not generation_before:
                generation_before.close()
        return True

    def _generation_of(self, snapshot: Snapshot) -> Generation:
        """The generation that a snapshot names: the one that is open, where that is it."""
        if snapshot.current.generation_key == self._snapshot.current.generation_key:
            return self._generation
        return Generation.open(self._layout, snapshot.current, gpu=wants_gpu(self._device))

    def close(self) -> None:
        """Let go of the index, once the searches of other threads have ended; closing twice does
        nothing."""
        with self._refreshing, self._gate.shut():
            if not self._closed:
                self._closed = True
                self._generation.close()
                self._snapshot.close()
                self._store.close()

    def __enter__(self) -> Retriever:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        """Number of items."""
        return len(self._live)

    @property
    def manifest(self) -> Manifest:
        """What the index is made of."""
        return self._generation.manifest

    def search(
        self,
        query: Query,
        k: int | None = None,
        *,
        where: str | None = None,
        recall: float | None = None,
        explain: bool = True,
    ) -> list[Hit]:
        """The k best items for a query.

        Args:
            query: what to look for.
            k: hits wanted, from 1 to the number of items; None for 10, or for all items of a
                smaller index.
            where: a filter on metadata, such as `price < 100 and colour in ("red", "blue")`.
            recall: the part of the true 10 best that must be found, above 0 and at most 1, as
                measured under the worst conditions by the build or by `catalens tune`: takes the
                cheapest way to search that had it, and an exact scan where none had. None for the
                index's default.
            explain: whether hits tell their `spaces` and `metadata`; without, these are empty and
                a search takes about 0.6 of the time.

        Returns:
            at most k hits, best first; fewer when fewer items pass the filter.

        Raises:
            QueryError: the query cannot be answered by this index.
            FilterError: the filter does not read, or names an unknown field.
            MediaError: a picture or sound of the query is bad.
            FingerprintMismatchError: the encoder here is not the index's.
        """
        return self.search_many([query], k, where=where, recall=recall, explain=explain)[0]

    def search_many(
        self,
        queries: Sequence[Query],
        k: int | None = None,
        *,
        where: str | None = None,
        recall: float | None = None,
        explain: bool = True,
    ) -> list[list[Hit]]:
        """The k best items for each of many queries: encoded together, searched on all cores.

        Arguments and errors are those of `search`.
        """
        with self._gate:
            self._check_open()
            k = self._checked_k(k)
            if recall is not None:
                recall = _checked_recall(recall)
            return (
                self._answer(queries, k, where, recall, explain)
                if queries and k
                else [[] for _ in queries]
            )

    def _check_open(self) -> None:
        if self._closed:
            raise RetrieverClosedError(
                "retriever", expected="an open one", got="closed", remedy="Open the index again."
            )

    def _answer(
        self,
        queries: Sequence[Query],
        k: int,
        where: str | None,
        recall: float | None,
        explain: bool,
    ) -> list[list[Hit]]:
        if where is not None:
            self._allowed(
                where
            )  # a filter that does not read is refused before anything is encoded
        composed = self._composer.compose(queries)
        # Queries that are searched in one way are searched together.
        ways: dict[_Way, list[int]] = {}
        for number, one in enumerate(composed):
            ways.setdefault(self._way(one), []).append(number)
        hits: list[list[Hit]] = [[] for _ in composed]
        for way, numbers in ways.items():
            together = [composed[number] for number in numbers]
            ranked = self._search(together, k, way, where, recall)
            told = self._explained(together, ranked) if explain else self._bare(ranked)
            for number, found in zip(numbers, told, strict=True):
                hits[number] = found
        return hits

    def _way(self, query: Composed) -> _Way:
        return _Way(
            having=tuple(query.parts) if query.missing == "drop" else (),
            rescored=self._scorer.rescores(query),
            against=query.is_against,
        )

    def _search(
        self,
        composed: list[Composed],
        k: int,
        way: _Way,
        where: str | None,
        recall: float | None,
    ) -> list[_Ranked]:
        vectors = np.concatenate([one.vector for one in composed]).reshape(len(composed), -1)
        most = k + max(len(one.excluded) for one in composed)
        if way.rescored:
            most = max(_OVER_FETCHED * most, _LEAST_RESCORED)
        point = self._generation.point_for(recall, against=way.against)
        allowed = self._allowed(where, way.having) if where is not None or way.having else None
        found = self._live.search(vectors, min(most, len(self)), point, allowed)
        return [self._ranked(one, k, way, *hits) for one, hits in zip(composed, found, strict=True)]

    def fused(self, queries: Sequence[Query]) -> FusedQueries:
        """The vectors that queries are searched with: what an index is tuned with.

        Raises:
            QueryError, MediaError, FingerprintMismatchError: as `search`.
        """
        with self._gate:
            self._check_open()
            composed = self._composer.compose(queries)
        return FusedQueries(
            np.stack([one.vector for one in composed]),
            np.array([one.is_against for one in composed]),
        )

    def fields(self) -> list[str]:
        """Names of the metadata fields that `where` can filter on."""
        with self._gate:
            self._check_open()
            return self._snapshot.postings().fields()

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
        rows = self._live.rows(positions)
        return self._scorer.account(query, positions, rows)

    def _explained(self, queries: list[Composed], ranked: list[_Ranked]) -> Iterator[list[Hit]]:
        """Hits with all that is known of them; the records of all are read at once."""
        positions = np.concatenate([one.positions for one in ranked])
        numbers = self._live.row_numbers.take(positions)
        records = iter(self._snapshot.records(numbers.tolist()))
        for query, (found, scores, known) in zip(queries, ranked, strict=True):
            account = self._account(query, found) if known is None else known
            matches = zip(*self._scorer.matches(account, query), strict=True)
            # Hits first: where they end, no record must be taken.
            yield [
                Hit(record.id, score, dict(zip(self._names, spaces, strict=True)), record.metadata)
                for score, spaces, record in zip(scores.tolist(), matches, records, strict=False)
            ]

    def _bare(self, ranked: list[_Ranked]) -> Iterator[list[Hit]]:
        """Ids and scores alone: all ids are looked up at once, and no record is read."""
        ids = self._live.ids(np.concatenate([one.positions for one in ranked]))
        scores = np.concatenate([one.scores for one in ranked]).tolist()
        hits = list(map(Hit._make, zip(ids, scores, repeat(_NOTHING), repeat(_NOTHING))))
        end = 0
        for positions, _, _ in ranked:
            start, end = end, end + len(positions)
            yield hits[start:end]

    def _checked_k(self, k: int | None) -> int:
        if k is None:
            return min(_DEFAULT_K, len(self))
        try:
            wanted = 0 if isinstance(k, bool) else operator.index(k)
        except TypeError:
            wanted = 0
        if not 1 <= wanted <= len(self):
            raise InvalidKError(
                "k",
                expected=f"a whole number from 1 to {len(self)}, the number of items",
                got=repr(k),
                remedy="Ask for fewer hits." if wanted > 1 else "Ask for at least one hit.",
            )
        return wanted

    def _allowed(self, where: str | None, having: tuple[str, ...] = ()) -> Chosen:
        """Which positions pass a filter and have some spaces; the last few are remembered."""
        key = (where, having)
        with self._lock:
            if key in self._selections:
                self._selections.move_to_end(key)
                return self._selections[key]
        passing = self._scorer.having(having)
        if where is not None:
            passing &= self._passing(where)
        allowed = self._live.choose(passing)
        with self._lock:
            self._selections[key] = allowed
            while len(self._selections) > _SELECTIONS_KEPT:
                self._selections.popitem(last=False)
        return allowed

    def _passing(self, where: str) -> NDArray[np.bool_]:
        rows = np.asarray(evaluate(parse(where), self._snapshot.postings()).to_array())
        passing = np.zeros(self._snapshot.next_row, dtype=bool)
        passing[rows] = True
        return passing[self._live.row_numbers]


def _checked_recall(recall: Any) -> float:
    wanted = 0.0 if isinstance(recall, bool) or not isinstance(recall, Real) else float(recall)
    if not 0 < wanted <= 1:  # NaN compares false
        raise InvalidRecallError(
            "recall",
            expected="a number above 0, at most 1",
            got=repr(recall),
            remedy="Pass for example 0.95, or None for the index's default.",
        )
    return wanted
