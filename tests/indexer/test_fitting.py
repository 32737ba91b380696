"""Encoders that are fitted on the catalog: kept, found again, carried along, and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from encoders import EncoderSpec, EncoderStateError, Limits, NotFittedError, State, load_encoder
from encoders.media import decode_text
from indexer import (
    IndexLayout,
    Store,
    Writer,
    build_index,
    export_index,
    import_index,
    rebuild_index,
    verify_index,
)
from indexer.items import Input, Item
from indexer.sampling import Sampler
from retriever import Query, Retriever

from ..catalogs import Opened, toy_rows
from ..toy_encoders import ToyEncoder, ToyFitted


def preset(**options: Any) -> dict[str, Any]:
    encoder = {"kind": "toy-fitted", **options}
    return {
        "name": "fitted",
        "spaces": [{"name": "words", "item": "text", "encoders": {"text": encoder}}],
    }


def build(out: Path, rows: Any, **options: Any) -> Any:
    return build_index(rows, out, **{"preset": preset(), "device": "cpu", **options})


def states(path: Path) -> list[bytes]:
    store = Store.open(IndexLayout(path))
    try:
        with store.view() as view:
            return [key for key, _ in view.scan("states")]
    finally:
        store.close()


def fingerprint(path: Path) -> str:
    return Opened(path).manifest.spaces[0].fingerprints["text"]


@pytest.fixture(autouse=True)
def counted() -> Iterator[None]:
    ToyFitted.fits.clear()
    ToyEncoder.encoded.clear()
    yield


ROWS = toy_rows(60, pictures=False)


def test_a_build_fits_on_the_catalog_and_later_ones_keep_it(tmp_path: Path) -> None:
    out = tmp_path / "i"
    build(out, ROWS)
    assert ToyFitted.fits == [60]
    assert not (out / "fitting").exists()
    first = fingerprint(out)
    more = [*ROWS, {"id": "new", "text": "unheard of words"}]
    build(out, more)
    assert ToyFitted.fits == [60]
    assert fingerprint(out) == first
    assert ToyEncoder.encoded["toy-fitted"] == 61
    assert states(out) == [bytes.fromhex(first)]


def test_what_is_fitted_decides_the_vectors(tmp_path: Path) -> None:
    build(tmp_path / "i", ROWS)
    counts: dict[str, int] = {}
    for row in ROWS:
        for word in row["text"].split():
            counts[word] = counts.get(word, 0) + 1
    words = sorted(counts, key=lambda word: -counts[word])
    with Retriever.open(tmp_path / "i") as index:
        hits = index.search(Query(text=words[0]), k=60)
    having = {row["id"] for row in ROWS if words[0] in row["text"].split()}
    assert {hit.id for hit in hits[: len(having)]} == having


def test_refit_learns_anew_and_lets_go_of_what_was(tmp_path: Path) -> None:
    out = tmp_path / "i"
    build(out, ROWS)
    before = fingerprint(out)
    with Retriever.open(out) as opened:
        # The encoder is loaded after the old one has been swept: from the snapshot.
        build(out, [*ROWS, *({"id": f"n{n}", "text": "fresh"} for n in range(9))], refit=True)
        assert ToyFitted.fits == [60, 69]
        assert states(out) == [bytes.fromhex(fingerprint(out))] != [bytes.fromhex(before)]
        # The catalog had no such word then.
        assert abs(opened.search(Query(text="fresh"), k=1)[0].score) < 0.5
        opened.refresh()
        assert {hit.id for hit in opened.search(Query(text="fresh"), k=9)} == {
            f"n{n}" for n in range(9)
        }


def test_a_build_that_failed_leaves_its_fit_to_the_next(tmp_path: Path) -> None:
    out = tmp_path / "i"

    def failing() -> Iterator[dict[str, Any]]:
        yield from ROWS
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        build(out, failing())
    assert ToyFitted.fits == []
    bad = [*ROWS, {"id": "", "text": "x"}]
    with pytest.raises(Exception, match="row 61"):
        build(out, bad, strict=True)
    assert ToyFitted.fits == [60]
    build(out, ROWS)
    assert ToyFitted.fits == [60]


def test_what_can_be_read_once_is_sampled_from_its_start(tmp_path: Path) -> None:
    summary = build(tmp_path / "i", iter(ROWS))
    assert ToyFitted.fits == [60]
    assert summary.items == 60
    assert fingerprint(tmp_path / "i") == _fingerprint_of(ROWS, tmp_path)


def _fingerprint_of(rows: list[dict[str, Any]], folder: Path) -> str:
    build(folder / "again", rows)
    return fingerprint(folder / "again")


def test_writer_rebuild_compact_and_a_moved_folder_use_the_same(tmp_path: Path) -> None:
    out, moved = tmp_path / "i", tmp_path / "moved"
    build(out, ROWS)
    known = fingerprint(out)
    shutil.move(out, moved)
    with Writer.open(moved, device="cpu") as writer:
        writer.add([{"id": "more", "text": ROWS[0]["text"], "number": 1}])
        writer.update([{"id": "item-1", "text": "square steel", "number": 2}])
        writer.commit()
        writer.compact()
    rebuild_index(moved, missing="drop")
    assert ToyFitted.fits == [60]
    assert fingerprint(moved) == known
    assert verify_index(moved).problems == []
    with Retriever.open(moved) as index:
        assert {hit.id for hit in index.search(Query(text=ROWS[0]["text"]), k=2)} == {
            "item-0",
            "more",
        }


def test_export_and_import_carry_it(tmp_path: Path) -> None:
    build(tmp_path / "i", ROWS)
    export_index(tmp_path / "i", tmp_path / "e.parquet")
    import_index(tmp_path / "e.parquet", tmp_path / "j", device="cpu")
    assert states(tmp_path / "j") == states(tmp_path / "i")
    ToyEncoder.encoded.clear()
    build(tmp_path / "j", ROWS)
    assert ToyFitted.fits == [60]
    assert not ToyEncoder.encoded


def test_a_modality_that_no_item_has_leaves_its_space_out(tmp_path: Path) -> None:
    rows = [{"id": str(n), "text": None, "v": np.ones(4) * (n + 1)} for n in range(5)]
    summary = build(tmp_path / "i", rows, text="text", vector="v")
    assert summary.coverage == {"vector": 5}
    assert any("toy-fitted" in note for note in summary.notes)


def test_damage_to_what_was_learned_shows_and_a_build_mends_it(tmp_path: Path) -> None:
    out = tmp_path / "i"
    build(out, ROWS)
    known = fingerprint(out)
    store = Store.open(IndexLayout(out))
    store.write(lambda t: t.put("states", bytes.fromhex(known), b"no state"))
    store.close()
    assert any("state" in problem for problem in verify_index(out).problems)
    with Retriever.open(out) as index, pytest.raises(Exception, match="states"):
        index.search(Query(text="red"))
    build(out, ROWS)
    assert ToyFitted.fits == [60, 60]
    assert fingerprint(out) == known
    assert verify_index(out).problems == []


def test_a_sample_is_the_same_in_any_order_and_bounded(tmp_path: Path) -> None:
    items = [Item(n, f"i{n}", {"text": (Input(b"%d" % n, None),)}, {}) for n in range(1000)]

    def drawn(order: Any, **bounds: Any) -> list[bytes]:
        sampler = Sampler("text", **{"size": 100, **bounds})
        for n in order:
            sampler.take(items[n])
        return list(sampler.sample(Limits()))

    forward = drawn(range(1000))
    assert forward == drawn(range(999, -1, -1))
    assert len(set(forward)) == 100
    # Uniform: the mean of 100 of 0..999 lies within four standard errors of 499.5.
    assert abs(np.mean([int(one) for one in forward]) - 499.5) < 4 * 1000 / 12**0.5 / 10
    few = drawn(range(1000), size=1000, max_bytes=300)
    assert 200 < sum(map(len, few)) <= 300
    assert few == drawn(range(1000), size=len(few))


def test_states_are_checked(tmp_path: Path) -> None:
    spec = EncoderSpec.model_validate({"kind": "toy-fitted"})
    with pytest.raises(NotFittedError, match="build"):
        load_encoder(spec)
    state = State({"a": np.arange(6, dtype=np.float32).reshape(2, 3)}, {"words": ["ü", "b"]})
    again = State.load(state.dump())
    assert again.digest == state.digest
    assert again.settings == state.settings
    np.testing.assert_array_equal(again.tensors["a"], state.tensors["a"])
    other = State({"a": np.arange(6, dtype=np.float32).reshape(3, 2)}, {"words": ["ü", "b"]})
    assert other.digest != state.digest
    for bad in (b"", b"\0" * 64, state.dump()[:-1], b"\xff" * 20):
        with pytest.raises(EncoderStateError):
            State.load(bad)
    with pytest.raises(EncoderStateError, match="words"):
        load_encoder(spec, state=State({}, {}))
    with pytest.raises(EncoderStateError, match="finite"):
        State({"a": np.array([np.nan])}).tensor("a", np.float64, None)
    with pytest.raises(EncoderStateError, match=r"\(4, None\)"):
        state.tensor("a", np.float32, 4, None)
    assert decode_text(b"x") == "x"
