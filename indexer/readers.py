"""Rows out of JSON lines and out of memory; what every row reader has to offer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import ClassVar

import orjson

from .catalog_errors import RejectedRowError, UnreadableCatalogError
from .columns import Columns
from .items import Reject
from .values import shown

MAX_ROW_BYTES = 64 * 2**20
"""A longer row is rejected without being loaded whole."""

PEEKED_ROWS = 1_000
"""Rows looked at to learn which columns there are."""

_CHUNK = 2**20
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Row:
    """Values per column, and where in the dump they stand."""

    line: int
    values: Mapping[str, object]


class RowReader(ABC):
    """A dump that is made of rows."""

    is_uniform: ClassVar[bool] = False
    """Whether every row has the same columns, so that one tells them all."""

    can_be_read_again: bool = True
    """Whether `rows` reads from the start more than once."""

    @abstractmethod
    def rows(self) -> Iterator[Row | Reject]:
        """Read from the start, one row at a time.

        Raises:
            UnreadableCatalogError: the dump is damaged as a whole.
        """

    @abstractmethod
    def count(self) -> int | None:
        """Return about how many rows there are, None when that cannot be told quickly."""

    def head(self) -> Iterator[Row | Reject]:
        """Return the first rows, to learn the columns from; `rows` then still yields them."""
        return islice(self.rows(), PEEKED_ROWS)

    def typed(self, row: Row, columns: Columns) -> Row:
        """Give the values their types, where only the mapping tells which those are."""
        return row


class JsonLinesReader(RowReader):
    """One JSON object per line; blank lines are skipped, a byte order mark and CRLF accepted."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def rows(self) -> Iterator[Row | Reject]:
        """See `RowReader`; a line that is no object, or too long, is a `Reject`."""
        number = 0
        try:
            with self._path.open("rb") as stream:
                while line := stream.readline(MAX_ROW_BYTES + 1):
                    number += 1
                    if len(line) > MAX_ROW_BYTES:
                        while line and not line.endswith(b"\n"):
                            line = stream.readline(_CHUNK)
                        yield Reject.from_error(too_long("bytes"), line=number)
                        continue
                    if number == 1:
                        line = line.removeprefix(_BOM)
                    if line.strip():
                        yield self._row(number, line)
        except OSError as error:
            raise unreadable(self._path, error) from error

    def count(self) -> int:
        """Return the number of lines."""
        return count_lines(self._path)

    def _row(self, number: int, line: bytes) -> Row | Reject:
        try:
            values = _parse(line)
        except RejectedRowError as error:
            return Reject.from_error(error, line=number)
        return Row(number, values)


class MemoryReader(RowReader):
    """Rows that are mappings already: a list, a generator, a Hugging Face dataset.

    An iterator can be read once; its first rows are held until then.
    """

    def __init__(self, source: Iterable[object]) -> None:
        self._source = source
        self._held: list[object] | None = None
        if isinstance(source, Iterator):
            self._held = list(islice(source, PEEKED_ROWS))
            self.can_be_read_again = False
        self._is_spent = False

    def rows(self) -> Iterator[Row | Reject]:
        """See `RowReader`; a row that is no mapping from names to values is a `Reject`.

        Raises:
            UnreadableCatalogError: an iterator is read a second time.
        """
        if self._held is None:
            return _rows(self._source)
        if self._is_spent:
            raise UnreadableCatalogError(
                "catalog",
                expected="rows that can be read again",
                got=f"a {type(self._source).__name__} that has been read",
                remedy="Give a list or a file, or open the catalog on a new iterator.",
            )
        self._is_spent = True
        held, self._held = self._held, []
        return _rows(chain(held, self._source))

    def head(self) -> Iterator[Row | Reject]:
        """See `RowReader`."""
        return super().head() if self._held is None else _rows(self._held)

    def count(self) -> int | None:
        """Return the length of what has one."""
        return len(self._source) if isinstance(self._source, Sized) else None


def count_lines(path: Path) -> int:
    """Return the number of lines of a file, the last one with or without a line feed.

    Raises:
        UnreadableCatalogError: the file cannot be read.
    """
    lines, last = 0, b"\n"
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                lines += chunk.count(b"\n")
                last = chunk[-1:]
    except OSError as error:
        raise unreadable(path, error) from error
    return lines + (last != b"\n")


def too_long(unit: str) -> RejectedRowError:
    """Return the error for a row longer than `MAX_ROW_BYTES`."""
    return RejectedRowError(
        "row",
        expected=f"at most {MAX_ROW_BYTES:,} {unit}",
        got="more",
        remedy="Move long texts and media into files of their own.",
    )


def unreadable(path: Path, error: Exception) -> UnreadableCatalogError:
    """Translate what a library or the system said of a dump."""
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return UnreadableCatalogError(
        f"catalog {path}",
        expected=f"a readable {path.suffix or 'file'}",
        got=" ".join(reason.split())[:300],
        remedy="Check that the dump is there, whole, and what its suffix says.",
    )


def _rows(source: Iterable[object]) -> Iterator[Row | Reject]:
    for number, values in enumerate(source, start=1):
        if isinstance(values, Mapping):
            yield Row(number, values)
        else:
            error = RejectedRowError(
                "row",
                expected="a mapping from columns to values",
                got=shown(values),
                remedy="Give every row as a dict.",
            )
            yield Reject.from_error(error, line=number)


def _parse(line: bytes) -> dict[str, object]:
    try:
        values = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise RejectedRowError(
            "row",
            expected="a JSON object on one line, in UTF-8",
            got=_flaw(line, error),
            remedy="Correct the line; NaN and Infinity are no JSON, leave such values out.",
        ) from None
    if not isinstance(values, dict):
        raise RejectedRowError(
            "row",
            expected="a JSON object",
            got=shown(values),
            remedy="Write one object per line, not an array of them.",
        )
    return values


def _flaw(line: bytes, error: orjson.JSONDecodeError) -> str:
    try:
        line.decode()
    except UnicodeDecodeError as flaw:
        return f"the byte {line[flaw.start]:#04x} at column {flaw.start + 1}, which is not UTF-8"
    return f"{error.msg} at column {error.colno}"
