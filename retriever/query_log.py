"""A log of queries and of the hits that were shown: JSON lines, appended, for later joining.

A line is written by one call in append mode, so that processes may share a file and a crash can
cut no line but the last; who opens the file again begins a new line behind that. What identifies a
search is its name alone: no user, address or session is known here. Pictures, sounds and vectors
are told by their kind, never kept.
"""

from __future__ import annotations

import os
import secrets
import warnings
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from .errors import QueryLogError
from .hit import Hit
from .query import Part, Query

_TOLD = ("text", "item")
_OWNER_ALONE = 0o600


class LoggedSearch(NamedTuple):
    """A search of the log: its name, its text where it was a query of text alone, else None, and
    the ids that were shown, best first."""

    name: str
    text: str | None
    shown: list[str]


class QueryLog:
    """A file that searches are appended to; safe to use from many threads and processes."""

    def __init__(self, path: str | Path) -> None:
        """Open a log, or make one that its owner alone can read.

        Raises:
            QueryLogError: the file cannot be written.
        """
        self._path = Path(path)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            self._file = os.open(self._path, flags, _OWNER_ALONE)
            size = os.fstat(self._file).st_size
            if size and os.pread(self._file, 1, size - 1) != b"\n":
                os.write(self._file, b"\n")
        except OSError as error:
            raise QueryLogError(
                f"query log {path}",
                expected="a file that can be appended to",
                got=error.strerror or str(error),
                remedy="Choose another path, or open the index without a log.",
            ) from error
        self.lost = 0
        """Searches that could not be written, as on a full disk; searching goes on without."""

    def append(
        self,
        queries: Sequence[Query],
        answers: Sequence[Sequence[Hit]],
        where: str | None,
        names: Sequence[str] | None = None,
    ) -> None:
        """Write a line for each query; one that has no name gets a random one."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        lines = [
            orjson.dumps(
                {
                    "search": secrets.token_hex(8) if names is None else names[number],
                    "time": now,
                    "parts": [_told(part) for part in query.parts],
                    "weights": query.weights,
                    "where": where,
                    "shown": [hit.id for hit in hits],
                },
                option=orjson.OPT_APPEND_NEWLINE,
                default=str,
            )
            for number, (query, hits) in enumerate(zip(queries, answers, strict=True))
        ]
        for line in lines:
            try:
                written = os.write(self._file, line)
            except OSError as error:
                self._lose(error.strerror or str(error))
            else:
                if written < len(line):
                    self._lose("a line was cut")

    def close(self) -> None:
        """Close the file; closing twice does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _lose(self, why: str) -> None:
        self.lost += 1
        if self.lost == 1:
            warnings.warn(f"query log {self._path}: {why}; searches go on unlogged", stacklevel=2)


def read_log(path: str | Path) -> Iterator[LoggedSearch | None]:
    """The searches of a log, in order; None for a line that does not read, as one cut by a crash.

    Raises:
        QueryLogError: the file cannot be read.
    """
    try:
        with Path(path).open("rb") as lines:
            for line in lines:
                if line.strip():
                    yield _parsed(line)
    except OSError as error:
        raise QueryLogError(
            f"query log {path}",
            expected="a file that can be read",
            got=error.strerror or str(error),
            remedy="Check the path.",
        ) from error


def _parsed(line: bytes) -> LoggedSearch | None:
    try:
        value: Any = orjson.loads(line)
        name, parts, shown = value["search"], value["parts"], value["shown"]
        texts = [part["text"] for part in parts if part["kind"] == "text"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
    if not (isinstance(name, str) and all(isinstance(one, str) for one in (*shown, *texts))):
        return None
    return LoggedSearch(name, texts[0] if len(texts) == len(parts) == 1 else None, shown)


def _told(part: Part) -> dict[str, Any]:
    told = {"kind": part.kind, "weight": part.weight}
    # Lone surrogates are no JSON; encoders refuse them anyway.
    if part.kind in _TOLD:
        told[part.kind] = part.value.encode("utf-8", "replace").decode()
    return told
