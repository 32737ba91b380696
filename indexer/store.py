"""The database of an index: what is true, by name. Generations are derived from it.

One *edition* is one full reading of a catalog: its databases carry its number, so that a
build in progress is invisible until one commit names it current, and one that was killed
leaves nothing but databases to drop. Embeddings are shared by all editions: they are the cache
that lets an interrupted build go on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import orjson
from numpy.typing import NDArray

from .environment import Environment, ReadTransaction, WriteTransaction
from .errors import NotAnIndexError
from .layout import FORMAT, IndexLayout
from .postings import Posted, merge
from .sealing import decoding
from .snapshot import (
    CURRENT,
    DERIVATION,
    EMBEDDINGS,
    FITS,
    META,
    ROW_KEY_BYTES,
    STATES,
    Current,
    Inputs,
    Record,
    Snapshot,
    check_names,
    read_current,
    row_key,
    row_of_key,
)

T = TypeVar("T")


@dataclass
class Batch:
    """What one commit adds to an edition."""

    items: list[tuple[int, Record, Inputs]] = field(default_factory=list)
    embeddings: dict[bytes, NDArray[np.float32]] = field(default_factory=dict)
    rejects: list[dict[str, Any]] = field(default_factory=list)


class Store:
    """An open store. Readers take a `Snapshot`; one writer commits `Batch`es."""

    def __init__(self, root: Path, environment: Environment) -> None:
        self._root = root
        self._environment = environment

    @classmethod
    def open(cls, layout: IndexLayout) -> Store:
        """Open the store of an existing index.

        Raises:
            NotAnIndexError: there is none.
            CorruptIndexError: the file is cut or mangled.
        """
        if not layout.has_store:
            raise _not_an_index(layout.root)
        return cls(layout.root, Environment.acquire(layout.store))

    @classmethod
    def create(cls, layout: IndexLayout) -> Store:
        """Open the store, made if it is not there."""
        return cls(layout.root, Environment.acquire(layout.store, create=True))

    def close(self) -> None:
        self._environment.release()

    @property
    def is_inherited(self) -> bool:
        """Whether this process was forked from the one that opened it."""
        return self._environment.is_inherited

    def check_process(self) -> None:
        """Refuse a forked child.

        Raises:
            ForkedStoreError: the parent of this process has it open.
        """
        with self._environment.guarded():
            pass

    def snapshot(self) -> Snapshot:
        """The current state, consistent until closed.

        Raises:
            NotAnIndexError: no build has finished here yet.
            UnsupportedFormatError: a newer format.
        """
        view = self._environment.view()
        try:
            current = read_current(view)
            check_names(view)
            if current is None:
                raise _not_an_index(self._root)
            return Snapshot(view, current)
        except BaseException:
            view.close()
            raise

    def has_moved_on(self, since: Current) -> bool:
        """Whether another generation has been published since."""
        now = self.current()
        return now is None or now.generation_key != since.generation_key

    def current(self) -> Current | None:
        """What readers would open now; None before the first build has finished."""
        with self._environment.view() as view:
            return read_current(view)

    def write(self, work: Callable[[WriteTransaction], T]) -> T:
        """Run `work` in one transaction, durable on return; it may be run again, and must change
        nothing outside of the transaction."""
        return self._environment.write(work)

    def clear_dead_readers(self) -> None:
        """Let go of the snapshots of processes that have died."""
        self._environment.clear_dead_readers()

    def view(self) -> ReadTransaction:
        """A bare consistent view, for the writer's own look-ups."""
        return self._environment.view()

    def missing_embeddings(self, keys: Iterable[bytes]) -> list[bytes]:
        """Which of these embeddings are not cached, or damaged: both are encoded. Holds its view
        for the look-up only: pages that a view may see cannot be used again by the commits of a
        build."""
        keys = list(keys)
        with self.view() as view:
            found = view.sound(EMBEDDINGS, keys)
        return [key for key in keys if key not in found]

    def begin_edition(self) -> int:
        """Sweep what unfinished builds left and return the number for a new edition.

        Numbers are used again, so that names, and the handles of long-lived readers, stay few.
        """

        def begin(transaction: WriteTransaction) -> int:
            keep = self._sweep(transaction)
            return next(number for number in count(1) if number != keep)

        self.clear_dead_readers()
        return self._environment.write(begin)

    def _sweep(self, transaction: WriteTransaction) -> int:
        """Drop the databases of all editions but the current one, whose number is returned."""
        current = read_current(transaction)
        keep = current.edition if current else 0
        for name in transaction.databases():
            _, dot, number = name.rpartition(".")
            if dot and int(number) != keep:
                transaction.drop(name)
        return keep

    def commit(self, edition: int, batch: Batch) -> None:
        """Write a batch of a new edition, durably, all or nothing."""
        posted = Posted()
        for row, record, _ in batch.items:
            posted.add(row, record.metadata)

        def work(transaction: WriteTransaction) -> None:
            put_embeddings(transaction, batch.embeddings)
            for row, record, inputs in batch.items:
                put_item(transaction, edition, row, record, inputs)
            merge(transaction, edition, posted)
            put_rejects(transaction, edition, batch.rejects)

        self._environment.write(work)

    def save_embeddings(self, embeddings: Mapping[bytes, NDArray[np.float32]]) -> None:
        """Keep embeddings that nothing names yet, so that they need not be encoded again."""
        self._environment.write(lambda transaction: put_embeddings(transaction, embeddings))

    def save_fit(self, key: bytes, fingerprint: str, state: bytes) -> None:
        """Keep what an encoder learned, by its fingerprint, and the fingerprint by what was
        fitted."""

        def work(transaction: WriteTransaction) -> None:
            put_fit(transaction, key, fingerprint, state)

        self._environment.write(work)

    def sweep_states(self, named: Collection[str]) -> None:
        """Drop the states of all encoders but these, given by fingerprint, and those last fitted
        for anything."""

        def work(transaction: WriteTransaction) -> None:
            keep = {fingerprint for _, fingerprint in transaction.scan(FITS)}
            keep |= {bytes.fromhex(fingerprint) for fingerprint in named}
            for key, _ in list(transaction.scan(STATES)):
                if key not in keep:
                    transaction.delete(STATES, key)

        self._environment.write(work)

    def publish(self, current: Current, kept: Iterable[bytes], *, folds: bool) -> None:
        """Name the edition and generation that readers open from now on.

        Args:
            current: edition, generation and manifest; what writers committed to the same edition
                is counted on.
            kept: files of the generation that embeddings do not give (see `derivation.py`).
            folds: whether the generation has all rows of its edition, so that those that were
                searched beside the one before, and its dead ones, are done with.
        """

        def work(transaction: WriteTransaction) -> None:
            before, named = read_current(transaction), current
            if before is not None and before.edition == current.edition:
                named = replace(current, commits=before.commits, next_row=before.next_row)
            put_current(transaction, named)
            put_kept(transaction, kept)
            if folds:
                transaction.drop(f"fresh.{current.edition}")
                transaction.drop(f"tombstones.{current.edition}")

        self._environment.write(work)

    def sweep_editions(self) -> None:
        """Drop the editions that are no longer current."""
        self._environment.write(self._sweep)


