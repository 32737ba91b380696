"""Builds: resumed, repeated, refused; what they count, keep and leave alone."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from catalens import CatalensError, Query, Retriever, build_index
from indexer import IndexLayout, Store, verify_index
from indexer.catalog_errors import EmptyCatalogError, RejectedRowError
from indexer.encode import _FIRST_BATCH
from indexer.errors import IndexLockedError, OutputFolderError
from tests.catalogs import Opened, build_toy, build_vectors, clustered, toy_preset, toy_rows
from tests.processes import run_python, start_python
from tests.stopping import StopAfter, StoppedError
from tests.toy_encoders import ToyEncoder


@pytest.fixture(autouse=True)
def _counting() -> None:
    ToyEncoder.encoded.clear()


def encoded() -> int:
    """Inputs that went through a model since this was asked last."""
    count = ToyEncoder.encoded.total()
    ToyEncoder.encoded.clear()
    return count


def test_building_again_encodes_nothing(tmp_path: Path) -> None:
    rows = toy_rows(150)
    first = build_toy(tmp_path / "index", rows)
    pictures = sum("image" in row for row in rows)
    assert first.inputs == first.encoded == {"text": 150, "image": pictures}
    assert encoded() == 150 + pictures
    again = build_toy(tmp_path / "index", rows)
    assert again.encoded == {"text": 0, "image": 0}
    assert again.inputs == first.inputs and again.coverage == first.coverage
    assert encoded() == 0


def test_only_what_changed_is_encoded_again(tmp_path: Path) -> None:
    rows = toy_rows(80)
    build_toy(tmp_path / "index", rows)
    encoded()
    rows[3]["text"] = "something else"
    rows[4]["number"] = -1  # metadata alone
    rows[5]["image"] = rows[7]["image"]  # another item's picture: known
    del rows[7]["text"]
    rows = [*rows[10:], *rows[:8], {"id": "new", "text": "a new one"}]
    summary = build_toy(tmp_path / "index", rows)
    assert encoded() == 2 and summary.encoded == {"text": 2, "image": 0}
    opened = Opened(tmp_path / "index")
    assert opened.ids == [row["id"] for row in rows]
    by_id = {record.id: record for record in opened.records}
    assert by_id["item-4"].metadata["number"] == -1
    assert "text" not in by_id["item-7"].metadata
    assert verify_index(tmp_path / "index").problems == []
    with Retriever.open(tmp_path / "index") as retriever:
        assert retriever.search(Query(text="a new one"), 1)[0].id == "new"
        with pytest.raises(CatalensError, match="item-8"):
            retriever.search(Query(like="item-8"), 1)


def test_equal_inputs_are_encoded_once(tmp_path: Path) -> None:
    rows = [{"id": str(n), "text": f"text {n % 3}"} for n in range(200)]
    summary = build_toy(tmp_path / "index", rows)
    assert encoded() == 3
    assert summary.inputs == {"text": 200} and summary.encoded == {"text": 3}


@pytest.mark.parametrize("steps", [0, 64, 300, 900])
def test_interrupted_build_goes_on_where_it_was(tmp_path: Path, steps: int) -> None:
    rows = toy_rows(1000, pictures=False)
    with pytest.raises(StoppedError):
        build_toy(tmp_path / "index", rows, progress=StopAfter("encode", steps))
    done = encoded()
    assert steps <= done <= 1000
    with pytest.raises(CatalensError, match="finished"):
        Retriever.open(tmp_path / "index")
    build_toy(tmp_path / "index", rows)
    assert encoded() == 1000 - done  # all that was encoded had been committed
    assert verify_index(tmp_path / "index").problems == []


@pytest.mark.parametrize(
    ("stage", "n"),
    [
        ("fit spaces", 40),
        ("fuse", 40),
        ("measure recall", 40),
        ("train index", 2000),
        ("add to index", 2000),
    ],
)
def test_rebuild_stopped_late_leaves_the_old_index(tmp_path: Path, stage: str, n: int) -> None:
    build_toy(tmp_path / "index", toy_rows(40))
    encoded()
    with pytest.raises(StoppedError):
        build_toy(
            tmp_path / "index", toy_rows(n + 20), profile="fast", progress=StopAfter(stage, -1)
        )
    with Retriever.open(tmp_path / "index") as retriever:
        assert len(retriever) == 40
        assert retriever.search(Query(like="item-1"), 3)
    assert verify_index(tmp_path / "index").problems == []
    encoded()
    build_toy(tmp_path / "index", toy_rows(n + 20))
    assert encoded() == 0
    names = [path.name for path in (tmp_path / "index" / "generations").iterdir()]
    assert len(names) == 1 and names[0].isdigit()  # what was left unfinished is swept
    assert len(Opened(tmp_path / "index").records) == n + 20


KILLED = """
import os, sys
from tests.catalogs import build_toy, toy_rows
class Kill:
    left = int(sys.argv[2])
    def start(self, stage, total): pass
    def advance(self, steps):
        self.left -= steps
        if self.left < 0: os.kill(os.getpid(), 9)
    def finish(self): pass
