"""The front of catalog reading: any dump in, a stream of items and rejects out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path

from .catalog_errors import (
    EmptyCatalogError,
    InvalidColumnsError,
    RejectedRowError,
    UnreadableCatalogError,
)
from .columns import Columns
from .csv_reader import CsvReader
from .folder_reader import FolderReader, folder_columns
from .items import Item, Reject
from .readers import JsonLinesReader, MemoryReader, Row, RowReader
from .row_parser import RowParser, item_id

SUFFIXES = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")

Source = str | Path | Iterable[object]


class Catalog:
    """A dump that has been opened; `open_catalog` makes one."""

    def __init__(
        self,
        name: str,
        columns: Columns,
        media_root: Path,
        read: Callable[[], Iterator[Item | Reject]],
        count: Callable[[], int | None],
        *,
        can_be_read_again: bool,
    ) -> None:
        self.name = name
        """Name of the file or folder, or the type of what lies in memory."""
        self.columns = columns
        """The mapping, with no None left in it."""
        self.media_root = media_root
        """Resolved folder that no media path leaves."""
        self.can_be_read_again = can_be_read_again
        """Whether `items` gives all of them more than once."""
        self._read = read
        self._count = count

    @cached_property
    def rows(self) -> int | None:
        """About how many rows there are, for a progress bar; None for an iterator.

        Exact for Parquet, folders and what has a length; for JSON lines and CSV the number of
        lines, blank ones and those inside quoted cells included.
        """
        return self._count()

    def items(self) -> Iterator[Item | Reject]:
        """Read the dump from the start, one row at a time.

        Whatever is wrong with one row becomes a `Reject`, and reading goes on. Ids may repeat.

        Raises:
            UnreadableCatalogError: the dump is damaged beyond its rows, or is an iterator that
                has been read.
        """
        return self._read()


def open_catalog(
    source: Source,
    columns: Columns | None = None,
    media_root: str | Path | None = None,
    *,
    optional: Collection[str] = (),
) -> Catalog:
    """Open a catalog dump.

    Args:
        source: a `.jsonl`, `.ndjson`, `.csv`, `.tsv` or `.parquet` file, a folder of media, or an
            iterable of dicts. An iterator can be read once.
        columns: which column holds what; conventional names by default, see `Columns`.
        media_root: folder that media paths are relative to and must not leave. By default the
            dump's own; the current directory for an iterable.
        optional: columns that the dump need not have; see `Columns.resolve`.

    Raises:
        UnreadableCatalogError: no such file, an unknown format, damage, or no such media root.
        InvalidColumnsError: a mapped column is in none of the first 1,000 rows, no modality is
            mapped, or columns are given for a folder, which has none.
        EmptyCatalogError: there is not one row.
    """
    home = Path()
    if isinstance(source, str | Path):
        path = Path(source)
        if path.is_dir():
            return _open_folder(path, columns, media_root)
        home = path.parent
    reader, seen, name = open_rows(source)
    root = resolved_root(Path(media_root) if media_root is not None else home)
    resolved = (columns or Columns()).resolve(seen, optional=optional)
    parser = RowParser(resolved, root)

    def read() -> Iterator[Item | Reject]:
        for row in reader.rows():
            yield parser.parse(reader.typed(row, resolved)) if isinstance(row, Row) else row

    return Catalog(
        name, resolved, root, read, reader.count, can_be_read_again=reader.can_be_read_again
    )


def open_rows(source: Source, what: str = "catalog") -> tuple[RowReader, dict[str, None], str]:
    """Open a dump that is made of rows.

    Args:
        source: a file or an iterable of dicts, as `open_catalog` takes them.
        what: what it is to hold, for messages.

    Returns:
        its reader, the columns of its first rows, in order, as keys, and its name.

    Raises:
        UnreadableCatalogError: no such file, an unknown format, or damage.
        EmptyCatalogError: there is not one row.
    """
    if isinstance(source, str | Path):
        name, reader = Path(source).name, _file_reader(Path(source), what)
    else:
        name, reader = type(source).__name__, _memory_reader(source, what)
    return reader, _seen(reader, f"{what} {name}"), name


def read_ids(source: str | Path, column: str) -> Iterator[str]:
    """Read the ids of a dump, and nothing else of it.

    Args:
        source: a file as `open_catalog` takes them.
        column: of the ids.

    Raises:
        UnreadableCatalogError: no such file, an unknown format, or damage.
        RejectedRowError: a row that does not read, or has no id.
    """
    for row in _file_reader(Path(source)).rows():
        if isinstance(row, Reject):
            raise RejectedRowError(
                f"row {row.line}",
                expected="a row that reads",
                got=row.reason,
                remedy="Mend it, or leave it out.",
            )
        yield item_id(row.values.get(column))


def _open_folder(path: Path, columns: Columns | None, media_root: str | Path | None) -> Catalog:
    if columns not in (None, Columns()) or media_root is not None:
        raise InvalidColumnsError(
            f"catalog {path}",
            expected="no columns and no media root with a folder",
            got="one of them",
            remedy="Leave them out: in a folder, the suffix of a file says what it holds.",
        )
    root = resolved_root(path)
    reader = FolderReader(root)
    if next(reader.items(), None) is None:
        raise _empty(f"catalog {path.name}")
    return Catalog(
        root.name, folder_columns(), root, reader.items, reader.count, can_be_read_again=True
    )


def _file_reader(path: Path, what: str = "catalog") -> RowReader:
    suffix = path.suffix.lower()
    if not path.is_file():
        got = "something else" if path.exists() else "no such file"
    elif suffix in (".jsonl", ".ndjson"):
        return JsonLinesReader(path)
    elif suffix in (".csv", ".tsv"):
        return CsvReader(path)
    elif suffix == ".parquet":
        from .parquet_reader import ParquetReader  # pyarrow takes a while to load.

        return ParquetReader(path)
    else:
        got = f"a file with the suffix {suffix!r}"
    folder = "a folder, or " if what == "catalog" else ""
    raise UnreadableCatalogError(
        f"{what} {path}",
        expected=f"{folder}a file with one of the suffixes {', '.join(SUFFIXES)}",
        got=got,
        remedy="Check the path; convert other formats, and unpack compressed files.",
    )


def _memory_reader(source: object, what: str) -> RowReader:
    if isinstance(source, Mapping | bytes | bytearray) or not isinstance(source, Iterable):
        raise UnreadableCatalogError(
            what,
            expected="a path or an iterable of dicts",
            got=f"a {type(source).__name__}",
            remedy="Give the rows as a list or a generator.",
        )
    return MemoryReader(source)


def _seen(reader: RowReader, name: str) -> dict[str, None]:
    """Return the columns of the first rows, in order, as keys."""
    seen: dict[str, None] = {}
    is_empty = True
    for row in reader.head():
        is_empty = False
        if isinstance(row, Row):
            seen |= dict.fromkeys(key for key in row.values if isinstance(key, str))
            if reader.is_uniform:
                break
    if is_empty:
        raise _empty(name)
    return seen


def resolved_root(folder: Path) -> Path:
    """A media root, as `resolve_media` takes it.

    Raises:
        UnreadableCatalogError: it is no folder.
    """
    root = folder.resolve()
    if not root.is_dir():
        raise UnreadableCatalogError(
            f"media root {folder}",
            expected="a folder",
            got="a file" if root.exists() else "nothing there",
            remedy="Name the folder that media paths are relative to.",
        )
    return root


def _empty(name: str) -> EmptyCatalogError:
    return EmptyCatalogError(
        name,
        expected="at least one row",
        got="none",
        remedy="Check that it is the right dump and was written to the end.",
    )
