"""The preset `clip`, whole: two towers reach one space, from checkpoints on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import catalens as cl
from benchmarks.synthetic import make_catalog
from encoders import EncoderPool, load_preset
from tests.checkpoints import tiny_clap, tiny_open_clip
from tests.videos import make_video


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped preset, its weights replaced by tiny ones on disk."""
    shipped = load_preset("clip").model_dump(mode="json", exclude_none=True)
    clip = tiny_open_clip(tmp_path_factory.mktemp("clip"))
    clap = tiny_clap(tmp_path_factory.mktemp("clap"))
    for space in shipped["spaces"]:
        for given in space["encoders"].values():
            encoder = given.get("encoder", given)  # that of a video's frames or sound
            if encoder["kind"] == "open-clip":
                encoder.pop("pretrained")
                encoder["model"] = f"local-dir:{clip}"
            elif encoder["kind"] == "clap":
                encoder["model"] = str(clap)
    path = tmp_path_factory.mktemp("preset") / "tiny.json"
    path.write_text(json.dumps(shipped))
    return path


@pytest.fixture(scope="module")
def shop(preset: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("catalog")
    catalog = make_catalog(folder, n=40)
    row = json.loads(catalog.read_text().splitlines()[0])
    media = {name: name for name in ("photo", "clip") if name in row} or {"photo": "photo"}
    cl.build_index(
        catalog,
        folder / "index",
        id="sku" if "sku" in row else "id",
        image=media.get("photo", "photo"),
        audio=media.get("clip", "clip"),
        preset=preset,
        device="cpu",
    )
    with cl.Retriever.open(folder / "index", device="cpu") as retriever:
        yield retriever


def test_text_reaches_every_space_by_its_own_tower(shop: cl.Retriever, preset: Path) -> None:
    hits = shop.search(cl.Query(text="a red circle"), k=len(shop))
    for name in ("minilm", "clip", "clap"):
        for hit in hits:
            match = hit.spaces[name]
            assert (match.similarity is not None) == match.present
    # The oracle: the towers called directly, each centred on its own mean as the file keeps it.
    from safetensors.numpy import load_file

    manifest = shop.manifest
    generation = shop._view.generation
    tensors = load_file(generation.layout.path("fusion.safetensors"))
    pool = EncoderPool("cpu")
    rows = generation.searcher.rows.take(np.arange(len(shop)))
    records = {r.id: n for n, (_, r) in enumerate(shop._view.snapshot.scan_records())}
    for space in manifest.spaces:
        name = space.spec.name
        encoder = pool.get(space.spec.encoders["text"])
        vector = encoder.encode("text", [encoder.prepare("text", b"a red circle")])[0]
        vector = vector - tensors[f"mean/{name}/text"]
        vector /= np.linalg.norm(vector)
        blocks = rows[:, generation.fusion.blocks[name]] / np.sqrt(space.spec.weight)
        for hit in hits:
            if hit.spaces[name].present:
                expected = float(blocks[records[hit.id]] @ vector)
                assert hit.spaces[name].similarity == pytest.approx(expected, abs=1e-3)


def test_towers_of_one_space_have_means_of_their_own(shop: cl.Retriever) -> None:
    transform = shop._view.generation.fusion.transforms["clip"]
    assert set(transform.means) == {"image", "text"}
    assert not np.allclose(transform.means["image"], transform.means["text"], atol=1e-3)


def test_picture_finds_itself_through_the_shared_space(shop: cl.Retriever) -> None:
    media_root = Path(shop.manifest.catalog.media_root)
    for row, record in shop._view.snapshot.scan_records():
        (inputs,) = shop._view.snapshot.inputs([row])
        sources = inputs.sources.get("image")
        if sources and sources[0]:
            hit = shop.search(cl.Query(image=media_root / sources[0]), k=1)[0]
            assert hit.spaces["clip"].similarity == pytest.approx(1.0, abs=2e-3)
            assert hit.score == pytest.approx(1.0, abs=2e-3), record.id
            return
    raise AssertionError("the catalog has no picture")


def test_text_finds_what_videos_show(preset: Path, tmp_path: Path) -> None:
    colours = {"red": (220, 20, 20), "blue": (20, 20, 220)}
    for name, colour in colours.items():
        (tmp_path / f"{name}.mp4").write_bytes(make_video(colour=colour))
    rows = [{"id": name, "video": f"{name}.mp4"} for name in colours]
    cl.build_index(rows, tmp_path / "i", preset=preset, media_root=tmp_path, device="cpu")
    with cl.Retriever.open(tmp_path / "i", device="cpu") as shop:
        (first, *_) = shop.search(cl.Query(text="a red square"))
        assert set(first.spaces) == {"frames", "soundtrack"}
        assert all(match.similarity is not None for match in first.spaces.values())
        (found, *_) = shop.search(cl.Query(video=tmp_path / "blue.mp4"))
        assert found.id == "blue"
