"""Parquet against what pyarrow was given."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from encoders import Limits
from indexer.catalog import open_catalog
from indexer.catalog_errors import EmptyCatalogError, UnreadableCatalogError
from indexer.columns import Columns
from indexer.items import Item, Reject


def write(folder: Path, columns: dict[str, Any], **options: Any) -> Path:
    path = folder / "shop.parquet"
    pq.write_table(pa.table(columns), path, **options)
    return path


def test_types_become_json(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        {
            "id": pa.array([1, 2], pa.int32()),
            "title": ["a", "b"],
            "when": pa.array([1, None], pa.timestamp("ns", "UTC")),
            "day": [date(2024, 5, 1), None],
            "hour": pa.array([1_000, None], pa.time64("ns")),
            "length": [timedelta(seconds=90), None],
            "price": [Decimal("1.50"), None],
            "tags": [["x", None], None],
            "size": [{"w": 1, "h": None}, None],
            "score": [math.nan, 0.5],
            "half": pa.array([np.float16(0.5), None], pa.float16()),
            "kind": pa.array(["k", None]).dictionary_encode(),
            "weights": [[0.5, math.nan], None],
        },
    )
    catalog = open_catalog(path)
    first, second = catalog.items()
    assert isinstance(first, Item)
    assert isinstance(second, Item)
    assert (first.id, first.line, second.line, catalog.rows) == ("1", 1, 2, 2)
    assert first.metadata == {
        "title": "a",
        "when": datetime(1970, 1, 1, tzinfo=UTC).isoformat(),
        "day": "2024-05-01",
        "hour": time(0, 0, 0, 1).isoformat(),
        "length": 90.0,
        "price": 1.5,
        "tags": ["x", None],
        "size": {"w": 1},
        "half": 0.5,
        "kind": "k",
        "weights": [0.5, None],
    }
    assert second.metadata == {"title": "b", "score": 0.5}


def test_pictures_and_vectors(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"file")
    path = write(
        tmp_path,
        {
            "id": ["1", "2", "3", "4"],
            "image": [
                {"bytes": b"raw", "path": "in/the.zip"},
                {"bytes": None, "path": "a.png"},
                {"bytes": None, "path": None},
                None,
            ],
            "sound": pa.array([b"wave", None, b"", None], pa.binary()),
            "v": pa.array([[1, 2], [3, 4], [5, 6], None], pa.list_(pa.float32(), 2)),
            "n": pa.array([[1], [2], None, [3]], pa.list_(pa.int64())),
        },
    )
    columns = Columns(vector={"s": "v", "t": "n"})
    found = [one for one in open_catalog(path, columns).items() if isinstance(one, Item)]
    read = [
        {name: [one.read(Limits()) for one in many] for name, many in item.inputs.items()}
        for item in found
    ]
    f4 = lambda *numbers: np.array(numbers, "<f4").tobytes()  # noqa: E731
    assert read == [
        {"image": [b"raw"], "audio": [b"wave"], "vector:s": [f4(1, 2)], "vector:t": [f4(1)]},
        {"image": [b"file"], "vector:s": [f4(3, 4)], "vector:t": [f4(2)]},
        {"vector:s": [f4(5, 6)]},
        {"vector:t": [f4(3)]},
    ]
    assert [one.source for one in found[0].inputs["image"]] == ["in/the.zip"]
    assert all(one.metadata == {} for one in found)


def test_many_batches_keep_their_numbers(tmp_path: Path) -> None:
    count = 2000
    path = write(
        tmp_path,
        {"id": list(range(count)), "title": [f"t{n}" for n in range(count)]},
        row_group_size=300,
    )
    found = list(open_catalog(path).items())
    assert [(one.line, one.id) for one in found] == [(n + 1, str(n)) for n in range(count)]


def test_values_python_cannot_hold_cost_their_row(tmp_path: Path) -> None:
    latin = pa.array([b"ok", b"\xff\xfe", b"ok"]).view(pa.string())
    path = write(
        tmp_path,
        {
            "id": [1, 2, 3],
            "title": latin,
            "day": pa.array([0, 0, 2**31 - 1], pa.int32()).view(pa.date32()),
        },
    )
    first, second, third = open_catalog(path).items()
    assert isinstance(first, Item)
    assert isinstance(second, Reject)
    assert isinstance(third, Reject)
    assert "column 'title'" in second.reason
    assert "UnicodeDecodeError" in second.reason
    assert "column 'day'" in third.reason


def test_raw_bytes_in_metadata_reject_the_row(tmp_path: Path) -> None:
    (found,) = open_catalog(write(tmp_path, {"id": [1], "title": ["a"], "blob": [b"x"]})).items()
    assert isinstance(found, Reject)
    assert "column 'blob'" in found.reason


def test_tables_without_rows_and_with_doubled_names(tmp_path: Path) -> None:
    with pytest.raises(EmptyCatalogError):
        open_catalog(write(tmp_path, {"id": pa.array([], pa.int64()), "title": []}))
    path = tmp_path / "twice.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["id", "id"]), path)
    with pytest.raises(UnreadableCatalogError, match="2 columns with 1 names"):
        open_catalog(path)
