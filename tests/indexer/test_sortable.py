"""Keys of metadata values: order, injectivity and length, against Python's own order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.sortable import FIELD_BYTES, STRING_BYTES, encode_value, field_prefix, shared_part

numbers = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(2**53), 2**53),
    st.sampled_from([-0.0, 0.0, 0, 5e-324, -5e-324, 1.7e308, -1.7e308]),
)
texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20)
strings = st.one_of(texts, st.builds(lambda text, n: text * n, texts, st.integers(0, 90)))
fields = st.one_of(texts, st.builds(lambda text, n: text * n, texts, st.integers(0, 60)))
values = st.one_of(numbers, strings, st.booleans())


def is_cut(key: bytes) -> bool:
    return shared_part(key) is not None


def kind(value: object) -> type:
    return float if type(value) is int else type(value)


@given(fields, numbers, numbers)
def test_numbers_order_as_numbers(field: str, a: float, b: float) -> None:
    assert (encode_value(field, a) < encode_value(field, b)) == (a < b)
    assert (encode_value(field, a) == encode_value(field, b)) == (a == b)


@given(fields, strings, strings)
def test_strings_order_by_code_point_unless_both_are_cut_alike(field: str, a: str, b: str) -> None:
    first, second = encode_value(field, a), encode_value(field, b)
    assert (first == second) == (a == b)
    cut = [text.encode()[:STRING_BYTES] for text in (a, b)]
    if cut[0] != cut[1] or not (is_cut(first) and is_cut(second)):
        assert (first < second) == (a < b)


@given(fields, values, fields, values)
def test_different_values_have_different_keys(f: str, a: object, g: str, b: object) -> None:
    first, second = encode_value(f, a), encode_value(g, b)  # type: ignore[arg-type]
    same = f == g and kind(a) is kind(b) and a == b
    assert (first == second) == same
    assert max(len(first), len(second)) <= 499


@given(fields, fields, values, st.sampled_from([bool, int, float, str]))
def test_prefix_bounds_hold_the_keys_of_one_field_and_type(
    f: str, g: str, value: object, type_: type
) -> None:
    low, high = field_prefix(g, type_)
    wanted = float if type_ is int else type_
    inside = low <= encode_value(f, value) < high  # type: ignore[arg-type]
    assert inside == (f == g and kind(value) is wanted)


@given(fields, values)
def test_cut_keys_are_those_of_long_strings(field: str, value: object) -> None:
    is_long = isinstance(value, str) and len(value.encode()) > STRING_BYTES
    assert is_cut(encode_value(field, value)) == is_long  # type: ignore[arg-type]


@pytest.mark.parametrize("length", [FIELD_BYTES, FIELD_BYTES + 1, 70_000])
def test_long_names_and_strings_stay_distinct_and_short(length: int) -> None:
    a, b = "f" * length, "f" * (length - 1) + "g"
    text = "x" * (STRING_BYTES + 1)
    keys = {encode_value(field, end) for field in (a, b) for end in (text + "1", text + "2", text)}
    assert len(keys) == 6
    assert max(map(len, keys)) <= 499
    assert all(map(is_cut, keys))


def test_the_bytes_are_those_of_the_format() -> None:
    assert encode_value("ab", True) == b"\x02ab\x01\x01"
    assert encode_value("ab", 1) == b"\x02ab\x02\xbf\xf0\x00\x00\x00\x00\x00\x00"
    assert encode_value("ab", -0.0) == b"\x02ab\x02\x80\x00\x00\x00\x00\x00\x00\x00"
    assert encode_value("", "\0é") == b"\x00\x03\x00\xc3\xa9"


def test_integers_beyond_doubles_share_keys() -> None:
    assert encode_value("n", 2**53) == encode_value("n", 2**53 + 1)
    assert encode_value("n", 2**64 - 1) > encode_value("n", 2**63)
