"""Rejected media, tried again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from catalens import Writer, export_index
from indexer import RetrySummary, verify_index
from indexer.catalog_errors import RejectedRowError, UnreadableCatalogError
from tests.catalogs import Opened, build_toy, png, toy_rows
from tests.processes import run_command
from tests.toy_encoders import ToyEncoder


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """Of 30 items one lost a picture that is not there and one that is broken, one a broken one,
    and one row has nothing but a broken one."""
    media = tmp_path / "media"
    media.mkdir()
    (media / "broken.png").write_bytes(b"no picture")
    rows = toy_rows(30)
    rows[4]["image"] = ["missing.png", png(np.random.default_rng(1)), "broken.png"]
    rows[5]["image"] = "broken.png"
    rows[6]["image"] = b"bytes that are no picture"
    rows.append({"id": "nothing", "image": "broken.png"})
    build_toy(tmp_path / "index", rows, media_root=media)
    ToyEncoder.encoded.clear()
    return tmp_path / "index"


def rejected(index: Path) -> list[tuple[str, str | None, str]]:
    found = [(r["id"], r["source"], r["error"]) for r in Opened(index).rejects]
    return sorted(found, key=repr)


def test_what_works_now_joins_its_item(tmp_path: Path, index: Path) -> None:
    before = rejected(index)
    (tmp_path / "media" / "missing.png").write_bytes(png(np.random.default_rng(2)))
    with Writer.open(index, device="cpu") as writer:
        found = writer.retry()
        assert rejected(index) == before  # nothing shows until it is committed
        summary = writer.commit()
    assert found == RetrySummary(tried=3, mended=1, failed=2, without_item=1)
    assert (summary.updated, summary.unchanged, summary.added) == (1, 1, 0)
    assert dict(ToyEncoder.encoded) == {"toy-image": 1} and summary.encoded == {"image": 1}
    mended = ("item-4", "missing.png", "MissingMediaError")
    assert rejected(index) == [one for one in before if one != mended]
    export_index(index, tmp_path / "x.parquet")
    rows = {row["id"]: row for row in pq.read_table(tmp_path / "x.parquet").to_pylist()}
    sources = [one["source"] for one in rows["item-4"]["inputs"]]
    assert sources == [None, None, "missing.png"]
    assert verify_index(index).problems == []


def test_again_and_again(tmp_path: Path, index: Path) -> None:
    before = rejected(index)
    for _ in range(2):
        with Writer.open(index, device="cpu") as writer:
            assert writer.retry() == RetrySummary(3, 0, 3, 1)
        assert rejected(index) == before
    (tmp_path / "media" / "broken.png").write_bytes(png(np.random.default_rng(3)))
    (tmp_path / "media" / "missing.png").write_bytes(b"no picture either")
    with Writer.open(index, device="cpu") as writer:
        assert writer.retry() == RetrySummary(3, 2, 1, 1)
    left = [one for one in rejected(index) if one[:2] == ("item-4", "missing.png")]
    assert left == [("item-4", "missing.png", "UndecodableMediaError")]
    with Writer.open(index, device="cpu") as writer:
        writer.compact()
    assert verify_index(index).problems == []


def test_an_update_makes_rejects_of_its_item_void(tmp_path: Path, index: Path) -> None:
    (tmp_path / "media" / "missing.png").write_bytes(png(np.random.default_rng(2)))
    rows = toy_rows(30)
    rows[4]["image"] = None
    with Writer.open(index, device="cpu") as writer:
        writer.update([rows[4]])
        assert writer.retry().tried == 1  # what is to change is passed over
        writer.delete(["item-5"])
        writer.commit()
        assert writer.retry() == RetrySummary(0, 0, 0, 1)
    assert {one for one, _, _ in rejected(index)} == {"item-6", "nothing"}


def test_other_roots_and_strictness(tmp_path: Path, index: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "missing.png").write_bytes(png(np.random.default_rng(4)))
    with Writer.open(index, device="cpu") as writer:
        with pytest.raises(UnreadableCatalogError, match="media root"):
            writer.retry(media_root=tmp_path / "nowhere")
        assert not writer.commit().updated
    with Writer.open(index, device="cpu", strict=True) as writer:
        with pytest.raises(RejectedRowError):
            writer.retry()
        assert not writer.commit().updated
    with Writer.open(index, device="cpu") as writer:
        assert writer.retry(media_root=other).mended == 1
    assert ("item-5", "broken.png", "MissingMediaError") in rejected(index)


def test_the_command(tmp_path: Path) -> None:
    dump = tmp_path / "c.jsonl"
    heard = ["0.wav", ["0.wav", "gone.wav"], ["0.wav", "gone.wav"]]
    rows = [{"id": n, "audio": audio} for n, audio in enumerate(heard)]
    dump.write_text("\n".join(map(json.dumps, rows)))
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "0.wav", rng.normal(0, 0.1, 8000), 16000)
    preset = tmp_path / "p.json"
    space = {"name": "sound", "item": "audio", "encoders": {"audio": {"kind": "log-mel"}}}
    preset.write_text(json.dumps({"name": "p", "spaces": [space]}))
    done = run_command("build", dump, "--out", tmp_path / "i", "--preset", preset)
    assert done.returncode == 0, done.stderr
    soundfile.write(tmp_path / "gone.wav", rng.normal(0, 0.1, 8000), 16000)
    found = json.loads(run_command("retry", tmp_path / "i", "--json").stdout)
    assert set(found) == {
        *("path", "tried", "mended", "failed", "without_item", "encoded", "items", "seconds")
    }
    assert (found["tried"], found["mended"], found["failed"]) == (2, 2, 0)
    assert found["encoded"] == {"audio": 1} and found["items"] == 3
    assert "0 inputs tried again" in run_command("retry", tmp_path / "i").stdout
