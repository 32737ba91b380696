"""Which rows hold which value of which metadata field: the secondary indexes of the store.

`postings.N` maps an order-preserving key of (field, type, value) to a roaring bitmap of rows,
so equality is one look-up and a range is one scan. `fields.N` maps a field to its name and the
rows that have it.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pyroaring import BitMap

from .environment import ReadTransaction, WriteTransaction
from .sealing import decoding
from .sortable import encode_value, field_prefix, shared_part

Scalar = str | int | float | bool
_NAME = struct.Struct(">I")


class Posted:
    """Postings of a batch, gathered before they are merged into the store."""

    def __init__(self) -> None:
        self.values: dict[bytes, BitMap] = {}
        self.fields: dict[str, BitMap] = {}

    def add(self, row: int, metadata: dict[str, Any]) -> None:
        """Add one row's metadata; objects in it are kept with the item but not indexed."""
        for name, value in metadata.items():
            scalars = [v for v in (value if isinstance(value, list) else [value]) if _scalar(v)]
            if not scalars and not isinstance(value, list):
                continue
            self.fields.setdefault(name, BitMap()).add(row)
            for scalar in scalars:
                self.values.setdefault(encode_value(name, scalar), BitMap()).add(row)


def _scalar(value: object) -> bool:
    return isinstance(value, str | int | float | bool)


def _field_key(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=16).digest()


_NOTHING = Posted()


def merge(
    transaction: WriteTransaction, edition: int, posted: Posted, gone: Posted = _NOTHING
) -> None:
    """Take what is gone out of the postings of an edition, then add what is posted.

    What is in both stays, and a value or field that no row is left of leaves nothing behind.
    """
    values, fields = f"postings.{edition}", f"fields.{edition}"
    for key in posted.values.keys() | gone.values.keys():
        known = transaction.get(values, key)
        before = BitMap() if known is None else _bitmap(known)
        after = _merged(before, posted.values.get(key), gone.values.get(key))
        _put(transaction, values, key, before, after, b"")
    for name in posted.fields.keys() | gone.fields.keys():
        known = transaction.get(fields, _field_key(name))
        before = BitMap() if known is None else _split(known)[1]
        after = _merged(before, posted.fields.get(name), gone.fields.get(name))
        encoded = name.encode()
        head = _NAME.pack(len(encoded)) + encoded
        _put(transaction, fields, _field_key(name), before, after, head)


def _merged(before: BitMap, added: BitMap | None, gone: BitMap | None) -> BitMap:
    left = before if gone is None else before - gone
    return left if added is None else left | added


def _put(
    transaction: WriteTransaction,
    database: str,
    key: bytes,
    before: BitMap,
    after: BitMap,
    head: bytes,
) -> None:
    if not after:
        transaction.delete(database, key)
    elif after != before:
        transaction.put(database, key, head + after.serialize())


def _split(value: bytes) -> tuple[str, BitMap]:
    with decoding("fields"):
        length = _NAME.unpack_from(value)[0]
        end = _NAME.size + length
        return value[_NAME.size : end].decode(), BitMap.deserialize(value[end:])


def _bitmap(value: bytes) -> BitMap:
    with decoding("postings"):
        return BitMap.deserialize(value)


class StoredPostings:
    """The postings of an edition, for evaluating filters; every answer is a set of rows."""

    def __init__(
        self,
        view: ReadTransaction,
        edition: int,
        metadata: Callable[[Iterable[int]], Iterable[dict[str, Any]]],
        next_row: int,
    ) -> None:
        self._view = view
        self._edition = edition
        self._metadata = metadata
        self._next_row = next_row

    def fields(self) -> list[str]:
        """Names of all fields that can be filtered on, sorted."""
        return sorted(_split(value)[0] for _, value in self._view.scan(f"fields.{self._edition}"))

    def all_rows(self) -> BitMap:
        """Every row that the edition ever had: whoever asks knows which of them live."""
        return BitMap(range(self._next_row))

    def having(self, field: str) -> BitMap:
        """Rows that have the field."""
        found = self._view.get(f"fields.{self._edition}", _field_key(field))
        return BitMap() if found is None else _split(found)[1]

    def equal(self, field: str, value: Scalar) -> BitMap:
        """Rows whose field equals the value, or lists it."""
        found = self._view.get(f"postings.{self._edition}", encode_value(field, value))
        return BitMap() if found is None else _bitmap(found)

    def between(
        self,
        field: str,
        low: Scalar | None,
        high: Scalar | None,
        low_open: bool,
        high_open: bool,
    ) -> BitMap:
        """Rows with a value of one type between two bounds; None is unbounded in that type."""
        first, end = field_prefix(field, type(low if low is not None else high))
        low_key = first if low is None else encode_value(field, low)
        high_key = end if high is None else encode_value(field, high)
        # Keys of long strings order by digest among those that share their start with a bound:
        # for these the records are asked.
        unsure = tuple(p for p in (shared_part(low_key), shared_part(high_key)) if p is not None)
        start = min([low_key, *unsure])
        stop = max([high_key, *(p + b"\xff" for p in unsure)])
        found = [BitMap()]
        for key, rows in self._scan(start, stop):
            if unsure and key.startswith(unsure):
                found.append(self._asked(field, rows, low, high, low_open, high_open))
            elif (key > low_key or (key == low_key and not low_open)) and (
                key < high_key or (key == high_key and high is not None and not high_open)
            ):
                found.append(rows)
        return BitMap.union(*found)

    def _scan(self, start: bytes, stop: bytes) -> Iterator[tuple[bytes, BitMap]]:
        """Keys from `start` up to and with `stop`, and their rows."""
        for key, value in self._view.scan(f"postings.{self._edition}", start, stop + b"\0"):
            yield key, _bitmap(value)

    def _asked(
        self, field: str, rows: BitMap, low: Any, high: Any, low_open: bool, high_open: bool
    ) -> BitMap:
        """Those of some rows with a string between the bounds, by what their records say."""
        passing = BitMap()
        for row, metadata in zip(rows, self._metadata(rows), strict=True):
            value = metadata[field]
            for text in value if isinstance(value, list) else [value]:
                if (
                    isinstance(text, str)
                    and (low is None or text > low or (text == low and not low_open))
                    and (high is None or text < high or (text == high and not high_open))
                ):
                    passing.add(row)
        return passing
