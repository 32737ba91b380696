"""The reading side of an index: queries in, explained hits out."""

from __future__ import annotations

import operator
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from encoders import Limits
from indexer import (
    Generation,
    IndexLayout,
    Manifest,
    Selection,
    Snapshot,
    Store,
    open_latest,
    wants_gpu,
)

from .compose import Composed, Composer
from .errors import InvalidKError, RetrieverClosedError
from .filters import parse
from .hit import Hit, SpaceMatch
from .predicates import evaluate
from .query import Query
from .query_encoder import QueryEncoder

Floats = NDArray[np.float32]

_FILTERS_KEPT = 32
_DEFAULT_K = 10
_NOT_ASKED = (SpaceMatch(None, False), SpaceMatch(None, True))


class Retriever:
    """An index opened for searching; safe to use from many threads.

    It sees the index as it was when opened, whatever a build does meanwhile. Encoders are loaded
    when a query first needs them: a query by item id or vector imports no model.
    """

    def __init__(self, store: Store, snapshot: Snapshot, generation: Generation, device: str):
        self._store = store
        self._snapshot = snapshot
        self._generation = generation
        self._encoder = QueryEncoder(generation.manifest.spaces, device, Limits())
        self._composer = Composer(generation, snapshot, self._encoder)
        self._names = [space.spec.name for space in generation.manifest.spaces]
        self._filters: OrderedDict[str, Selection] = OrderedDict()
        self._lock = threading.Lock()
        self._closed = False

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
            return cls(store, snapshot, generation, device)
        except BaseException:
            snapshot.close()
            store.close()
            raise

    def close(self) -> None:
        """Let go of the index; closing twice does nothing."""
        if not self._closed:
            self._closed = True
            self._snapshot.close()
            self._store.close()

    def __enter__(self) -> Retriever:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        """Number of items."""
        return len(self._generation)

    @property
    def manifest(self) -> Manifest:
        """What the index is made of."""
        return self._generation.manifest

    def search(self, query: Query, k: int | None = None, *, where: str | None = None) -> list[Hit]:
        """The k best items for a query.

        Args:
            query: what to look for.
            k: hits wanted, from 1 to the number of items; None for 10, or for all items of a
                smaller index.
            where: a filter on metadata, such as `price < 100 and colour in ("red", "blue")`.

        Returns:
            at most k hits, best first; fewer when fewer items pass the filter.

        Raises:
            QueryError: the query cannot be answered by this index.
            FilterError: the filter does not read, or names an unknown field.
            MediaError: a picture or sound of the query is bad.
            FingerprintMismatchError: the encoder here is not the index's.
        """
        return self.search_many([query], k, where=where)[0]

    def search_many(
        self, queries: Sequence[Query], k: int | None = None, *, where: str | None = None
    ) -> list[list[Hit]]:
        """The k best items for each of many queries: encoded together, searched on all cores.

        Arguments and errors are those of `search`.
        """
        if self._closed:
            raise RetrieverClosedError(
                "retriever", expected="an open one", got="closed", remedy="Open the index again."
            )
        k = self._checked_k(k)
        if not queries:
            return []
        allowed = self._allowed(where) if where is not None else None
        composed = self._composer.compose(queries)
        vectors = np.concatenate([one.vector for one in composed]).reshape(len(composed), -1)
        most = max(len(one.excluded) for one in composed)
        found = self._generation.searcher.search(vectors, k + most, self._generation.point, allowed)
        return [self._hits(one, k, *hits) for one, hits in zip(composed, found, strict=True)]

    def fields(self) -> list[str]:
        """Names of the metadata fields that `where` can filter on."""
        return self._snapshot.postings().fields()

    def _hits(
        self,
        query: Composed,
        k: int,
        positions: NDArray[np.int64],
        scores: Floats,
        rows: Floats,
    ) -> list[Hit]:
        if query.excluded:
            keep = [n for n, p in enumerate(positions.tolist()) if p not in query.excluded]
            positions, scores, rows = positions[keep], scores[keep], rows[keep]
        positions, scores, rows = positions[:k], scores[:k], rows[:k]
        matches = zip(*self._matches(query, positions, scores, rows), strict=True)
        numbers = self._generation.row_numbers.take(positions)
        records = self._snapshot.records(numbers.tolist())
        names = self._names
        return [
            Hit(record.id, score, dict(zip(names, spaces, strict=True)), record.metadata)
            for record, score, spaces in zip(records, scores.tolist(), matches, strict=True)
        ]

    def _matches(
        self, query: Composed, positions: NDArray[np.int64], scores: Floats, rows: Floats
    ) -> list[list[SpaceMatch]]:
        """For each space, how each hit matches the query there."""
        fusion = self._generation.fusion
        present = self._generation.mask.take(positions, axis=0).T.tolist()
        columns = []
        for (name, where), here in zip(fusion.blocks.items(), present, strict=True):
            length = query.lengths.get(name)
            if length is None:
                columns.append([_NOT_ASKED[has] for has in here])
                continue
            block = query.vector[where]
            # What this space adds to the score: all of it, where no other is asked.
            added = scores if len(query.lengths) == 1 else rows[:, where] @ block
            # The query's block as it is fused is this much longer than the unit block.
            fused = length * fusion.weights[name] ** -0.5
            average = fusion.transforms[name].average_similarity(block) / fused
            # Rows are half precision, so their blocks are unit length to about 0.0005.
            columns.append(
                [
                    SpaceMatch(max(-1.0, min(1.0, a / length + average)), True)
                    if has
                    else _NOT_ASKED[False]
                    for a, has in zip(added.tolist(), here, strict=True)
                ]
            )
        return columns

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

    def _allowed(self, where: str) -> Selection:
        """Which positions pass a filter; the last few filters are remembered."""
        with self._lock:
            if where in self._filters:
                self._filters.move_to_end(where)
                return self._filters[where]
        rows = np.asarray(evaluate(parse(where), self._snapshot.postings()).to_array())
        numbers = self._generation.row_numbers
        passing = np.zeros(int(numbers.max()) + 1, dtype=bool)
        passing[rows] = True
        allowed = Selection(passing[numbers])
        with self._lock:
            self._filters[where] = allowed
            while len(self._filters) > _FILTERS_KEPT:
                self._filters.popitem(last=False)
        return allowed
