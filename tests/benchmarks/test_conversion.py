"""Packages' trees become dumps: tried on small trees made by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.conversion import (
    convert_clipart,
    convert_stamps,
    convert_wordnet,
    read_drawing_words,
)
from benchmarks.errors import DatasetUnavailableError


def _tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return root


def _rows(path: Path) -> dict[str, dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return {row["id"]: row for row in rows}


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    folder = tmp_path / "dump"
    folder.mkdir()
    return folder


def test_stamps(tmp_path: Path, dump: Path) -> None:
    stamps = "usr/share/tuxpaint/stamps"
    package = _tree(
        tmp_path / "package",
        {
            f"{stamps}/animals/birds/crow.txt": "A crow.\nde.utf8=Eine Krähe.\nfr.utf8=\n",
            f"{stamps}/animals/birds/crow.png": "",
            f"{stamps}/animals/birds/crow.ogg": "",
            f"{stamps}/animals/birds/crow_desc.ogg": "",
            f"{stamps}/animals/birds/crow_desc_fr.ogg": "",
            f"{stamps}/animals/birds/crow_desc_da.ogg.ogg": "",
            f"{stamps}/symbols/7.txt": "7\nca@valencia.utf8=set\n",
            f"{stamps}/symbols/7.svg": "",
            f"{stamps}/symbols/7_en_GB.ogg": "",
            f"{stamps}/symbols/7_desc_pt_BR.wav": "",
            f"{stamps}/symbols/7_up.txt": "\n",
            f"{stamps}/symbols/7_up.ogg": "",
            f"{stamps}/symbols/nobody_desc_fr.ogg": "",
        },
    )
    counts = convert_stamps(package, dump)
    assert counts == {
        "items": 3,
        "with_title": 2,
        "with_image": 1,
        "with_audio": 2,
        "with_speech": 1,
        "translations": 2,
        "spoken": 5,
    }
    rows = _rows(dump / "catalog.jsonl")
    assert rows["animals/birds/crow"] == {
        "id": "animals/birds/crow",
        "title": "A crow.",
        "image": "media/animals/birds/crow.png",
        "audio": "media/animals/birds/crow.ogg",
        "speech": "media/animals/birds/crow_desc.ogg",
        "category": "animals",
        "folder": "animals/birds",
        "languages": 1,
        "spoken_languages": 3,
        "has_picture": True,
        "has_sound": True,
    }
    # A drawing and speech in other languages fill no hole; a blank title is one.
    assert not {"image", "audio", "speech"} & set(rows["symbols/7"])
    assert "title" not in rows["symbols/7_up"]
    assert rows["symbols/7_up"]["audio"] == "media/symbols/7_up.ogg"
    spoken = [json.loads(line) for line in (dump / "spoken.jsonl").read_text("utf-8").splitlines()]
    assert [(row["id"], row["lang"], row["kind"]) for row in spoken] == [
        ("animals/birds/crow", "en", "description"),
        ("animals/birds/crow", "da", "description"),
        ("animals/birds/crow", "fr", "description"),
        ("symbols/7", "pt_BR", "description"),
        ("symbols/7", "en_GB", "sound"),
    ]
    for row in spoken:
        assert (dump / row["audio"]).is_file()
    lines = (dump / "translations.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"id": "animals/birds/crow", "lang": "de", "text": "Eine Krähe."},
        {"id": "symbols/7", "lang": "ca@valencia", "text": "set"},
    ]


_DRAWING = """<svg xmlns="http://www.w3.org/2000/svg"><metadata>
<rdf:RDF xmlns:cc="http://web.resource.org/cc/" xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><cc:Work rdf:about="">
<dc:title>Two  frogs</dc:title><dc:description></dc:description>
<dc:subject><rdf:Bag><rdf:li>frog</rdf:li><rdf:li></rdf:li><rdf:li>unsorted</rdf:li>
<rdf:li>frog</rdf:li></rdf:Bag></dc:subject>
<dc:publisher><cc:Agent><dc:title>A library</dc:title></cc:Agent></dc:publisher>
<dc:creator><cc:Agent><dc:title>Lumen</dc:title></cc:Agent></dc:creator>
</cc:Work></rdf:RDF></metadata></svg>"""

_BOMB = """<!DOCTYPE svg [<!ENTITY a "aaaaaaaaaa">""" + "".join(
    f'<!ENTITY {name} "{f"&{before};" * 10}">'
    for before, name in zip("abcdefghi", "bcdefghij", strict=True)
)
_BOMB += "]><svg>&j;</svg>"


def test_clipart(tmp_path: Path, dump: Path) -> None:
    png, svg = "usr/share/openclipart/png", "usr/share/openclipart/svg"
    package = _tree(
        tmp_path / "package",
        {
            f"{png}/animals/frogs.png": "",
            f"{svg}/animals/frogs.svg": _DRAWING,
            f"{png}/food/milk.png": "",
            f"{svg}/food/milk.svg": "<svg><broken",
            f"{png}/food/bread.png": "",
        },
    )
    (package / png / "plants").mkdir()
    (package / png / "plants/pond.png").symlink_to("../animals/frogs.png")
    (package / png / "plants/passwd.png").symlink_to("/etc/passwd")
    counts = convert_clipart(package, dump)
    assert counts["items"] == counts["with_image"] == 4
    assert (counts["with_title"], counts["duplicates"]) == (1, 1)
    rows = _rows(dump / "catalog.jsonl")
    assert rows["animals/frogs"] == {
        "id": "animals/frogs",
        "title": "Two frogs",
        "artist": "Lumen",
        "keywords": ["frog"],
        "image": "media/animals/frogs.png",
        "category": "animals",
        "folder": "animals",
    }
    assert rows["plants/pond"]["duplicate_of"] == "animals/frogs"
    assert set(rows["food/milk"]) == {"id", "image", "category", "folder"}


def test_drawing_that_explodes_gives_no_words(tmp_path: Path) -> None:
    (tmp_path / "bomb.svg").write_text(_BOMB)
    assert read_drawing_words(tmp_path / "bomb.svg") == {}
    assert read_drawing_words(tmp_path / "nowhere.svg") == {}


def test_wordnet(tmp_path: Path, dump: Path) -> None:
    folder = "usr/share/wordnet"
    licence = "  1 This software and database is being provided  \n"
    package = _tree(
        tmp_path / "package",
        {
            f"{folder}/data.noun": licence
            + "00002137 03 n 02 abstraction 0 abstract_entity 0 001 @ 00001740 n 0 | concept  \n",
            f"{folder}/data.verb": licence
            + "00001740 29 v 01 breathe 0 000 01 + 02 00 | draw air\n",
            f"{folder}/data.adj": licence
            + "00014490 00 s 01 galore(ip) 0 000 | in great numbers\n",
            f"{folder}/data.adv": licence + "00001740 02 r 01 a_cappella 0 000 | \n",
        },
    )
    assert convert_wordnet(package, dump) == {"items": 4, "with_gloss": 3}
    rows = _rows(dump / "catalog.jsonl")
    assert rows["00002137-n"] == {
        "id": "00002137-n",
        "words": "abstraction, abstract entity",
        "gloss": "concept",
        "pos": "n",
        "domain": "noun.Tops",
        "lemmas": ["abstraction", "abstract entity"],
    }
    assert rows["00001740-v"]["domain"] == "verb.body"
    assert rows["00014490-a"]["lemmas"] == ["galore"]
    assert "gloss" not in rows["00001740-r"]


@pytest.mark.parametrize("convert", [convert_stamps, convert_clipart, convert_wordnet])
def test_package_of_another_layout(convert: Any, tmp_path: Path, dump: Path) -> None:
    with pytest.raises(DatasetUnavailableError, match=r"a folder \w+ in it; got none"):
        convert(tmp_path, dump)
