"""The reading side of an index: queries in, explained hits out."""

from __future__ import annotations

import operator
import threading
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

from indexer import FusedQueries, IndexLayout, Manifest
from indexer.learning.preference import HALF_LIFE

from .errors import (
    HistoryError,
    InvalidKError,
    InvalidRecallError,
    QueryError,
    RetrieverClosedError,
)
from .hit import Hit
from .profile import Wish
from .query import Query
from .query_log import QueryLog
from .recommender import Recommender
from .view import View

_DEFAULT_K = 10


class Retriever:
    """An index opened for searching; safe to use from many threads, and refused
    (`ForkedStoreError`) in a process that is forked later.

    It sees the index as it was when opened, or refreshed last, whatever a build or a writer does
    meanwhile. Encoders are loaded when a query first needs them: a query by item id or vector
    imports no model.
    """

    def __init__(
        self, layout: IndexLayout, device: str, view: View, log: QueryLog | None = None
    ) -> None:
        self._layout = layout
        self._device = device
        self._view = view
        self._log = log
        self._refreshing = threading.Lock()
        self._lock = threading.Lock()
        self._closed = False

    @classmethod
    def open(
        cls, path: str | Path, *, device: str = "auto", log: str | Path | None = None
    ) -> Retriever:
        """Open an index.

        Args:
            path: the folder that `build_index` made.
            device: `auto`, `cpu`, `cuda` or `mps`: where queries are encoded and, with faiss-gpu,
                searched.
            log: a file to which every query and the ids shown for it are appended, so that clicks
                can be joined later (`join_clicks`); None keeps nothing.

        Raises:
            NotAnIndexError: the folder is no index.
            QueryLogError: the log cannot be written.
            CorruptIndexError: a file is missing, cut, or not what was written.
            UnsupportedFormatError: a newer format.
        """
        layout = IndexLayout(Path(path))
        view = View.open(layout, device)
        try:
            return cls(layout, device, view, None if log is None else QueryLog(log))
        except BaseException:
            view.let_go()
            raise

    def refresh(self) -> bool:
        """Move on to what the index holds now; return whether that is anything new.

        Searches in other threads end in the state that they began in, and none waits. Where nothing
        was committed since, this takes a look at one value of the store.

        Raises:
            CorruptIndexError: a file is missing, cut, or not what was written; the retriever then
                stays where it was.
        """
        self._view.store.check_process()
        with self._refreshing:
            before = self._held()
            try:
                if before.is_latest():
                    return False
                after = View.open(self._layout, self._device, before)
                with self._lock:
                    moves = not self._closed
                    if moves:
                        self._view = after
                (before if moves else after).let_go()
                return moves
            finally:
                before.let_go()

    def _held(self) -> View:
        """The view to search in; let go of it."""
        # In a forked child, a thread that is not there may hold the lock.
        self._view.store.check_process()
        with self._lock:
            if not self._closed:
                self._view.hold()
                return self._view
        raise RetrieverClosedError(
            "retriever", expected="an open one", got="closed", remedy="Open the index again."
        )

    def close(self) -> None:
        """Let go of the index; searches of other threads end first, and closing twice does
        nothing, as in a forked child."""
        if self._view.store.is_inherited:
            return
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._view.let_go()
        if self._log is not None:
            self._log.close()

    def __enter__(self) -> Retriever:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        """Number of items."""
        return len(self._view.live)

    def __contains__(self, item_id: str) -> bool:
        """Whether there is an item of that id."""
        view = self._held()
        try:
            return view.has(item_id)
        finally:
            view.let_go()

    @property
    def manifest(self) -> Manifest:
        """What the index is made of."""
        return self._view.generation.manifest

    def search(
        self,
        query: Query,
        k: int | None = None,
        *,
        where: str | None = None,
        recall: float | None = None,
        explain: bool = True,
        head: bool = True,
        name: str | None = None,
    ) -> list[Hit]:
        """The k best items for a query.

        Args:
            query: what to look for.
            k: hits wanted, from 1 to the number of items; None for 10, or for all items of a
                smaller index.
            where: a filter on metadata, such as `price < 100 and colour in ("red", "blue")`.
            recall: the part of the true 10 best that must be found, above 0 and at most 1, as
                measured under the worst conditions by the build or by `catalens tune`: takes the
                cheapest way to search that had it, and an exact scan where none had; that finds all
                but what rounding the rows to int8 has lost, if they are. None for the index's
                default.
            explain: whether hits tell their `spaces` and `metadata`; without, these are empty and
                a search takes about 0.6 of the time.
            head: whether the re-ranking head, where the index has learned one, orders the hits. It
                does so for queries of text that leave weights and policy to the index: such are
                those that it learned from. `Hit.head` says why.
            name: by which clicks are to name this search, where searches are logged; None for a
                random one.

        Returns:
            at most k hits, best first; fewer when fewer items pass the filter.

        Raises:
            QueryError: the query cannot be answered by this index.
            FilterError: the filter does not read, or names an unknown field.
            MediaError: a picture or sound of the query is bad.
            FingerprintMismatchError: the encoder here is not the index's.
            HeadMismatchError: the head was learned for another index, or from other features.
        """
        names = None if name is None else [name]
        return self._answered([query], k, where, recall, explain, head, names)[0]

    def search_many(
        self,
        queries: Sequence[Query],
        k: int | None = None,
        *,
        where: str | None = None,
        recall: float | None = None,
        explain: bool = True,
        head: bool = True,
        names: Sequence[str] | None = None,
    ) -> list[list[Hit]]:
        """The k best items for each of many queries: encoded together, searched on all cores.

        Arguments and errors are those of `search`; `names` has one for each query.
        """
        return self._answered(queries, k, where, recall, explain, head, names)

    def _answered(
        self,
        queries: Sequence[Query],
        k: int | None,
        where: str | None,
        recall: float | None,
        explain: bool,
        head: bool,
        names: Sequence[str] | None,
    ) -> list[list[Hit]]:
        if names is not None and len(names) != len(queries):
            raise QueryError(
                "names of searches",
                expected=f"{len(queries)}, one for each query",
                got=f"{len(names)}",
                remedy="Leave them out for random ones.",
            )
        view = self._held()
        try:
            k = _checked_k(k, len(view.live))
            recall = None if recall is None else _checked_recall(recall)
            if not queries or not k:
                return [[] for _ in queries]
            answers = view.answer(queries, k, where, recall, explain, head)
            if self._log is not None:
                self._log.append(queries, answers, where, names)
            return answers
        finally:
            view.let_go()

    def recommend(
        self,
        history: Sequence[Any] | None = None,
        k: int | None = None,
        *,
        user: str | None = None,
        where: str | None = None,
        exclude_seen: bool = True,
        weights: Mapping[str, float] | None = None,
        half_life: float = HALF_LIFE,
        interests: int = 1,
        diversity: float = 0.0,
        recall: float | None = None,
        explain: bool = True,
        head: bool = True,
    ) -> list[Hit]:
        """The k items that go best with what a user did.

        A history is a query of all its items at once, in every space that they have: liked ones
        count the more, the younger they are and the higher their value is, and disliked ones count
        against. Items that are in the index no more are passed over. Who has no history, or likes
        nothing in it, gets what is most popular; the scores are then how popular, and no space has
        a part in them.

        Args:
            history: items: an id, (id, value) or (id, value, time); without times the oldest first.
                What values mean was said when behaviour was learned; without that, 0 says nothing
                and 1 is liked. A value that is left out means liked.
            k: hits wanted, from 1 to the number of items; None for 10, or for all items of a
                smaller index.
            user: a user whose history the index keeps, in place of one that is given.
            where: a filter on metadata, as in `search`.
            exclude_seen: whether items of the history are left out.
            weights: weight per space or modality, as in `Query`.
            half_life: an interaction counts half as much as one that is so many interactions
                younger.
            interests: at most so many, from 1 to 20: liked items are clustered, each cluster asks
                for itself, and hits are dealt by what the clusters weigh. An interest has at least
                five liked items on average.
            diversity: from 0 to 1: how much a hit loses that is like one before it (maximal
                marginal relevance over the fused vectors).
            recall: as in `search`.
            explain: as in `search`.
            head: whether the re-ranking head, where the index has learned one from histories,
                orders the hits. It does so where weights, half-life, interests and diversity are
                left as they are: so it has learned.

        Returns:
            at most k hits, best first.

        Raises:
            HistoryError: a history that does not read, or both or none of `history` and `user`.
            HistoriesNotKeptError: a user is named, and the index keeps no histories.
            NoPopularityError: nothing is liked, and the index knows nothing of what is popular.
            RecommendOptionError: a half-life, number of interests or diversity that cannot be.
            QueryError, FilterError: as `search`.
        """
        if (history is None) == (user is None):
            raise HistoryError(
                "recommendation",
                expected="a history or a user",
                got="neither" if user is None else "both",
                remedy="Pass history=[...], or user='...'; an empty history is one.",
            )
        wish = Wish(
            where, exclude_seen, weights, half_life, interests, diversity, recall, explain, head
        ).check()
        view = self._held()
        try:
            recommender = Recommender(view)
            given = recommender.history(user) if user is not None else history
            assert given is not None
            return self._recommended(view, recommender, [given], k, wish)[0]
        finally:
            view.let_go()

    def recommend_many(
        self,
        histories: Sequence[Sequence[Any]],
        k: int | None = None,
        *,
        where: str | None = None,
        exclude_seen: bool = True,
        weights: Mapping[str, float] | None = None,
        half_life: float = HALF_LIFE,
        interests: int = 1,
        diversity: float = 0.0,
        recall: float | None = None,
        explain: bool = True,
        head: bool = True,
    ) -> list[list[Hit]]:
        """The k items that go best with each of many histories, searched together.

        Arguments and errors are those of `recommend`.
        """
        wish = Wish(
            where, exclude_seen, weights, half_life, interests, diversity, recall, explain, head
        ).check()
        view = self._held()
        try:
            return self._recommended(view, Recommender(view), histories, k, wish)
        finally:
            view.let_go()

    def _recommended(
        self,
        view: View,
        recommender: Recommender,
        histories: Sequence[Sequence[Any]],
        k: int | None,
        wish: Wish,
    ) -> list[list[Hit]]:
        k = _checked_k(k, len(view.live))
        if wish.recall is not None:
            _checked_recall(wish.recall)
        if not k:
            return [[] for _ in histories]
        return recommender.recommend(histories, k, wish)

    def fused(self, queries: Sequence[Query]) -> FusedQueries:
        """The vectors that queries are searched with: what an index is tuned with.

        Raises:
            QueryError, MediaError, FingerprintMismatchError: as `search`.
        """
        view = self._held()
        try:
            return view.fused(queries)
        finally:
            view.let_go()

    def fields(self) -> list[str]:
        """Names of the metadata fields that `where` can filter on."""
        view = self._held()
        try:
            return view.snapshot.postings().fields()
        finally:
            view.let_go()


def _checked_k(k: int | None, items: int) -> int:
    if k is None:
        return min(_DEFAULT_K, items)
    try:
        wanted = 0 if isinstance(k, bool) else operator.index(k)
    except TypeError:
        wanted = 0
    if not 1 <= wanted <= items:
        raise InvalidKError(
            "k",
            expected=f"a whole number from 1 to {items}, the number of items",
            got=repr(k),
            remedy="Ask for fewer hits." if wanted > 1 else "Ask for at least one hit.",
        )
    return wanted


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
