"""Export and import: an index in one Parquet file, exactly, and files that are no export."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalens import (
    CatalensError,
    Query,
    Retriever,
    Writer,
    build_index,
    export_index,
    import_index,
    learn_alignment,
    learn_fusion,
    rebuild_index,
)
from indexer import IndexLayout, Store, export, verify_index
from indexer.errors import (
    ExportFileError,
    ImportFileError,
    OutputFolderError,
    UnsupportedFormatError,
)
from tests.catalogs import Opened, build_toy, build_vectors, clustered, png, toy_rows, vector_rows
from tests.toy_encoders import ToyEncoder


def toy(folder: Path) -> Path:
    """Items with several pictures, shared ones, sources, odd ids and metadata of all types."""
    rng = np.random.default_rng(7)
    (folder / "a.png").write_bytes(png(rng))
    rows = toy_rows(40)
    rows[1]["image"] = [png(rng), "a.png", png(rng)]
    rows[2]["image"] = "a.png"
    rows[3] |= {"id": "ü \n" + "x" * 400, "real": 1.0, "whole": 2**63, "none": [None, {"a": -0.0}]}
    rows[4]["image"] = ["gone.png", png(rng)]
    build_toy(folder / "index", rows, media_root=folder)
    return folder / "index"


def changed(folder: Path) -> Path:
    index = toy(folder)
    rows = toy_rows(50, seed=3)
    with Writer.open(index, device="cpu") as writer:
        writer.delete(["item-0", "item-11"])
        writer.update(rows[4:8])
        writer.add(rows[40:])
    return index


def imputed(folder: Path) -> Path:
    """Half of the items lack a space, which a head reaches from another."""
    a, rng = clustered(400, 24, clusters=400), np.random.default_rng(2)
    b = a @ rng.standard_normal((24, 16)) + 0.3 * rng.standard_normal((400, 16))
    rows = [{"id": f"item-{n}", "a": a[n], "b": None if n % 2 else b[n]} for n in range(400)]
    for n, row in enumerate(rows):
        row["number"] = n
    build_index(rows, folder / "index", vector={"a": "a", "b": "b"}, device="cpu")
    learn_alignment(folder / "index")
    rebuild_index(folder / "index", missing="impute")
    assert Opened(folder / "index").manifest.spaces[1].imputed == 200
    return folder / "index"


def rounded(folder: Path) -> Path:
    index = toy(folder)
    rebuild_index(index, rows="int8")
    return index


def codes(folder: Path) -> Path:
    build_vectors(folder / "index", clustered(1500, 16), number=range(1500))
    return folder / "index"


def reduced(folder: Path) -> Path:
    rows = list(vector_rows(clustered(600, 32)))
    build_index(rows, folder / "index", vector="v", device="cpu")
    rebuild_index(folder / "index", fusion="mean")
    return folder / "index"


def neural(folder: Path) -> Path:
    rows = toy_rows(300)
    build_toy(folder / "index", rows)
    asked = [{"query": row["text"], "relevant": [row["id"]]} for row in rows[:200]]
    (folder / "asked.jsonl").write_text("\n".join(map(json.dumps, asked)))
    learn_fusion(folder / "index", fusion="neural", judgements=folder / "asked.jsonl")
    return folder / "index"


KINDS = [toy, changed, imputed, rounded, codes, reduced, neural]


def stored(index: Path) -> tuple[list[Any], list[Any], dict[bytes, bytes]]:
    """Records, inputs, and the embeddings that these name."""
    store = Store.open(IndexLayout(index))
    with store.snapshot() as snapshot:
        records = [tuple(record) for _, record in snapshot.scan_records()]
        inputs = [tuple(one) for _, one in snapshot.scan_inputs()]
        named = {digest for hashes, _, _ in inputs for each in hashes.values() for digest in each}
        embeddings = {
            bytes(key): bytes(value)
            for key, value in snapshot.view.scan("embeddings")
            if key[16:].hex() in named
        }
    store.close()
    return records, inputs, embeddings


def metadata(path: Path) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = pq.ParquetFile(path).metadata.metadata
    return {key: value for key, value in found.items() if key.startswith(b"catalens")}


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_round_trip_is_exact(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    index = make(tmp_path)
    first, second = tmp_path / "first.parquet", tmp_path / "second.parquet"
    exported = export_index(index, first)
    ToyEncoder.encoded.clear()
    imported = import_index(first, tmp_path / "again", device="cpu")
    assert not ToyEncoder.encoded
    assert (imported.items, imported.inputs) == (exported.items, exported.inputs)
    export_index(tmp_path / "again", second)
    assert pq.read_table(first).equals(pq.read_table(second))
    assert metadata(first) == metadata(second)
    assert repr(stored(index)[:2]) == repr(stored(tmp_path / "again")[:2])
    assert stored(index)[2] == stored(tmp_path / "again")[2]
    assert verify_index(tmp_path / "again").problems == []


@pytest.mark.parametrize("make", [toy, changed, imputed, rounded, neural])
def test_the_same_answers(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    index = make(tmp_path)
    export_index(index, tmp_path / "x.parquet")
    import_index(tmp_path / "x.parquet", tmp_path / "again", device="cpu")
    with Retriever.open(index) as before, Retriever.open(tmp_path / "again") as after:
        queries = [Query(like=["item-2"], unlike=["item-5"])]
        if make is not imputed:
            queries += [Query(text="red round"), Query(text="old", weights={"words": -1.0})]
        for query in queries:
            for where in (None, "number < 20"):
                assert after.search(query, 10, where=where) == before.search(query, 10, where=where)


def test_what_was_imported_can_be_changed(tmp_path: Path) -> None:
    index = toy(tmp_path)
    export_index(index, tmp_path / "x.parquet")
    import_index(tmp_path / "x.parquet", tmp_path / "again", device="cpu")
    ToyEncoder.encoded.clear()
    rows = toy_rows(45)
    with Writer.open(tmp_path / "again", device="cpu") as writer:
        writer.update([rows[5]])
        writer.add(rows[40:42])
        summary = writer.commit()
    assert (summary.unchanged, summary.added, summary.encoded["text"]) == (1, 2, 2)
    assert verify_index(tmp_path / "again").problems == []


def test_row_groups_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_GROUP_INPUTS", 100)
    build_vectors(tmp_path / "index", clustered(350, 8))
    export_index(tmp_path / "index", tmp_path / "x.parquet")
    told = pq.ParquetFile(tmp_path / "x.parquet").metadata
    assert [told.row_group(n).num_rows for n in range(told.num_row_groups)] == [100, 100, 100, 50]


def test_columns_read_as_documented(tmp_path: Path) -> None:
    index = toy(tmp_path)
    export_index(index, tmp_path / "x.parquet")
    table = pq.read_table(tmp_path / "x.parquet")
    assert table.column_names == ["id", "inputs", "metadata", "fused", *(
        "embeddings.words", "embeddings.colours"
    )]  # fmt: skip
    row = table.slice(1, 1).to_pylist()[0]
    assert [one["modality"] for one in row["inputs"]] == ["text", "image", "image", "image"]
    assert row["inputs"][2]["source"] == "a.png" and len(row["inputs"][2]["sha256"]) == 32
    assert [one is None for one in row["embeddings.words"]] == [False, True, True, True]
    assert json.loads(row["metadata"])["number"] == 1
    np.testing.assert_array_equal(np.float32(row["fused"]), Opened(index).rows[1])


def test_targets_are_refused(tmp_path: Path) -> None:
    index = toy(tmp_path)
    taken = tmp_path / "x.parquet"
    export_index(index, taken)
    before = taken.read_bytes()
    with pytest.raises(ExportFileError, match="there already"):
        export_index(index, taken)
    with pytest.raises(ExportFileError, match="no folder"):
        export_index(index, tmp_path / "nowhere" / "x.parquet")
    with pytest.raises(OutputFolderError, match="new or empty"):
        import_index(taken, index, device="cpu")
    assert taken.read_bytes() == before and verify_index(index).problems == []
    assert not list(tmp_path.glob("*.unfinished"))


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    export_index(toy(tmp_path), tmp_path / "x.parquet")
    return tmp_path / "x.parquet"


def refused(path: Path, error: type[Exception] = ImportFileError) -> str:
    """What the import of a file says; it leaves nothing behind."""
    out = path.parent / "refused"
    with pytest.raises(error) as caught:
        import_index(path, out, device="cpu")
    assert not (out / "store").exists()
    return str(caught.value)


def rewritten(path: Path, name: str, change: Callable[[Any], Any]) -> Path:
    """The export with the values of one column changed."""
    table = pq.read_table(path)
    place = table.column_names.index(name)
    values = table.column(name).to_pylist()
    kind = table.schema.field(name).type
    changed = change(values)
    array = changed if isinstance(changed, pa.Array) else pa.array(changed, type=kind)
    pq.write_table(table.set_column(place, name, array), path)
    return path


def described(path: Path, **keys: bytes) -> Path:
    table = pq.read_table(path)
    known = {key.decode(): value for key, value in table.schema.metadata.items()}
    known |= {key.replace("_", "."): value for key, value in keys.items()}
    pq.write_table(table.replace_schema_metadata(known), path)
    return path


def told(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(metadata(path)[b"catalens"])
    return found


def test_foreign_files_are_refused(tmp_path: Path, exported: Path) -> None:
    foreign = tmp_path / "f.parquet"
    assert "No such file" in refused(foreign)
    foreign.write_bytes(b"PAR1 and no more")
    assert "Parquet" in refused(foreign)
    pq.write_table(pa.table({"id": ["a"]}), foreign)
    assert "metadata that `catalens export` writes" in refused(foreign)
    data = exported.read_bytes()
    foreign.write_bytes(data[: len(data) // 2])
    assert "whole" in refused(foreign)
    pq.write_table(pq.read_table(exported).drop_columns(["inputs"]), foreign)
    assert "none named ['inputs']" in refused(foreign)
    pq.write_table(pq.read_table(exported).slice(0, 0), foreign)
    assert "at least one item" in refused(foreign)


def test_what_other_programs_wrote_again_is_taken(tmp_path: Path, exported: Path) -> None:
    table = pq.read_table(exported)
    place = table.column_names.index("id")
    table = table.set_column(place, "id", table.column("id").cast(pa.large_string()))
    pq.write_table(table, exported)
    assert import_index(exported, tmp_path / "again", device="cpu").items == 40


@pytest.mark.parametrize(
    ("column", "change", "told"),
    [
        ("id", lambda v: [v[0], v[0], *v[2:]], "twice"),
        ("id", lambda v: [None, *v[1:]], "id"),
        ("id", lambda v: ["x" * 500, *v[1:]], "480 bytes"),
        ("id", lambda v: pa.array([{"a": 1}] * len(v)), "columns of an export"),
        ("metadata", lambda v: ["[1]", *v[1:]], "JSON object"),
        ("metadata", lambda v: ["{", *v[1:]], "JSON"),
        ("metadata", lambda v: [None, *v[1:]], "JSON"),
        ("metadata", lambda v: ["[" * 500 + "]" * 500, *v[1:]], "JSON object"),
        ("metadata", lambda v: ['{"a":' * 200 + "1" + "}" * 200, *v[1:]], "nesting"),
        ("inputs", lambda v: [[], *v[1:]], "columns of an export"),
        ("inputs", lambda v: [None, *v[1:]], "columns of an export"),
        ("inputs", lambda v: [[{**v[0][0], "modality": "smell"}], *v[1:]], "smell"),
        ("inputs", lambda v: [[{**v[0][0], "modality": "audio"}], *v[1:]], "fills a space"),
        ("inputs", lambda v: [[{**v[0][0], "sha256": None}], *v[1:]], "columns of an export"),
        ("inputs", lambda v: [v[1][:1], *v[1:]], "two that differ"),
        ("embeddings.words", lambda v: [[None], *v[1:]], "got none"),
        ("embeddings.words", lambda v: [None, *v[1:]], "columns of an export"),
        ("embeddings.words", lambda v: [[v[0][0][:-1]], *v[1:]], "got 31"),
        ("embeddings.words", lambda v: [[[0.0] * 32], *v[1:]], "got length 0"),
        ("embeddings.words", lambda v: [[[None, *v[0][0][1:]]], *v[1:]], "got length nan"),
        ("embeddings.words", lambda v: [v[0], [v[1][0]] * 4, *v[2:]], "no values"),
        ("embeddings.words", lambda v: pa.array(["a"] * len(v)), "columns of an export"),
    ],
)
def test_values_that_no_index_holds_are_refused(
    exported: Path, column: str, change: Callable[[Any], Any], told: str
) -> None:
    assert told in refused(rewritten(exported, column, change))


def test_damage_is_refused_or_makes_no_difference(tmp_path: Path, exported: Path) -> None:
    """Pages have checksums; what is left is the fused vectors, which are derived again."""
    import_index(exported, tmp_path / "whole", device="cpu")
    whole, data = stored(tmp_path / "whole"), exported.read_bytes()
    damaged, rng = tmp_path / "damaged.parquet", np.random.default_rng(5)
    survived = 0
    for place in rng.integers(0, len(data), 40).tolist():
        flipped = bytearray(data)
        flipped[place] ^= 1 << int(rng.integers(8))
        damaged.write_bytes(flipped)
        try:
            import_index(damaged, tmp_path / f"from-{place}", device="cpu")
        except CatalensError:
            continue
        survived += 1
        assert repr(stored(tmp_path / f"from-{place}")) == repr(whole)
    assert survived < 30


def test_descriptions_that_do_not_fit_are_refused(exported: Path) -> None:
    known = told(exported)

    def saying(**changed: Any) -> str:
        path = described(exported, catalens=json.dumps({**known, **changed}).encode())
        return refused(path)

    words, colours = known["spaces"]
    described(exported, catalens=b'{"format": 2}')
    assert "Upgrade" in refused(exported, UnsupportedFormatError)
    assert "unexpected end" in refused(described(exported, catalens=b"{"))
    assert "fusion" in saying(fusion="magic")
    assert "spaces" in saying(spaces=[])
    assert "one bit" in saying(spaces=[words, {**colours, "bit": words["bit"]}])
    assert "one name" in saying(spaces=[words, words])
    assert "fingerprint" in saying(spaces=[{**words, "fingerprints": {"text": "zz"}}, colours])
    assert "catalog" in saying(catalog={})
    named = {**known["catalog"]["columns"], "nonsense": ["x"]}
    columns = {**known["catalog"], "columns": named}
    assert "nonsense" in saying(catalog=columns)
    assert "extra" in saying(more=1).lower()
    described(exported, catalens=json.dumps(known).encode())
    assert "base64" in refused(described(exported, catalens_fusion=b"!")).lower()
    assert "safetensors" in refused(described(exported, catalens_fusion=b"AAAA"))
