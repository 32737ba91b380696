"""Rows out of CSV and TSV."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from .catalog_errors import RejectedRowError, UnreadableCatalogError
from .columns import Columns
from .items import Reject
from .readers import MAX_ROW_BYTES, Row, RowReader, count_lines, too_long, unreadable
from .values import cell_value, list_cell, shown

_DELIMITERS = ",;\t|"
_CHUNK = 2**20


class CsvReader(RowReader):
    """A table with a header: tabs in `.tsv`, else the one of `, ; tab |` that cuts it finest.

    Quotes are doubled inside quoted cells, which may hold line breaks. An empty or missing cell
    is a hole. A row with too many cells, bytes that are not UTF-8, a misplaced quote, or a cell
    longer than `csv.field_size_limit()` (131,072 characters unless the program sets more) is a
    `Reject`; a quote that is never closed costs the lines up to that limit.
    """

    is_uniform = True

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with self._open() as stream:
                head = next((line for line in _Lines(stream, path) if line.strip()), "")
        except RejectedRowError as error:
            raise unreadable(path, error) from error
        cuts = "\t" if path.suffix.lower() == ".tsv" else _DELIMITERS
        # On a tie max() keeps the first: a header of one column is cut by commas.
        self._delimiter = max(cuts, key=lambda cut: len(_cells(head, cut)))

    def rows(self) -> Iterator[Row | Reject]:
        """See `RowReader`; every value is a string, or None for a hole."""
        with self._open() as stream:
            lines = _Lines(stream, self._path)
            table = csv.reader(lines, delimiter=self._delimiter, strict=True)
            header: list[str] | None = None
            while True:
                line = lines.start_row()
                try:
                    cells = next(table)
                    if not cells:  # A blank line.
                        continue
                    if header is None:
                        header = self._header(cells)
                    else:
                        yield Row(line, _row(header, cells))
                except StopIteration:
                    return
                except (RejectedRowError, csv.Error) as error:
                    if header is None:
                        raise unreadable(self._path, error) from error
                    yield Reject.from_error(_rejected(error), line=line)

    def count(self) -> int:
        """Return the number of lines below the header: too many where cells hold line breaks."""
        return max(0, count_lines(self._path) - 1)

    def typed(self, row: Row, columns: Columns) -> Row:
        """Turn metadata cells into numbers and booleans, and JSON arrays of media into lists.

        The id and texts stay as written: a film may be called 1984, and an article 007.
        """
        written = {columns.id, *(columns.text or ())}
        lists = set(columns.not_metadata)
        values: dict[str, object] = {}
        for name, cell in row.values.items():
            if not isinstance(cell, str) or name in written:
                values[name] = cell
            else:
                values[name] = list_cell(cell) if name in lists else cell_value(cell)
        return Row(row.line, values)

    def _open(self) -> TextIO:
        try:
            # Bytes that are not UTF-8 become lone surrogates, which tell their row apart later.
            return self._path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")
        except OSError as error:
            raise unreadable(self._path, error) from error

    def _header(self, cells: list[str]) -> list[str]:
        flaw = None
        if not all(_is_utf8(cell) for cell in cells):
            flaw = "one that is not UTF-8"
        elif len(set(cells)) < len(cells):
            twice = next(cell for cell in cells if cells.count(cell) > 1)
            flaw = f"{shown(twice)} twice"
        if flaw:
            raise UnreadableCatalogError(
                f"header of {self._path}",
                expected="different column names in UTF-8",
                got=flaw,
                remedy="Save the table as UTF-8 with one header line.",
            )
        return cells


class _Lines:
    """Lines for `csv.reader`, which asks for more of them while a quoted cell is open.

    A class and no generator, because a generator could not go on after raising.
    """

    def __init__(self, stream: TextIO, path: Path) -> None:
        self._stream = stream
        self._path = path
        self._number = 0
        self._room = MAX_ROW_BYTES

    def start_row(self) -> int:
        """Return the number of the line that the next row starts on."""
        self._room = MAX_ROW_BYTES
        return self._number + 1

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        try:
            line = self._stream.readline(self._room + 1)
            if not line:
                raise StopIteration
            self._number += 1
            self._room -= len(line)
            if self._room < 0:
                while line and not line.endswith(("\n", "\r")):
                    line = self._stream.readline(_CHUNK)
                raise too_long("characters")
        except OSError as error:
            raise unreadable(self._path, error) from error
        return line


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return []


def _row(header: list[str], cells: list[str]) -> dict[str, object]:
    if len(cells) > len(header):
        raise RejectedRowError(
            "row",
            expected=f"at most {len(header)} cells, as in the header",
            got=str(len(cells)),
            remedy="Quote cells that hold the delimiter.",
        )
    for cell in cells:
        if not _is_utf8(cell):
            raise RejectedRowError(
                "row",
                expected="UTF-8",
                got=f"other bytes in {shown(cell)}",
                remedy="Save the table as UTF-8.",
            )
    holes = [""] * (len(header) - len(cells))
    return {name: cell or None for name, cell in zip(header, cells + holes, strict=True)}


def _is_utf8(cell: str) -> bool:
    if cell.isascii():
        return True
    try:
        cell.encode()
    except UnicodeEncodeError:
        return False
    return True


def _rejected(error: RejectedRowError | csv.Error) -> RejectedRowError:
    if isinstance(error, RejectedRowError):
        return error
    return RejectedRowError(
        "row",
        expected="well-formed CSV",
        got=str(error),
        remedy="Close quoted cells and double the quotes inside; csv.field_size_limit sets length.",
    )
