"""Clicks joined with the log of what was shown, to judgements that a head can learn from."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from .errors import ClicksError
from .query_log import read_log

_EXPECTED = 'lines like {"search": "the name of the search", "item": "sku-7"}'


@dataclass(frozen=True)
class JoinSummary:
    """What came of a join."""

    queries: int
    """Different texts with an item that was clicked often enough."""
    clicks: int
    """Clicks that were counted."""
    unknown_searches: int
    """Clicks on searches that the log has not, or that were no single text."""
    not_shown: int
    """Clicks on items that their search has not shown."""
    unread: int
    """Lines of the log that do not read."""


def join_clicks(
    log: str | Path, clicks: str | Path, out: str | Path, *, least: int = 1
) -> JoinSummary:
    """Write judgements, JSON lines of {"query": text, "relevant": [ids]}: an item is relevant to a
    text if it was clicked in at least `least` searches for it. Texts that differ in capitals or
    blanks are one.

    Args:
        log: what `Retriever.open(..., log=...)` has written.
        clicks: JSON lines of {"search": name, "item": id}.
        out: the file to write; it must not be there yet.
        least: how many clicks an item needs; more forget what few people did.

    Raises:
        QueryLogError: the log cannot be read.
        ClicksError: the clicks cannot be read, a line is none, or nothing is left; or `out` is
            there already or cannot be written.
    """
    clicked = _read_clicks(Path(clicks))
    counts: dict[str, Counter[str]] = {}
    texts: dict[str, str] = {}
    unread = counted = not_shown = 0
    known: set[str] = set()
    for search in read_log(log):
        if search is None:
            unread += 1
            continue
        items = clicked.get(search.name)
        if items is None or search.text is None or search.name in known:
            continue
        known.add(search.name)
        key = " ".join(search.text.casefold().split())
        texts.setdefault(key, search.text)
        shown = items & set(search.shown)
        not_shown += len(items) - len(shown)
        counted += len(shown)
        counts.setdefault(key, Counter()).update(shown)
    lines = []
    for key, items_of in counts.items():
        relevant = sorted(item for item, count in items_of.items() if count >= least)
        if relevant:
            lines.append(orjson.dumps({"query": texts[key], "relevant": relevant}))
    if not lines:
        raise _error(
            f"clicks {clicks}",
            f"items that were clicked at least {least} times in searches of {log}",
            f"{sum(map(len, clicked.values())):,} clicks, of which {counted:,} are of searches "
            "there",
            "Clicks name a search as it was named in `search(..., name=...)`.",
        )
    _write(Path(out), b"\n".join(lines) + b"\n")
    unknown = sum(len(items) for name, items in clicked.items() if name not in known)
    return JoinSummary(len(lines), counted, unknown, not_shown, unread)


def _read_clicks(path: Path) -> dict[str, set[str]]:
    clicked: dict[str, set[str]] = {}
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    search, item = _click(line, f"{path}, line {number}")
                    clicked.setdefault(search, set()).add(item)
    except OSError as error:
        raise _error(
            str(path), _EXPECTED, error.strerror or str(error), "Check the path."
        ) from error
    return clicked


def _click(line: bytes, where: str) -> tuple[str, str]:
    try:
        value: Any = orjson.loads(line)
        search, item = value["search"], value["item"]
    except (orjson.JSONDecodeError, KeyError, TypeError, IndexError):
        search = item = None
    if not (isinstance(search, str) and isinstance(item, str)):
        got = line.decode("utf-8", "replace").strip()[:80]
        raise _error(where, _EXPECTED, got, "Mend the file.")
    return search, item


def _write(path: Path, data: bytes) -> None:
    try:
        with path.open("xb") as file:
            file.write(data)
    except OSError as error:
        raise _error(
            f"judgements {path}",
            "a new file",
            error.strerror or str(error),
            "Choose another path.",
        ) from error


def _error(what: str, expected: str, got: str, remedy: str) -> ClicksError:
    return ClicksError(what, expected=expected, got=got, remedy=remedy)
