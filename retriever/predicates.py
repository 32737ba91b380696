"""What a filter means: its syntax tree, and the two ways to evaluate it.

A row *has* a field when its value is a string, a number, a boolean or a list; objects cannot be
filtered on. Strings, numbers and booleans are three types: 1 equals 1.0, and neither equals true
or "1". Numbers are compared as doubles, as the index stores them, strings by code point.

A comparison is false for a row that lacks the field, `!=` and `not in` included; `not` is the
plain complement, so `not price = 5` holds for rows without a price and `price != 5` does not.
Of a list, one element is enough for `=`, `in`, `<` and their like; for `!=` and `not in`, no
element may be equal. Values of another type equal nothing and order before and after nothing.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pyroaring import BitMap

from .filter_errors import UnknownFieldError

Value = str | int | float | bool

WORD = re.compile(r"[^\W\d]\w*")
"""A field name that needs no backticks, unless it is a keyword."""

KEYWORDS = frozenset({"and", "or", "not", "in", "true", "false"})
"""Words a field can be called only in backticks, in upper or lower case."""

_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Postings(Protocol):
    """What an index answers about one metadata field; every answer is a set of row numbers."""

    def fields(self) -> Collection[str]:
        """Return the names of all fields."""

    def all_rows(self) -> BitMap:
        """Return every row."""

    def having(self, field: str) -> BitMap:
        """Return the rows that have the field."""

    def equal(self, field: str, value: Value) -> BitMap:
        """Return the rows whose value, or an element of it, equals the one given."""

    def between(
        self, field: str, low: Value | None, high: Value | None, low_open: bool, high_open: bool
    ) -> BitMap:
        """Return the rows with a value, or an element, of the bounds' type between them.

        At most one bound is None: no bound on that side. An open bound is not included.
        """


@dataclass(frozen=True, slots=True)
class Comparison:
    """`field operator value`."""

    field: str
    operator: str
    """One of = != < <= > >=."""
    value: Value

    def __str__(self) -> str:
        return f"{_name(self.field)} {self.operator} {_literal(self.value)}"


@dataclass(frozen=True, slots=True)
class Membership:
    """`field in (values)`, or `field not in (values)` when negated."""

    field: str
    values: tuple[Value, ...]
    negated: bool = False

    def __str__(self) -> str:
        verb = "not in" if self.negated else "in"
        return f"{_name(self.field)} {verb} ({', '.join(map(_literal, self.values))})"


@dataclass(frozen=True, slots=True)
class Not:
    """The rows a predicate leaves out."""

    part: Predicate

    def __str__(self) -> str:
        return f"not {_grouped(self.part, (And, Or))}"


@dataclass(frozen=True, slots=True)
class And:
    """All of two or more predicates."""

    parts: tuple[Predicate, ...]

    def __str__(self) -> str:
        return " and ".join(_grouped(part, (And, Or)) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Or:
    """At least one of two or more predicates."""

    parts: tuple[Predicate, ...]

    def __str__(self) -> str:
        return " or ".join(_grouped(part, (Or,)) for part in self.parts)


Predicate = Comparison | Membership | Not | And | Or


def matches(predicate: Predicate, metadata: Mapping[str, Any]) -> bool:
    """Tell whether one item's metadata satisfy a predicate; unknown fields are lacking fields."""
    match predicate:
        case And(parts):
            return all(matches(part, metadata) for part in parts)
        case Or(parts):
            return any(matches(part, metadata) for part in parts)
        case Not(part):
            return not matches(part, metadata)
    value = metadata.get(predicate.field)
    if not isinstance(value, str | int | float | list):  # A boolean is an int.
        return False
    elements = [_typed(one) for one in (value if isinstance(value, list) else [value])]
    match predicate:
        case Membership(_, values, negated):
            return any(_typed(one) in elements for one in values) is not negated
        case Comparison(_, "=", wanted):
            return _typed(wanted) in elements
        case Comparison(_, "!=", wanted):
            return _typed(wanted) not in elements
        case Comparison(_, order, wanted):
            kind, bound = _typed(wanted)
            return any(kind is type_ and _ORDERS[order](one, bound) for type_, one in elements)


def evaluate(predicate: Predicate, postings: Postings) -> BitMap:
    """Return the numbers of the rows that satisfy a predicate.

    Raises:
        UnknownFieldError: the predicate names a field that the postings do not know.
    """
    known = postings.fields()
    for field in sorted(fields_of(predicate)):
        if field not in known:
            raise UnknownFieldError(field, known)
    return _rows(predicate, postings)


def fields_of(predicate: Predicate) -> set[str]:
    """Return the names of the fields a predicate looks at."""
    match predicate:
        case And(parts) | Or(parts):
            return set().union(*map(fields_of, parts))
        case Not(part):
            return fields_of(part)
        case Comparison(field) | Membership(field):
            return {field}


def _rows(predicate: Predicate, postings: Postings) -> BitMap:
    match predicate:
        case And(parts):
            return BitMap.intersection(*(_rows(part, postings) for part in parts))
        case Or(parts):
            return BitMap.union(*(_rows(part, postings) for part in parts))
        case Not(part):
            return postings.all_rows() - _rows(part, postings)
        case Membership(field, values, negated):
            found = BitMap.union(BitMap(), *(postings.equal(field, value) for value in values))
            return postings.having(field) - found if negated else found
        case Comparison(field, "=", value):
            return postings.equal(field, value)
        case Comparison(field, "!=", value):
            return postings.having(field) - postings.equal(field, value)
        case Comparison(field, order, value):
            is_open = order in ("<", ">")
            if order in ("<", "<="):
                return postings.between(field, None, value, False, is_open)
            return postings.between(field, value, None, is_open, False)


def _typed(value: object) -> tuple[type, Any]:
    """Return a value with its type, so that 1 equals 1.0 but not True."""
    if isinstance(value, bool):
        return bool, value
    if isinstance(value, int | float):
        return float, float(value)
    return type(value), value


def _grouped(part: Predicate, looser: tuple[type, ...]) -> str:
    return f"({part})" if isinstance(part, looser) else str(part)


def _name(field: str) -> str:
    if WORD.fullmatch(field) and field.lower() not in KEYWORDS:
        return field
    return "`" + field.replace("`", "``") + "`"


def _literal(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return repr(value)
