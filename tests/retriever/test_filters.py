"""The filter language: what reads, what it means, and that both evaluators agree."""

from __future__ import annotations

import string
from collections.abc import Collection
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroaring import BitMap

from retriever.filter_errors import FilterSyntaxError, UnknownFieldError
from retriever.filters import MAX_DEPTH, MAX_LENGTH, parse
from retriever.predicates import (
    And,
    Comparison,
    Membership,
    Not,
    Or,
    Predicate,
    Value,
    evaluate,
    matches,
)

CAR = {"price": 80, "colour": "red", "tags": ["old", "fast"], "sold": False, "doors": 4.0}


class DictPostings:
    """Postings the slow way: every answer looks at every row's values one by one."""

    def __init__(self, table: list[dict[str, Any]]) -> None:
        self.table = table

    def fields(self) -> Collection[str]:
        return {name for row in self.table for name in row}

    def all_rows(self) -> BitMap:
        return BitMap(range(len(self.table)))

    def having(self, field: str) -> BitMap:
        return BitMap(n for n, row in enumerate(self.table) if field in row)

    def _where(self, field: str, test: Any) -> BitMap:
        found = BitMap()
        for number, row in enumerate(self.table):
            value = row.get(field, [])
            if any(test(one) for one in (value if isinstance(value, list) else [value])):
                found.add(number)
        return found

    def equal(self, field: str, value: Value) -> BitMap:
        return self._where(field, lambda one: same_type(one, value) and one == value)

    def between(
        self, field: str, low: Value | None, high: Value | None, low_open: bool, high_open: bool
    ) -> BitMap:
        assert (low is None) != (high is None)
        if high is None:
            return self._where(
                field, lambda one: same_type(one, low) and (one > low if low_open else one >= low)
            )
        return self._where(
            field, lambda one: same_type(one, high) and (one < high if high_open else one <= high)
        )


def same_type(a: object, b: object) -> bool:
    kinds = (bool, str, (int, float))
    return [isinstance(a, kind) for kind in kinds].index(True) == [
        isinstance(b, kind) for kind in kinds
    ].index(True)


# Few values, so that they meet; floats that are exact, and equal to integers now and then.
values = st.one_of(
    st.sampled_from(["", "red", "Red", "ré", "价", 'a"b', "a'b\\", "\n", "\U0001f600", "\uffff"]),
    st.integers(-3, 3),
    st.sampled_from([-1.5, -0.0, 0.0, 1.0, 2.5, 1e300, 5e-324]),
    st.booleans(),
)
names = st.sampled_from(["a", "价格", "b c", "in", "Not", "`", "a.b-c", "_x1", "", "1st", "x·y"])
conditions = st.one_of(
    st.builds(Comparison, names, st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), values),
    st.builds(
        Membership, names, st.lists(values, min_size=1, max_size=3).map(tuple), st.booleans()
    ),
)
predicates: st.SearchStrategy[Predicate] = st.recursive(
    conditions,
    lambda parts: st.one_of(
        parts.map(Not),
        st.lists(parts, min_size=2, max_size=3).map(lambda some: And(tuple(some))),
        st.lists(parts, min_size=2, max_size=3).map(lambda some: Or(tuple(some))),
    ),
    max_leaves=8,
)
tables = st.lists(
    st.dictionaries(names, st.one_of(values, st.lists(values, max_size=3)), max_size=6), max_size=8
)


@given(predicates)
def test_what_is_printed_reads_back(predicate: Predicate) -> None:
    # repr tells 1 from 1.0 and True, which == does not.
    assert repr(parse(str(predicate))) == repr(predicate)


@given(predicates, tables)
def test_evaluate_agrees_with_matches_row_by_row(
    predicate: Predicate, table: list[dict[str, Any]]
) -> None:
    postings = DictPostings(table)
    try:
        found = evaluate(predicate, postings)
    except UnknownFieldError as error:
        assert error.field not in postings.fields()
        return
    assert list(found) == [n for n, row in enumerate(table) if matches(predicate, row)]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("price < 100", True),
        ("price<80", False),
        ("price <= 80.0 AND price >= 80", True),
        ("price > -5", True),
        ("price == 80 and doors = 4", True),
        ("doors in (3, 4)", True),
        ("colour = 'red'", True),
        ('colour in ("a", "b")', False),
        ('colour not in ("a", "b")', True),
        ('colour < "s" and colour > "Z"', True),
        ("sold = false", True),
        ("sold = 0", False),
        ("price = true", False),
        ('price = "80"', False),
        ('price != "80"', True),
        ('price < "9"', False),
        # Of a list, one element is enough; for != none may be equal.
        ('tags = "old"', True),
        ('tags != "old"', False),
        ('tags != "new"', True),
        ('tags not in ("fast", "new")', False),
        ('tags > "new"', True),
        # A lacking field makes every comparison false, and `not` turns that round.
        ("weight = 1", False),
        ("weight != 1", False),
        ("weight not in (1)", False),
        ("not weight = 1", True),
        # `and` binds before `or`, `not` before both.
        ("price = 80 or price = 1 and price = 2", True),
        ("(price = 80 or price = 1) and price = 2", False),
        ("not price = 1 and price = 2", False),
        ("not (price = 1 and price = 2)", True),
        ("price < 100 and (colour = 'red' or brand in ('a', 'b')) and not sold = true", True),
    ],
)
def test_meaning(where: str, expected: bool) -> None:
    predicate = parse(where)
    assert matches(predicate, CAR) is expected
    # A second row knows the fields the car lacks.
    postings = DictPostings([CAR, {"weight": 1, "brand": "c"}])
    assert (0 in evaluate(predicate, postings)) is expected


