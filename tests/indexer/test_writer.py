"""The writer: what a commit counts, encodes, keeps and refuses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from catalens import Query, Retriever, Writer, learn_alignment, rebuild_index, tune_index
from indexer import IndexLayout, Store, verify_index
from indexer.catalog_errors import EmptyCatalogError, InvalidColumnsError, RejectedRowError
from indexer.errors import (
    DuplicateIdError,
    EmptyIndexError,
    ExistingIdError,
    FingerprintMismatchError,
    IndexLockedError,
    NotAnIndexError,
    UnknownIdError,
    VectorDimensionError,
    WriterClosedError,
)
from tests.catalogs import (
    Opened,
    build_toy,
    build_vectors,
    clustered,
    png,
    toy_rows,
    vector_rows,
)
from tests.processes import start_python
from tests.toy_encoders import ToyEncoder


@pytest.fixture(autouse=True)
def _counting() -> None:
    ToyEncoder.encoded.clear()


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    build_toy(tmp_path / "index", toy_rows(30))
    ToyEncoder.encoded.clear()
    return tmp_path / "index"


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    build_vectors(tmp_path / "index", clustered(40, 8), number=range(40))
    return tmp_path / "index"


def records(index: Path) -> dict[str, dict[str, Any]]:
    return {record.id: record.metadata for record in Opened(index).records}


def databases(index: Path) -> dict[str, int]:
    """How many keys each database of the store has."""
    store = Store.open(IndexLayout(index))
    with store.view() as view:
        found = {name.partition(".")[0]: view.count(name) for name in view.databases()}
    store.close()
    return found


def counts(summary: Any) -> tuple[int, ...]:
    return (
        summary.added,
        summary.updated,
        summary.metadata_only,
        summary.unchanged,
        summary.deleted,
    )


def test_commit_tells_what_it_did(toy: Path) -> None:
    rows = toy_rows(40)
    rows[3]["text"] = "something else"
    rows[4]["number"] = -1
    with Writer.open(toy, device="cpu") as writer:
        writer.add(rows[30:])
        writer.update(rows[:6])
        writer.delete(["item-20", "item-21"])
        summary = writer.commit()
    assert counts(summary) == (10, 1, 1, 4, 2)
    assert (summary.items, summary.fresh, summary.dead) == (38, 11, 3)
    pictures = sum("image" in row for row in rows[30:])
    assert summary.encoded == {"text": 11, "image": pictures}
    assert summary.inputs["text"] == 16 and summary.compact_due is False
    known = records(toy)
    assert known["item-4"]["number"] == -1 and known["item-3"]["text"] == "something else"
    assert set(known) == {row["id"] for row in rows} - {"item-20", "item-21"}


def test_only_the_changed_modality_is_encoded(toy: Path) -> None:
    rows = toy_rows(30)
    rows[1]["image"] = png(np.random.default_rng(99))
    rows[2]["text"] = "new words for two"
    rows[4]["number"] = 99  # metadata alone
    rows[5]["image"] = rows[7]["image"]  # known from another item
    with Writer.open(toy, device="cpu") as writer:
        writer.update(rows[:6])
        summary = writer.commit()
    assert dict(ToyEncoder.encoded) == {"toy-image": 1, "toy-text": 1}
    assert summary.encoded == {"text": 1, "image": 1}
    assert counts(summary) == (0, 3, 1, 2, 0)


def test_metadata_alone_keeps_row_and_vector(toy: Path) -> None:
    rows = toy_rows(3)
    for row in rows:
        row["new"], row["even"] = [1, "x"], True
        del row["number"]
    with Writer.open(toy, device="cpu") as writer:
        writer.update(rows)
        summary = writer.commit()
    assert (summary.metadata_only, summary.fresh, summary.dead) == (3, 0, 0)
    with Retriever.open(toy, device="cpu") as shop:
        found = shop.search(Query(text="red"), 30, where="new = 'x' and even = true")
        assert {hit.id for hit in found} == {"item-0", "item-1", "item-2"}
        assert not shop.search(Query(text="red"), 30, where="number = 1")
    # What is equal in Python and another thing in JSON is a change.
    rows[0]["even"] = 1
    with Writer.open(toy, device="cpu") as writer:
        writer.update(rows[:1])
        assert writer.commit().metadata_only == 1


def test_update_replaces_the_whole_row(toy: Path) -> None:
    with Writer.open(toy, device="cpu") as writer:
        writer.update([{"id": "item-1", "text": toy_rows(2)[1]["text"]}])
        assert writer.commit().updated == 1  # its picture is gone
    assert set(records(toy)["item-1"]) == {"text"}
    with Retriever.open(toy, device="cpu") as shop:
        (hit,) = shop.search(Query(text=toy_rows(2)[1]["text"]), 1)
        assert hit.id == "item-1" and not hit.spaces["colours"].present


def test_leaving_the_block_commits_and_an_error_discards(vectors: Path) -> None:
    new = list(vector_rows(clustered(43, 8, seed=1)))[40:]
    with Writer.open(vectors) as writer:
        writer.add(new[:1])
    assert "v40" in records(vectors)
    with pytest.raises(RuntimeError), Writer.open(vectors) as writer:
        writer.add(new[1:2])
        raise RuntimeError
    assert "v41" not in records(vectors)
    writer = Writer.open(vectors)
    writer.add(new[2:])
    writer.close()
    writer.close()
    assert "v42" not in records(vectors)
    for call in (lambda: writer.add(new), lambda: writer.delete(["v1"]), writer.commit):
        with pytest.raises(WriterClosedError):
            call()


def test_later_calls_see_what_earlier_ones_will_have_done(vectors: Path) -> None:
    x = clustered(50, 8, seed=2)
    with Writer.open(vectors) as writer:
        writer.add([{"id": "a", "v": x[0]}, {"id": "b", "v": x[1]}])
        with pytest.raises(ExistingIdError):
            writer.add([{"id": "a", "v": x[0]}])
        writer.update([{"id": "a", "v": x[2], "number": 7}])
        writer.delete(["b", "v3", "v4"])
        with pytest.raises(UnknownIdError):
            writer.update([{"id": "b", "v": x[1]}])
        with pytest.raises(UnknownIdError):
            writer.delete(["v3"])
        writer.add([{"id": "v3", "v": x[3]}])
        summary = writer.commit()
    # v3 was deleted and added again: updated, as the store sees it.
    assert counts(summary) == (1, 1, 0, 0, 1)
    assert records(vectors)["a"] == {"number": 7} and records(vectors)["v3"] == {}
    assert databases(vectors)["fresh"] == 2 and databases(vectors)["tombstones"] == 2


def test_row_numbers_are_never_used_again(vectors: Path) -> None:
    x = clustered(50, 8, seed=2)
    for number in range(3):
        with Writer.open(vectors) as writer:
            writer.add([{"id": f"n{number}", "v": x[number]}])
            writer.commit()
            writer.delete([f"n{number}"])
            assert writer.commit().fresh == 0
    with Writer.open(vectors) as writer:
        writer.add([{"id": "last", "v": x[9]}])
    store = Store.open(IndexLayout(vectors))
    with store.snapshot() as snapshot:
        assert snapshot.row_of("last") == 43 and snapshot.next_row == 44
        assert snapshot.current.commits == 7
    store.close()


def bad(index: Path, call: Any, error: type[Exception], *words: str) -> None:
    """A call fails as told, and leaves nothing of itself to commit."""
    before = records(index)
    with Writer.open(index, device="cpu") as writer:
        with pytest.raises(error) as raised:
            call(writer)
        assert all(word in str(raised.value) for word in (*words, "expected")), raised.value
        assert counts(writer.commit()) == (0, 0, 0, 0, 0)
    assert records(index) == before


def test_errors_name_what_is_wrong(vectors: Path) -> None:
    x = clustered(3, 8)
    one = {"id": "new", "v": x[0]}
    bad(vectors, lambda w: w.add([one, {"id": "v7", "v": x[1]}]), ExistingIdError, "row 2", "v7")
    bad(vectors, lambda w: w.update([one]), UnknownIdError, "row 1", "new", "upsert")
    bad(vectors, lambda w: w.delete(["v1", "nobody"]), UnknownIdError, "nobody")
    bad(vectors, lambda w: w.delete(["v1", "v2", "v1"]), DuplicateIdError, "v1")
    bad(vectors, lambda w: w.add([one, one]), DuplicateIdError, "row 2", "new")
    bad(vectors, lambda w: w.update([one, one], upsert=True), DuplicateIdError, "new")
    wrong = {"id": "wrong", "v": np.ones(5)}
    bad(vectors, lambda w: w.add([one, wrong]), VectorDimensionError, "8 values", "5", "wrong")
    bad(vectors, lambda w: w.add([]), EmptyCatalogError)
    bad(vectors, lambda w: w.add([{"id": "x", "w": x[0]}]), InvalidColumnsError, "'v'")
    bad(vectors, lambda w: w.add([one], vector={"other": "v"}), InvalidColumnsError, "other")
    bad(vectors, lambda w: w.delete([""]), RejectedRowError, "blank")


def test_no_index_and_locked_index(tmp_path: Path, vectors: Path) -> None:
    with pytest.raises(NotAnIndexError):
        Writer.open(tmp_path / "nowhere")
    with Writer.open(vectors), pytest.raises(IndexLockedError, match=f"process {os.getpid()} "):
        Writer.open(vectors)
    with Writer.open(vectors):
        pass  # the lock went with the writer


HOLDS = """
import sys
from catalens import Writer
with Writer.open(sys.argv[1]) as writer:
    print("holding", flush=True)
    sys.stdin.readline()
