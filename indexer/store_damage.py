"""Damage inside a store whose pages are sound: what is found, what is derived again, what is lost.

Records, inputs and embeddings are what everything else is derived from; they are derived from
nothing but the catalog.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import orjson
from pyroaring import BitMap

from .derivation import kept_file
from .encode import chunks
from .environment import ReadTransaction, WriteTransaction
from .errors import CorruptIndexError
from .manifest import Manifest
from .postings import Posted, merge
from .postings_check import PostingsCheck
from .sealing import decoding
from .snapshot import (
    DERIVATION,
    EMBEDDINGS,
    Current,
    Inputs,
    Snapshot,
    embedding_key,
    row_key,
    row_of_key,
)
from .store import lost_by_item, strayed_rejects
from .unnamed import NamedInputs

_SHOWN = 10
_TOGETHER = 16_384
_INDEXES = ("ids", "postings", "fields")
_BESIDE = ("fresh", "tombstones")
_OF_REJECTS = ("rejects", "lost")


@dataclass
class StoreDamage:
    """What is wrong in the edition that is current, and with the embeddings.

    `keys` has the damaged keys of each database, without the edition's number; `indexes` tells
    whether the secondary indexes are not those of the records, `beside` whether what is searched
    beside the generation is not what lives, and `rejects` whether items do not lead to theirs.
    `rows` are those whose record is damaged or gone,
    `lacking` the ids of items that lack an embedding, or have a damaged one.
    """

    keys: dict[str, list[bytes]] = field(default_factory=dict)
    indexes: bool = False
    beside: bool = False
    rejects: bool = False
    rows: dict[int, str | None] = field(default_factory=dict)
    lacking: list[str] = field(default_factory=list)

    @classmethod
    def find(cls, snapshot: Snapshot, manifest: Manifest | None) -> StoreDamage:
        """Look at every value, and compare those that follow from others."""
        found = cls()
        for database in snapshot.view.databases():
            name, _, edition = database.partition(".")
            if edition in ("", str(snapshot.edition)):
                damaged = list(snapshot.view.damaged(database))
                if damaged:
                    found.keys[name] = damaged
        found.rejects = any(name in found.keys for name in _OF_REJECTS) or bool(
            strayed_rejects(snapshot.view, snapshot.edition)
        )
        found._find_lost_records(snapshot)
        if not found.rows:
            found._compare(snapshot, manifest)
        return found

    def _find_lost_records(self, snapshot: Snapshot) -> None:
        view, edition = snapshot.view, snapshot.edition
        records, inputs = (
            BitMap(map(row_of_key, view.keys(f"{name}.{edition}")))
            for name in ("records", "inputs")
        )
        of_ids = BitMap(row for _, row in _ids(snapshot))
        broken = (records ^ inputs) | (of_ids - records)
        for name in ("records", "inputs"):
            broken.update(map(row_of_key, self.keys.get(name, ())))
        if broken:
            self.rows = dict.fromkeys(broken)
            self.rows.update((row, one) for one, row in _ids(snapshot) if row in broken)

    def _compare(self, snapshot: Snapshot, manifest: Manifest | None) -> None:
        self.indexes = any(name in self.keys for name in _INDEXES) or _indexes_differ(snapshot)
        self.beside = any(name in self.keys for name in _BESIDE)
        if manifest is None:
            return
        fresh, dead = snapshot.uncompacted()
        self.beside |= manifest.items - dead + fresh != snapshot.count()
        damaged = set(self.keys.get(EMBEDDINGS, ()))
        for some in chunks(snapshot.scan_inputs(), _TOGETHER):
            rows = [row for row, inputs in some if _lacks(snapshot, manifest, inputs, damaged)]
            self.lacking += [record.id for record in snapshot.records(rows)]

    @property
    def is_mendable(self) -> bool:
        """Whether anything is derived again by `mend`."""
        return not self.rows and (self.indexes or self.rejects or EMBEDDINGS in self.keys)

    def found(self) -> Iterator[str]:
        """What was found, for people to read."""
        for name, keys in self.keys.items():
            yield f"store: {len(keys):,} damaged in {name}"
        if self.indexes and not any(name in self.keys for name in _INDEXES):
            yield "store: ids or postings are not those of its records"
        if self.rejects and not any(name in self.keys for name in _OF_REJECTS):
            yield "store: items do not lead to their rejects"
        if self.beside and not any(name in self.keys for name in _BESIDE):
            yield "store: what is searched beside the generation is not what lives"

    def lost(self) -> Iterator[str]:
        """What cannot be derived again, with what to do."""
        if self.rows:
            ids = [one or f"in row {row}" for row, one in self.rows.items()]
            yield (
                f"the records of {_listed(ids)} are damaged or gone; build the index again from "
                "the catalog: what it has embeddings of is not encoded again"
            )
        if self.lacking:
            yield (
                f"embeddings of {_listed(self.lacking)} are damaged or missing; give the rows of "
                "these items to `catalens update`, or build again: no more than these is encoded"
            )
        if self.keys.get("rejects"):
            yield (
                f"{len(self.keys['rejects']):,} rejects are damaged: what could not be used is "
                "known again after the next build"
            )


def mend(transaction: WriteTransaction, snapshot: Snapshot, damage: StoreDamage) -> None:
    """Derive again in one transaction what other values of the store give, and forget what is
    unreadable and named by nothing."""
    edition = snapshot.edition
    if damage.indexes:
        for name in _INDEXES:
            _empty(transaction, f"{name}.{edition}")
        for some in chunks(snapshot.scan_records(), _TOGETHER):
            posted = Posted()
            for row, record in some:
                transaction.put(f"ids.{edition}", record.id.encode(), row_key(row))
                posted.add(row, record.metadata)
            merge(transaction, edition, posted)
    for key in damage.keys.get("rejects", ()):
        transaction.delete(f"rejects.{edition}", key)
    if damage.rejects:
        _empty(transaction, f"lost.{edition}")
        rejects = (
            (key, orjson.loads(data)) for key, data in transaction.scan(f"rejects.{edition}")
        )
        for item, keys in lost_by_item(rejects).items():
            transaction.put(f"lost.{edition}", item, keys)
    # Those that an item names stay until they are encoded again: another mean of fewer pictures
    # would be another vector.
    broken = damage.keys.get(EMBEDDINGS, [])
    for key, is_named in zip(broken, NamedInputs(snapshot).of(broken), strict=True):
        if not is_named:
            transaction.delete(EMBEDDINGS, key)


def current_of(view: ReadTransaction) -> Current | None:
    """What a store must have named current, by the manifest that it keeps; None where it keeps
    none. Rows that live, and dead ones of the generation, tell which numbers are used."""
    for key in view.keys(DERIVATION):
        with suppress(CorruptIndexError):
            sha256 = key.hex()
            manifest = Manifest.load(kept_file(view, sha256) or b"", sha256)
            edition = manifest.edition
            last = [view.last(f"{name}.{edition}") for name in ("records", "tombstones")]
            next_row = max((row_of_key(one) + 1 for one in last if one is not None), default=0)
            return Current(edition, manifest.generation, sha256, 1, next_row)
    return None


def _empty(transaction: WriteTransaction, database: str) -> None:
    for key in list(transaction.keys(database)):
        transaction.delete(database, key)


def _ids(snapshot: Snapshot) -> Iterator[tuple[str, int]]:
    """Ids and the rows that they lead to, but for damaged ones."""
    database = f"ids.{snapshot.edition}"
    for some in chunks(snapshot.view.keys(database), _TOGETHER):
        sound = sorted(snapshot.view.sound(database, some))
        with decoding("ids"):
            for key, value in zip(sound, snapshot.view.get_many(database, sound), strict=True):
                yield key.decode(), row_of_key(value or b"")


def _indexes_differ(snapshot: Snapshot) -> bool:
    try:
        with decoding("postings"):
            postings = PostingsCheck(snapshot)
            count = 0
            for row, record in snapshot.scan_records():
                count += 1
                if snapshot.row_of(record.id) != row or postings.add(row, record.metadata):
                    return True
            return bool(postings.finish()) or count != snapshot.view.count(
                f"ids.{snapshot.edition}"
            )
    except CorruptIndexError:
        return True


def _lacks(snapshot: Snapshot, manifest: Manifest, inputs: Inputs, damaged: set[bytes]) -> bool:
    for space in manifest.spaces:
        for modality, fingerprint in space.fingerprints.items():
            keys = [embedding_key(fingerprint, h) for h in inputs.hashes.get(modality, ())]
            if any(key in damaged for key in keys):
                return True
            own = modality == space.spec.item and inputs.mask >> space.bit & 1
            if own and not snapshot.view.sound(EMBEDDINGS, keys):
                return True
    return False


def _listed(ids: Iterable[str]) -> str:
    ids = list(ids)
    shown = ", ".join(repr(one) for one in ids[:_SHOWN])
    more = f" and {len(ids) - _SHOWN:,} more" if len(ids) > _SHOWN else ""
    return f"{len(ids):,} items ({shown}{more})"
