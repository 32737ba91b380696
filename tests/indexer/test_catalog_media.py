"""Media paths from dumps nobody should trust, and folders of media."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from encoders import Limits
from encoders.errors import MissingMediaError
from indexer.catalog import open_catalog
from indexer.catalog_errors import EmptyCatalogError, InvalidColumnsError, UnreadableCatalogError
from indexer.columns import Columns
from indexer.items import Item, Reject

COLUMNS = Columns(text=("t",), image=("i",), audio=())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "secret.png").write_bytes(b"secret")
    root = tmp_path / "shop"
    (root / "in").mkdir(parents=True)
    (root / "in" / "a.png").write_bytes(b"a")
    (root / "Mission: Impossible.png").write_bytes(b"m")
    (root / "inside.png").symlink_to("in/a.png")
    (root / "outside.png").symlink_to("../secret.png")
    (root / "up").symlink_to("..")
    (root / "loop.png").symlink_to("loop.png")
    os.mkfifo(root / "pipe.png")
    return root


def item(root: Path, value: object) -> Item:
    (found,) = open_catalog([{"id": 1, "t": "x", "i": value}], COLUMNS, root).items()
    assert isinstance(found, Item)
    return found


@pytest.mark.parametrize(
    ("value", "content"),
    [
        ("in/a.png", b"a"),
        ("./in//a.png", b"a"),
        ("in\\a.png", b"a"),
        (Path("in/a.png"), b"a"),
        ("inside.png", b"a"),
        ("Mission: Impossible.png", b"m"),
        (b"raw", b"raw"),
        (memoryview(b"raw"), b"raw"),
        ({"bytes": b"raw", "path": "/x"}, b"raw"),
        ({"path": "in/a.png"}, b"a"),
    ],
)
def test_inputs_that_are_read(root: Path, value: object, content: bytes) -> None:
    found = item(root, value)
    assert found.rejects == ()
    (picture,) = found.inputs["image"]
    assert picture.read(Limits()) == content
    assert picture.path is None or picture.path.is_relative_to(root.resolve())


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("/etc/passwd", "UnsafePathError"),
        ("../secret.png", "UnsafePathError"),
        ("in/../in/a.png", "UnsafePathError"),
        ("..\\secret.png", "UnsafePathError"),
        ("\\\\host\\share\\a.png", "UnsafePathError"),
        ("C:\\a.png", "UnsafePathError"),
        ("outside.png", "UnsafePathError"),
        ("up/secret.png", "UnsafePathError"),
        ("up/shop/in/a.png", None),
        ("in/a.png\0.txt", "UnsafePathError"),
        ("\ud800.png", "UnsafePathError"),
        ("https://example.org/a.png", "UnsafePathError"),
        ("file:///etc/passwd", "UnsafePathError"),
        ("data:image/png;base64,AAAA", "UnsafePathError"),
        ("none.png", "MissingMediaError"),
        ("in/a.png/b.png", "MissingMediaError"),
        ("loop.png", "MissingMediaError"),
        ("x" * 5000, "MissingMediaError"),
        ("in", "MissingMediaError"),
        (".", "MissingMediaError"),
        ("pipe.png", "MissingMediaError"),
        (7, "UndecodableMediaError"),
        ({"bytes": "text", "path": None}, "UndecodableMediaError"),
        (np.zeros((8, 8, 3), np.uint8), "UndecodableMediaError"),
        ({"url": "x"}, "UndecodableMediaError"),
        ({"bytes": {}, "path": None}, "UndecodableMediaError"),
        ({"bytes": b"", "path": ""}, None),
    ],
)
def test_inputs_that_are_not(root: Path, value: object, error: str | None) -> None:
    columns = Columns(text=("t",), image=("good", "i"), audio=())
    row = {"id": 1, "t": "x", "good": "in/a.png", "i": value}
    (found,) = open_catalog([row], columns, root).items()
    assert isinstance(found, Item)
    # The picture beside the bad one stays.
    assert found.inputs["image"][0].source == "in/a.png"
    assert [one.error for one in found.rejects] == ([error] if error else [])
    for one in found.rejects:
        assert (one.line, one.id, one.modality) == (1, "1", "image")
        assert json.dumps(one.to_dict()).encode()
        assert len(one.reason) < 700
        if isinstance(value, str):
            assert one.source is not None
            assert one.source[:5] == value.encode("utf-8", "backslashreplace").decode()[:5]


def test_a_file_that_goes_after_its_row_was_read(root: Path) -> None:
    (picture,) = item(root, "in/a.png").inputs["image"]
    (root / "in" / "a.png").unlink()
    with pytest.raises(MissingMediaError):
        picture.read(Limits())


def test_paths_are_relative_to_the_dump(root: Path) -> None:
    (root / "shop.jsonl").write_text('{"id": "1", "image": "in/a.png"}\n')
    (found,) = open_catalog(root / "shop.jsonl").items()
    assert isinstance(found, Item)
    assert found.inputs["image"][0].read(Limits()) == b"a"


def test_a_folder_groups_files_by_name(tmp_path: Path) -> None:
    files = {
        "b/dog.TXT": "ein Hund",
        "a/cat.png": "p",
        "a/cat.jpg": "j",
        "a/cat.txt": "a cat",
        "a/cat.ogg": "o",
        "a/cat.json": '{"legs": 4, "tail": null, "name": "Tom"}',
        "a/cat.1.png": "q",
        "a/alone.json": "{}",
        "a/broken.json": "{",
        "a/broken.png": "p",
        "a/notes.pdf": "",
        "a/.hidden.png": "",
        ".git/x.png": "",
        "top.md": "# top",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    catalog = open_catalog(tmp_path)
    found = list(catalog.items())
    assert [(type(one), one.line, one.id) for one in found] == [
        (Item, 1, "top"),
        (Reject, 2, "a/alone"),
        (Reject, 3, "a/broken"),
        (Item, 4, "a/cat"),
        (Item, 5, "a/cat.1"),
        (Item, 6, "b/dog"),
    ]
    cat = found[3]
    assert isinstance(cat, Item)
    assert {m: [one.source for one in many] for m, many in cat.inputs.items()} == {
        "image": ["a/cat.jpg", "a/cat.png"],
        "text": ["a/cat.txt"],
        "audio": ["a/cat.ogg"],
    }
    assert cat.inputs["text"][0].read(Limits()) == b"a cat"
    assert cat.metadata == {"folder": "a", "name": "Tom", "legs": 4}
    top = found[0]
    assert isinstance(top, Item)
    assert top.metadata == {"folder": "", "name": "top"}
    assert (catalog.rows, catalog.name) == (6, tmp_path.name)
    assert catalog.columns == Columns(
        text=("text",), image=("image",), audio=("audio",), others={"video": ("video",)}
    )


def test_links_and_pipes_in_a_folder(root: Path) -> None:
    (root / "outside.txt").write_text("the text stays")
    (root / os.fsdecode(b"\xff.png")).write_bytes(b"")
    found = {one.id or one.source: one for one in open_catalog(root).items()}
    rejected = {name for name, one in found.items() if isinstance(one, Reject)}
    # `up` leads out and round again; it is not followed.
    assert found.keys() - rejected == {"in/a", "inside", "outside", "Mission: Impossible"}
    assert rejected == {"loop", "pipe", "\\udcff"}
    outside = found["outside"]
    assert isinstance(outside, Item)
    assert outside.inputs.keys() == {"text"}
    assert [(one.modality, one.error) for one in outside.rejects] == [("image", "UnsafePathError")]


def test_folders_that_are_no_catalog(tmp_path: Path) -> None:
    (tmp_path / "notes.pdf").touch()
    with pytest.raises(EmptyCatalogError):
        open_catalog(tmp_path)
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(InvalidColumnsError, match="no columns"):
        open_catalog(tmp_path, Columns(text=("a",)))
    with pytest.raises(UnreadableCatalogError, match="media root"):
        open_catalog([{"id": 1, "text": "x"}], media_root=tmp_path / "a.txt")
