"""What a reader sees of the store: one consistent state, by name and by row."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from encoders import EncoderStateError, State

from .environment import ReadTransaction
from .errors import CorruptIndexError, UnsupportedFormatError
from .layout import FORMAT
from .postings import StoredPostings
from .sealing import decoding

META = "meta"
CURRENT = b"current"
EMBEDDINGS = "embeddings"
DERIVATION = "derivation"
STATES = "states"
FITS = "fits"
POPULARITY = "popularity"
HISTORIES = "histories"
_WHOLE = (META, EMBEDDINGS, DERIVATION, STATES, FITS, POPULARITY, HISTORIES)
_OF_EDITIONS = (
    "ids",
    "records",
    "inputs",
    "postings",
    "fields",
    "rejects",
    "lost",
    "fresh",
    "tombstones",
)
_NAME = re.compile(rf"{'|'.join(_WHOLE)}|(?P<what>{'|'.join(_OF_EDITIONS)})\.(?P<edition>\d+)")
FINGERPRINT_BYTES = 16
"""Length of the part of an embedding's key that names its encoder."""
_ROW = struct.Struct(">I")
ROW_KEY_BYTES = _ROW.size
# Compaction is due from so many rows on, and so large a part of the generation: a scan of 1,000
# rows of 384 dimensions takes 0.03 ms.
_DUE_ROWS = 1_000
_DUE_PART = 0.1


@dataclass(frozen=True)
class Current:
    """What a reader opens: an edition of the catalog and the generation derived from it.

    `commits` counts what writers have committed to the edition. From the first commit on `next_row`
    is the number for the next new row; before, rows have no gaps.
    """

    edition: int
    generation: int
    manifest_sha256: str
    commits: int = 0
    next_row: int = 0

    @property
    def generation_key(self) -> tuple[int, str]:
        """What tells one generation from any other."""
        return self.generation, self.manifest_sha256


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


class FreshRows(NamedTuple):
    """Rows that are searched beside a generation: numbers int64 (f,), ascending, fused vectors
    float16 (f, D) and the states of their blocks uint8 (f, S)."""

    numbers: NDArray[np.int64]
    vectors: NDArray[np.float16]
    states: NDArray[np.uint8]


class Uncompacted(NamedTuple):
    """How many rows are searched beside a generation, and how many of its own are dead."""

    fresh: int
    dead: int

    def is_due(self, generation_rows: int) -> bool:
        """Whether it is so much, beside the rows of the generation, that searches tell."""
        return sum(self) > max(_DUE_ROWS, _DUE_PART * generation_rows)


NONE_UNCOMPACTED = Uncompacted(0, 0)


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
        keys = [row_key(row) for row in rows]
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

    @property
    def next_row(self) -> int:
        """The number for the next new row: above all that were ever used in the edition."""
        return self.current.next_row if self.current.commits else self.count()

    def dead(self) -> NDArray[np.int64]:
        """Rows of the generation whose items are gone or were added anew: int64 (m,), ascending."""
        keys = [key for key, _ in self.view.scan(f"tombstones.{self.edition}")]
        with decoding("tombstones"):
            return np.frombuffer(b"".join(keys), dtype=">u4").astype(np.int64)

    def fresh(self, dimension: int, spaces: int) -> FreshRows:
        """The rows that the generation has not.

        Raises:
            CorruptIndexError: a value has not the size that the generation's vectors ask for.
        """
        found = list(self.view.scan(f"fresh.{self.edition}"))
        row = np.dtype([("vector", "<f2", (dimension,)), ("states", "u1", (spaces,))])
        with decoding("fresh"):
            numbers = np.frombuffer(b"".join(key for key, _ in found), dtype=">u4")
            values = np.frombuffer(b"".join(value for _, value in found), dtype=row)
            if len(numbers) != len(values) or any(len(v) != row.itemsize for _, v in found):
                raise ValueError(f"{len(values)} vectors of {len(numbers)} rows")
        vectors, states = (np.ascontiguousarray(values[name]) for name in ("vector", "states"))
        return FreshRows(numbers.astype(np.int64), vectors, states)

    def uncompacted(self) -> Uncompacted:
        """What `compact` would fold in and drop."""
        edition = self.edition
        return Uncompacted(
            self.view.count(f"fresh.{edition}"), self.view.count(f"tombstones.{edition}")
        )

    def postings(self) -> StoredPostings:
        """Which rows hold which metadata."""

        def metadata(rows: Iterable[int]) -> list[dict[str, Any]]:
            return [record.metadata for record in self.records(rows)]

        return StoredPostings(self.view, self.edition, metadata, self.next_row)

    def rejects(self) -> Iterator[dict[str, Any]]:
        """What could not be used, in catalog order."""
        for _, data in self.view.scan(f"rejects.{self.edition}"):
            with decoding("rejects"):
                yield orjson.loads(data)

    def embeddings(self, keys: Iterable[bytes]) -> dict[bytes, NDArray[np.float32]]:
        """`embedding` of many keys, those that are known."""
        wanted = list(dict.fromkeys(keys))
        found = self.view.get_many(EMBEDDINGS, wanted) if wanted else []
        return {
            key: np.frombuffer(value, dtype="<f4")
            for key, value in zip(wanted, found, strict=True)
            if value is not None
        }

    def embedding(self, key: bytes) -> NDArray[np.float32] | None:
        """A cached embedding: float32 with shape (dimension,), unit length; None if unknown."""
        return read_embedding(self.view, key)

    def known_state(self, fingerprint: str) -> State | None:
        """What the encoder of that fingerprint learned from the catalog; None where it is one that
        learns nothing.

        Raises:
            CorruptIndexError: it is damaged.
        """
        return read_state(self.view, fingerprint)

    def state(self, fingerprint: str) -> State:
        """What the encoder of that fingerprint learned from the catalog.

        Raises:
            CorruptIndexError: it is not there, or damaged.
        """
        found = self.known_state(fingerprint)
        if found is None:
            raise CorruptIndexError(
                f"store, database {STATES!r}",
                expected=f"what the encoder {fingerprint} has learned",
                got="nothing of that name",
                remedy="Restore the index from a backup, or build it again from the catalog.",
            )
        return found


