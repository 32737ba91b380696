"""From a row of a dump to an item: id, metadata, and the inputs of each modality."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np

from encoders.errors import InvalidVectorError, MediaError, UndecodableMediaError

from .catalog_errors import RejectedRowError
from .columns import Columns
from .items import Input, Item, Reject
from .media_paths import resolve_media
from .modalities import TEXT, Modality, modalities
from .readers import Row
from .values import is_missing, json_key, json_value, shown

MAX_ID_BYTES = 480
"""What fits a key of the store beside its own bytes."""


def item_id(value: object) -> str:
    """Return the id a value stands for; an integer becomes its digits.

    Raises:
        RejectedRowError: missing, blank, neither string nor 64-bit integer, longer than 480 bytes
            of UTF-8, or with a NUL or half a surrogate pair in it.
    """
    got = None
    if is_missing(value):
        got = "none"
    elif isinstance(value, bool | np.bool_) or not isinstance(value, str | int | np.integer):
        got = shown(value)
    elif isinstance(value, str):
        if not value.strip():
            got = "a blank one"
        elif "\0" in value:
            got = f"a NUL in {shown(value)}"
    elif not -(2**63) <= int(value) < 2**64:
        got = "an integer beyond 64 bits"
    if got is not None:
        raise RejectedRowError(
            "id",
            expected="a string or an integer",
            got=got,
            remedy="Give every row an id of its own.",
        )
    text = json_value(str(value), "id")
    assert isinstance(text, str)
    if len(text.encode()) > MAX_ID_BYTES:
        raise RejectedRowError(
            "id",
            expected=f"at most {MAX_ID_BYTES} bytes of UTF-8",
            got=f"{len(text.encode()):,}",
            remedy="Use a shorter id, such as a hash of this one.",
        )
    return text


def no_input(rejects: Iterable[Reject]) -> RejectedRowError:
    """Return the error for a row that no modality is left of."""
    lost = "; ".join(f"{reject.modality}: {reject.reason}" for reject in rejects)
    return RejectedRowError(
        "row",
        expected="text, a picture, a sound or a vector",
        got=f"only bad inputs ({lost})" if lost else "none of them",
        remedy="Fill one of the mapped columns.",
    )


class RowParser:
    """Turns rows into items.

    A bad id or metadata value costs the row; a bad text, path or vector costs that input, and
    the row only when no input is left. None, NaN, blank strings and empty lists are holes.

    Args:
        columns: the mapping, resolved.
        media_root: folder that media paths are relative to, resolved.
    """

    def __init__(self, columns: Columns, media_root: Path) -> None:
        self._columns = columns
        self._root = media_root
        self._modalities = [one for one in modalities().values() if columns.of(one.name)]
        self._no_metadata = {columns.id, *columns.not_metadata}

    def parse(self, row: Row) -> Item | Reject:
        """Return the item, or why there is none."""
        identity = None
        try:
            identity = item_id(row.values.get(self._columns.id))
            metadata = self._metadata(row.values)
            rejects: list[Reject] = []
            inputs = dict(self._inputs(row, identity, rejects))
            if not inputs:
                raise no_input(rejects)
        except RejectedRowError as error:
            return Reject.from_error(error, line=row.line, id=identity)
        return Item(row.line, identity, inputs, metadata, tuple(rejects))

    def _metadata(self, values: Mapping[str, object]) -> dict[str, Any]:
        return {
            json_key(name): json_value(value, name)
            for name, value in values.items()
            if name not in self._no_metadata and not is_missing(value)
        }

    def _inputs(
        self, row: Row, identity: str, rejects: list[Reject]
    ) -> Iterator[tuple[str, tuple[Input, ...]]]:
        """Yield the modalities that have inputs, and append what was lost to `rejects`."""

        def gather(
            modality: str, values: Iterable[object], make: Callable[[Any], Input]
        ) -> tuple[Input, ...]:
            made = []
            for value in values:
                try:
                    made.append(make(value))
                except MediaError as error:
                    source = _source(value)
                    rejects.append(
                        Reject.from_error(
                            error, line=row.line, id=identity, modality=modality, source=source
                        )
                    )
            return tuple(made)

        columns = self._columns
        found = []
        for modality in self._modalities:
            values = [row.values.get(column) for column in columns.of(modality.name) or ()]
            make = self._file if modality.is_of_files else partial(_made, modality)
            given = gather(modality.name, _inputs_in(values, modality), make)
            found.append((modality.name, given))
        for space, name in columns.vector.items():
            value = row.values.get(name)
            vectors = () if _is_hole(value) else (value,)
            found.append((f"vector:{space}", gather(f"vector:{space}", vectors, _vector)))
        return ((modality, inputs) for modality, inputs in found if inputs)

    def _file(self, value: object) -> Input:
        """Make an input of a path, raw bytes, or Hugging Face's {"bytes": ..., "path": ...}."""
        if isinstance(value, Mapping) and {"bytes", "path"} & value.keys():
            content, path = value.get("bytes"), value.get("path")
            if not _is_hole(content) and isinstance(content, bytes | bytearray | memoryview):
                return Input(bytes(content), None, _source(path))
            value = path
        if isinstance(value, bytes | bytearray | memoryview):
            return Input(bytes(value), None)
        path = fspath(value) if isinstance(value, PathLike) else value
        if isinstance(path, str):
            return Input(None, resolve_media(self._root, path), path)
        raise UndecodableMediaError(
            "media",
            expected='a path, bytes, or {"bytes": ..., "path": ...}',
            got=shown(value),
            remedy="Write the picture or sound to a file and give its path.",
        )


