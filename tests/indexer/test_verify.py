"""`verify`: silent on sound indexes of every kind, and loud on each thing that can be wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from indexer import IndexLayout, verify_index
from indexer.environment import Environment, WriteTransaction
from tests.catalogs import build_toy, build_vectors, clustered, toy_rows


@pytest.mark.parametrize("n", [1, 2, 90])
def test_sound_index_has_no_problem(tmp_path: Path, n: int) -> None:
    build_toy(tmp_path / "index", toy_rows(n))
    report = verify_index(tmp_path / "index")
    assert report.problems == []
    assert (report.items, report.files) == (n, 6)
    assert report.found_at_point + report.found_by_full_search == n


def near_duplicates() -> np.ndarray:
    rng = np.random.default_rng(0)
    x = np.repeat(rng.standard_normal((20, 64)), 50, axis=0)
    return (x + rng.normal(0, 1e-3, x.shape)).astype(np.float32)


def one_cone() -> np.ndarray:
    return np.random.default_rng(0).uniform(1, 2, (1000, 3)).astype(np.float32)


# The vector of an item need not be its own best match: rows are rounded to half precision, and
# those of a plain-cosine space are not of unit length.
false_alarm = pytest.mark.xfail(strict=True, reason="a sound item is called not found")
crash = pytest.mark.xfail(strict=True, raises=IndexError, reason="a search without any hit")


@pytest.mark.parametrize(
    "vectors",
    [
        pytest.param(lambda: clustered(500, 32), id="clusters"),
        pytest.param(near_duplicates, id="near-duplicates", marks=false_alarm),
        pytest.param(one_cone, id="one-cone", marks=false_alarm),
        pytest.param(lambda: clustered(5200, 3), id="large-3d", marks=false_alarm),
        pytest.param(lambda: np.ones((40, 8), dtype=np.float32), id="identical"),
        pytest.param(
            lambda: np.ones((5200, 16), dtype=np.float32), id="large-identical", marks=crash
        ),
    ],
)
def test_sound_vectors_have_no_problem(tmp_path: Path, vectors: Callable[[], np.ndarray]) -> None:
    build_vectors(tmp_path / "index", vectors())
    assert verify_index(tmp_path / "index").problems == []


def meddled(index: Path, work: Callable[[WriteTransaction], None]) -> list[str]:
    """Problems after a change of the store that leaves every checksum right."""
    env = Environment.acquire(IndexLayout(index).store)
    env.write(work)
    env.release()
    return verify_index(index).problems


def first_key(transaction: WriteTransaction, database: str) -> bytes:
    return next(key for key, _ in transaction.scan(database))


unchecked = pytest.mark.xfail(
    strict=True, reason="postings are said to be checked against records, and are not"
)


@pytest.mark.parametrize(
    "database",
    [
        "ids.1",
        "records.1",
        "embeddings",
        pytest.param("postings.1", marks=unchecked),
        pytest.param("fields.1", marks=unchecked),
    ],
)
def test_lost_entry_is_found(tmp_path: Path, database: str) -> None:
    build_toy(tmp_path / "index", toy_rows(30))

    def lose(transaction: WriteTransaction) -> None:
        transaction.delete(database, first_key(transaction, database))

    problems = meddled(tmp_path / "index", lose)
    assert problems


def test_id_that_leads_elsewhere_is_found(tmp_path: Path) -> None:
    build_toy(tmp_path / "index", toy_rows(30))
    problems = meddled(
        tmp_path / "index", lambda t: t.put("ids.1", b"item-3", (4).to_bytes(4, "big"))
    )
    assert any("'item-3' does not lead to its row 3" in problem for problem in problems)


def test_swapped_value_is_found(tmp_path: Path) -> None:
    build_toy(tmp_path / "index", toy_rows(30))
    env = Environment.acquire(IndexLayout(tmp_path / "index").store)
    with env._env.begin(write=True) as raw:
        handle = env.open_database("records.1", raw)
        (first, a), (second, b) = [(k, v) for k, v in raw.cursor(handle)][:2]
        raw.put(first, b, db=handle)
        raw.put(second, a, db=handle)
    env.release()
    assert any("checksum" in p for p in verify_index(tmp_path / "index").problems)


@pytest.mark.parametrize("what", ["missing", "cut", "grown", "other"])
@pytest.mark.parametrize(
    "name",
    ["index.faiss", "rows.f16", "rows.crc32", "row_numbers.u32", "mask.u8", "fusion.safetensors"],
)
def test_every_derived_file_is_checked(tmp_path: Path, name: str, what: str) -> None:
    build_toy(tmp_path / "index", toy_rows(30))
    path = tmp_path / "index" / "generations" / "000001" / name
    data = path.read_bytes()
    if what == "missing":
        path.unlink()
    else:
        path.write_bytes(
            {"cut": data[:-1], "grown": data + b"\0", "other": data[:-1] + bytes([data[-1] ^ 1])}[
                what
            ]
        )
    problems = verify_index(tmp_path / "index").problems
    assert len(problems) == 1 and name in problems[0]