def test_objects_are_not_filtered_on_and_empty_lists_have_their_field() -> None:
    assert not matches(parse("size != 1"), {"size": {"w": 1}})
    assert matches(parse("size != 1"), {"size": []})


def test_numbers_compare_as_doubles_like_the_index() -> None:
    assert matches(parse(f"n = {2**53}"), {"n": 2**53 + 1})


def test_precedence_and_names_in_the_tree() -> None:
    assert parse("not a = 1 and 价格 = 'x\\n\\'' or `b ``c` in (-1, .5, 1e3, true)") == Or(
        (
            And((Not(Comparison("a", "=", 1)), Comparison("价格", "=", "x\n'"))),
            Membership("b `c", (-1, 0.5, 1000.0, True)),
        )
    )


@pytest.mark.parametrize(
    ("where", "column"),
    [
        ("", 1),
        ("price", 6),
        ("price <", 8),
        ("price < abc", 9),
        ("price < 12abc", 9),
        ("price < 1 2", 11),
        ("price < 1 and", 14),
        ("price < 1 price", 11),
        ("100 > price", 1),
        ("(price < 1", 11),
        ("price < 1)", 10),
        ("a in ()", 7),
        ("a in (1,)", 9),
        ("a in 1", 6),
        ("a not 1", 7),
        ("a = 'open", 5),
        ("a = 'x\\q'", 7),
        ("`a = 1", 1),
        ("a = null", 5),
        ("a & b", 3),
        ("a = 1e999", 5),
        ("a = " + "9" * 5000, 5),
        ("a = " + "0" * 5000, 5),
        ("a = '\ud800'", 5),
        ("and = 1", 1),
    ],
)
def test_what_does_not_read_says_where(where: str, column: int) -> None:
    with pytest.raises(FilterSyntaxError, match=rf"^filter, column {column},") as caught:
        parse(where)
    assert caught.value.position == column - 1
    message = str(caught.value)
    assert "\n" not in message
    assert message.encode()
    assert len(message) < 500


@given(st.text(alphabet=string.printable + "价`'\"\\\ud800()=<>!", max_size=40))
def test_any_text_reads_or_is_refused(where: str) -> None:
    try:
        predicate = parse(where)
    except FilterSyntaxError:
        return
    assert repr(parse(str(predicate))) == repr(predicate)


@pytest.mark.parametrize("opening", ["(", "not ", "not ("])
def test_hostile_nesting_is_refused_and_usual_nesting_reads(opening: str) -> None:
    with pytest.raises(FilterSyntaxError, match="50 levels"):
        parse(opening * 10_000 + "a = 1")
    half = MAX_DEPTH // 2
    predicate = parse(opening * half + "a = 1" + ")" * (half * opening.count("(")))
    assert parse(str(predicate)) == predicate


def test_length_is_limited_and_long_chains_do_not_nest() -> None:
    predicate = parse(" or ".join(f"a = {n}" for n in range(5000)))
    assert matches(predicate, {"a": 4999})
    with pytest.raises(FilterSyntaxError, match="65,536"):
        parse("a = 1" + " " * MAX_LENGTH)


def test_unknown_field_lists_known_ones_and_suggests() -> None:
    with pytest.raises(UnknownFieldError, match=r"'colour', 'price'; got 'color'.*mean 'colour'"):
        evaluate(parse("price = 1 or color = 'red'"), DictPostings([{"colour": 1, "price": 2}]))
    with pytest.raises(UnknownFieldError, match="no metadata at all"):
        evaluate(parse("a = 1"), DictPostings([]))
    many = [{f"field{n:02}": n for n in range(50)}]
    with pytest.raises(UnknownFieldError, match="and 30 more"):
        evaluate(parse("a = 1"), DictPostings(many))
