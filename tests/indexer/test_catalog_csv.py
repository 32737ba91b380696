"""CSV and TSV, written by hand and by the csv module."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from encoders import Limits
from indexer import csv_reader
from indexer.catalog import Catalog, open_catalog
from indexer.catalog_errors import EmptyCatalogError, UnreadableCatalogError
from indexer.columns import Columns
from indexer.items import Item, Reject

TITLED = Columns(text=("title",), image=(), audio=())


def opened(
    folder: Path, content: bytes | str, columns: Columns | None = TITLED, suffix: str = ".csv"
) -> Catalog:
    path = folder / f"shop{suffix}"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return open_catalog(path, columns)


def items(catalog: Catalog) -> list[Item]:
    found = list(catalog.items())
    assert all(isinstance(one, Item) for one in found), found
    return [one for one in found if isinstance(one, Item)]


def test_cells_are_typed_by_their_column(tmp_path: Path) -> None:
    text = "id,title,price,sold,code,gap\r\n007,1984,1.50,true,0042,\r\n8,true,2,False,x\r\n"
    first, second = items(opened(tmp_path, "\ufeff" + text))
    assert first.id == "007"
    assert first.inputs["text"][0].read(Limits()) == b"1984"
    assert first.metadata == {"title": "1984", "price": 1.5, "sold": True, "code": "0042"}
    # The cells missing at the end are holes.
    assert second.metadata == {"title": "true", "price": 2, "sold": False, "code": "x"}
    assert [first.line, second.line] == [2, 3]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(tmp_path: Path, delimiter: str) -> None:
    header = delimiter.join(["id", '"title, or name; | of it"', "x"])
    row = delimiter.join(["1", '"a, b; c | d"', "3"])
    columns = Columns(text=("title, or name; | of it",), image=(), audio=())
    (found,) = items(opened(tmp_path, f"\n{header}\n\n{row}\n", columns))
    assert found.metadata == {"title, or name; | of it": "a, b; c | d", "x": 3}
    assert found.line == 4


def test_tsv_is_cut_by_tabs_alone(tmp_path: Path) -> None:
    columns = Columns(id="a,b,c", text=("title",), image=(), audio=())
    (found,) = items(opened(tmp_path, "a,b,c\ttitle\n1\tx\n", columns, ".tsv"))
    assert found.id == "1"


def test_bad_rows_cost_only_themselves(tmp_path: Path) -> None:
    content = b"\n".join(
        [
            b"id,title,n",
            b"1,one,1",
            b"2,two,2,3,4",
            b"3,\xff\xfe,3",
            b'4,"a\nb",4',
            b'5,"x"y,5',
            b'6,5" screen,6',
            b"",
            b"7,seven,7",
            b'8,"open',
        ]
    )
    found = list(opened(tmp_path, content).items())
    assert [(type(one), one.line) for one in found] == [
        (Item, 2),
        (Reject, 3),
        (Reject, 4),
        (Item, 5),
        (Reject, 7),
        (Item, 8),
        (Item, 10),
        (Reject, 11),
    ]
    reasons = [one.reason for one in found if isinstance(one, Reject)]
    assert "at most 3 cells, as in the header; got 5" in reasons[0]
    assert "UTF-8" in reasons[1]
    assert "well-formed CSV" in reasons[2]
    assert "unexpected end of data" in reasons[3]
    assert [one.metadata["title"] for one in found if isinstance(one, Item)] == [
        "one",
        "a\nb",
        '5" screen',
        "seven",
    ]


def test_a_quote_never_closed_costs_no_more_than_the_field_limit(tmp_path: Path) -> None:
    rows = "".join(f"{n},t\n" for n in range(30_000))
    found = list(opened(tmp_path, 'id,title\nx,"open\n' + rows).items())
    assert isinstance(found[0], Reject)
    assert "field limit (131072)" in found[0].reason
    kept = items_in(found)
    assert kept[-1].id == "29999"
    assert len(rows) - sum(len(f"{one.id},t\n") for one in kept) < 131_072 + 20


def items_in(found: list[Item | Reject]) -> list[Item]:
    return [one for one in found if isinstance(one, Item)]


def test_rows_beyond_the_limit_are_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_reader, "MAX_ROW_BYTES", 60)
    monkeypatch.setattr(csv_reader, "_CHUNK", 16)
    # One long line, and one row that never ends because each line opens a new quoted cell.
    content = "id,title\n1,one\n2," + "x" * 500 + '\n3,three\n4,"\n' + '","\n' * 50 + "5,five\n"
    found = list(opened(tmp_path, content).items())
    assert [one.id for one in items_in(found)][:2] == ["1", "3"]
    assert isinstance(found[1], Reject)
    assert "characters" in found[1].reason
    assert all(isinstance(one, Reject) for one in found[3:-1])


def test_lists_and_vectors_in_cells(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "[1].png"):
        (tmp_path / name).write_bytes(b"png")
    content = 'id;image;v\n1;["a.png", "b.png"];[1, 2.5]\n2;[1].png;\n3;a.png;[1 2]\n'
    columns = Columns(image=("image",), text=(), audio=(), vector={"s": "v"})
    first, second, third = items(opened(tmp_path, content, columns))
    assert [one.source for one in first.inputs["image"]] == ["a.png", "b.png"]
    (vector,) = first.inputs["vector:s"]
    assert np.frombuffer(vector.read(Limits()), "<f4").tolist() == [1, 2.5]
    assert [one.source for one in second.inputs["image"]] == ["[1].png"]
    assert [one.modality for one in third.rejects] == ["vector:s"]
    assert first.metadata == {}


@pytest.mark.parametrize("content", ["", "\n\n", "id,title\n", "id,title"])
def test_no_rows(tmp_path: Path, content: str) -> None:
    with pytest.raises(EmptyCatalogError):
        opened(tmp_path, content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"id,title,title\n1,a,b\n", "title' twice"),
        ("id,title\n1,a\n".encode("utf-16"), "not UTF-8"),
        (b'id,"title\n1,a\n', "unexpected end"),
    ],
)
def test_headers_that_do_not_read(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(UnreadableCatalogError, match=message):
        opened(tmp_path, content)


def test_the_estimate_counts_lines(tmp_path: Path) -> None:
    assert opened(tmp_path, "id,title\n1,a\n2,b").rows == 2


cells = st.text(
    alphabet=st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from('\n\r",;\t|'),
    max_size=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(cells, cells), min_size=1, max_size=5),
    st.sampled_from(",;\t|"),
    st.sampled_from(["\n", "\r\n"]),
)
def test_what_the_csv_module_writes_is_read(
    tmp_path: Path, rows: list[tuple[str, str]], delimiter: str, ending: str
) -> None:
    out = io.StringIO(newline="")
    # Python 3.11's writer leaves a lone carriage return bare, which then ends the row.
    quoting = (
        csv.QUOTE_ALL if any("\r" in cell for row in rows for cell in row) else csv.QUOTE_MINIMAL
    )
    writer = csv.writer(out, delimiter=delimiter, lineterminator=ending, quoting=quoting)
    writer.writerow(["id", "title", "note"])
    for number, (title, note) in enumerate(rows):
        # Letters around keep cells from being blank or numbers.
        writer.writerow([number, f"a{title}b", f"c{note}d"])
    found = items(opened(tmp_path, out.getvalue()))
    assert [(one.id, one.metadata) for one in found] == [
        (str(number), {"title": f"a{title}b", "note": f"c{note}d"})
        for number, (title, note) in enumerate(rows)
    ]
