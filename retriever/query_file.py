"""Real queries, one a line: what an index is tuned with."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import orjson

from encoders.errors import CatalensError

from .errors import QueryFileError
from .query import Query

_PARTS = tuple(inspect.signature(Query).parameters)


def read_queries(path: str | Path) -> list[Query]:
    """Read a file of queries: a line that starts with a brace is a JSON object with the arguments
    of `Query`, any other is text.

    Raises:
        QueryFileError: the file cannot be read, has no query, or has a line that is none.
    """
    path = Path(path)
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise _misread(str(path), error.strerror or str(error)) from error
    queries = [
        _query(line.strip(), f"{path}, line {number}")
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
    if not queries:
        raise _misread(str(path), "no line at all")
    return queries


def _query(line: bytes, where: str) -> Query:
    try:
        asked: Any = orjson.loads(line) if line.startswith(b"{") else {"text": line.decode()}
        unknown = [name for name in asked if name not in _PARTS]
        if unknown:
            raise _misread(where, f"{unknown[0]!r}, which is no part of a query")
        return Query(**asked)
    except (orjson.JSONDecodeError, UnicodeDecodeError) as error:
        raise _misread(where, str(error)) from error
    except QueryFileError:
        raise
    except CatalensError as error:
        raise _misread(where, str(error)) from error


def _misread(where: str, got: str) -> QueryFileError:
    return QueryFileError(
        where,
        expected='lines of text, or like {"text": "red shoe", "weights": {"image": 2}}',
        got=got,
        remedy=f"Mend the file; an object may have {', '.join(_PARTS)}.",
    )
