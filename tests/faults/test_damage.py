"""Bits flip and files are cut, anywhere: it is found, by name, and the interpreter lives."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from catalens import CatalensError, Query, Retriever
from indexer import IndexLayout, Store, verify_index
from indexer.errors import UnsupportedFormatError
from indexer.manifest import Manifest
from indexer.sealing import seal
from tests.catalogs import build_toy, toy_rows
from tests.faults.flipper import flip
from tests.processes import ROOT

DERIVED = (
    "manifest.json",
    "index.faiss",
    "rows.f16",
    "rows.crc32",
    "row_numbers.u32",
    "ids.bin",
    "mask.u8",
    "fusion.safetensors",
)
FOLDER = Path("generations/000001")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sound") / "index"
    build_toy(out, toy_rows(40))
    return out


@pytest.fixture
def index(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "index"))


def flipped(
    index: Path, file: Path, places: list[tuple[int, int]], *options: str
) -> list[list[str]]:
    """What `flipper` says of each place; `crash` or `hang` where the interpreter did not answer."""
    results: list[list[str]] = []
    while len(results) < len(places):
        left = places[len(results) : len(results) + 30]
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.flipper", index, file, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        try:
            told, _ = process.communicate("".join(f"{p} {b}\n" for p, b in left), timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            told, _ = process.communicate()
        answers = [line.split() for line in told.splitlines() if not line.startswith("at ")]
        results += answers
        if process.returncode != 0:
            assert told, "the flipper itself does not run"
            ended = "hang" if process.returncode == -9 else f"crash {process.returncode}"
            results.append(ended.split())
            flip(file, *left[len(answers)])  # it had no time to flip it back
    return results


@pytest.mark.parametrize("name", DERIVED)
def test_every_flipped_bit_of_a_derived_file_is_found(index: Path, name: str) -> None:
    file = index / FOLDER / name
    size = file.stat().st_size
    rng = np.random.default_rng(len(name))
    places = [(0, 0), (size - 1, 7), *rng.integers((size, 8), size=(8, 2))]
    results = flipped(index, file, [(int(p), int(b)) for p, b in places])
    assert results == [["found", "found"]] * 10


def places_of_values(index: Path, database: str, count: int) -> list[tuple[int, int]]:
    """A place inside each of some values of a database, checksum included, as the file has it."""
    data = (index / "store" / "data.mdb").read_bytes()
    store = Store.open(IndexLayout(index))
    with store.view() as view:
        pairs = list(view.scan(database))
    store.close()
    rng = np.random.default_rng(count)
    found = []
    for number in rng.permutation(len(pairs)):
        sealed = seal(*pairs[number])
        start = data.find(sealed)
        if data.find(sealed, start + 1) < 0 < start:  # the one copy, not an old page's
            found.append((start + int(rng.integers(len(sealed))), int(rng.integers(8))))
    assert len(found) >= count
    return found[:count]


@pytest.mark.parametrize(
    ("database", "seen"),
    [("records.1", "found"), ("embeddings", "either"), ("fields.1", "found")],
)
def test_every_flipped_bit_of_a_stored_value_is_found(
    index: Path, database: str, seen: str
) -> None:
    places = places_of_values(index, database, 4 if database == "fields.1" else 12)
    results = flipped(index, index / "store" / "data.mdb", places)
    # What a search reads, it checks; of the embeddings it reads those of the items it is given.
    allowed = ("found", "same") if seen == "either" else (seen,)
    assert all(result[0] == "found" and result[1] in allowed for result in results)


def test_flipped_bits_of_the_stores_pages_are_found_by_verify_or_harmless(index: Path) -> None:
    """Headers of pages, which LMDB trusts: without verify, a search may crash on them.

    Free space and old versions are there too, where a flip changes nothing.
    """
    file = index / "store" / "data.mdb"
    rng = np.random.default_rng(7)
    pages = rng.integers(2, file.stat().st_size // 4096, size=300)
    places = [(int(p * 4096 + rng.integers(60)), int(rng.integers(8))) for p in pages]
    results = flipped(index, file, places, "verified")
    bad = [
        (place, result)
        for place, result in zip(places, results, strict=True)
        if result not in (["found", "unasked"], ["same", "same"])
    ]
    assert bad == []


def test_flipped_bits_of_the_meta_pages_are_found_at_open_or_harmless(index: Path) -> None:
    file = index / "store" / "data.mdb"
    bits = np.random.default_rng(8).integers(8, size=(2, 152))
    places = [(meta * 4096 + byte, int(bits[meta, byte])) for meta in (0, 1) for byte in range(152)]
    results = flipped(index, file, places)
    bad = [
        (place, result)
        for place, result in zip(places, results, strict=True)
        if result not in (["found", "found"], ["found", "same"], ["same", "same"])
    ]
    assert bad == []


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
