"""Errors of the filter language.

CatalensError
└── FilterError
    ├── FilterSyntaxError   the filter does not read; the message names the column
    └── UnknownFieldError   no item has a field of that name
"""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches

from encoders.errors import CatalensError

_EXCERPT = 24
_LISTED = 20


class FilterError(CatalensError):
    """A filter cannot be used."""


class FilterSyntaxError(FilterError):
    """The filter does not read."""

    def __init__(self, where: str, position: int, *, expected: str, got: str, remedy: str) -> None:
        start, end = max(0, position - _EXCERPT), position + _EXCERPT
        excerpt = f"{where[start:position]}⟦here⟧{where[position:end]}"
        printable = " ".join(excerpt.encode("utf-8", "backslashreplace").decode().split())
        super().__init__(
            f"filter, column {position + 1}, {printable!r}",
            expected=expected,
            got=got,
            remedy=remedy,
        )
        self.position = position
        """Index into the filter, from 0, of the character that does not fit."""


class UnknownFieldError(FilterError):
    """No item has a metadata field of that name."""

    def __init__(self, field: str, known: Collection[str]) -> None:
        names = sorted(known)
        near = get_close_matches(field, names, n=1)
        more = f" and {len(names) - _LISTED:,} more" if len(names) > _LISTED else ""
        listed = ", ".join(repr(name) for name in names[:_LISTED]) or "no metadata at all"
        super().__init__(
            "filter",
            expected=f"a field that some item has: {listed}{more}",
            got=repr(field),
            remedy=f"Did you mean {near[0]!r}?" if near else "Name one of them.",
        )
        self.field = field
