"""Metadata values, and what CSV cells spell."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.catalog_errors import RejectedRowError
from indexer.values import MAX_DEPTH, cell_value, is_missing, json_value, list_cell, shown


class Colour(StrEnum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (datetime(2024, 5, 1, 12, tzinfo=UTC), "2024-05-01T12:00:00+00:00"),
        (date(2024, 5, 1), "2024-05-01"),
        (time(1, 2), "01:02:00"),
        (timedelta(minutes=3), 180.0),
        (np.datetime64("2024-05-01T12:00:00.5", "ns"), "2024-05-01T12:00:00.500000000"),
        (np.datetime64("2024-05-01"), "2024-05-01"),
        (Decimal("1.50"), 1.5),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (np.float32(0.5), 0.5),
        (np.longdouble(0.5), 0.5),
        (np.int8(3), 3),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.bool_(True), True),
        (np.str_("x"), "x"),
        (Colour.RED, "red"),
        (2**70, 2.0**70),
        (-(2**63) - 1, -(2.0**63)),
        (np.array([[1, 2]]), [[1, 2]]),
        ((1, None, float("nan")), [1, None, None]),
        ({"a": None, "b": {"c": (1,)}}, {"b": {"c": [1]}}),
        (True, True),
        ("", ""),
    ],
)
def test_json_stands_for(value: object, expected: object) -> None:
    found = json_value(value, "c")
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    "value",
    [b"x", float("inf"), Decimal("-inf"), {1, 2}, object(), "\ud800", ["\ud800"], {1: 2}, 10**400],
)
def test_what_json_cannot_hold_names_the_column(value: object) -> None:
    with pytest.raises(RejectedRowError) as caught:
        json_value(value, "weight")
    assert "weight" in str(caught.value) or "field name" in str(caught.value)
    assert str(caught.value).encode()


@pytest.mark.parametrize("value", [None, np.nan, Decimal("sNaN"), np.datetime64("NaT")])
def test_missing(value: object) -> None:
    assert is_missing(value)
    assert json_value(value, "c") is None


def test_nesting_ends_before_orjson_does() -> None:
    deep: list[Any] = []
    for _ in range(MAX_DEPTH - 1):
        deep = [deep]
    assert orjson.dumps({"c": json_value(deep, "c")})
    with pytest.raises(RejectedRowError, match="64 levels"):
        json_value([deep], "c")
    itself: list[Any] = []
    itself.append(itself)
    with pytest.raises(RejectedRowError, match="64 levels"):
        json_value(itself, "c")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda part: st.lists(part) | st.dictionaries(st.text(), part),
    )
)
def test_whatever_is_kept_can_be_written(value: object) -> None:
    try:
        kept = json_value(value, "c")
    except RejectedRowError:
        return
    assert orjson.loads(orjson.dumps(kept)) == kept


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("7", 7),
        ("-7", -7),
        ("0", 0),
        ("1.50", 1.5),
        ("-0.5", -0.5),
        ("1e-05", 1e-05),
        ("1.5e+16", 1.5e16),
        ("9223372036854775807", 2**63 - 1),
        ("true", True),
        ("False", False),
        *((same, same) for same in ("007", "1e999", "1.0e+999", "12345678901234567890", "-0")),
        *((same, same) for same in ("9223372036854775808", "+1", "1e5", ".5", "5.", "1_000")),
        *((same, same) for same in (" 7", "7\n", "٣", "nan", "NaN", "inf", "0x1", "1,5", "00.5")),
    ],
)
def test_cells_become_numbers_only_when_they_are_written_as_one(cell: str, expected: Any) -> None:
    found = cell_value(cell)
    assert found == expected
    assert type(found) is type(expected)


@given(st.integers(-(2**63), 2**63 - 1) | st.floats(-1e15, 1e15, allow_nan=False))
def test_numbers_as_python_writes_them_come_back(number: float) -> None:
    found = cell_value(repr(number))
    assert found == number or repr(number) == "-0"


def test_list_cells() -> None:
    assert list_cell('["a", "b"]') == ["a", "b"]
    assert list_cell("[1].png") == "[1].png"
    assert list_cell("a.png") == "a.png"


@given(st.text(alphabet=st.characters(), max_size=300))
def test_excerpts_are_short_and_printable(text: str) -> None:
    for value in (text, [text] * 100, {text: text}):
        excerpt = shown(value)
        assert len(excerpt) < 1000
        assert json.dumps(excerpt).isascii()
        assert "\n" not in excerpt
        assert excerpt.encode()
    assert "too long" in shown(10**5000)
