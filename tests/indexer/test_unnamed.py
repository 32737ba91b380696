"""What nothing names any more: embeddings go at a compaction, rejects with a look-up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from catalens import Writer
from indexer import CompactSummary, IndexLayout, Store, verify_index
from indexer.environment import Environment
from tests.catalogs import Opened, build_toy, png, toy_preset, toy_rows
from tests.toy_encoders import ToyEncoder

N = 30


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    build_toy(tmp_path / "index", toy_rows(N))
    ToyEncoder.encoded.clear()
    return tmp_path / "index"


def embeddings(index: Path) -> set[bytes]:
    store = Store.open(IndexLayout(index))
    with store.view() as view:
        found = set(view.keys("embeddings"))
    store.close()
    return found


def compacted(index: Path, *, keep_embeddings: bool = False) -> CompactSummary:
    with Writer.open(index, device="cpu") as writer:
        return writer.compact(keep_embeddings=keep_embeddings)


def test_embeddings_of_what_is_gone_are_dropped(toy: Path) -> None:
    rows = toy_rows(N)
    with Writer.open(toy, device="cpu") as writer:
        writer.delete(["item-0", "item-1"])  # a text, and a text and a picture
        writer.update([rows[2] | {"text": "other words"}])
    before = embeddings(toy)
    assert compacted(toy, keep_embeddings=True).embeddings_dropped == 0
    assert embeddings(toy) == before
    summary = compacted(toy)
    assert (summary.embeddings_dropped, summary.folded, summary.dropped) == (4, 0, 0)
    assert embeddings(toy) < before and len(embeddings(toy)) == len(before) - 4
    assert verify_index(toy).problems == []
    # What was dropped is encoded again when it comes back, and nothing else.
    ToyEncoder.encoded.clear()
    with Writer.open(toy, device="cpu") as writer:
        writer.update(rows, upsert=True)
        assert writer.commit().encoded == {"text": 3, "image": 1}
    assert verify_index(toy, all_items=True).problems == []


def test_shared_inputs_stay_while_one_item_has_them(toy: Path) -> None:
    with Writer.open(toy, device="cpu") as writer:
        writer.add([{"id": "twin", "text": toy_rows(N)[3]["text"]}])
        writer.delete(["item-3"])
    assert compacted(toy).embeddings_dropped == 0
    assert verify_index(toy, all_items=True).problems == []


def test_embeddings_of_other_encoders_are_dropped(toy: Path) -> None:
    known = embeddings(toy)
    preset = toy_preset()
    preset["spaces"] = preset["spaces"][:1]
    rows = [{name: v for name, v in row.items() if name != "image"} for row in toy_rows(N)]
    build_toy(toy, rows, preset=preset)
    assert embeddings(toy) == known
    assert compacted(toy).embeddings_dropped == len(known) - N > 0
    assert verify_index(toy, all_items=True).problems == []


def test_what_is_not_committed_yet_keeps_its_embeddings(
    toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexer.writer._UNSAVED_SECONDS", -1.0)
    with Writer.open(toy, device="cpu") as writer:
        writer.add([{"id": "new", "text": "new words"}])
        assert writer.compact().embeddings_dropped == 0
        writer.commit()
    assert ToyEncoder.encoded.total() == 1
    assert verify_index(toy, all_items=True).problems == []


def test_commit_reads_no_rejects_but_those_of_its_items(tmp_path: Path) -> None:
    index, rows = tmp_path / "index", toy_rows(6)
    for row in rows:
        row["image"] = [b"no picture", b"no picture either"]
    rows[4]["image"] = png(np.random.default_rng(0))
    build_toy(index, [*rows, {"id": "item-0", "text": "twice"}])
    environment = Environment.acquire(IndexLayout(index).store)
    with environment._env.begin(write=True) as raw:  # the reject of item-5 cannot be read
        handle = environment.open_database("rejects.1", raw)
        raw.put(bytes([0, 0, 0, 9]), b"damaged", db=handle)
    environment.release()
    with Writer.open(index, device="cpu") as writer:
        writer.update([rows[1] | {"image": png(np.random.default_rng(1))}])
        writer.update([rows[2] | {"image": b"still none"}])
        writer.delete(["item-3"])
        writer.commit()
    environment = Environment.acquire(IndexLayout(index).store)
    environment.write(lambda t: t.delete("rejects.1", bytes([0, 0, 0, 9])))
    environment.write(lambda t: t.delete("rejects.1", bytes([0, 0, 0, 8])))
    environment.write(lambda t: t.delete("lost.1", b"item-5"))
    environment.release()
    assert [(r["id"], r["modality"]) for r in Opened(index).rejects] == [
        *[("item-0", "image")] * 2,
        ("item-0", None),
        ("item-2", "image"),
    ]
    assert verify_index(index).problems == []
