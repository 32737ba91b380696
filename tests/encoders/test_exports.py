"""Kept exports: made once, whole or made again, and never in the way."""

from __future__ import annotations

import errno
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from encoders.exports import exports_folder, kept_export
from tests.processes import run_python


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "catalens" / "exports"


class Maker:
    """Counts what it makes, and never makes the same twice."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self) -> bytes:
        self.made += 1
        return bytes([self.made]) * 1000


def test_made_once(folder: Path) -> None:
    make = Maker()
    assert kept_export("a", make) == kept_export("a", make) == bytes([1]) * 1000
    assert kept_export("b", make) == bytes([2]) * 1000
    assert make.made == 2
    assert sorted(file.name for file in folder.iterdir()) == ["a.onnx-sealed", "b.onnx-sealed"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}


def test_damage_is_made_good(folder: Path) -> None:
    make = Maker()
    whole = b"\x01" + kept_export("a", make)[1:]
    file = folder / "a.onnx-sealed"
    sealed = file.read_bytes()
    assert sealed[32:] == whole  # the SHA-256, then the export
    flipped = [bytearray(sealed) for _ in range(3)]
    for content, at in zip(flipped, (0, 32, len(sealed) - 1), strict=True):
        content[at] ^= 1
    damaged = [b"", sealed[:31], sealed[:32], sealed[:-1], sealed + b"\0", *map(bytes, flipped)]
    for count, content in enumerate(damaged, 1):
        file.write_bytes(content)
        made = kept_export("a", make)
        assert made == bytes([count + 1]) * 1000
        assert kept_export("a", make) == made and make.made == count + 1


def test_what_make_raises_passes_and_keeps_nothing(folder: Path) -> None:
    def make() -> bytes:
        raise ValueError("no export today")

    with pytest.raises(ValueError, match="no export today"):
        kept_export("a", make)
    assert not folder.exists()


def test_without_a_place_each_process_makes_its_own(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Maker()
    folder.parent.mkdir()
    folder.write_bytes(b"a file where the folder belongs")
    for count in (1, 2):
        with pytest.warns(RuntimeWarning, match="cannot be kept.*Set XDG_CACHE_HOME"):
            assert kept_export("a", make) == bytes([count]) * 1000

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.warns(RuntimeWarning, match="Could not determine home"):
        assert kept_export("a", make) == bytes([3]) * 1000


def test_a_full_disk_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(RuntimeWarning, match="No space left"):
        kept_export("a", Maker())
    assert list(folder.iterdir()) == []


def test_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert exports_folder() == tmp_path / "catalens" / "exports"
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "me")
    for ignored in ("", "a/relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert exports_folder() == tmp_path / "me" / ".cache" / "catalens" / "exports"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert exports_folder() == tmp_path / "me" / ".cache" / "catalens" / "exports"


MAKE_AND_DELETE = """
import sys
from encoders.exports import exports_folder, kept_export
own = sys.argv[1].encode()
for turn in range(18):
    export = kept_export("a", lambda: own * 2_000_000)
    assert len(export) == 2_000_000 and len(set(export)) == 1, export[:9]
    if turn % 3 == 0:
        (exports_folder() / "a.onnx-sealed").unlink(missing_ok=True)
print(chr(kept_export("a", lambda: own * 2_000_000)[0]))
"""


def test_processes_at_once_do_not_clash(folder: Path) -> None:
    """Four make, keep, delete and read one export, each its own bytes; none sees a mixture."""
    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(lambda own: run_python(MAKE_AND_DELETE, own), "wxyz"))
    assert [run.returncode for run in runs] == [0] * 4, [run.stderr for run in runs]
    assert {run.stdout.strip() for run in runs} <= set("wxyz")
    assert [file.name for file in folder.iterdir()] == ["a.onnx-sealed"]
