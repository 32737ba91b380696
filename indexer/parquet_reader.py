"""Rows of a catalog out of Parquet. Knows pyarrow: import it when there is a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from .catalog_errors import UnreadableCatalogError
from .items import Reject
from .readers import Row, RowReader, unreadable

_BATCH_ROWS = 256
"""Small, because rows may hold whole pictures."""


@dataclass(frozen=True, repr=False)
class UnreadableCell:
    """Stands for a value pyarrow cannot turn into Python, so that it costs its row alone."""

    reason: str

    def __repr__(self) -> str:
        return self.reason[:80]  # What a message about the row quotes.


class ParquetReader(RowReader):
    """A Parquet file, a batch of rows at a time; rows are numbered from 1.

    Damage that pyarrow notices ends the reading: past it nothing can be trusted.
    """

    is_uniform = True

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with self._open() as file:
                self._count: int = file.metadata.num_rows
                names = list(file.schema_arrow.names)
        # Here and below: damaged files raise nearly every class, from OSError to TypeError.
        except Exception as error:
            raise unreadable(path, error) from error
        if len(set(names)) < len(names):
            raise UnreadableCatalogError(
                f"catalog {path}",
                expected="columns of different names",
                got=f"{len(names)} columns with {len(set(names))} names",
                remedy="Rename the columns.",
            )

    def rows(self) -> Iterator[Row | Reject]:
        """See `RowReader`."""
        number = 0
        for names, columns in self._batches():
            for values in zip(*columns, strict=True):
                number += 1
                yield Row(number, dict(zip(names, values, strict=True)))

    def count(self) -> int:
        """Return the number of rows the file's metadata gives."""
        return self._count

    def _batches(self) -> Iterator[tuple[list[str], list[list[object]]]]:
        try:
            with self._open() as file:
                for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                    yield batch.schema.names, [_cells(column) for column in batch.columns]
        except Exception as error:
            raise unreadable(self._path, error) from error

    def _open(self) -> Any:
        # Without pre-buffering, a column is streamed and never held for a whole row group.
        return pq.ParquetFile(self._path, pre_buffer=False, buffer_size=2**20)


def _cells(column: Any) -> list[object]:
    kind = column.type
    if (pa.types.is_timestamp(kind) or pa.types.is_time(kind)) and kind.unit == "ns":
        # Python's times end at microseconds; without this every odd nanosecond would cost a row.
        zone = pa.types.is_timestamp(kind)
        coarse = pa.timestamp("us", kind.tz) if zone else pa.time64("us")
        column = column.cast(coarse, safe=False)
    elif (pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)) and pa.types.is_floating(
        kind.value_type
    ):
        # Vectors: a NumPy array per row is made 20 times faster than a list of Python floats.
        return [c.values.to_numpy(zero_copy_only=False) if c.is_valid else None for c in column]
    try:
        return list(column.to_pylist())
    except Exception:  # Text that is not UTF-8, a year beyond 9999, an unknown time zone.
        return [_cell(scalar) for scalar in column]


def _cell(scalar: Any) -> object:
    try:
        value: object = scalar.as_py()
    except Exception as error:
        return UnreadableCell(f"{type(error).__name__}: {error}")
    return value
