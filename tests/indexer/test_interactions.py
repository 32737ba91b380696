"""Interactions: any dump in, columns out, and whatever cannot be used counted or refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoders.errors import CatalensError
from indexer.catalog_errors import EmptyCatalogError, UnreadableCatalogError
from indexer.interaction_errors import (
    ConstantValuesError,
    FutureTimeError,
    MissingColumnError,
    NoInteractionsError,
    SingleUserError,
)
from indexer.interactions import InteractionColumns, Interactions, read_interactions

ROWS = [
    {"user": "ann", "item": "b", "value": 2.0, "time": 30},
    {"user": "bob", "item": "a", "value": -1, "time": 10},
    {"user": "ann", "item": "a", "value": 1, "time": 20},
    {"user": "ann", "item": "c", "value": 0.5, "time": 20},
]
NOW = 1_000.0


def as_tuples(found: Interactions) -> list[tuple[str, str, float, float]]:
    return [
        (found.user_ids[u], found.item_ids[i], v, t)
        for u, i, v, t in zip(
            found.users.tolist(),
            found.items.tolist(),
            found.values.tolist(),
            found.times.tolist(),
            strict=True,
        )
    ]


SORTED = [
    ("ann", "a", 1.0, 20.0),
    ("ann", "c", 0.5, 20.0),
    ("ann", "b", 2.0, 30.0),
    ("bob", "a", -1.0, 10.0),
]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet", None])
def test_every_format_gives_the_same_columns_sorted(tmp_path: Path, suffix: str | None) -> None:
    source: object = ROWS
    if suffix is not None:
        source = tmp_path / f"clicks.{suffix}"
    if suffix == "jsonl":
        (tmp_path / "clicks.jsonl").write_text("\n".join(json.dumps(row) for row in ROWS))
    elif suffix == "csv":
        lines = ["user,item,value,time", *(",".join(map(str, row.values())) for row in ROWS)]
        (tmp_path / "clicks.csv").write_text("\n".join(lines))
    elif suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "clicks.parquet")
    found = read_interactions(source, now=NOW)  # type: ignore[arg-type]
    assert as_tuples(found) == SORTED
    assert [len(h) for h in found.histories()] == [3, 1]
    assert found.histories()[0].until(30).times.tolist() == [20, 20]
    assert (found.report.rows, found.report.kept, found.report.rejected_rows) == (4, 4, 0)


def test_columns_by_other_names_and_times_of_every_kind() -> None:
    noon = datetime(1970, 1, 1, 12, tzinfo=UTC)
    times = [43_200, "43200.0", "1970-01-01T12:00:00", "1970-01-01T13:00:00+01:00", noon]
    rows = [{"who": 1, "what": "x", "stars": "3", "when": when} for when in times]
    columns = InteractionColumns(user="who", item="what", value="stars", time="when")
    found = read_interactions(rows, columns=columns)
    assert found.times.tolist() == [43_200] * 5
    assert found.values.tolist() == [3] * 5
    assert found.user_ids == ("1",)


def test_without_values_and_times_all_count_one() -> None:
    found = read_interactions([{"user_id": "u", "item_id": 7}])
    assert (found.values.tolist(), found.times.tolist()) == ([1], [0])
    assert found.item_ids == ("7",)


def test_unknown_items_are_counted_and_asked_for_once() -> None:
    asked: list[str] = []

    def is_known(item: str) -> bool:
        asked.append(item)
        return item == "a"

    found = read_interactions([*ROWS, *ROWS], is_known=is_known, now=NOW)
    assert asked == ["b", "a", "c"]
    assert (found.report.unknown_rows, found.report.unknown_items) == (4, 2)
    assert {item for _, item, _, _ in as_tuples(found)} == {"a"}


@pytest.mark.parametrize(
    "bad",
    [
        {"user": None},
        {"item": ""},
        {"item": ["a"]},
        {"item": "x" * 1000},
        {"value": float("nan")},
        {"value": "many"},
        {"value": 1e30},
        {"value": True},
        {"value": None},
        {"time": "yesterday"},
        {"time": float("inf")},
        {"time": float("nan")},
        {"time": {}},
    ],
)
def test_a_bad_row_costs_itself_alone(bad: dict[str, object]) -> None:
    found = read_interactions([{**ROWS[0], **bad}, *ROWS], now=NOW)
    assert as_tuples(found) == SORTED
    assert found.report.rejected_rows == 1
    assert found.report.rejects[0].line == 1


def test_a_time_in_the_future_is_refused_with_its_row() -> None:
    with pytest.raises(FutureTimeError, match=r"row 2.*divided by 1,000"):
        read_interactions([ROWS[0], {**ROWS[0], "time": NOW * 1000}], now=NOW)
    with pytest.raises(FutureTimeError, match="beyond the calendar"):
        read_interactions([{**ROWS[0], "time": 1e18}], now=NOW)
    # Of today anywhere on earth.
    assert len(read_interactions([{**ROWS[0], "time": NOW + 80_000}], now=NOW)) == 1


def test_missing_columns_are_named() -> None:
    with pytest.raises(MissingColumnError, match=r"a column of users.*'item'"):
        read_interactions([{"item": "a"}])
    with pytest.raises(MissingColumnError, match=r"'stras'.*Did you mean 'stars'"):
        read_interactions(
            [{"user": "u", "item": "a", "stars": 1}], columns=InteractionColumns(value="stras")
        )


def test_nothing_left_says_why() -> None:
    with pytest.raises(NoInteractionsError, match="4 rows, 4 of unknown items"):
        read_interactions(ROWS, is_known=lambda item: False, now=NOW)
    with pytest.raises(NoInteractionsError, match="1 that cannot be used; the first: value"):
        read_interactions([{**ROWS[0], "value": "x"}], now=NOW)
    with pytest.raises(EmptyCatalogError):
        read_interactions([])


def test_what_a_model_needs_is_asked_for() -> None:
    found = read_interactions(ROWS, now=NOW)
    assert found.of_several_users() is found
    assert found.of_several_values() is found
    with pytest.raises(SingleUserError, match="at least two users; got 1"):
        read_interactions(ROWS[2:], now=NOW).of_several_users()
    with pytest.raises(ConstantValuesError, match="got 2 in all 3"):
        read_interactions([{**row, "value": 2} for row in ROWS[:3]], now=NOW).of_several_values()


def test_no_file_and_a_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(UnreadableCatalogError, match=r"interactions .*no such file"):
        read_interactions(tmp_path / "none.csv")
    damaged = tmp_path / "damaged.parquet"
    damaged.write_bytes(b"PAR1 and nothing else PAR1")
    with pytest.raises(UnreadableCatalogError):
        read_interactions(damaged)


@given(st.binary(max_size=300), st.sampled_from(["jsonl", "csv", "tsv", "parquet"]))
def test_hostile_bytes_end_in_a_named_error_or_in_rows(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, suffix: str
) -> None:
    path = tmp_path_factory.getbasetemp() / f"hostile.{suffix}"
    path.write_bytes(b"user,item\nu,a\n" + data if suffix == "csv" else data)
    try:
        found = read_interactions(path)
    except CatalensError:
        return
    assert len(found) == found.report.kept > 0
    assert np.isfinite(found.values).all()
