"""The database of an index: what is true, by name. Generations are derived from it.

One *edition* is one full reading of a catalog: its databases carry its number, so that a
build in progress is invisible until one commit names it current, and one that was killed
leaves nothing but databases to drop. Embeddings are shared by all editions: they are the cache
that lets an interrupted build go on.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from .environment import Environment, ReadTransaction, WriteTransaction
from .errors import CorruptIndexError, NotAnIndexError, UnsupportedFormatError
from .layout import FORMAT, IndexLayout
from .postings import Posted, StoredPostings, merge
from .sealing import decoding

_ROW = struct.Struct(">I")
_CURRENT = b"current"
_META = "meta"
_EMBEDDINGS = "embeddings"
FINGERPRINT_BYTES = 16
"""Length of the part of an embedding's key that names its encoder."""


@dataclass(frozen=True)
class Current:
    """What a reader opens: an edition of the catalog and the generation derived from it."""

    edition: int
    generation: int
    manifest_sha256: str


class Record(NamedTuple):
    """What a hit shows of an item."""

    id: str
    metadata: dict[str, Any]


class Inputs(NamedTuple):
    """What an item is made of.

    `hashes` maps a modality to the SHA-256 (hex) of each of its inputs, `sources` to where each
    came from (a path relative to the media root, or None); `mask` has bit s set when the item has
    a block in space s.
    """

    hashes: dict[str, list[str]]
    sources: dict[str, list[str | None]]
    mask: int


@dataclass
class Batch:
    """What one commit adds to an edition."""

    items: list[tuple[int, Record, Inputs]] = field(default_factory=list)
    embeddings: dict[bytes, NDArray[np.float32]] = field(default_factory=dict)
    rejects: list[dict[str, Any]] = field(default_factory=list)


def embedding_key(fingerprint: str, content_sha256: str) -> bytes:
    """Key of an embedding: 16 bytes of encoder fingerprint, 32 of content hash, both from hex."""
    return bytes.fromhex(fingerprint + content_sha256)


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
        if not layout.store_data.is_file():
            raise _not_an_index(layout.root)
        return cls(layout.root, Environment.acquire(layout.store))

    @classmethod
    def create(cls, layout: IndexLayout) -> Store:
        """Open the store, made if it is not there."""
        return cls(layout.root, Environment.acquire(layout.store, create=True))

    def close(self) -> None:
        self._environment.release()

    def snapshot(self) -> Snapshot:
        """The current state, consistent until closed.

        Raises:
            NotAnIndexError: no build has finished here yet.
            UnsupportedFormatError: a newer format.
        """
        view = self._environment.view()
        try:
            current = read_current(view)
            if current is None:
                raise _not_an_index(self._root)
            return Snapshot(view, current)
        except BaseException:
            view.close()
            raise

    def has_moved_on(self, since: Current) -> bool:
        """Whether another state has been published since."""
        with self._environment.view() as view:
            return read_current(view) != since

    def view(self) -> ReadTransaction:
        """A bare consistent view, for the writer's own look-ups."""
        return self._environment.view()

    def missing_embeddings(self, keys: Iterable[bytes]) -> list[bytes]:
        """Which of these embeddings are not cached. Holds its view for the look-up only: pages
        that a view may see cannot be used again by the commits of a build."""
        keys = list(keys)
        with self.view() as view:
            found = view.get_many(_EMBEDDINGS, keys)
        return [key for key, value in zip(keys, found, strict=True) if value is None]

    def begin_edition(self) -> int:
        """Sweep what unfinished builds left and return the number for a new edition.

        Numbers are used again, so that names, and the handles of long-lived readers, stay few.
        """

        def begin(transaction: WriteTransaction) -> int:
            keep = self._sweep(transaction)
            return next(number for number in count(1) if number != keep)

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
            for key, vector in batch.embeddings.items():
                transaction.put(_EMBEDDINGS, key, vector.astype("<f4").tobytes())
            for row, record, inputs in batch.items:
                key = _ROW.pack(row)
                transaction.put(f"ids.{edition}", record.id.encode(), key)
                transaction.put(f"records.{edition}", key, orjson.dumps([*record]))
                transaction.put(f"inputs.{edition}", key, orjson.dumps([*inputs]))
            merge(transaction, edition, posted)
            first = transaction.count(f"rejects.{edition}")
            for number, reject in enumerate(batch.rejects, start=first):
                transaction.put(f"rejects.{edition}", _ROW.pack(number), orjson.dumps(reject))

        self._environment.write(work)

    def publish(self, current: Current) -> None:
        """Name the edition and generation that readers open from now on."""
        value = orjson.dumps(
            {
                "format": FORMAT,
                "edition": current.edition,
                "generation": current.generation,
                "manifest_sha256": current.manifest_sha256,
            }
        )
        self._environment.write(lambda transaction: transaction.put(_META, _CURRENT, value))

    def sweep_editions(self) -> None:
        """Drop the editions that are no longer current."""
        self._environment.write(self._sweep)


