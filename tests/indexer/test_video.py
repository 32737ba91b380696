"""A catalog of videos: built, asked by picture, sound and video, and what is missing in one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from catalens import Query, Retriever, Writer, build_index, export_index, import_index
from catalens.cli import app
from encoders import EncoderSpec, NoSoundError, UndecodableMediaError
from encoders.registry import wrapped_by
from indexer import verify_index
from tests import toy_encoders
from tests.videos import make_video, square

toy_encoders.install()

RED, GREEN, BLUE = (220, 20, 20), (20, 180, 20), (20, 20, 220)
LOW, HIGH = 250.0, 1800.0
PRESET: dict[str, Any] = {
    "name": "videos",
    "spaces": [
        {
            "name": "frames",
            "item": "video",
            "encoders": {
                "video": {"kind": "video-frames", "encoder": {"kind": "toy-image"}},
                "image": {"kind": "toy-image"},
            },
        },
        {
            "name": "soundtrack",
            "item": "video",
            "encoders": {
                "video": {"kind": "video-sound", "encoder": {"kind": "log-mel"}},
                "audio": {"kind": "log-mel"},
            },
        },
    ],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for name, colour in (("red", RED), ("green", GREEN), ("blue", BLUE)):
        for pitch, hertz in (("low", LOW), ("high", HIGH)):
            content = make_video(colour=colour, hertz=hertz)
            (folder / f"{name}-{pitch}.mp4").write_bytes(content)
    (folder / "silent.mp4").write_bytes(make_video(colour=GREEN, hertz=None))
    (folder / "blind.mp4").write_bytes(make_video(frames=0, hertz=HIGH))
    (folder / "broken.mp4").write_bytes(b"\0\0\0\x20ftyp" + bytes(50))
    return folder


@pytest.fixture(scope="module")
def index(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built") / "index"
    summary = build_index(rows(folder), out, preset=PRESET, media_root=folder, device="cpu")
    assert summary.coverage == {"frames": 7, "soundtrack": 7} and summary.items == 8
    assert [r.error for r in summary.rejects][:1] == ["UndecodableMediaError"]
    return out


@pytest.fixture
def shop(index: Path) -> Iterator[Retriever]:
    with Retriever.open(index, device="cpu") as opened:
        yield opened


def rows(folder: Path) -> list[dict[str, str]]:
    return [{"id": file.stem, "video": file.name} for file in sorted(folder.glob("*.mp4"))]


def still(colour: tuple[int, int, int]) -> bytes:
    file = BytesIO()
    Image.fromarray(square(6, 12, colour)).save(file, "PNG")
    return file.getvalue()


def ids(hits: Any) -> set[str]:
    return {hit.id for hit in hits}


def test_a_picture_finds_the_videos_that_show_it(shop: Retriever) -> None:
    assert ids(shop.search(Query(image=still(RED)), 2)) == {"red-low", "red-high"}
    assert ids(shop.search(Query(image=still(GREEN)), 3)) == {"green-low", "green-high", "silent"}


def test_a_video_is_asked_by_both_its_tracks(shop: Retriever, folder: Path) -> None:
    hits = shop.search(Query(video=folder / "blue-low.mp4"), 4)
    assert hits[0].id == "blue-low" and hits[0].score == pytest.approx(2, abs=0.01)
    alone = Query(video=folder / "blue-low.mp4", weights={"soundtrack": 0})
    assert ids(shop.search(alone, 2)) == {"blue-low", "blue-high"}


def test_a_silent_video_has_a_hole_where_its_sound_would_be(
    shop: Retriever, folder: Path, index: Path
) -> None:
    hits = shop.search(Query(video=folder / "silent.mp4"), 3)
    assert ids(hits) == {"green-low", "green-high", "silent"}
    silent = next(hit for hit in hits if hit.id == "silent")
    assert not silent.spaces["soundtrack"].present and silent.spaces["frames"].present
    blind = shop.search(Query(video=folder / "blind.mp4"), 4)
    assert ids(blind) == {"red-high", "green-high", "blue-high", "blind"}
    assert not verify_index(index).problems
    with pytest.raises(UndecodableMediaError):
        shop.search(Query(video=folder / "broken.mp4"))


def test_a_video_with_nothing_for_any_space_is_told(folder: Path, tmp_path: Path) -> None:
    preset = {"name": "heard", "spaces": PRESET["spaces"][1:]}
    build_index(rows(folder), tmp_path / "i", preset=preset, media_root=folder, device="cpu")
    with Retriever.open(tmp_path / "i", device="cpu") as shop, pytest.raises(NoSoundError):
        shop.search(Query(video=folder / "silent.mp4"))
    summary = build_index(
        rows(folder), tmp_path / "i", preset=preset, media_root=folder, device="cpu"
    )
    # The reasons stand with the inputs, and nothing was decoded that was known.
    told = {r.id: r.error for r in summary.rejects if r.modality == "video"}
    assert told == {"silent": "NoSoundError", "broken": "UndecodableMediaError"}
    assert summary.encoded == {"video": 0}


def test_videos_are_added_and_travel(index: Path, folder: Path, tmp_path: Path) -> None:
    export_index(index, tmp_path / "all.parquet")
    import_index(tmp_path / "all.parquet", tmp_path / "copy")
    assert not verify_index(tmp_path / "copy").problems
    with Writer.open(tmp_path / "copy", device="cpu") as writer:
        writer.delete(["silent"])
        writer.add([{"id": "new", "video": "silent.mp4"}], media_root=folder)
        summary = writer.commit()
    assert summary.added == 1 and summary.encoded.get("video", 0) == 0
    with Retriever.open(tmp_path / "copy", device="cpu") as shop:
        assert "new" in ids(shop.search(Query(image=still(GREEN)), 3))


def test_from_the_shell(folder: Path, tmp_path: Path) -> None:
    dump, preset, out = tmp_path / "d.jsonl", tmp_path / "p.json", tmp_path / "i"
    lines = [json.dumps({"sku": row["id"], "clip": row["video"]}) for row in rows(folder)]
    dump.write_text("\n".join(lines))
    preset.write_text(json.dumps(PRESET))
    run = CliRunner().invoke
    arguments = ["build", str(dump), "--out", str(out), "--id", "sku", "--video", "clip"]
    built = run(app, [*arguments, "--preset", str(preset), "--media-root", str(folder), "--json"])
    assert built.exit_code == 0, built.output
    assert json.loads(built.stdout)["coverage"] == {"frames": 7, "soundtrack": 7}
    asked = run(app, ["query", str(out), "--video", str(folder / "red-low.mp4"), "--json"])
    assert json.loads(asked.stdout.splitlines()[0])["id"] == "red-low"


def test_a_folder_of_videos(folder: Path, tmp_path: Path) -> None:
    summary = build_index(folder, tmp_path / "i", preset=PRESET, device="cpu")
    assert summary.items == 8 and summary.inputs == {"video": 8}


def test_an_encoder_that_is_fitted_learns_from_frames(folder: Path, tmp_path: Path) -> None:
    network = {"kind": "cnn", "epochs": 1, "side": 32}
    frames = {"kind": "video-frames", "encoder": network, "frames": 4}
    space = {"name": "own", "item": "video", "encoders": {"video": frames, "image": network}}
    preset = {"name": "fitted", "spaces": [space]}
    out = tmp_path / "i"
    summary = build_index(rows(folder), out, preset=preset, media_root=folder, device="cpu")
    assert summary.coverage == {"own": 7}
    with Retriever.open(out, device="cpu") as shop:
        assert len(shop.search(Query(image=still(RED)), 3)) == 3  # the same network
        internals: Any = shop
        fingerprints = internals._view.generation.manifest.spaces[0].fingerprints
        states = [internals._view.snapshot.state(one).digest for one in fingerprints.values()]
    assert states[0] == states[1]
    again = build_index(rows(folder), out, preset=preset, media_root=folder, device="cpu")
    assert again.encoded == {"video": 0}
    assert not verify_index(out).problems
    assert wrapped_by(EncoderSpec.model_validate(frames)) == (
        EncoderSpec.model_validate(network),
        "image",
    )


def test_pictures_are_learned_from_where_there_are_any(folder: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    listed: list[dict[str, str]] = rows(folder)
    for number in range(20):
        pixels = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
        file = tmp_path / f"{number}.png"
        Image.fromarray(pixels).resize((40, 40)).save(file)
        listed.append({"id": f"p{number}", "image": file.name})
    for row in listed:
        if "video" in row:
            (tmp_path / row["video"]).write_bytes((folder / row["video"]).read_bytes())
    network = {"kind": "cnn", "epochs": 0, "side": 32}
    frames = {"kind": "video-frames", "encoder": network, "frames": 2}
    spaces = [
        {"name": "seen", "item": "image", "encoders": {"image": network}},
        {"name": "shown", "item": "video", "encoders": {"video": frames}},
    ]
    preset = {"name": "both", "spaces": spaces}
    out = tmp_path / "i"
    summary = build_index(listed, out, preset=preset, media_root=tmp_path, device="cpu")
    assert summary.coverage == {"seen": 20, "shown": 7}
