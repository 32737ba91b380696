"""Items of an index in Parquet, written and read. Knows pyarrow: import it when there is a file.

One row is one item:

    id                  string
    inputs              list of (modality: string, sha256: 32 bytes, source: string or null)
    metadata            string: a JSON object, so that values keep their types
    fused               list of float32: the vector that is searched
    embeddings.SPACE    list of lists of float32, one for each of `inputs`, null where the space
                        has none of it

The keys of the file's metadata that `_KEYS` names hold `Described`, the tensors in base64, as some
readers take metadata for text; one that begins with `_STATE` holds the state of a fitted encoder.
"""

from __future__ import annotations

import os
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from .description import Described
from .errors import ImportFileError
from .stored import StoredInput, StoredItem

Floats = NDArray[np.float32]

_VECTOR = pa.list_(pa.float32())
_INPUT = pa.struct([("modality", pa.string()), ("sha256", pa.binary(32)), ("source", pa.string())])
_KEYS = (b"catalens", b"catalens.fusion", b"catalens.heads")
_STATE = b"catalens.state."
_BATCH_ROWS = 256
# The state of an encoder is one value of the metadata; readers take 100 MB unless told otherwise.
_LONGEST_VALUE = 1 << 30


class ItemsWriter:
    """A new file of items; whole, and on the disk, when `close` returns."""

    def __init__(self, path: Path, spaces: Sequence[str], described: Described) -> None:
        self._spaces = spaces
        self._schema = _schema(spaces)
        self._file = path.open("xb")
        self._writer = pq.ParquetWriter(
            self._file,
            self._schema,
            compression="zstd",
            # Vectors do not repeat: a dictionary of them would only cost.
            use_dictionary=["inputs.list.element.modality"],
            write_statistics=False,
            write_page_checksum=True,
            # Arrow's types are no more than Parquet's own here, and where its schema is stored
            # it is asked for the metadata instead of these.
            store_schema=False,
        )
        fusion, heads = map(b64encode, (described.fusion, described.heads))
        told = dict(zip(_KEYS, (described.description, fusion, heads), strict=True))
        for fingerprint, state in described.states.items():
            told[_STATE + fingerprint.encode()] = b64encode(state)
        self._writer.add_key_value_metadata(told)

    def write(self, items: Sequence[StoredItem], fused: Floats) -> None:
        """Write items with their fused vectors (n, D) as one row group."""
        columns = {
            "id": [item.id for item in items],
            "inputs": [list(map(_cell, item.inputs)) for item in items],
            "metadata": [item.metadata for item in items],
            "fused": list(fused),
        }
        for space in self._spaces:
            columns[_column(space)] = [
                [one.embeddings.get(space) for one in item.inputs] for item in items
            ]
        arrays = [pa.array(columns[field.name], type=field.type) for field in self._schema]
        batch = pa.RecordBatch.from_arrays(arrays, schema=self._schema)
        self._writer.write_batch(batch, row_group_size=len(items))

    def close(self) -> int:
        """End and sync the file; return its size in bytes."""
        self._writer.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        size = self._file.tell()
        self._file.close()
        return size

    def __enter__(self) -> ItemsWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


class ItemsReader:
    """A file of items, opened: what it says of itself, and its items, streamed.

    Raises:
        ImportFileError: it is no Parquet file, or no export.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with self._open() as file:
                told = file.metadata.metadata or {}
                self.rows: int = file.metadata.num_rows
                self._names: list[str] = file.schema_arrow.names
                if all(key in told for key in _KEYS):
                    description, fusion, heads = (told[key] for key in _KEYS)
                    states = {
                        key.removeprefix(_STATE).decode(): _decoded(value)
                        for key, value in told.items()
                        if key.startswith(_STATE)
                    }
                    self.described = Described(
                        description, _decoded(fusion), _decoded(heads), states
                    )
                    return
        # Here and below: damaged files raise nearly every class, from OSError to TypeError.
        except Exception as error:
            raise self.refusal("a Parquet file, whole and readable", _reason(error)) from error
        raise self.refusal("the metadata that `catalens export` writes", f"the keys {list(told)}")

    def items(self, spaces: Sequence[str]) -> Iterator[StoredItem]:
        """The items, in order, with what these spaces have of their inputs.

        Raises:
            ImportFileError: columns or values of other types, or damage.
        """
        # What the index is searched by is derived again: it need not be read.
        wanted = [name for name in _schema(spaces).names if name != "fused"]
        if missing := [name for name in wanted if name not in self._names]:
            raise self.refusal(f"the columns {', '.join(wanted)}", f"none named {missing}")
        try:
            with self._open() as file:
                for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=wanted):
                    yield from _items(batch, spaces)
        except Exception as error:
            raise self.refusal("the columns of an export, undamaged", _reason(error)) from error

    def refusal(self, expected: str, got: str) -> ImportFileError:
        """The error for this file."""
        return ImportFileError(
            f"import {self._path}",
            expected=expected,
            got=got,
            remedy="Export the index again: catalens export INDEX OUT.parquet.",
        )

    def _open(self) -> Any:
        # Without pre-buffering, a column is streamed and never held for a whole row group.
        return pq.ParquetFile(
            self._path,
            pre_buffer=False,
            buffer_size=2**20,
            page_checksum_verification=True,
            thrift_string_size_limit=_LONGEST_VALUE,
        )


def _schema(spaces: Sequence[str]) -> Any:
    return pa.schema(
        [
            pa.field("id", pa.string()),
            pa.field("inputs", pa.list_(_INPUT)),
            pa.field("metadata", pa.string()),
            pa.field("fused", _VECTOR),
            *(pa.field(_column(space), pa.list_(_VECTOR)) for space in spaces),
        ]
    )


def _column(space: str) -> str:
    return f"embeddings.{space}"


def _cell(given: StoredInput) -> tuple[str, bytes, str | None]:
    return given.modality, bytes.fromhex(given.sha256), given.source


def _items(batch: Any, spaces: Sequence[str]) -> Iterator[StoredItem]:
    """The rows of a batch. Columns of types that hold the same, as other programs write them, are
    taken; what does not is an error of pyarrow's."""
    columns = {
        field.name: batch.column(field.name).cast(field.type)
        for field in _schema(spaces)
        if field.name != "fused"
    }
    vectors = [_vectors(columns[_column(space)]) for space in spaces]
    plain = (columns[name].to_pylist() for name in ("id", "metadata", "inputs"))
    for identity, metadata, inputs, *found in zip(*plain, *vectors, strict=True):
        of_each = zip(inputs, *found, strict=True)
        yield StoredItem(
            identity,
            metadata,
            [
                StoredInput(
                    one["modality"],
                    one["sha256"].hex(),
                    one["source"],
                    {s: v for s, v in zip(spaces, own, strict=True) if v is not None},
                )
                for one, *own in of_each
            ],
        )


def _vectors(column: Any) -> Iterator[list[Floats | None]]:
    """The vectors of each row of a column of lists of lists of float32."""
    inner = column.values
    values = inner.values.to_numpy(zero_copy_only=False)
    starts, there = inner.offsets.to_numpy(), inner.is_valid().to_numpy(zero_copy_only=False)
    bounds = column.offsets.to_numpy()
    for first, end in pairwise(bounds):
        yield [values[starts[n] : starts[n + 1]] if there[n] else None for n in range(first, end)]


def _decoded(tensors: bytes) -> bytes:
    return b64decode(tensors, validate=True)


def _reason(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