class Snapshot:
    """One edition of the catalog and the generation derived from it, consistent until closed."""

    def __init__(self, view: ReadTransaction, current: Current) -> None:
        self.view = view
        self.current = current
        self.edition = current.edition

    def close(self) -> None:
        self.view.close()

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def row_of(self, item_id: str) -> int | None:
        """Row number of an item; None when the catalog has no such item."""
        try:
            found = self.view.get(f"ids.{self.edition}", item_id.encode())
        except UnicodeEncodeError:  # a lone surrogate: no stored id can hold one
            return None
        return None if found is None else int(_ROW.unpack(found)[0])

    def records(self, rows: Iterable[int]) -> list[Record]:
        """Records of several rows, in their order.

        Raises:
            CorruptIndexError: there is none, or its checksum does not match.
        """
        return list(map(Record._make, self._load("records", rows)))

    def inputs(self, rows: Iterable[int]) -> list[Inputs]:
        """What the items of several rows are made of, in their order.

        Raises:
            CorruptIndexError: there is none, or its checksum does not match.
        """
        return list(map(Inputs._make, self._load("inputs", rows)))

    def _load(self, database: str, rows: Iterable[int]) -> list[Any]:
        keys = [_ROW.pack(row) for row in rows]
        found = self.view.get_many(f"{database}.{self.edition}", keys)
        if None in found:
            raise _lost(database, int(_ROW.unpack(keys[found.index(None)])[0]))
        with decoding(database):
            # One document of many is parsed in half the time of many documents.
            values: list[Any] = orjson.loads(b"[%b]" % b",".join(found))  # type: ignore[arg-type]
        return values

    def scan_records(self) -> Iterator[tuple[int, Record]]:
        """All records, with their rows, in row order."""
        for key, data in self.view.scan(f"records.{self.edition}"):
            with decoding("records"):
                yield int(_ROW.unpack(key)[0]), Record(*orjson.loads(data))

    def scan_inputs(self) -> Iterator[tuple[int, Inputs]]:
        """What all items are made of, with their rows, in row order."""
        for key, data in self.view.scan(f"inputs.{self.edition}"):
            with decoding("inputs"):
                yield int(_ROW.unpack(key)[0]), Inputs(*orjson.loads(data))

    def count(self) -> int:
        """Number of items."""
        return self.view.count(f"records.{self.edition}")

    def postings(self) -> StoredPostings:
        """Which rows hold which metadata."""

        def metadata(rows: Iterable[int]) -> list[dict[str, Any]]:
            return [record.metadata for record in self.records(rows)]

        return StoredPostings(self.view, self.edition, metadata)

    def rejects(self) -> Iterator[dict[str, Any]]:
        """What could not be used, in catalog order."""
        for _, data in self.view.scan(f"rejects.{self.edition}"):
            with decoding("rejects"):
                yield orjson.loads(data)

    def embedding(self, key: bytes) -> NDArray[np.float32] | None:
        """A cached embedding: float32 with shape (dimension,), unit length; None if unknown."""
        return read_embedding(self.view, key)


def read_embedding(view: ReadTransaction, key: bytes) -> NDArray[np.float32] | None:
    """A cached embedding: float32 with shape (dimension,), unit length; None if unknown."""
    found = view.get(_EMBEDDINGS, key)
    return None if found is None else np.frombuffer(found, dtype="<f4")


def read_current(view: ReadTransaction) -> Current | None:
    """What the store names current; None before the first build has finished.

    Raises:
        UnsupportedFormatError: a newer format.
    """
    data = view.get(_META, _CURRENT)
    if data is None:
        return None
    with decoding("meta"):
        value = orjson.loads(data)
        format_, current = (
            value["format"],
            Current(value["edition"], value["generation"], value["manifest_sha256"]),
        )
    if format_ != FORMAT:
        raise UnsupportedFormatError(
            "index",
            expected=f"format {FORMAT}",
            got=f"format {format_}",
            remedy="Upgrade Catalens to the version that wrote it, or build it again.",
        )
    return current


def _lost(database: str, row: int) -> CorruptIndexError:
    return CorruptIndexError(
        f"store, database {database!r}",
        expected=f"a value for row {row}",
        got="none",
        remedy="Restore the index from a backup, or build it again from the catalog.",
    )


def _not_an_index(root: Path) -> NotAnIndexError:
    return NotAnIndexError(
        f"index {root}",
        expected="a folder made by `catalens build`",
        got="a folder without a finished index" if root.is_dir() else "no such folder",
        remedy="Check the path, or run `catalens build CATALOG --out INDEX` to its end.",
    )