"""


def test_second_writer_is_told_the_pid_of_the_first(vectors: Path) -> None:
    other = start_python(HOLDS, vectors)
    assert other.stdout
    try:
        assert other.stdout.readline() == "holding\n"
        with pytest.raises(IndexLockedError, match=f"process {other.pid} "):
            Writer.open(vectors)
        with pytest.raises(IndexLockedError):
            rebuild_index(vectors)
    finally:
        _, errors = other.communicate("\n", timeout=60)
    assert other.returncode == 0, errors


def test_upsert_takes_both(vectors: Path) -> None:
    x = clustered(60, 8, seed=5)
    with Writer.open(vectors) as writer:
        writer.update(list(vector_rows(x))[35:], upsert=True)
        summary = writer.commit()
    assert counts(summary) == (20, 5, 0, 0, 0) and summary.items == 60


def test_bad_media_costs_that_modality_and_bad_rows_are_counted(toy: Path) -> None:
    rows = [
        {"id": "n1", "text": "red one", "image": b"no picture"},
        {"text": "no id"},
        {"id": "n2", "image": b"no picture either"},
    ]
    with Writer.open(toy, device="cpu") as writer:
        writer.add(rows)
        summary = writer.commit()
    assert (summary.added, summary.rejected_rows, summary.rejected_inputs) == (1, 2, 2)
    assert len(summary.rejects) == 4 and len(Opened(toy).rejects) == 4
    with (
        Writer.open(toy, device="cpu", strict=True) as writer,
        pytest.raises(RejectedRowError, match="row 1"),
    ):
        writer.update(rows, upsert=True)


def test_columns_are_those_of_the_build_and_may_be_fewer(tmp_path: Path) -> None:
    rows = [
        {"sku": f"s{n}", "title": f"title {n}", "body": f"body {n}", "photo": png(rng)}
        for n, rng in enumerate(np.random.default_rng(0).spawn(12))
    ]
    columns = {"id": "sku", "text": ["title", "body"], "image": "photo"}
    build_toy(tmp_path / "index", rows, **columns)
    with Writer.open(tmp_path / "index", device="cpu") as writer:
        writer.add([{"sku": "new", "title": "title new"}])
        writer.add([{"key": "other", "words": "title other"}], id="key", text="words")
        with pytest.raises(InvalidColumnsError, match="titel"):
            writer.add([{"sku": "x", "title": "a"}], text="titel")
        assert writer.commit().added == 2
    assert records(tmp_path / "index")["new"] == {"title": "title new"}
    assert records(tmp_path / "index")["other"] == {"words": "title other"}


def test_dumps_of_a_build_are_taken(tmp_path: Path, toy: Path) -> None:
    dump = tmp_path / "more.csv"
    dump.write_text("id,text,number\nc1,red csv,7\nc2,blue csv,8\n")
    with Writer.open(toy, device="cpu") as writer:
        writer.add(dump)
        assert writer.commit().added == 2
    assert records(toy)["c1"] == {"text": "red csv", "number": 7}


def test_other_encoder_is_refused(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_WEIGHTS", "other")
    with Writer.open(toy, device="cpu") as writer:
        writer.delete(["item-3"])  # needs no encoder
        with pytest.raises(FingerprintMismatchError):
            writer.add([{"id": "n", "text": "n"}])
        assert writer.commit().deleted == 1


def test_what_was_encoded_is_saved_before_a_late_commit(
    toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexer.writer._UNSAVED_SECONDS", -1.0)
    rows = [{"id": f"n{n}", "text": f"text {n}"} for n in range(100)]
    writer = Writer.open(toy, device="cpu")
    writer.add(rows)
    writer.close()  # never committed
    assert ToyEncoder.encoded.total() == 100 and "n1" not in records(toy)
    with Writer.open(toy, device="cpu") as writer:
        writer.add(rows)
        assert writer.commit().encoded == {"text": 0}
    assert ToyEncoder.encoded.total() == 100


def test_inputs_shared_within_a_batch_are_encoded_once(toy: Path) -> None:
    rows = [{"id": f"n{n}", "text": f"text {n % 3}"} for n in range(200)]
    with Writer.open(toy, device="cpu") as writer:
        writer.add(rows[:150])
        writer.add(rows[150:])
        assert writer.commit().encoded == {"text": 3}
    assert ToyEncoder.encoded.total() == 3


def changed(index: Path) -> set[str]:
    """Change an index of 30 toy rows; return the ids that it then has."""
    with Writer.open(index, device="cpu") as writer:
        writer.add([{"id": f"n{n}", "text": f"red {n}"} for n in range(5)])
        writer.delete([f"item-{n}" for n in (0, 3, 4, 29)])
        writer.update([{"id": "item-7", "text": "other words", "number": 7}])
        writer.commit()
        writer.delete(["n2"])
    return {f"item-{n}" for n in range(30) if n not in (0, 3, 4, 29)} | {"n0", "n1", "n3", "n4"}


def searched(index: Path) -> dict[str, float]:
    with Retriever.open(index, device="cpu") as shop:
        hits = shop.search(Query(text="red old number7"), len(shop))
        assert len({hit.id for hit in hits}) == len(hits) == len(shop)
        return {hit.id: hit.score for hit in hits}


@pytest.mark.parametrize("fusion", ["concat", "mean"])
def test_rebuild_folds_everything_in(toy: Path, fusion: str) -> None:
    ids = changed(toy)
    assert set(searched(toy)) == ids
    rebuild_index(toy, fusion=fusion)
    assert set(searched(toy)) == ids
    found = databases(toy)
    assert not found.get("fresh") and not found.get("tombstones")
    assert len(Opened(toy).rows) == len(ids)
    assert verify_index(toy).problems == []
    # Rows go on from where they were, with gaps behind them.
    assert set(searched(toy)) == ids
    with Writer.open(toy, device="cpu") as writer:
        writer.delete(["item-1", "n0"])
        writer.add([{"id": "n2", "text": "red 2"}])
    assert set(searched(toy)) == (ids | {"n2"}) - {"item-1", "n0"}


def test_rebuilt_is_what_is_built_of_the_same_rows(tmp_path: Path, toy: Path) -> None:
    changed(toy)
    rebuild_index(toy)
    rows = {row["id"]: row for row in toy_rows(30)}
    for n in (0, 3, 4, 29):
        del rows[f"item-{n}"]
    del rows["item-7"]
    new = [{"id": f"n{n}", "text": f"red {n}"} for n in (0, 1, 3, 4)]
    again = [{"id": "item-7", "text": "other words", "number": 7}]
    build_toy(tmp_path / "other", [*rows.values(), *new, *again])
    one, other = Opened(toy), Opened(tmp_path / "other")
    assert sorted(one.ids) == sorted(other.ids)
    order = [one.ids.index(item) for item in other.ids]
    assert np.abs(one.rows[order] - other.rows).max() < 2e-3


def test_learning_folds_everything_in(tmp_path: Path) -> None:
    build_toy(tmp_path / "index", paired(120))
    with Writer.open(tmp_path / "index", device="cpu") as writer:
        writer.add(paired(150)[120:])
        writer.delete([f"item-{n}" for n in range(10)])
    learn_alignment(tmp_path / "index")
    assert len(Opened(tmp_path / "index").rows) == 140
    assert verify_index(tmp_path / "index").problems == []


def paired(n: int) -> list[dict[str, Any]]:
    """Rows whose words tell the colour of their picture."""
    from io import BytesIO

    from PIL import Image

    rng = np.random.default_rng(3)
    colours = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 220)}
    rows = []
    for number in range(n):
        name = list(colours)[number % 3]
        pixels = np.clip(rng.normal(colours[name], 12, (8, 8, 3)), 0, 255).astype(np.uint8)
        stream = BytesIO()
        Image.fromarray(pixels).save(stream, "PNG")
        rows.append(
            {"id": f"item-{number}", "text": f"{name} {number}", "image": stream.getvalue()}
        )
    return rows


def test_tuning_keeps_fresh_rows_and_tombstones(toy: Path) -> None:
    ids = changed(toy)
    before = searched(toy)
    tune_index(toy, device="cpu")
    assert searched(toy) == before and set(before) == ids
    assert databases(toy)["fresh"] == 5 and databases(toy)["tombstones"] == 5
    with Writer.open(toy, device="cpu") as writer:
        writer.add([{"id": "later", "text": "later"}])
    assert set(searched(toy)) == ids | {"later"}


def test_building_again_replaces_everything(toy: Path) -> None:
    changed(toy)
    build_toy(toy, toy_rows(12))
    assert set(searched(toy)) == {f"item-{n}" for n in range(12)}
    with Writer.open(toy, device="cpu") as writer:
        writer.add([{"id": "n", "text": "n"}])
        assert writer.commit().items == 13
    store = Store.open(IndexLayout(toy))
    with store.snapshot() as snapshot:
        assert snapshot.row_of("n") == 12
    store.close()


def test_everything_may_be_deleted(toy: Path) -> None:
    with Writer.open(toy, device="cpu") as writer:
        writer.delete([f"item-{n}" for n in range(30)])
        assert writer.commit().items == 0
    with Retriever.open(toy, device="cpu") as shop:
        assert len(shop) == 0 and shop.search(Query(text="red")) == []
    with pytest.raises(EmptyIndexError):
        rebuild_index(toy)
    found = databases(toy)
    assert [found[name] for name in ("ids", "records", "inputs", "postings", "fields")] == [0] * 5
    with Writer.open(toy, device="cpu") as writer:
        writer.add([{"id": "again", "text": "red"}])
    assert set(searched(toy)) == {"again"}


@pytest.fixture
def many(tmp_path: Path) -> Iterator[Path]:
    build_vectors(tmp_path / "index", clustered(3000, 16), number=range(3000))
    yield tmp_path / "index"


def test_commit_tells_when_compaction_is_due(many: Path) -> None:
    rows = list(vector_rows(clustered(4100, 16, seed=1)))[3000:]
    with Writer.open(many) as writer:
        writer.add(rows[:900])
        assert writer.commit().compact_due is False
        writer.delete([f"v{n}" for n in range(101)])
        assert writer.commit().compact_due is True