build_toy(sys.argv[1], toy_rows(1000, pictures=False), progress=Kill())
"""


def test_killed_build_encodes_at_most_one_batch_again(tmp_path: Path) -> None:
    done = run_python(KILLED, tmp_path / "index", 400)
    assert done.returncode == -9, done.stderr
    build_toy(tmp_path / "index", toy_rows(1000, pictures=False))
    # 64, 128 and 256 were committed before the step that killed it.
    assert encoded() <= 1000 - 400 and _FIRST_BATCH == 64


def test_duplicate_ids_are_rejected_with_their_lines(tmp_path: Path) -> None:
    catalog = tmp_path / "c.jsonl"
    lines = [f'{{"id": "i{n % 150}", "text": "text {n}"}}' for n in range(152)]
    catalog.write_text("\n".join(lines) + "\n")
    summary = build_index(catalog, tmp_path / "index", preset=toy_preset(), device="cpu")
    assert (summary.items, summary.rejected_rows) == (150, 2)
    opened = Opened(tmp_path / "index")
    assert [(r["line"], r["id"]) for r in opened.rejects] == [(151, "i0"), (152, "i1")]
    assert all("again" in r["reason"] for r in opened.rejects)
    assert opened.records[0].metadata["text"] == "text 0"  # the first one stays


def test_strict_stops_at_the_first_bad_row_and_names_it(tmp_path: Path) -> None:
    build_toy(tmp_path / "index", toy_rows(5))
    rows = [*toy_rows(7), {"id": "item-0", "text": "twice"}]
    with pytest.raises(RejectedRowError, match=r"row 8.*'item-0' again"):
        build_toy(tmp_path / "index", rows, strict=True)
    assert len(Opened(tmp_path / "index").records) == 5


def test_broken_media_costs_that_modality_alone(tmp_path: Path) -> None:
    rows = toy_rows(12)
    rows[1]["image"] = b"no picture"
    rows[2]["image"] = [rows[2]["image"], rows[1]["image"]]
    rows[4]["image"] = rows[4]["image"][:40]
    rows[5]["image"] = "nowhere.png"
    del rows[7]["text"]
    rows[7]["image"] = b"\x89PNG nothing else"
    summary = build_toy(tmp_path / "index", rows, media_root=tmp_path)
    assert (summary.items, summary.rejected_rows, summary.rejected_inputs) == (11, 1, 5)
    opened = Opened(tmp_path / "index")
    names = [space.spec.name for space in opened.manifest.spaces]
    has = dict(zip(opened.ids, opened.mask[:, names.index("colours")], strict=True))
    assert {i for i, here in has.items() if not here and i in ("item-1", "item-4", "item-5")} == {
        "item-1",
        "item-4",
        "item-5",
    }
    assert has["item-2"]  # one of its two pictures is good
    assert opened.mask[:, names.index("words")].all()
    lost = {(r["line"], r["id"], r["modality"]) for r in opened.rejects}
    assert lost == {
        (2, "item-1", "image"),
        (3, "item-2", "image"),
        (5, "item-4", "image"),
        (6, "item-5", "image"),
        (8, "item-7", "image"),
        (8, "item-7", None),
    }
    with Retriever.open(tmp_path / "index") as retriever:
        assert "item-1" in {h.id for h in retriever.search(Query(text=rows[1]["text"]), 3)}


def test_broken_media_is_tried_again_by_the_next_build(tmp_path: Path) -> None:
    rows = toy_rows(6)
    good = rows[1]["image"]
    rows[1]["image"] = "late.png"
    assert build_toy(tmp_path / "index", rows, media_root=tmp_path).rejected_inputs == 1
    (tmp_path / "late.png").write_bytes(good)
    summary = build_toy(tmp_path / "index", rows, media_root=tmp_path)
    assert summary.rejected_inputs == 0 and summary.encoded == {"text": 0, "image": 1}


def test_catalog_without_a_usable_row_leaves_the_old_index(tmp_path: Path) -> None:
    build_toy(tmp_path / "index", toy_rows(9))
    with pytest.raises(EmptyCatalogError, match="the first: "):
        build_toy(tmp_path / "index", [{"id": "a", "text": ""}, {"text": "no id"}])
    with pytest.raises(EmptyCatalogError):
        build_toy(tmp_path / "index", [])
    with Retriever.open(tmp_path / "index") as retriever:
        assert len(retriever) == 9
        assert retriever.search(Query(text="red"), 3)


@pytest.mark.parametrize(
    "foreign",
    [
        "notes.txt",
        "store/data.txt",
        "photos/one.jpg",
        ".hidden",
        pytest.param(
            "generations/photos/one.jpg",
        ),
    ],
)
def test_folder_that_is_no_index_is_left_alone(tmp_path: Path, foreign: str) -> None:
    kept = tmp_path / "mine" / foreign
    kept.parent.mkdir(parents=True)
    kept.write_text("mine")
    with pytest.raises(OutputFolderError, match="expected"):
        build_vectors(tmp_path / "mine", clustered(3, 4))
    assert [p for p in (tmp_path / "mine").rglob("*") if p.is_file()] == [kept]
    assert kept.read_text() == "mine"


def test_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputFolderError):
        build_vectors(tmp_path / "file", clustered(3, 4))
    assert (tmp_path / "file").read_text() == "mine"


HOLDS = """
import sys
from tests.catalogs import build_toy, toy_rows
class Hold:
    def start(self, stage, total):
        if stage == "encode":
            print("holding", flush=True)
            sys.stdin.readline()
    def advance(self, steps): pass
    def finish(self): pass
