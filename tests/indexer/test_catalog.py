"""Rows to items, from JSON lines and from memory: columns, ids, inputs, metadata, rejects."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from encoders import Limits
from encoders.errors import MediaTooLargeError
from indexer import readers
from indexer.catalog import open_catalog
from indexer.catalog_errors import (
    EmptyCatalogError,
    InvalidColumnsError,
    UnreadableCatalogError,
)
from indexer.columns import Columns
from indexer.items import Item, Reject

LIMITS = Limits()


def one(row: Any, columns: Columns | None = None, **options: Any) -> Item | Reject:
    """Read one row beside a good one, so that columns are always found."""
    columns = columns or Columns(text=("title",), image=(), audio=())
    texts = (*columns.text, *columns.image, *columns.audio, *columns.vector.values())
    good = dict.fromkeys((columns.id, *texts), "good")
    return list(open_catalog([good, row], columns, **options).items())[1]


def item(row: Any, columns: Columns | None = None, **options: Any) -> Item:
    found = one(row, columns, **options)
    assert isinstance(found, Item), found
    return found


def reject(row: Any, columns: Columns | None = None, **options: Any) -> Reject:
    found = one(row, columns, **options)
    assert isinstance(found, Reject), found
    assert (found.modality, found.error) == (None, "RejectedRowError")
    return found


def write(folder: Path, content: bytes) -> Path:
    path = folder / "shop.jsonl"
    path.write_bytes(content)
    return path


def contents(found: Item, modality: str = "text") -> list[bytes]:
    return [one.read(LIMITS) for one in found.inputs.get(modality, ())]


def test_json_lines_are_read_and_bad_lines_cost_only_themselves(tmp_path: Path) -> None:
    lines = [
        b'\xef\xbb\xbf{"id": "a", "title": "one", "price": 3}\r\n',
        b"\n",
        b'{"id": "b", "title": \n',
        b'{"id": "c", "title": "\xff"}\n',
        b"[1, 2]\n",
        b'{"id": "d", "title": "\\ud800"}\n',
        b'{"id": "e", "title": "x", "price": NaN}\n',
        b'{"id": 7, "id": 8, "title": "twice"}',
    ]
    catalog = open_catalog(write(tmp_path, b"".join(lines)))
    found = list(catalog.items())
    assert found == list(catalog.items())
    assert [(type(f).__name__, f.line, f.id) for f in found] == [
        ("Item", 1, "a"),
        ("Reject", 3, None),
        ("Reject", 4, None),
        ("Reject", 5, None),
        ("Reject", 6, None),
        ("Reject", 7, None),
        ("Item", 8, "8"),
    ]
    assert isinstance(found[0], Item)
    assert found[0].metadata == {"title": "one", "price": 3}
    assert isinstance(found[2], Reject)
    assert "0xff at column 23" in found[2].reason
    assert (catalog.rows, catalog.name) == (8, "shop.jsonl")
    assert catalog.media_root == tmp_path.resolve()


def test_a_line_too_long_is_skipped_without_holding_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "MAX_ROW_BYTES", 100)
    monkeypatch.setattr(readers, "_CHUNK", 16)
    rows = [{"id": "a", "title": "x" * n} for n in (1, 900, 2)]
    lines = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    found = list(open_catalog(write(tmp_path, lines)).items())
    assert [type(f) for f in found] == [Item, Reject, Item]
    assert isinstance(found[1], Reject)
    assert "at most 100 bytes" in found[1].reason
    assert found[2].line == 3


def test_conventional_names_are_all_used_in_their_order() -> None:
    row = {"description": "d", "title": "t", "name": "n", "id": 1, "sound": None, "photo": ""}
    catalog = open_catalog([row])
    assert catalog.columns == Columns(
        text=("title", "name", "description"), image=("photo",), audio=("sound",)
    )
    (found,) = catalog.items()
    assert isinstance(found, Item)
    assert contents(found) == [b"t\nn\nd"]
    assert found.inputs.keys() == {"text"}
    assert found.metadata == {"description": "d", "title": "t", "name": "n"}


def test_a_mapped_column_is_looked_for_in_the_first_thousand_rows() -> None:
    rows: list[dict[str, Any]] = [{"id": n, "title": "x"} for n in range(1001)]
    rows[999]["subtitle"] = "late"
    rows[1000]["footnote"] = "too late"
    open_catalog(rows, Columns(text=("title", "subtitle")))
    with pytest.raises(InvalidColumnsError, match=r"'footnote'.*'id', 'title', 'subtitle'"):
        open_catalog(rows, Columns(text=("footnote",)))
    with pytest.raises(InvalidColumnsError, match="Did you mean 'subtitle'"):
        open_catalog(rows, Columns(text=("subtitel",)))
    with pytest.raises(InvalidColumnsError, match="id column 'sku'"):
        open_catalog(rows, Columns(id="sku"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Columns(text="title"), r"\('title',\)"),  # type: ignore[arg-type]
        (lambda: Columns(image=("id",)), "one role"),
        (lambda: Columns(image=("a",), audio=("a",)), "one role"),
        (lambda: Columns(text=("a", "a")), "each named once"),
        (lambda: open_catalog([{"id": 1, "price": 2}]), "none among 'id', 'price'"),
        (lambda: open_catalog([{"id": 1, "title": 2}], Columns(text=())), "at least one column"),
    ],
)
def test_mappings_that_cannot_be(make: Any, message: str) -> None:
    with pytest.raises(InvalidColumnsError, match=message):
        make()


def test_an_id_may_be_the_text_as_well() -> None:
    found = item({"name": "Ada"}, Columns(id="name", text=("name",), image=(), audio=()))
    assert (found.id, contents(found), found.metadata) == ("Ada", [b"Ada"], {})


@pytest.mark.parametrize(
    ("value", "expected"),
    [("x", "x"), ("é" * 240, "é" * 240), (7, "7"), (-1, "-1"), (np.int32(5), "5"), (" a", " a")],
)
def test_ids(value: object, expected: str) -> None:
    assert item({"id": value, "title": "x"}).id == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "got none"),
        (float("nan"), "got none"),
        ("", "blank"),
        (" ", "blank"),
        (True, "bool True"),
        (1.0, "float 1.0"),
        ([1], "list"),
        ("a\0b", "NUL"),
        ("é" * 241, "at most 480 bytes of UTF-8; got 482"),
        ("\ud800", "UTF-8"),
        (2**64, "64 bits"),
    ],
)
def test_bad_ids(value: object, message: str) -> None:
    found = reject({"id": value, "title": "x"})
    assert (found.line, found.id) == (2, None)
    assert message in found.reason
    assert "none" in reject({"title": "x"}).reason


def test_texts_join_and_lists_add_further_ones() -> None:
    columns = Columns(text=("a", "more", "b"), image=(), audio=())
    found = item({"id": 1, "b": "two", "a": "one", "more": ["x", "", None, "y"]}, columns)
    assert contents(found) == [b"one\ntwo", b"x", b"y"]
    assert found.metadata == {"a": "one", "b": "two", "more": ["x", "", None, "y"]}
    found = item({"id": 1, "a": "one", "b": 7}, columns)
    assert contents(found) == [b"one"]
    assert [(r.modality, r.error, r.id) for r in found.rejects] == [
        ("text", "UndecodableMediaError", "1")
    ]


@pytest.mark.parametrize("hole", [None, "", " ", float("nan"), [], (), np.array([]), {}])
def test_a_row_of_holes_has_no_input(hole: object) -> None:
    columns = Columns(text=("t",), image=("i",), audio=("a",), vector={"v": "v"})
    found = reject({"id": "x", "t": hole, "i": hole, "a": hole, "v": hole}, columns)
    assert found.id == "x"
    assert "got none of them" in found.reason


def test_a_row_whose_every_input_is_bad_says_why() -> None:
    found = reject({"id": "x", "i": "no.png"}, Columns(text=(), image=("i",), audio=()))
    assert "image: media path 'no.png'" in found.reason


@pytest.mark.parametrize(
    "value",
    [[1, 2.5], (1, 2.5), np.array([1, 2.5]), np.array([1, 2.5], dtype=np.float16)],
)
def test_vectors_become_little_endian_floats(value: object) -> None:
    found = item({"id": 1, "v": value}, Columns(text=(), image=(), audio=(), vector={"s": "v"}))
    (content,) = contents(found, "vector:s")
    assert np.frombuffer(content, dtype="<f4").tolist() == [1, 2.5]
    assert found.metadata == {}


@pytest.mark.parametrize(
    "value",
    [
        "1,2",
        [1, "a"],
        [1, None],
        [[1], [1, 2]],
        [[1, 2]],
        3,
        np.array(3),
        [True],
        {"a": 1},
        [10**400],
    ],
)
def test_what_is_no_vector_costs_that_modality(value: object) -> None:
    columns = Columns(text=("t",), image=(), audio=(), vector={"s": "v"})
    found = item({"id": 1, "t": "x", "v": value}, columns)
    assert found.inputs.keys() == {"text"}
    assert [(r.modality, r.error) for r in found.rejects] == [("vector:s", "InvalidVectorError")]


def test_rows_in_memory_that_are_no_mappings_or_have_no_names() -> None:
    assert "got int 3" in reject(3).reason
    assert "field name" in reject({"id": 1, "title": "x", 5: 6}).reason
    assert "UTF-8" in reject({"id": 1, "title": "x", "\udc00": 6}).reason


def test_an_iterator_streams_and_is_read_once() -> None:
    drawn = 0

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal drawn
        for drawn in itertools.count(1):
            yield {"id": drawn, "title": "x"}

    catalog = open_catalog(rows())
    assert catalog.rows is None
    found = list(itertools.islice(catalog.items(), 1500))
    assert [f.id for f in found] == [str(n) for n in range(1, 1501)]
    assert drawn == 1500
    with pytest.raises(UnreadableCatalogError, match="a generator that has been read"):
        next(catalog.items())


def test_errors_of_the_callers_iterator_are_the_callers() -> None:
    def rows() -> Iterator[dict[str, Any]]:
        yield {"id": 1, "title": "x"}
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        open_catalog(rows())


def test_a_list_is_read_again_and_counted() -> None:
    catalog = open_catalog([{"id": 1, "title": "x"}])
    assert list(catalog.items()) == list(catalog.items())
    assert (catalog.rows, catalog.name) == (1, "list")
    assert catalog.media_root == Path.cwd().resolve()


@pytest.mark.parametrize("content", [b"", b"\n\n \r\n", b"\xef\xbb\xbf"])
def test_empty_dumps(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(EmptyCatalogError, match="at least one row"):
        open_catalog(write(tmp_path, content))
    with pytest.raises(EmptyCatalogError):
        open_catalog([])


def test_a_dump_of_bad_rows_alone_is_left_to_the_builder(tmp_path: Path) -> None:
    assert [type(f) for f in open_catalog(write(tmp_path, b"{\n{\n")).items()] == [Reject] * 2


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "a.xlsx").touch()
    for source, message in [
        (tmp_path / "none.csv", "no such file"),
        (tmp_path / "a.xlsx", "suffix '.xlsx'"),
        ({"id": 1}, "got a dict"),
        (3, "got a int"),
        (b"a.csv", "got a bytes"),
    ]:
        with pytest.raises(UnreadableCatalogError, match=message):
            open_catalog(source)  # type: ignore[arg-type]
    with pytest.raises(UnreadableCatalogError, match="media root"):
        open_catalog([{"id": 1, "title": "x"}], media_root=tmp_path / "none")


def test_rejects_survive_json_and_inputs_respect_limits() -> None:
    found = reject({"id": "a", "title": ""})
    assert Reject.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    with pytest.raises(MediaTooLargeError, match="at most 2 bytes"):
        item({"id": "a", "title": "xyz"}).inputs["text"][0].read(Limits(max_bytes=2))
