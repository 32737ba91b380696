"""Filters end to end: what a search lets through is what `matches` says of each item."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalens import Query, Retriever, Writer, build_index
from indexer import verify_index
from retriever.filter_errors import FilterSyntaxError, UnknownFieldError
from retriever.predicates import And, Comparison, Membership, Not, Or, Predicate, matches
from tests.catalogs import clustered

FIELDS = ["price", "tags", "odd name", "naïve 価格", "and", "1st", "", "`tick`", "x" * 300]
SCALARS: list[Any] = [
    *(-3, -1, 0, 1, 2.5, 1e300, -0.0, 2**53, 2**53 + 1, 2**63),
    *(True, False),
    *("", "a", "A", "aa", "é", "価", "\U0001f600", "a\0", 'quo"te', "back\\slash", "x" * 280),
]
scalars = st.sampled_from(SCALARS)
values = st.one_of(
    scalars, st.lists(scalars, max_size=3), st.just({"nested": 1}), st.just([{"a": 1}, "a"])
)
metadata = st.dictionaries(st.sampled_from(FIELDS), values, max_size=5)

conditions = st.one_of(
    st.builds(
        Comparison,
        st.sampled_from(FIELDS),
        st.sampled_from(["=", "!=", "<", "<=", ">", ">="]),
        scalars,
    ),
    st.builds(
        Membership,
        st.sampled_from(FIELDS),
        st.lists(scalars, min_size=1, max_size=3).map(tuple),
        st.booleans(),
    ),
)
filters = st.recursive(
    conditions,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(And, st.lists(inner, min_size=2, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, min_size=2, max_size=3).map(tuple)),
    ),
    max_leaves=5,
)


def build(folder: Path, tables: list[dict[str, Any]]) -> Path:
    rows = [
        {"_id": str(n), "_v": x, **table}
        for n, (table, x) in enumerate(zip(tables, clustered(len(tables), 6), strict=True))
    ]
    build_index(rows, folder, id="_id", vector="_v", text=(), image=(), audio=(), device="cpu")
    return folder


def random_table(rng: np.random.Generator) -> dict[str, Any]:
    def value() -> Any:
        kind = rng.integers(5)
        if kind == 0:
            return [SCALARS[i] for i in rng.integers(len(SCALARS), size=rng.integers(4))]
        if kind == 1:
            return {"nested": 1}
        return SCALARS[rng.integers(len(SCALARS))]

    return {name: value() for name in FIELDS if rng.random() < 0.5}


@pytest.fixture(scope="module")
def tables() -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [random_table(rng) for _ in range(300)]


@pytest.fixture(scope="module")
def retriever(tmp_path_factory: pytest.TempPathFactory, tables: list[dict[str, Any]]) -> Any:
    with Retriever.open(build(tmp_path_factory.mktemp("filters") / "index", tables)) as opened:
        yield opened


@settings(max_examples=300, deadline=None)
@given(predicate=filters)
def test_search_lets_through_what_matches(
    retriever: Retriever, tables: list[dict[str, Any]], predicate: Predicate
) -> None:
    hits = retriever.search(Query(vector=np.ones(6)), len(tables), where=str(predicate))
    expected = {str(n) for n, table in enumerate(tables) if matches(predicate, table)}
    assert {hit.id for hit in hits} == expected
    for hit in hits:
        assert hit.metadata == tables[int(hit.id)]


@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_metadata_of_any_catalog(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    drawn = data.draw(st.lists(metadata, min_size=1, max_size=30))
    folder = build(tmp_path_factory.mktemp("any") / "index", drawn)
    known = {
        name for table in drawn for name, value in table.items() if not isinstance(value, dict)
    }
    with Retriever.open(folder) as opened:
        assert set(opened.fields()) == known
        for _ in range(12):
            predicate = data.draw(conditions)
            where = str(predicate)
            if predicate.field not in known:
                with pytest.raises(UnknownFieldError):
                    opened.search(Query(vector=np.ones(6)), 1, where=where)
                continue
            hits = opened.search(Query(vector=np.ones(6)), len(drawn), where=where)
            assert {h.id for h in hits} == {
                str(n) for n, table in enumerate(drawn) if matches(predicate, table)
            }


@pytest.mark.parametrize("order", ["<", "<=", ">", ">="])
def test_ranges_of_strings_that_share_280_bytes(tmp_path: Path, order: str) -> None:
    base = "x" * 300
    tables = [{"s": base + letter} for letter in "abcdefghij"] + [{"s": base}, {"s": "x" * 280}]
    folder = build(tmp_path / "index", tables)
    predicate = Comparison("s", order, base + "e")
    with Retriever.open(folder) as opened:
        hits = opened.search(Query(vector=np.ones(6)), len(tables), where=str(predicate))
    expected = {str(n) for n, table in enumerate(tables) if matches(predicate, table)}
    assert {hit.id for hit in hits} == expected


def test_filters_that_do_not_read_or_know_the_field(retriever: Retriever) -> None:
    query = Query(vector=np.ones(6))
    with pytest.raises(FilterSyntaxError, match="column 9"):
        retriever.search(query, 1, where="price < cheap")
    with pytest.raises(UnknownFieldError, match="Did you mean 'price'"):
        retriever.search(query, 1, where="prize < 3")
    with pytest.raises(FilterSyntaxError):
        retriever.search(query, 1, where="")


def test_catalog_without_metadata_has_no_field(tmp_path: Path) -> None:
    folder = build(tmp_path / "index", [{}, {}])
    with Retriever.open(folder) as opened:
        assert opened.fields() == []
        with pytest.raises(UnknownFieldError, match="no metadata at all"):
            opened.search(Query(vector=np.ones(6)), 1, where="a = 1")


def test_field_name_of_any_length_costs_at_most_its_row(tmp_path: Path) -> None:
    folder = build(tmp_path / "index", [{"f" * 70_000: 1}, {"price": 2}])
    with Retriever.open(folder) as opened:
        assert "price" in opened.fields()


def test_filters_after_random_updates_and_deletes(
    tmp_path: Path, tables: list[dict[str, Any]]
) -> None:
    """Postings say what the records say, whatever was written before, and nothing more."""
    rng = np.random.default_rng(11)
    vectors = clustered(400, 6)
    folder = build(tmp_path / "index", tables[:120])
    held = {str(n): table for n, table in enumerate(tables[:120])}

    def row(item: str, table: dict[str, Any]) -> dict[str, Any]:
        return {"_id": item, "_v": vectors[int(item)], **table}

    with Retriever.open(folder) as retriever:
        for step in range(6):
            ids = [str(item) for item in rng.permutation(sorted(held))]
            new = {str(300 + 10 * step + n): random_table(rng) for n in range(8)}
            labelled = {item: random_table(rng) for item in ids[:25]}
            moved = {item: random_table(rng) for item in ids[25:35]}
            with Writer.open(folder) as writer:
                writer.add([row(*one) for one in new.items()])
                writer.update([row(*one) for one in labelled.items()])
                writer.update(
                    [{**row(*one), "_v": rng.standard_normal(6)} for one in moved.items()]
                )
                writer.delete(ids[35:50])
            held |= new | labelled | moved
            for item in ids[35:50]:
                del held[item]
            assert retriever.refresh()
            for _ in range(25):
                name = FIELDS[rng.integers(len(FIELDS))]
                value = SCALARS[rng.integers(len(SCALARS))]
                sign = ["=", "!=", "<", "<=", ">", ">="][rng.integers(6)]
                condition = Comparison(name, sign, value)
                for predicate in (condition, Not(condition)):
                    if name in retriever.fields():
                        hits = retriever.search(
                            Query(vector=np.ones(6)), len(held), where=str(predicate)
                        )
                        assert {hit.id for hit in hits} == {
                            item for item, table in held.items() if matches(predicate, table)
                        }
                        assert all(hit.metadata == held[hit.id] for hit in hits)
    assert verify_index(folder).problems == []
    with Writer.open(folder) as writer:
        writer.delete(held)
    report = verify_index(folder)
    assert (report.problems, report.items) == ([], 0)
    with Retriever.open(folder) as retriever:
        assert retriever.fields() == []
