"""The filter language: from `price < 100 and not sold = true` to a predicate.

    filter      = conjunction { "or" conjunction }
    conjunction = negation { "and" negation }
    negation    = { "not" } ( "(" filter ")" | condition )
    condition   = field ( "=" | "==" | "!=" | "<" | "<=" | ">" | ">=" ) value
                | field [ "not" ] "in" "(" value { "," value } ")"
    field       = letters, digits and _ of any script, not starting with a digit,
                  or anything between backticks (a backtick inside is doubled)
    value       = number | string | "true" | "false"
    string      = '...' or "...", with \\\\ \\' \\" \\n \\r \\t for special characters

Keywords may be written in upper case. What a filter means stands in `predicates`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from .filter_errors import FilterSyntaxError
from .predicates import KEYWORDS, WORD, And, Comparison, Membership, Not, Or, Predicate, Value

MAX_LENGTH = 65_536
"""Characters in a filter; room for some thousands of values in one list."""
MAX_DEPTH = 50
"""Parentheses and negations around a condition: recursion that no stack fears."""

_TOKEN = re.compile(
    r"""
    \s*(?:
      (?P<number>[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?!\w))
    | (?P<word>"""
    + WORD.pattern
    + r""")
    | `(?P<quoted>(?:[^`]|``)*)`
    | (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    | (?P<symbol>==|!=|<=|>=|[=<>(),])
    | (?P<end>\Z)
    )""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED = {"\\": "\\", "'": "'", '"': '"', "n": "\n", "r": "\r", "t": "\t"}
_COMPARISONS = ("=", "==", "!=", "<", "<=", ">", ">=")


def parse(where: str) -> Predicate:
    """Read a filter.

    Raises:
        FilterSyntaxError: it does not read, is longer than `MAX_LENGTH` characters, or nests
            deeper than `MAX_DEPTH`; says at which column.
    """
    if len(where) > MAX_LENGTH:
        raise FilterSyntaxError(
            where,
            MAX_LENGTH,
            expected=f"at most {MAX_LENGTH:,} characters",
            got=f"{len(where):,}",
            remedy="Put a long list of values into a metadata field of its own.",
        )
    return _Parser(where).parse()


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    """keyword, field, value, symbol or end."""
    value: Value
    position: int
    text: str


class _Parser:
    """Recursive descent, one token ahead."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._depth = 0
        self._next = self._read(0)

    def parse(self) -> Predicate:
        """Read the whole filter."""
        predicate = self._any()
        if self._next.kind != "end":
            self._fail("and, or, or the end of the filter", "Join conditions by and or or.")
        return predicate

    def _any(self) -> Predicate:
        return self._list("or", lambda: self._list("and", self._negation, And), Or)

    def _list(
        self,
        joint: str,
        read: Callable[[], Predicate],
        join: type[And] | type[Or],
    ) -> Predicate:
        parts = [read()]
        while self._accept("keyword", joint):
            parts.append(read())
        return parts[0] if len(parts) == 1 else join(tuple(parts))

    def _negation(self) -> Predicate:
        if self._depth > MAX_DEPTH:
            self._fail(f"at most {MAX_DEPTH} levels of nesting", "Write the filter flatter.")
        self._depth += 1
        if self._accept("keyword", "not"):
            predicate: Predicate = Not(self._negation())
        elif self._accept("symbol", "("):
            predicate = self._any()
            self._expect(")")
        else:
            predicate = self._condition()
        self._depth -= 1
        return predicate

    def _condition(self) -> Predicate:
        token = self._next
        if token.kind != "field":
            self._fail(
                "the name of a field",
                'Write conditions as in price < 100 or brand in ("a", "b"); '
                "put unusual names in backticks.",
            )
        field = str(token.value)
        self._advance()
        if self._accept("keyword", "not"):
            if not self._accept("keyword", "in"):
                self._fail("in after not", "Write: field not in (1, 2).")
            return Membership(field, self._values(), negated=True)
        if self._accept("keyword", "in"):
            return Membership(field, self._values())
        sign = self._next
        if sign.kind != "symbol" or sign.value not in _COMPARISONS:
            self._fail("one of = != < <= > >= in, not in", "Write: field = value.")
        self._advance()
        return Comparison(field, "=" if sign.value == "==" else str(sign.value), self._value())

    def _values(self) -> tuple[Value, ...]:
        self._expect("(")
        values = [self._value()]
        while self._accept("symbol", ","):
            values.append(self._value())
        self._expect(")")
        return tuple(values)

    def _value(self) -> Value:
        token = self._next
        if token.kind != "value":
            self._fail("a number, a quoted string, true or false", "Put texts in quotes.")
        self._advance()
        return token.value

    def _expect(self, symbol: str) -> None:
        if not self._accept("symbol", symbol):
            self._fail(symbol, "Close every parenthesis that is opened.")

    def _accept(self, kind: str, value: str) -> bool:
        if self._next.kind != kind or self._next.value != value:
            return False
        self._advance()
        return True

    def _advance(self) -> None:
        self._next = self._read(self._next.position + len(self._next.text))

    def _read(self, start: int) -> _Token:
        """Read the token at or after a position."""
        found = _TOKEN.match(self._where, start)
        if found is None:
            position = start + len(self._where[start:]) - len(self._where[start:].lstrip())
            self._refuse(position, "a field, a value or an operator", "Close quotes and backticks.")
        kind = str(found.lastgroup)
        text = found[0].lstrip()
        position = found.end() - len(text)
        try:
            text.encode()
        except UnicodeEncodeError:
            self._refuse(position, "text that UTF-8 can hold", "Take half surrogate pairs out.")
        if kind == "word":
            word = text.lower()
            if word in ("true", "false"):
                return _Token("value", word == "true", position, text)
            if word in KEYWORDS:
                return _Token("keyword", word, position, text)
            return _Token("field", text, position, text)
        if kind == "quoted":
            return _Token("field", found["quoted"].replace("``", "`"), position, text)
        if kind == "string":
            return _Token("value", self._unescape(text[1:-1], position + 1), position, text)
        if kind == "number":
            return _Token("value", self._number(text, position), position, text)
        return _Token(kind, text, position, text)

    def _unescape(self, text: str, position: int) -> str:
        def replace(found: re.Match[str]) -> str:
            if found[1] not in _ESCAPED:
                self._refuse(
                    position + found.start(),
                    "one of \\\\ \\' \\\" \\n \\r \\t",
                    "Double a backslash that is meant as one.",
                )
            return _ESCAPED[found[1]]

        return _ESCAPE.sub(replace, text)

    def _number(self, text: str, position: int) -> int | float:
        # Python refuses to read integers of more than 4,300 digits, leading zeros included.
        number = float(text) if len(text) <= 400 else math.inf
        if math.isinf(number):
            self._refuse(position, "a number below 1.8e308", "Leave the bound out.")
        return int(text) if text.lstrip("+-").isdigit() else number

    def _fail(self, expected: str, remedy: str) -> NoReturn:
        self._refuse(self._next.position, expected, remedy)

    def _refuse(self, position: int, expected: str, remedy: str) -> NoReturn:
        got = self._where[position : position + 20].encode("utf-8", "backslashreplace").decode()
        raise FilterSyntaxError(
            self._where,
            position,
            expected=expected,
            got=repr(got) if got else "the end of the filter",
            remedy=remedy,
        )
