"""From what dumps hold to what JSON can: metadata values, CSV cells, printable excerpts."""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import orjson

from .catalog_errors import RejectedRowError

MAX_DEPTH = 64
"""Nesting kept in metadata; orjson reads 1,024 levels but writes no more than 254."""

_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")
_FRACTION = re.compile(r"-?(?:0|[1-9][0-9]{0,15})\.[0-9]+(?:[eE][+-][0-9]{1,3})?")
_SCIENTIFIC = re.compile(r"-?[1-9][eE][+-][0-9]{2,3}")
_BOOLEANS = {"true": True, "false": False}

_excerpt = reprlib.Repr()
_excerpt.maxstring = _excerpt.maxother = 80


def shown(value: object) -> str:
    """Return type and excerpt of a value for a message: short, printable, valid UTF-8."""
    try:
        excerpt = _excerpt.repr(value)
    except ValueError:  # Python refuses to print integers of more than 4,300 digits.
        excerpt = "too long to print"
    return f"{type(value).__name__} {excerpt}".encode("utf-8", "backslashreplace").decode()


def is_missing(value: object) -> bool:
    """Tell whether a value says "nothing here": None, NaN, or a time that is none (NaT)."""
    if value is None:
        return True
    if isinstance(value, Decimal):
        return value.is_nan()
    if isinstance(value, float | np.floating | np.datetime64 | datetime):
        return bool(value != value)  # Only NaN and NaT differ from themselves.
    return False


def json_value(value: object, column: str, depth: int = MAX_DEPTH) -> Any:
    """Return the JSON value that stands for a metadata value.

    Times become ISO 8601 strings, durations seconds, Decimal a float, UUID a string; numpy values
    their Python counterparts; integers beyond 64 bits floats. In a mapping missing values are left
    out, in a list they are None.

    Raises:
        RejectedRowError: JSON or UTF-8 cannot hold the value; names the column.
    """
    if is_missing(value):
        return None
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, str):
        return _utf8(str.__str__(value), column)
    if isinstance(value, int | np.integer):
        return _integer(int(value), column)
    if isinstance(value, float | np.floating | Decimal):
        return _finite(float(value), column)
    if isinstance(value, date | time):  # A datetime is a date.
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, np.datetime64):
        return str(value)  # ISO 8601, to the nanosecond, where Python's times end before.
    if isinstance(value, UUID):
        return str(value)
    if depth == 0:
        raise _rejected(column, f"at most {MAX_DEPTH} levels of nesting", "more")
    if isinstance(value, np.ndarray):
        return json_value(value.tolist(), column, depth - 1)
    if isinstance(value, list | tuple):
        return [json_value(element, column, depth - 1) for element in value]
    if isinstance(value, Mapping):
        return {
            json_key(key): json_value(element, column, depth - 1)
            for key, element in value.items()
            if not is_missing(element)
        }
    raise _rejected(column, "a value that JSON can hold", shown(value))


def json_key(key: object) -> str:
    """Return the name of a field.

    Raises:
        RejectedRowError: it is no string, or one that UTF-8 cannot hold.
    """
    if not isinstance(key, str):
        raise RejectedRowError(
            "field name",
            expected="a string",
            got=shown(key),
            remedy="Name every column with a string.",
        )
    return _utf8(str.__str__(key), key)


def cell_value(cell: str) -> str | int | float | bool:
    """Return the value a CSV cell spells.

    A number only when it is written the way programs write numbers that are one: `007`, `1e999`
    and codes of 20 digits stay strings, so that no code loses a digit. `true` and `false`, in any
    case, are booleans.
    """
    if _INTEGER.fullmatch(cell):
        number = int(cell)
        return number if -(2**63) <= number < 2**63 else cell
    if _FRACTION.fullmatch(cell) or _SCIENTIFIC.fullmatch(cell):
        real = float(cell)
        return real if math.isfinite(real) else cell
    return _BOOLEANS.get(cell.lower(), cell)


def list_cell(cell: str) -> object:
    """Return the list a CSV cell of a media or vector column holds, or else the cell itself."""
    if cell.startswith("["):
        try:
            return orjson.loads(cell)
        except orjson.JSONDecodeError:
            return cell  # A file may be called "[1].png".
    return cell


def _utf8(text: str, column: str) -> str:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            # Storage is UTF-8, where half a surrogate pair has no bytes.
            raise _rejected(column, "text that UTF-8 can hold", shown(text)) from None
    return text


def _integer(number: int, column: str) -> int | float:
    if -(2**63) <= number < 2**64:
        return number
    try:
        return float(number)
    except OverflowError:
        got = f"an integer of {number.bit_length():,} bits"
        raise _rejected(column, "a number below 1.8e308", got) from None


def _finite(number: float, column: str) -> float:
    if math.isinf(number):
        raise _rejected(column, "a finite number", str(number))
    return number


def _rejected(column: str, expected: str, got: str) -> RejectedRowError:
    return RejectedRowError(
        f"column {shown(column).removeprefix('str ')}",
        expected=expected,
        got=got,
        remedy="Correct the value or leave it out.",
    )
