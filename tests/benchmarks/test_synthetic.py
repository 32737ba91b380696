"""The catalog we draw: the same by the same seed, with the holes and defects it promises."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from benchmarks.synthetic import main, make_catalog, make_query_media, read_defects
from benchmarks.synthetic_media import COLOURS, PICTURE_PIXELS, SAMPLE_RATE, SHAPES


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_catalog(tmp_path_factory.mktemp("synthetic"))


@pytest.fixture(scope="module")
def rows(catalog: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in catalog.read_text("utf-8").splitlines()]


def _files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("one", 3), ("two", 3), ("other", 4)):
        make_catalog(tmp_path / name, n=12, seed=seed, broken=True)
    assert _files(tmp_path / "one") == _files(tmp_path / "two")
    assert _files(tmp_path / "one") != _files(tmp_path / "other")


def test_holes_come_in_the_promised_numbers(rows: list[dict[str, Any]]) -> None:
    assert len(rows) == 120
    assert len({row["sku"] for row in rows}) == 120
    lacking = {column: {r["sku"] for r in rows if column not in r} for column in ("photo", "clip")}
    wordless = {row["sku"] for row in rows if "title" not in row}
    assert wordless == {row["sku"] for row in rows if "description" not in row}
    text_alone = lacking["photo"] & lacking["clip"]
    assert len(text_alone) == 6
    assert len(lacking["photo"]) == 12 + 6
    assert len(lacking["clip"]) == 24 + 6
    assert len(wordless) == 12
    assert not wordless & (lacking["photo"] | lacking["clip"])


def test_every_combination_comes_before_any_comes_again(rows: list[dict[str, Any]]) -> None:
    pairs = [(row["shape"], row["colour"]) for row in rows]
    every = {(shape, colour) for shape in SHAPES for colour in COLOURS}
    assert set(pairs[: len(every)]) == every
    assert all(2 <= pairs.count(pair) <= 3 for pair in every)


def test_media_decode(catalog: Path, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        if "photo" in row:
            with Image.open(catalog.parent / row["photo"]) as picture:
                assert picture.size == (PICTURE_PIXELS, PICTURE_PIXELS)
                assert picture.convert("RGB").getcolors(PICTURE_PIXELS**2)
        if "clip" in row:
            samples, rate = soundfile.read(catalog.parent / row["clip"])
            assert rate == SAMPLE_RATE
            assert 0.8 * rate <= len(samples) <= 1.4 * rate
            assert 0.7 < np.abs(samples).max() <= 0.8001


def test_no_file_lies_about_unnamed(catalog: Path, rows: list[dict[str, Any]]) -> None:
    named = {row[column] for row in rows for column in ("photo", "clip") if column in row}
    assert set(_files(catalog.parent)) == named | {"catalog.jsonl"}


def test_pictures_show_their_colour(catalog: Path, rows: list[dict[str, Any]]) -> None:
    plain = [row for row in rows if "photo" in row and row["pattern"] == "plain"]
    assert plain
    for row in plain:
        with Image.open(catalog.parent / row["photo"]) as picture:
            colours = picture.getcolors(PICTURE_PIXELS**2) or []
        most, second = sorted(colours, reverse=True)[:2]
        assert COLOURS[row["colour"]] in (most[1], second[1])


def test_sounds_of_a_shape_are_alike(tmp_path: Path) -> None:
    def spectrum(shape: str, seed: int) -> np.ndarray[Any, Any]:
        _, clip = make_query_media(tmp_path / f"{shape}-{seed}", shape, "red", seed)
        samples, _ = soundfile.read(clip)
        power = np.abs(np.fft.rfft(samples.reshape(-1, 500))) ** 2
        # 7 octaves from 64 Hz up: the mean of each, and how much it varies in time.
        bands = np.split(power, [2, 4, 8, 16, 32, 64, 128], axis=1)[1:]
        levels = np.log10(np.stack([band.sum(1) for band in bands]) + 1e-2)
        return np.concatenate([levels.mean(1), levels.std(1)])

    first = np.stack([spectrum(shape, 1) for shape in SHAPES])
    second = np.stack([spectrum(shape, 2) for shape in SHAPES])
    distances = np.linalg.norm(second[:, None] - first[None], axis=2)
    assert (np.argmin(distances, axis=1) == np.arange(len(SHAPES))).all()


def test_broken_catalog_says_what_is_wrong(tmp_path: Path) -> None:
    catalog = make_catalog(tmp_path, n=20, broken=True)
    lines = catalog.read_bytes().splitlines()
    defects = {defect.kind: defect for defect in read_defects(tmp_path)}
    assert [defect.line for defect in defects.values()] == list(range(21, 28))
    assert len(lines) == 27

    def line(kind: str) -> bytes:
        return lines[defects[kind].line - 1]

    with pytest.raises(json.JSONDecodeError):
        json.loads(line("broken_json"))
    with pytest.raises(UnicodeDecodeError):
        line("not_utf8").decode()
    assert "sku" not in json.loads(line("missing_id"))
    assert json.loads(line("duplicate_id"))["sku"] == json.loads(lines[0])["sku"]
    assert not (tmp_path / json.loads(line("missing_file"))["photo"]).exists()
    assert json.loads(line("path_climbs"))["photo"].startswith("..")
    with (
        pytest.raises(OSError, match="truncated"),
        Image.open(tmp_path / json.loads(line("truncated_image"))["photo"]) as picture,
    ):
        picture.load()
    costs = {kind: defect.costs for kind, defect in defects.items()}
    assert costs == {
        "broken_json": "row",
        "missing_id": "row",
        "not_utf8": "row",
        "duplicate_id": "row",
        "truncated_image": "image",
        "missing_file": "image",
        "path_climbs": "image",
    }


def test_empty_catalog(tmp_path: Path) -> None:
    assert make_catalog(tmp_path, n=0).read_bytes() == b""


def test_command_prints_the_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "-n", "4"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'catalog.jsonl'}\n"
