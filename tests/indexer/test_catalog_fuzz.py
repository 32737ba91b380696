"""Truncated and altered dumps: rejects or catalog errors come out, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from indexer.catalog import open_catalog
from indexer.catalog_errors import CatalogError
from indexer.columns import Columns
from indexer.items import Item, Reject

ROWS = [
    {"id": f"é{n}", "title": 'a "b", c', "tags": ["x", "y"], "v": [0.5, n], "price": n / 3}
    for n in range(20)
]


def jsonl() -> bytes:
    return "\n".join(
        json.dumps(row, ensure_ascii=n % 2 == 0) for n, row in enumerate(ROWS)
    ).encode()


def csv() -> bytes:
    lines = ["id,title,v,price"]
    lines += [f'{row["id"]},"a ""b""\n, c","{row["v"]}",{row["price"]}' for row in ROWS]
    return "\r\n".join(lines).encode()


def parquet() -> bytes:
    out = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(ROWS), out, row_group_size=8)
    return out.getvalue().to_pybytes()


def read(path: Path) -> int:
    """Read a dump to its end or first error; return how many things came out."""
    try:
        found = list(open_catalog(path, Columns(vector={"s": "v"})).items())
    except CatalogError as error:
        assert "\n" not in str(error)
        return 0
    for one in found:
        assert isinstance(one, Item | Reject)
        if isinstance(one, Item):
            json.dumps(one.metadata, allow_nan=False)
        else:
            json.dumps(one.to_dict()).encode()
    return len(found)


@pytest.mark.parametrize("make", [jsonl, csv, parquet])
def test_truncated_anywhere(tmp_path: Path, make: type) -> None:
    path = tmp_path / f"shop.{make.__name__}"
    content = make()
    path.write_bytes(content)
    assert read(path) == len(ROWS)
    for length in range(0, len(content), max(1, len(content) // 250)):
        path.write_bytes(content[:length])
        read(path)


@pytest.mark.parametrize("make", [jsonl, csv, parquet])
def test_altered_anywhere(tmp_path: Path, make: type) -> None:
    random = Random(7)
    path = tmp_path / f"shop.{make.__name__}"
    content = make()
    for _ in range(400):
        altered = bytearray(content)
        for _ in range(random.choice([1, 1, 5, 40])):
            altered[random.randrange(len(altered))] = random.randrange(256)
        path.write_bytes(altered)
        read(path)