def put_item(
    transaction: WriteTransaction, edition: int, row: int, record: Record, inputs: Inputs
) -> None:
    """Write an item under its row; its postings are merged apart."""
    key = row_key(row)
    transaction.put(f"ids.{edition}", record.id.encode(), key)
    transaction.put(f"records.{edition}", key, orjson.dumps([*record]))
    transaction.put(f"inputs.{edition}", key, orjson.dumps([*inputs]))


def put_embeddings(
    transaction: WriteTransaction, embeddings: Mapping[bytes, NDArray[np.float32]]
) -> None:
    """Write embeddings under their keys."""
    for key, vector in embeddings.items():
        transaction.put(EMBEDDINGS, key, vector.astype("<f4").tobytes())


def put_fit(transaction: WriteTransaction, key: bytes, fingerprint: str, state: bytes) -> None:
    """Write what an encoder learned, and what it was fitted for."""
    transaction.put(STATES, bytes.fromhex(fingerprint), state)
    transaction.put(FITS, key, bytes.fromhex(fingerprint))


def put_rejects(
    transaction: WriteTransaction, edition: int, rejects: Iterable[Mapping[str, Any]]
) -> None:
    """Add to what could not be used."""
    last = transaction.last(f"rejects.{edition}")
    first = 0 if last is None else row_of_key(last) + 1
    numbered = [(row_key(number), one) for number, one in enumerate(rejects, start=first)]
    for key, reject in numbered:
        transaction.put(f"rejects.{edition}", key, orjson.dumps(reject))
    lost = lost_by_item(numbered)
    known = transaction.get_many(f"lost.{edition}", list(lost))
    for (item, keys), before in zip(lost.items(), known, strict=True):
        transaction.put(f"lost.{edition}", item, (before or b"") + keys)


