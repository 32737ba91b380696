"""Indexes of each version of the format open for ever; those of a newer one are refused by number.

`tests/fixtures/make_golden.py` made them, once for each version.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from catalens import CatalensError, Query, Retriever, Writer, build_index, repair_index
from indexer import IndexLayout, Store, verify_index
from indexer.errors import UnsupportedFormatError
from indexer.snapshot import CURRENT, META
from tests.fixtures.make_golden import A, B, answers
from tests.processes import run_command

FIXTURES = Path(__file__).parents[1] / "fixtures"
VERSION_1 = ("plain", "int8", "heads", "codes")


@pytest.fixture(params=VERSION_1)
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    with tarfile.open(FIXTURES / "golden_v1" / f"{request.param}.tar.xz") as packed:
        packed.extractall(tmp_path, filter="data")
    return tmp_path / str(request.param)


def same(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert len(found) == len(expected) == 6
    for one, known in zip(found, expected, strict=True):
        assert (one["query"], one["where"]) == (known["query"], known["where"])
        for hit, wanted in zip(one["hits"], known["hits"], strict=True):
            assert (hit["id"], hit["metadata"]) == (wanted["id"], wanted["metadata"])
            assert hit["score"] == pytest.approx(wanted["score"], abs=1e-4)
            assert hit["spaces"].keys() == wanted["spaces"].keys()
            for name, similarity in wanted["spaces"].items():
                assert hit["spaces"][name] == pytest.approx(similarity, abs=1e-4)


def test_version_1_opens_and_answers_as_it_did(golden: Path) -> None:
    expected = json.loads((FIXTURES / "golden_v1" / "expected.json").read_text())[golden.name]
    same(answers(golden), expected)
    report = verify_index(golden, all_items=True)
    assert report.problems == [] and report.searched == report.items > 50
    assert not repair_index(golden).damaged


def test_version_1_is_restored_from_its_store(golden: Path) -> None:
    expected = json.loads((FIXTURES / "golden_v1" / "expected.json").read_text())[golden.name]
    shutil.rmtree(golden / "generations")
    assert not repair_index(golden).lost
    assert verify_index(golden).problems == []
    same(answers(golden), expected)


def test_version_1_takes_changes(golden: Path) -> None:
    before = json.loads((FIXTURES / "golden_v1" / "expected.json").read_text())[golden.name]
    first = before[0]["hits"][0]
    a = np.array([1, -1] * (A // 2), dtype=np.float32)
    query = Query(vector={"a": a}, weights={"b": 0})
    with Writer.open(golden, device="cpu") as writer:
        writer.add([{"id": "new", "a": a, "b": -np.ones(B), "price": 1}])
        writer.delete([first["id"]])
        summary = writer.commit()
        assert (summary.added, summary.deleted) == (1, 1)
    for _ in range(2):
        with Retriever.open(golden, device="cpu") as shop:
            hits = shop.search(query, 50)
            assert hits[0].id == "new"
            assert hits[0].spaces["a"].similarity == pytest.approx(1, abs=1e-3)
            assert first["id"] not in {hit.id for hit in hits}
        assert verify_index(golden, all_items=True).problems == []
        with Writer.open(golden, device="cpu") as writer:
            assert writer.compact().items == summary.items


def test_golden_indexes_are_small() -> None:
    files = list((FIXTURES / "golden_v1").iterdir())
    assert {path.name for path in files} == {f"{n}.tar.xz" for n in VERSION_1} | {"expected.json"}
    assert sum(path.stat().st_size for path in files) < 300_000


def exact_rows() -> list[dict[str, Any]]:
    """Items whose vectors, means and lengths are binary fractions, the same on every machine."""
    axes, halves = np.eye(4), np.full(4, 0.5)
    return [
        {"id": f"item-{n}", "a": axes[n % 4], "number": n}
        | ({"b": halves * (1 - 2 * (n % 2))} if n < 4 else {})
        for n in range(8)
    ]


def test_manifest_byte_for_byte(tmp_path: Path) -> None:
    """But for the time that it was made, what was timed, and this Catalens' own version."""
    index = tmp_path / "index"
    build_index(exact_rows(), index, vector={"a": "a", "b": "b"}, device="cpu", media_root="/")
    path = index / "generations" / "000001" / "manifest.json"
    written = path.read_bytes()
    told = json.loads(written)
    point = told["index"]["points"][0]
    measured = {
        "catalens": told["catalens"],
        "created": told["created"],
        "p50_ms": point["p50_ms"],
        "p99_ms": point["p99_ms"],
        "queries_per_second": point["queries_per_second"],
        "threads": told["index"]["threads"],
    }
    assert 0 < measured["p50_ms"] <= measured["p99_ms"] and measured["queries_per_second"] > 0
    expected = (FIXTURES / "manifest_v1.json").read_text()
    for name, value in measured.items():
        assert expected.count(f'"{name}": "MEASURED"') == 1
        expected = expected.replace(f'"{name}": "MEASURED"', f'"{name}": {json.dumps(value)}')
    assert written == expected.encode()
    for name, entry in told["files"].items():
        data = path.with_name(name).read_bytes()
        assert entry == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def renumbered_store(index: Path) -> None:
    """The store says that its format is the next one."""
    store = Store.open(IndexLayout(index))
    with store.view() as view:
        meta = orjson.loads(view.get(META, CURRENT) or b"")
    store.write(lambda t: t.put(META, CURRENT, orjson.dumps(meta | {"format": 2})))
    store.close()


def renumbered_manifest(index: Path) -> None:
    """The manifest says so, and the store is right about its bytes."""
    path = next((index / "generations").iterdir()) / "manifest.json"
    data = path.read_bytes().replace(b'"format": 1', b'"format": 2')
    path.write_bytes(data)
    digest = hashlib.sha256(data)
    store = Store.open(IndexLayout(index))
    with store.view() as view:
        meta = orjson.loads(view.get(META, CURRENT) or b"")

    def rename(transaction: Any) -> None:
        named = meta | {"manifest_sha256": digest.hexdigest()}
        transaction.put(META, CURRENT, orjson.dumps(named))
        transaction.put("derivation", digest.digest(), data)

    store.write(rename)
    store.close()


@pytest.mark.parametrize("renumbered", [renumbered_store, renumbered_manifest])
def test_newer_format_is_refused_by_number(tmp_path: Path, renumbered: Any) -> None:
    index = tmp_path / "index"
    build_index(exact_rows(), index, vector={"a": "a", "b": "b"}, device="cpu")
    renumbered(index)
    before = IndexLayout(index).store_data.read_bytes()
    for use in (Retriever.open, Writer.open, verify_index, repair_index):
        with pytest.raises(UnsupportedFormatError, match=r"expected format 1; got format 2\. Upgr"):
            use(index)
    assert issubclass(UnsupportedFormatError, CatalensError)
    done = run_command("inspect", index)
    assert done.returncode == 2 and "got format 2. Upgrade Catalens" in done.stderr
    assert IndexLayout(index).store_data.read_bytes() == before
