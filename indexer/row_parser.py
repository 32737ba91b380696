"""From a row of a dump to an item: id, metadata, and the inputs of each modality."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np

from encoders.errors import InvalidVectorError, MediaError, UndecodableMediaError

from .catalog_errors import RejectedRowError
from .columns import Columns
from .items import Input, Item, Reject
from .media_paths import resolve_media
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
        self._kinds: list[tuple[str, tuple[str, ...], Callable[[Any], Input]]] = [
            ("image", columns.image or (), self._file),
            ("audio", columns.audio or (), self._file),
        ]
        media = (*(columns.image or ()), *(columns.audio or ()), *columns.vector.values())
        self._no_metadata = {columns.id, *media}

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
        text_values = [row.values.get(name) for name in columns.text or ()]
        found = [("text", gather("text", _texts(text_values), _text))]
        for modality, names, make in self._kinds:
            spread = (one for name in names for one in _spread(row.values.get(name)))
            found.append((modality, gather(modality, spread, make)))
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


def _text(value: object) -> Input:
    if not isinstance(value, str):
        raise UndecodableMediaError(
            "text",
            expected="a string or a list of strings",
            got=shown(value),
            remedy="Convert the value to a string.",
        )
    return Input(value.encode(), None)


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