def lost_by_item(rejects: Iterable[tuple[bytes, Mapping[str, Any]]]) -> dict[bytes, bytes]:
    """The keys of the rejects of inputs, one after the other, by the id of their item."""
    lost: dict[bytes, bytes] = {}
    for key, reject in rejects:
        if reject["modality"] is not None and reject["id"] is not None:
            item = reject["id"].encode()
            lost[item] = lost.get(item, b"") + key
    return lost


def strayed_rejects(view: ReadTransaction, edition: int) -> list[str]:
    """Ids of items that do not lead to their rejects, all of them and no others.

    Raises:
        CorruptIndexError: one of either is damaged.
    """
    with decoding("rejects"):
        rejects = ((key, orjson.loads(data)) for key, data in view.scan(f"rejects.{edition}"))
        wanted, there = lost_by_item(rejects), dict(view.scan(f"lost.{edition}"))
    items = sorted(wanted.keys() | there.keys())
    return [item.decode(errors="replace") for item in items if wanted.get(item) != there.get(item)]


def drop_lost_inputs(transaction: WriteTransaction, edition: int, ids: Iterable[str]) -> None:
    """Forget which inputs these items lost: they are given anew, or gone."""
    items = [one.encode() for one in ids]
    found = transaction.get_many(f"lost.{edition}", items)
    for item, keys in zip(items, found, strict=True):
        if keys is not None:
            transaction.delete(f"lost.{edition}", item)
            for start in range(0, len(keys), ROW_KEY_BYTES):
                transaction.delete(f"rejects.{edition}", keys[start : start + ROW_KEY_BYTES])


def put_kept(transaction: WriteTransaction, files: Iterable[bytes]) -> None:
    """Keep these files, and no others."""
    for key in list(transaction.keys(DERIVATION)):
        transaction.delete(DERIVATION, key)
    for data in files:
        transaction.put(DERIVATION, hashlib.sha256(data).digest(), data)


def put_current(transaction: WriteTransaction, current: Current) -> None:
    """Name what readers open from now on."""
    value = {
        "format": FORMAT,
        "edition": current.edition,
        "generation": current.generation,
        "manifest_sha256": current.manifest_sha256,
    }
    if current.commits:
        value |= {"commits": current.commits, "next_row": current.next_row}
    transaction.put(META, CURRENT, orjson.dumps(value))


def _not_an_index(root: Path) -> NotAnIndexError:
    return NotAnIndexError(
        f"index {root}",
        expected="a folder made by `catalens build`",
        got="a folder without a finished index" if root.is_dir() else "no such folder",
        remedy="Check the path, or run `catalens build CATALOG --out INDEX` to its end.",
    )