def embedding_key(fingerprint: str, content_sha256: str) -> bytes:
    """Key of an embedding: 16 bytes of encoder fingerprint, 32 of content hash, both from hex."""
    return bytes.fromhex(fingerprint + content_sha256)


def row_key(row: int) -> bytes:
    """The key of a row: keys order as rows do."""
    return _ROW.pack(row)


def row_of_key(key: bytes) -> int:
    """Undo `row_key`."""
    return int(_ROW.unpack(key)[0])


def read_embedding(view: ReadTransaction, key: bytes) -> NDArray[np.float32] | None:
    """A cached embedding: float32 with shape (dimension,), unit length; None if unknown."""
    found = view.get(EMBEDDINGS, key)
    return None if found is None else np.frombuffer(found, dtype="<f4")


def read_state(view: ReadTransaction, fingerprint: str) -> State | None:
    """What the encoder of that fingerprint learned; None if unknown.

    Raises:
        CorruptIndexError: it is damaged.
    """
    found = view.get(STATES, bytes.fromhex(fingerprint))
    if found is None:
        return None
    try:
        return State.load(found)
    except EncoderStateError as error:
        with decoding(STATES):
            raise ValueError(str(error)) from error


def read_fit(view: ReadTransaction, key: bytes) -> str | None:
    """Fingerprint of the encoder that was fitted for this; None where none was."""
    found = view.get(FITS, key)
    return None if found is None else found.hex()


def read_current(view: ReadTransaction) -> Current | None:
    """What the store names current; None before the first build has finished.

    Raises:
        UnsupportedFormatError: a newer format.
    """
    data = view.get(META, CURRENT)
    if data is None:
        return None
    with decoding("meta"):
        value = orjson.loads(data)
        format_, current = (
            value["format"],
            Current(
                value["edition"],
                value["generation"],
                value["manifest_sha256"],
                value.get("commits", 0),
                value.get("next_row", 0),
            ),
        )
    if format_ != FORMAT:
        raise UnsupportedFormatError(
            "index",
            expected=f"format {FORMAT}",
            got=f"format {format_}",
            remedy="Upgrade Catalens to the version that wrote it, or build it again.",
        )
    return current


def check_names(view: ReadTransaction) -> None:
    """Compare the names of the databases, which have no checksum, with those that there can be: one
    that is not found by its name counts as empty.

    Raises:
        CorruptIndexError: a name that is none, or a part of an edition without its records.
    """
    names = view.databases()
    for name in names:
        found = _NAME.fullmatch(name)
        records = f"records.{found['edition']}" if found and found["what"] else name
        # Rejects may be all that there is yet of an edition.
        alone = records not in names and not name.startswith("rejects") and view.count(name)
        if not found or alone:
            raise CorruptIndexError(
                "store",
                expected="databases by the names of the format, and records beside what is of them",
                got=repr(name),
                remedy="Restore the index from a backup, or build it again from the catalog.",
            )


def _lost(database: str, row: int) -> CorruptIndexError:
    return CorruptIndexError(
        f"store, database {database!r}",
        expected=f"a value for row {row}",
        got="none",
        remedy="Restore the index from a backup, or build it again from the catalog.",
    )
