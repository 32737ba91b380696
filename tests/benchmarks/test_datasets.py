"""Fetching: once, whole or not at all, and with an error that says what to do."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from benchmarks import datasets
from benchmarks.datasets import SOURCES, Source, main, prepare
from benchmarks.debian import fetch_package
from benchmarks.errors import DatasetUnavailableError

_APT = """#!/bin/sh
echo "$@" >> "$LOG"
for last; do :; done
case "$*" in
  *update*) touch "$LISTS";;
  *) [ -e "$LISTS" ] || { echo "E: Unable to locate package $last" >&2; exit 100; }
     : > "$last.deb";;
esac
"""
_DPKG = """#!/bin/sh
mkdir -p "$3/usr/share/doc/toy" && echo public > "$3/usr/share/doc/toy/copyright"
"""


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins for apt and dpkg on PATH, their lists empty; returns the log of calls."""
    tools = tmp_path / "bin"
    tools.mkdir()
    scripts = {"apt-get": _APT, "dpkg": _DPKG, "dpkg-deb": "#!/bin/sh\necho 1.2-3\n"}
    for name, script in scripts.items():
        (tools / name).write_text(script)
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    monkeypatch.setenv("LISTS", str(tmp_path / "lists"))
    return tmp_path / "log"


def _toy(revision: int = 1, fails: bool = False) -> Source:
    def convert(unpacked: Path, dump: Path) -> dict[str, int]:
        assert (unpacked / "usr").is_dir()
        (dump / "catalog.jsonl").write_text(f'{{"id": "{revision}"}}\n')
        if fails:
            raise OSError(28, "No space left on device", str(dump))
        return {"items": 1}

    return Source("toy", ("toy",), 1, "none", convert, revision)


def _silent(line: str) -> None:
    pass


def test_fetched_once(apt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("CATALENS_CACHE", str(tmp_path / "cache"))
    folder = prepare(_toy(), say=_silent)
    assert folder == tmp_path / "cache" / "toy"
    assert sorted(path.name for path in folder.iterdir()) == [
        "COPYRIGHT.toy",
        "catalog.jsonl",
        "dataset.json",
    ]
    manifest = json.loads((folder / "dataset.json").read_text())
    assert manifest["packages"] == {"toy": "1.2-3"}
    assert manifest["counts"] == {"items": 1}
    calls = apt.read_text().splitlines()
    assert [call.split()[-1] for call in calls] == ["toy", "update", "toy"]
    assert prepare(_toy(), say=_silent) == folder
    assert apt.read_text().splitlines() == calls
    # Nothing but the dataset and its lock stays behind.
    assert sorted(path.name for path in folder.parent.iterdir()) == [".toy.lock", "toy"]


def test_new_revision_replaces_the_old(apt: Path, tmp_path: Path) -> None:
    (tmp_path / "lists").touch()
    out = tmp_path / "out"
    prepare(_toy(), out, say=_silent)
    (out / "stale").touch()
    prepare(_toy(revision=2), out, say=_silent)
    assert (out / "catalog.jsonl").read_text() == '{"id": "2"}\n'
    assert not (out / "stale").exists()


def test_failure_leaves_nothing(apt: Path, tmp_path: Path) -> None:
    (tmp_path / "lists").touch()
    (tmp_path / ".out.partial-killed").mkdir()  # of a process that was killed
    with pytest.raises(DatasetUnavailableError, match=r"got No space left on device .*Make room"):
        prepare(_toy(fails=True), tmp_path / "out", say=_silent)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out.partial-*"))


def test_files_of_others_are_not_replaced(apt: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(DatasetUnavailableError, match="got a folder with other files"):
        prepare(_toy(), tmp_path / "mine", say=_silent)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    assert not apt.exists()


def test_user_without_package_lists(
    apt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(
        DatasetUnavailableError,
        match=r"got E: Unable to locate package toy\. .*sudo apt-get update",
    ):
        prepare(_toy(), tmp_path / "out", say=_silent)
    assert len(apt.read_text().splitlines()) == 1


def test_machine_without_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DatasetUnavailableError, match="got no apt-get on PATH"):
        fetch_package("toy", tmp_path, say=_silent)


def test_command_prints_path_or_one_line(
    apt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "lists").touch()
    monkeypatch.setitem(SOURCES, "wordnet", _toy())
    assert main(["wordnet", "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'out'}\n"
    monkeypatch.setitem(SOURCES, "wordnet", _toy(revision=2, fails=True))
    assert main(["wordnet", "--out", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: the dataset toy cannot")


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CATALENS_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert datasets.cache_folder() == tmp_path / ".cache" / "catalens" / "datasets"