def _inputs_in(values: list[object], modality: Modality) -> Iterator[object]:
    """Yield the inputs among the values of a row's columns: of text, one document of all plain
    values, then the elements of lists; of files, the elements of lists; of others, each value."""
    if modality.name == TEXT:
        yield from _texts(values)
    elif modality.is_of_files:
        yield from (one for value in values for one in _spread(value))
    else:
        yield from (value for value in values if not _is_hole(value))


def _made(modality: Modality, value: object) -> Input:
    return Input(modality.bytes_of(value), None)


def _texts(values: Iterable[object]) -> Iterator[object]:
    """Yield one document of all plain values, then the elements of lists one by one."""
    document: list[str] = []
    others: list[object] = []
    for value in values:
        if isinstance(value, str):
            document += [] if _is_hole(value) else [value]
        else:
            others += _spread(value)
    if document:
        yield "\n".join(document)
    yield from others


def _spread(value: object) -> list[object]:
    """Return the values of a column that holds one or a list of them, without holes."""
    if (
        isinstance(value, np.ndarray) and value.ndim < 2
    ):  # More are pixels: one bad input, not many.
        value = value.tolist()
    values = value if isinstance(value, list | tuple) else [value]
    return [one for one in values if not _is_hole(one)]


def _is_hole(value: object) -> bool:
    if isinstance(value, str):
        return not value.strip()
    if isinstance(value, np.ndarray):
        return value.size == 0
    if isinstance(value, bytes | bytearray | list | tuple):
        return len(value) == 0
    if isinstance(value, Mapping):  # Hugging Face writes {"bytes": None, "path": None}.
        parts = value.values()
        return all(not isinstance(part, Mapping) and _is_hole(part) for part in parts)
    return is_missing(value)


def _vector(value: object) -> Input:
    try:
        numbers = np.asarray(value)
    except ValueError:  # Lists of unequal lengths.
        numbers = np.empty((0, 0))
    if numbers.dtype.kind not in "fiu" or numbers.ndim != 1:
        raise InvalidVectorError(
            "vector",
            expected="a flat list of numbers",
            got=shown(value),
            remedy="Correct the column of vectors.",
        )
    with np.errstate(over="ignore"):  # The encoder refuses the infinity this makes.
        return Input(numbers.astype("<f4").tobytes(), None)


def _source(value: object) -> str | None:
    """Return a path as a dump wrote it, made printable."""
    if isinstance(value, Mapping):
        value = value.get("path")
    if isinstance(value, PathLike):
        value = fspath(value)
    if not isinstance(value, str):
        return None
    return value[:1000].encode("utf-8", "backslashreplace").decode()