build_toy(sys.argv[1], toy_rows(20), progress=Hold())
"""


def test_second_builder_is_refused_by_pid(tmp_path: Path) -> None:
    other = start_python(HOLDS, tmp_path / "index")
    assert other.stdout
    try:
        assert other.stdout.readline() == "holding\n"
        with pytest.raises(IndexLockedError, match=f"process {other.pid} ") as raised:
            build_toy(tmp_path / "index", toy_rows(5))
        assert raised.value.exit_code == 2
    finally:
        _, errors = other.communicate("\n", timeout=60)
    assert other.returncode == 0, errors
    assert len(Opened(tmp_path / "index").records) == 20
    build_toy(tmp_path / "index", toy_rows(5))  # the lock went with its process


def test_second_builder_in_one_process_is_refused(tmp_path: Path) -> None:
    errors: list[Exception] = []

    class Nested(StopAfter):
        def advance(self, steps: int) -> None:
            def build() -> None:
                try:
                    build_toy(tmp_path / "index", toy_rows(4))
                except IndexLockedError as error:
                    errors.append(error)

            thread = threading.Thread(target=build)
            thread.start()
            thread.join()

    build_toy(tmp_path / "index", toy_rows(30), progress=Nested("", 0))
    assert errors and all(str(os.getpid()) in str(error) for error in errors)
    assert len(Opened(tmp_path / "index").records) == 30


def test_several_inputs_are_pooled(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = toy_rows(9)
    rows[1]["text"] = ["red green", "blue", "old"]
    rows[2]["image"] = [rows[1]["image"], rows[4]["image"]]
    build_toy(tmp_path / "index", rows)
    opened = Opened(tmp_path / "index")
    preset = toy_preset()
    expected = pooled(preset, rows[1]["text"])
    transform = opened.fusion.transforms["words"]
    block = expected - transform.means["text"]
    stored = opened.rows[1, opened.fusion.blocks["words"]]
    assert stored == pytest.approx(block / np.linalg.norm(block), abs=2e-3)


def pooled(preset: dict[str, Any], texts: list[str]) -> np.ndarray:
    """The unit mean of the unit vectors of texts, by the encoder alone."""
    from encoders import EncoderSpec, load_encoder

    encoder = load_encoder(EncoderSpec.model_validate(preset["spaces"][0]["encoders"]["text"]))
    total = encoder.encode("text", texts).astype(np.float64).sum(axis=0)
    return total / np.linalg.norm(total)


def test_changed_weights_are_encoded_again(tmp_path: Path) -> None:
    rows = toy_rows(10, pictures=False)
    build_toy(tmp_path / "index", rows)
    encoded()
    build_toy(tmp_path / "index", rows, preset=toy_preset(weights="second"))
    assert encoded() == 10
    build_toy(tmp_path / "index", rows)
    assert encoded() == 0  # both are cached


def test_unfinished_folders_are_swept(tmp_path: Path) -> None:
    build_toy(tmp_path / "index", toy_rows(5))
    generations = tmp_path / "index" / "generations"
    for name in ("000002.unfinished", "000007", "000009.unfinished"):
        (generations / name).mkdir()
        (generations / name / "index.faiss").write_text("half")
    with Retriever.open(tmp_path / "index") as retriever:
        assert len(retriever) == 5
    build_toy(tmp_path / "index", toy_rows(6))
    assert [path.name for path in generations.iterdir()] == ["000010"]


def test_store_is_not_grown_by_rebuilding_the_same(tmp_path: Path) -> None:
    rows = toy_rows(300)
    for _ in range(3):
        build_toy(tmp_path / "index", rows)
    size = IndexLayout(tmp_path / "index").store_data.stat().st_size
    for _ in range(6):
        build_toy(tmp_path / "index", rows)
    assert IndexLayout(tmp_path / "index").store_data.stat().st_size <= size * 1.2
    store = Store.open(IndexLayout(tmp_path / "index"))
    with store.view() as view:
        editions = {name.rpartition(".")[2] for name in view.databases() if "." in name}
    store.close()
    assert len(editions) == 1
