"""Any sequence of changes, compactions and reopenings agrees with a dict searched exactly."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from catalens import Hit, Query, Retriever, Writer, rebuild_index
from indexer import verify_index
from indexer.errors import EmptyIndexError, ExistingIdError, UnknownIdError
from retriever.errors import UnknownItemError
from tests.catalogs import build_vectors, clustered

D = 8
IDS = st.sampled_from([f"v{n}" for n in range(30)])
SEEDS = st.integers(0, 1 << 20)
State = dict[str, tuple[np.ndarray, dict[str, Any]]]


class Catalog(RuleBasedStateMachine):
    """`written` is what the writer was told, `held` what is committed, `seen` what the retriever
    opened: an item's unit vector and its metadata by id."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.index = self.folder / "index"
        self.writer: Writer | None = None

    @initialize(n=st.sampled_from([3, 12, 1100]))
    def build(self, n: int) -> None:
        """Some items with ids of their own, some whose ids the rules use; 1,100 get codes."""
        x = clustered(n, D, seed=n)
        build_vectors(self.index, x, number=range(n))
        self.held: State = {f"v{i}": (x[i], {"number": i}) for i in range(n)}
        self.written = dict(self.held)
        self.seen = dict(self.held)
        self.shop = Retriever.open(self.index)
        self.writer = Writer.open(self.index)

    def row(self, item: str, seed: int) -> dict[str, Any]:
        rng = np.random.default_rng(seed)
        vector = rng.standard_normal(D).astype(np.float32)
        self.told = (vector / np.linalg.norm(vector), {"number": int(rng.integers(40))})
        return {"id": item, "v": self.told[0], **self.told[1]}

    @rule(item=IDS, seed=SEEDS)
    def add(self, item: str, seed: int) -> None:
        row = self.row(item, seed)
        if item in self.written:
            with pytest.raises(ExistingIdError):
                self.writer.add([row])
        else:
            self.writer.add([row])
            self.written[item] = self.told

    @rule(item=IDS, seed=SEEDS, upsert=st.booleans())
    def update(self, item: str, seed: int, upsert: bool) -> None:
        row = self.row(item, seed)
        if item in self.written or upsert:
            self.writer.update([row], upsert=upsert)
            self.written[item] = self.told
        else:
            with pytest.raises(UnknownIdError):
                self.writer.update([row])

    @rule(item=IDS, number=st.integers(0, 40))
    def relabel(self, item: str, number: int) -> None:
        """Metadata alone."""
        if item in self.written:
            vector = self.written[item][0]
            self.writer.update([{"id": item, "v": vector, "number": number}])
            self.written[item] = (vector, {"number": number})

    @rule(items=st.sets(IDS, min_size=1, max_size=8))
    def delete(self, items: set[str]) -> None:
        if items <= self.written.keys():
            self.writer.delete(sorted(items))
            for item in items:
                del self.written[item]
        else:
            with pytest.raises(UnknownIdError):
                self.writer.delete(sorted(items))

    @rule()
    def commit(self) -> None:
        assert self.writer.commit().items == len(self.written)
        self.held = dict(self.written)

    @rule()
    def compact(self) -> None:
        if self.held:
            assert self.writer.compact().items == len(self.held)
        else:
            with pytest.raises(EmptyIndexError):
                self.writer.compact()

    @rule(discard=st.booleans())
    def reopen_writer(self, discard: bool) -> None:
        if discard:
            self.writer.close()
            self.written = dict(self.held)
        else:
            self.writer.__exit__(None, None, None)
            self.held = dict(self.written)
        self.writer = Writer.open(self.index)

    @precondition(lambda self: self.held)
    @rule()
    def rebuild(self) -> None:
        self.writer.close()
        self.written = dict(self.held)
        rebuild_index(self.index)
        self.writer = Writer.open(self.index)

    @rule()
    def refresh(self) -> None:
        before = self.seen
        self.seen = dict(self.held)
        moved = self.shop.refresh()
        assert moved or not _differ(before, self.seen)
        assert not self.shop.refresh()

    @rule()
    def reopen(self) -> None:
        self.shop.close()
        self.shop = Retriever.open(self.index)
        self.seen = dict(self.held)

    @rule()
    def verify(self) -> None:
        assert verify_index(self.index).problems == []

    @rule(seed=SEEDS, below=st.integers(0, 40), k=st.integers(1, 12))
    def search(self, seed: int, below: int, k: int) -> None:
        query = np.random.default_rng(seed).standard_normal(D)
        query /= np.linalg.norm(query)
        if self.seen:
            k = min(k, len(self.seen))
            self.compare(self.shop.search(Query(vector=query), k, recall=1.0), query, self.seen, k)
            passing = {i: one for i, one in self.seen.items() if one[1]["number"] < below}
            where = f"number < {below}"
            self.compare(self.shop.search(Query(vector=query), k, where=where), query, passing, k)
            rest = {i: one for i, one in self.seen.items() if i not in passing}
            hits = self.shop.search(Query(vector=query), k, where=f"not {where}", explain=False)
            assert len(hits) == min(k, len(rest)) and {hit.id for hit in hits} <= rest.keys()

    @rule(item=IDS, k=st.integers(1, 12))
    def like(self, item: str, k: int) -> None:
        if item not in self.seen:
            if self.seen:
                with pytest.raises(UnknownItemError):
                    self.shop.search(Query(like=item), 1)
            return
        others = {i: one for i, one in self.seen.items() if i != item}
        hits = self.shop.search(Query(like=item), min(k, len(self.seen)), recall=1.0)
        self.compare(hits, self.seen[item][0], others, min(k, len(self.seen)))

    def compare(self, hits: list[Hit], query: np.ndarray, state: State, k: int) -> None:
        known = {item: float(vector @ query) for item, (vector, _) in state.items()}
        best = sorted(known.values(), reverse=True)[:k]
        # Rows are rounded to half precision: near ties may change places.
        assert [known[hit.id] for hit in hits] == pytest.approx(best, abs=3e-3)
        assert len({hit.id for hit in hits}) == len(hits)
        for hit in hits:
            assert hit.metadata == state[hit.id][1]
            assert hit.spaces["vector"].similarity == pytest.approx(known[hit.id], abs=3e-3)

    @invariant()
    def lengths_agree(self) -> None:
        if self.writer is not None:
            assert len(self.shop) == len(self.seen)

    def teardown(self) -> None:
        if self.writer is not None:
            self.shop.close()
            self.writer.close()
            assert verify_index(self.index).problems == []
        shutil.rmtree(self.folder)


def _differ(one: State, other: State) -> bool:
    return one.keys() != other.keys() or any(
        one[i][1] != other[i][1] or (one[i][0] != other[i][0]).any() for i in one
    )


TestCatalog = Catalog.TestCase
TestCatalog.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
