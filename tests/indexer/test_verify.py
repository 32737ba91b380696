"""`verify`: silent on sound indexes of every kind, and loud on each thing that can be wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyroaring import BitMap

from catalens import Query, Retriever
from indexer import IndexLayout, Store, postings_check, verify, verify_index
from indexer.environment import Environment, WriteTransaction
from indexer.snapshot import row_key
from indexer.sortable import encode_value
from tests.catalogs import build_toy, build_vectors, clustered, toy_rows


@pytest.mark.parametrize("n", [1, 2, 90])
def test_sound_index_has_no_problem(tmp_path: Path, n: int) -> None:
    build_toy(tmp_path / "index", toy_rows(n))
    report = verify_index(tmp_path / "index")
    assert report.problems == []
    assert (report.items, report.files) == (n, 8)
    assert report.found_at_point + report.found_by_full_search == n


def near_duplicates() -> np.ndarray:
    rng = np.random.default_rng(0)
    x = np.repeat(rng.standard_normal((20, 64)), 50, axis=0)
    return (x + rng.normal(0, 1e-3, x.shape)).astype(np.float32)


def one_cone() -> np.ndarray:
    return np.random.default_rng(0).uniform(1, 2, (1000, 3)).astype(np.float32)


@pytest.mark.parametrize(
    "vectors",
    [
        pytest.param(lambda: clustered(500, 32), id="clusters"),
        pytest.param(near_duplicates, id="near-duplicates"),
        pytest.param(one_cone, id="one-cone"),
        pytest.param(lambda: clustered(5200, 3), id="large-3d"),
        pytest.param(lambda: np.ones((40, 8), dtype=np.float32), id="identical"),
        pytest.param(lambda: np.ones((5200, 16), dtype=np.float32), id="large-identical"),
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


@pytest.mark.parametrize(
    "database",
    [
        "ids.1",
        "records.1",
        "embeddings",
        "postings.1",
        "fields.1",
    ],
)
def test_lost_entry_is_found(tmp_path: Path, database: str) -> None:
    build_toy(tmp_path / "index", toy_rows(30))

    def lose(transaction: WriteTransaction) -> None:
        transaction.delete(database, first_key(transaction, database))

    problems = meddled(tmp_path / "index", lose)
    assert problems


def test_posting_that_no_record_has_is_found(tmp_path: Path) -> None:
    build_toy(tmp_path / "index", toy_rows(30))
    extra = BitMap([3]).serialize()
    key = encode_value("number", 999)
    problems = meddled(tmp_path / "index", lambda t: t.put("postings.1", key, extra))
    assert problems == ["postings of values name 176 rows where records have 175; 0 name none"]


def test_empty_posting_is_found(tmp_path: Path) -> None:
    build_toy(tmp_path / "index", toy_rows(30))
    key = encode_value("number", 999)
    problems = meddled(tmp_path / "index", lambda t: t.put("postings.1", key, BitMap().serialize()))
    assert problems == ["postings of values name 175 rows where records have 175; 1 name none"]


@pytest.mark.parametrize("rows", [[4], [3, 4], []])
def test_posting_of_other_rows_is_found(
    tmp_path: Path, rows: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postings_check, "_POSTED_TOGETHER", 7)
    build_toy(tmp_path / "index", toy_rows(30))
    assert verify_index(tmp_path / "index").problems == []
    key = encode_value("number", 3)
    problems = meddled(
        tmp_path / "index", lambda t: t.put("postings.1", key, BitMap(rows).serialize())
    )
    assert any(key.hex() in problem for problem in problems)


def test_values_that_do_not_decode_are_found(tmp_path: Path) -> None:
    build_toy(tmp_path / "index", toy_rows(30))
    for database in ("records.1", "inputs.1", "postings.1", "fields.1"):
        problems = meddled(
            tmp_path / "index",
            lambda t, database=database: t.put(database, first_key(t, database), b"\0\0\0\1"),  # type: ignore[misc]
        )
        assert any("expected" in problem for problem in problems)


def test_damaged_pages_are_named_before_anything_reads_them(tmp_path: Path) -> None:
    build_toy(tmp_path / "index", toy_rows(90))
    file = IndexLayout(tmp_path / "index").store_data
    sound = file.read_bytes()
    used = [n for n in range(2, len(sound) // 4096) if sound[n * 4096 + 10] == 2]  # leaves
    damaged = bytearray(sound)
    for number in used:
        damaged[number * 4096 + 10] = 1  # each says that it is a branch
    file.write_bytes(damaged)
    report = verify_index(tmp_path / "index")
    assert report.problems and all(str(file) in problem for problem in report.problems)
    assert report.items == 0


def test_item_that_no_scan_returns_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_vectors(tmp_path / "index", clustered(50, 16))
    ask = verify._query_like
    monkeypatch.setattr(verify, "_query_like", lambda *item: -ask(*item))
    assert len(verify_index(tmp_path / "index").problems) > 40


def test_generation_swept_meanwhile_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_toy(tmp_path / "index", toy_rows(30))
    check = verify.damaged_files
    rebuilds = iter([40, 50])

    def rebuilt(*arguments: Any) -> dict[str, str]:
        for count in rebuilds:
            build_toy(tmp_path / "index", toy_rows(count))
            break
        return check(*arguments)

    monkeypatch.setattr(verify, "damaged_files", rebuilt)
    report = verify_index(tmp_path / "index")
    assert (report.problems, report.items) == ([], 50)


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
    [
        *("index.faiss", "rows.f16", "rows.crc32", "row_numbers.u32", "mask.u8"),
        *("fusion.safetensors", "rows.i8", "row_steps.f32"),
    ],
)
def test_every_derived_file_is_checked(tmp_path: Path, name: str, what: str) -> None:
    profile = "memory" if name in ("rows.i8", "row_steps.f32") else "auto"
    build_toy(tmp_path / "index", toy_rows(30), profile=profile)
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


def test_vector_that_is_not_that_of_its_embedding_is_found(tmp_path: Path) -> None:
    """Every checksum is right: a row of the generation, and what it should be made of."""
    build_toy(tmp_path / "index", toy_rows(30))
    values: list[bytes] = []

    def exchange(transaction: WriteTransaction) -> None:
        keys = sorted(transaction.keys("embeddings"))[:2]  # of one encoder
        values[:] = [value or b"" for value in transaction.get_many("embeddings", keys)]
        for key, value in zip(keys, reversed(values), strict=True):
            transaction.put("embeddings", key, value)

    problems = meddled(tmp_path / "index", exchange)
    assert values[0] != values[1]
    assert len(problems) == 2 and all("has another vector" in problem for problem in problems)


def test_sample_or_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "_SAMPLE", 12)
    build_toy(tmp_path / "index", toy_rows(30))
    report = verify_index(tmp_path / "index")
    assert (report.items, report.searched, report.problems) == (30, 12, [])
    assert report.found_at_point + report.found_by_full_search == 12
    assert verify_index(tmp_path / "index", all_items=True).searched == 30


def test_what_the_store_keeps_is_checked(tmp_path: Path) -> None:
    build_toy(tmp_path / "index", toy_rows(30))

    def lose(transaction: WriteTransaction) -> None:
        for key in list(transaction.keys("derivation")):
            transaction.delete("derivation", key)

    problems = meddled(tmp_path / "index", lose)
    assert len(problems) == 3 and all("does not keep" in problem for problem in problems)


def test_a_tombstone_of_no_row_buries_nothing_and_is_told(tmp_path: Path) -> None:
    index = tmp_path / "index"
    build_toy(index, toy_rows(20))
    store = Store.open(IndexLayout(index))
    store.write(lambda transaction: transaction.put("tombstones.1", row_key(1_000_000), b""))
    store.close()
    with Retriever.open(index, device="cpu") as shop:
        assert len(shop.search(Query(text="red"), 20, explain=False)) == 20
    assert any("19" in problem and "20" in problem for problem in verify_index(index).problems)
