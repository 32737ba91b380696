"""Opening and inspecting an index that a build replaces at that very moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from catalens import Retriever, describe
from indexer import Generation, IndexLayout, Snapshot, load_manifest
from indexer.errors import CorruptIndexError
from indexer.opening import open_latest
from tests.catalogs import build_vectors, clustered


class Rebuilt:
    """Builds the index again, with one item more, before each of the first `times` calls."""

    def __init__(self, folder: Path, times: int, wrapped: Any) -> None:
        self.folder, self.times, self.wrapped = folder, times, wrapped
        self.calls = 0

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        self.calls += 1
        if self.calls <= self.times:
            build_vectors(self.folder, clustered(5 + self.calls, 4))
        return self.wrapped(*arguments, **options)


@pytest.fixture
def index(tmp_path: Path) -> Path:
    build_vectors(tmp_path / "index", clustered(5, 4))
    return tmp_path / "index"


def test_inspect_during_a_build_tells_of_the_new_index(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rebuilt = Rebuilt(index, 2, load_manifest)
    monkeypatch.setattr(describe, "load_manifest", rebuilt)
    found, rejects = describe.describe(index)
    assert (found["items"], found["generation"], rejects) == (7, 3, [])
    assert rebuilt.calls == 3


def test_open_during_a_build_opens_the_new_index(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Generation, "open", Rebuilt(index, 1, Generation.open))
    with Retriever.open(index) as retriever:
        assert len(retriever) == 6


def test_damage_that_no_build_explains_is_told_at_once(index: Path) -> None:
    (index / "generations" / "000001" / "manifest.json").unlink()
    calls = []

    def opener(snapshot: Snapshot) -> object:
        calls.append(snapshot)
        return load_manifest(IndexLayout(index).generation(1), snapshot.current)

    with pytest.raises(CorruptIndexError, match="manifest"):
        open_latest(IndexLayout(index), opener)
    assert len(calls) == 1


def test_errors_that_are_no_sign_of_a_sweep_are_not_tried_again(index: Path) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    opener = Rebuilt(index, 1, lambda snapshot: interrupt())
    with pytest.raises(KeyboardInterrupt):
        open_latest(IndexLayout(index), opener)
    assert opener.calls == 1
