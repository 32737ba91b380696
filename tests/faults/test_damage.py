"""Bits flip and files are cut, anywhere: it is found, by name, and the interpreter lives."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from catalens import CatalensError, Query, Retriever, Writer
from indexer import verify_index
from indexer.errors import UnsupportedFormatError
from indexer.manifest import Manifest
from tests.catalogs import build_toy, toy_rows
from tests.processes import run_module

DERIVED = (
    "manifest.json",
    "index.faiss",
    "rows.f16",
    "rows.crc32",
    "row_numbers.u32",
    "ids.bin",
    "mask.u8",
    "fusion.safetensors",
    "heads.safetensors",
)
MORE = int(os.environ.get("CATALENS_MORE_FAULTS", "1"))
FOLDER = Path("generations/000001")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sound") / "index"
    build_toy(out, toy_rows(40))
    return out


@pytest.fixture
def index(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "index"))


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Derived files as they were, and a store that a writer has changed: fresh rows and dead ones,
    metadata written anew."""
    out, rows = tmp_path_factory.mktemp("changed") / "index", toy_rows(60)
    build_toy(out, rows[:40])
    with Writer.open(out, device="cpu") as writer:
        writer.add(rows[40:])
        writer.delete([f"item-{n}" for n in range(5, 12)])
        writer.update([{**row, "text": "red new words"} for row in rows[20:25]])
        writer.commit()
        writer.update([{**row, "number": 7} for row in rows[30:33]])
    return out


def told(index: Path, file: Path, count: int, cuts: int, verified: int) -> list[dict[str, str]]:
    """What `flips` tells of each place."""
    options = (count * MORE, cuts, verified, MORE)
    done = run_module("tests.faults.flips", index, file, *options, timeout=240 * MORE)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line.split("\t")[-1]) for line in done.stdout.splitlines()]
    assert len(found) == count * MORE + cuts, done.stdout[-2000:]
    return found


@pytest.mark.parametrize("name", DERIVED)
def test_every_flip_and_cut_of_a_derived_file_is_found(changed: Path, name: str) -> None:
    found = told(changed, changed / FOLDER / name, count=200, cuts=8, verified=4)
    assert [one for one in found if one.get("by_reader") != "found"] == []
    assert [one for one in found if one.get("by_verify", "found") != "found"] == []


def test_no_flip_of_the_store_crashes_or_lies(changed: Path) -> None:
    """Free space and old pages are there too, where a flip changes nothing."""
    found = told(changed, changed / "store" / "data.mdb", count=220, cuts=8, verified=2)
    # What readers do not come by, `verify` does: pages that are free, inputs, embeddings of none.
    allowed = {("found", "found"), ("found", "same"), ("same", "same")}
    seen = {(one["by_verify"], one["by_reader"]) for one in found if "by_verify" in one}
    assert [one for one in found if one.get("by_reader") not in ("found", "same")] == []
    assert seen == allowed, [one for one in found if "wrong" in one.values()]


@pytest.mark.parametrize("name", DERIVED)
@pytest.mark.parametrize("kept", [0, 1, 0.5, -1])
def test_cut_derived_file_is_refused_at_open(index: Path, name: str, kept: float) -> None:
    file = index / FOLDER / name
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * kept) if isinstance(kept, float) else kept])
    with pytest.raises(CatalensError, match="expected") as raised:
        Retriever.open(index)
    assert raised.value.exit_code == 1
    try:
        assert verify_index(index).problems
    except CatalensError as error:
        assert error.exit_code == 1


@pytest.mark.parametrize("name", DERIVED)
def test_missing_derived_file_is_refused_at_open(index: Path, name: str) -> None:
    (index / FOLDER / name).unlink()
    with pytest.raises(CatalensError, match=name.replace(".", r"\.")):
        Retriever.open(index)


def test_missing_generation_is_refused_and_built_again(index: Path) -> None:
    shutil.rmtree(index / "generations")
    with pytest.raises(CatalensError, match="Build the index again"):
        Retriever.open(index)
    summary = build_toy(index, toy_rows(40))
    assert summary.encoded == {"text": 0, "image": 0}
    with Retriever.open(index) as retriever:
        assert len(retriever.search(Query(text="red"), 40)) == 40


def random_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    return rng.integers(256, size=len(data), dtype=np.uint8).tobytes()


def some_changed(data: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for place in rng.integers(len(data), size=5):
        changed[place] = rng.integers(256)
    return bytes(changed) if bytes(changed) != data else data + b"x"


def cut_and_longer(data: bytes, rng: np.random.Generator) -> bytes:
    return data[rng.integers(len(data)) :] + data + b"x"


@pytest.mark.parametrize("mangle", [random_bytes, some_changed, cut_and_longer])
@pytest.mark.parametrize("name", DERIVED)
def test_mangled_files_raise_nothing_but_our_errors(
    index: Path, name: str, mangle: Callable[[bytes, np.random.Generator], bytes]
) -> None:
    rng = np.random.default_rng(sum(map(ord, name)))
    file = index / FOLDER / name
    data = file.read_bytes()
    for _ in range(5):
        file.write_bytes(mangle(data, rng))
        with (
            pytest.raises(CatalensError, match="expected"),
            Retriever.open(index, device="cpu") as retriever,
        ):
            retriever.search(Query(like="item-1"), len(retriever) - 1)


def test_manifest_of_a_newer_format_is_refused_by_number() -> None:
    data = json.dumps({"format": 99}).encode()
    with pytest.raises(UnsupportedFormatError, match=r"expected format 1; got format 99\."):
        Manifest.load(data, hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize(
    "content", [b"{}", b'{"format": 1}', b"[]", b"null", b"1", b"{", b"\xff", b""]
)
def test_manifest_whose_hash_is_right_and_content_wrong(content: bytes) -> None:
    with pytest.raises(CatalensError):
        Manifest.load(content, hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize("path", ["store/data.mdb", "generations/000001/manifest.json"])
def test_folder_in_place_of_a_file_is_our_error(index: Path, path: str) -> None:
    (index / path).unlink()
    (index / path).mkdir()
    with pytest.raises(CatalensError):
        Retriever.open(index)


@pytest.mark.parametrize("path", ["writer.lock", "generations", "store"])
def test_builds_meet_odd_files_with_our_error(index: Path, path: str) -> None:
    target = index / path
    if target.is_dir():
        shutil.rmtree(target)
        target.write_text("x")
    else:
        target.unlink()
        target.mkdir()
    with pytest.raises(CatalensError):
        build_toy(index, toy_rows(4))
