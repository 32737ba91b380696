"""Unpacked packages in, ordinary catalog dumps out: one function per dataset.

Each takes the folder the package was unpacked to and the folder of the dump, moves the
media below the dump (`media/`, so that no path leaves it), writes `catalog.jsonl` with one
JSON object a line, and returns the counts that go into the dataset's manifest. What an
item lacks has no key in its row: the holes are the data's own.
"""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from .errors import DatasetUnavailableError

Row = Mapping[str, object]
Counts = dict[str, int]


_STAMP_FIELDS = ("title", "image", "audio", "speech")


def convert_stamps(unpacked: Path, dump: Path) -> Counts:
    """Tux Paint's stamps: a title in many languages, a picture, a sound effect, speech.

    A stamp is a `.txt`, with files of the same name beside it: `audio` is the sound effect
    (`NAME.ogg`), `speech` the English description read aloud (`NAME_desc.ogg`). The two are
    columns apart because one voice makes all animals sound alike: with both in one vector,
    a sound effect found its own stamp first in .65 of the cases, alone in .89. Titles in
    other languages are in `translations.jsonl`, all speech is in `spoken.jsonl`.
    """
    media = _take(unpacked / "usr/share/tuxpaint/stamps", dump / "media")
    names = sorted(path.with_suffix("").relative_to(media) for path in media.rglob("*.txt"))
    spoken = _recordings(media, {name.as_posix() for name in names})
    counts: Counter[str] = Counter()
    rows: list[Row] = []
    translations: list[Row] = []
    for name in names:
        key = name.as_posix()
        title, others = _titles((media / f"{key}.txt").read_text("utf-8", errors="replace"))
        effect = media / f"{key}.ogg"
        english = [row["audio"] for row in spoken.get(key, []) if row["lang"] == "en"]
        row: dict[str, object] = {"id": key}
        if title:
            row["title"] = title
        if (media / f"{key}.png").is_file():
            row["image"] = f"media/{key}.png"
        if effect.is_file():
            row["audio"] = f"media/{key}.ogg"
        if english:
            row["speech"] = english[0]
        row |= {
            "category": name.parts[0],
            "folder": name.parent.as_posix(),
            "languages": len(others),
            "spoken_languages": len({speech["lang"] for speech in spoken.get(key, [])}),
            "has_picture": "image" in row,
            "has_sound": "audio" in row,
        }
        rows.append(row)
        translations += [{"id": key, "lang": lang, "text": text} for lang, text in others.items()]
        counts.update(field for field in _STAMP_FIELDS if field in row)
    speech = [row for key in sorted(spoken) for row in spoken[key]]
    _write(dump / "catalog.jsonl", rows)
    _write(dump / "translations.jsonl", translations)
    _write(dump / "spoken.jsonl", speech)
    return {
        "items": len(rows),
        **_with(counts, _STAMP_FIELDS),
        "translations": len(translations),
        "spoken": len(speech),
    }


def _titles(text: str) -> tuple[str, dict[str, str]]:
    """A stamp's English title and its titles by language, from `LANG.utf8=TEXT` lines."""
    first, *rest = text.splitlines() or [""]
    others = {}
    for line in rest:
        lang, marker, title = line.partition(".utf8=")
        if marker and title.strip():
            others[lang.strip()] = title.strip()
    return first.strip(), others


_RECORDING = re.compile(r"(?P<name>.+?)(?P<desc>_desc)?(?:_(?P<lang>[a-z]{2,3}(?:_[A-Za-z]{2})?))?")


def _recordings(media: Path, names: set[str]) -> dict[str, list[dict[str, str]]]:
    """Speech by stamp: descriptions, and the few sounds that are words (numbers, read out)."""
    found: dict[str, list[dict[str, str]]] = {}
    for path in sorted([*media.rglob("*.ogg"), *media.rglob("*.wav")]):
        relative = path.relative_to(media).as_posix()
        stem = re.sub(r"(\.ogg|\.wav)+$", "", relative)  # one file is named .ogg.ogg
        match = _RECORDING.fullmatch(stem)
        if stem in names or match is None or match["name"] not in names:
            continue
        if match["desc"] is None and match["lang"] is None:
            continue
        found.setdefault(match["name"], []).append(
            {
                "id": match["name"],
                "lang": match["lang"] or "en",
                "audio": f"media/{relative}",
                "kind": "description" if match["desc"] else "sound",
            }
        )
    return found


def convert_clipart(unpacked: Path, dump: Path) -> Counts:
    """The Open Clip Art Library: pictures, with titles and keywords from the drawings.

    The words come from the RDF in the .svg of the same name. Some pictures are links to
    others, filed under a second category: they are items too, with `duplicate_of`.
    """
    drawings = unpacked / "usr/share/openclipart/svg"
    media = _take(unpacked / "usr/share/openclipart/png", dump / "media")
    root = media.resolve()
    counts: Counter[str] = Counter()
    rows: list[Row] = []
    for path in sorted(media.rglob("*.png")):
        name = path.relative_to(media).with_suffix("")
        target = path.resolve()
        if not target.is_relative_to(root) or not target.is_file():
            continue
        row: dict[str, object] = {"id": name.as_posix()}
        row |= read_drawing_words(drawings / f"{name.as_posix()}.svg")
        row["image"] = f"media/{name.as_posix()}.png"
        row |= {"category": name.parts[0], "folder": name.parent.as_posix()}
        if path.is_symlink():
            row["duplicate_of"] = target.relative_to(root).with_suffix("").as_posix()
        rows.append(row)
        counts.update(field for field in _CLIPART_FIELDS if field in row)
        counts["duplicates"] += path.is_symlink()
    _write(dump / "catalog.jsonl", rows)
    return {
        "items": len(rows),
        **_with(counts, _CLIPART_FIELDS),
        "duplicates": counts["duplicates"],
    }


_CLIPART_FIELDS = ("title", "description", "keywords", "artist", "image")
_MAX_DRAWING_BYTES = 32 * 2**20
_DC = "{http://purl.org/dc/elements/1.1/}"
# What the library's scripts left where words should be.
_NO_KEYWORDS = frozenset({"", "hash", "unsorted"})


def read_drawing_words(svg: Path) -> dict[str, object]:
    """Title, description, keywords and artist from an .svg's RDF; what is not there is left out.

    A drawing that is missing, too large or no XML gives no words, and the item keeps its
    picture. ElementTree fetches no external entity, and expat ends expansions that explode.
    """
    try:
        if svg.stat().st_size > _MAX_DRAWING_BYTES:
            return {}
        tree = ET.fromstring(svg.read_bytes())
    except (OSError, ET.ParseError):
        return {}
    words: dict[str, object] = {}
    for work in tree.iter():
        if not work.tag.endswith("}Work"):
            continue
        for field in ("title", "description"):
            text = " ".join((work.findtext(f"{_DC}{field}") or "").split())
            if text:
                words.setdefault(field, text)
        artist = " ".join((work.findtext(f"{_DC}creator//{_DC}title") or "").split())
        if artist:
            words.setdefault("artist", artist)
        subject = work.find(f"{_DC}subject")
        listed = [] if subject is None else [(li.text or "").strip() for li in subject.iter()]
        keywords = [word for word in dict.fromkeys(listed) if word not in _NO_KEYWORDS]
        if keywords:
            words.setdefault("keywords", keywords)
    return words


# Lexicographer files 0 to 44, in the order of lexnames(5WN).
_LEXICOGRAPHER_FILES = (
    "adj.all adj.pert adv.all noun.Tops noun.act noun.animal noun.artifact noun.attribute "
    "noun.body noun.cognition noun.communication noun.event noun.feeling noun.food noun.group "
    "noun.location noun.motive noun.object noun.person noun.phenomenon noun.plant "
    "noun.possession noun.process noun.quantity noun.relation noun.shape noun.state "
    "noun.substance noun.time verb.body verb.change verb.cognition verb.communication "
    "verb.competition verb.consumption verb.contact verb.creation verb.emotion verb.motion "
    "verb.perception verb.possession verb.social verb.stative verb.weather adj.ppl"
)
_DOMAINS = _LEXICOGRAPHER_FILES.split()


def convert_wordnet(unpacked: Path, dump: Path) -> Counts:
    """WordNet's synsets: words, and a gloss of definition and examples. Text alone."""
    folder = _require(unpacked / "usr/share/wordnet")
    rows: list[Row] = []
    for file, pos in (("noun", "n"), ("verb", "v"), ("adj", "a"), ("adv", "r")):
        rows += _synsets(folder / f"data.{file}", pos)
    _write(dump / "catalog.jsonl", rows)
    return {"items": len(rows), "with_gloss": sum("gloss" in row for row in rows)}


def _synsets(data: Path, pos: str) -> Iterator[Row]:
    for line in data.read_text("utf-8").splitlines():
        if line.startswith(" "):  # the licence, at the head of each file
            continue
        fields, _, gloss = line.partition("|")
        offset, domain, _, count, *rest = fields.split()
        # `count` is hexadecimal; each word has a number behind it, and an adjective may carry
        # where it stands: "galore(ip)".
        lemmas = [
            re.sub(r"\((?:a|p|ip)\)$", "", word).replace("_", " ")
            for word in rest[: 2 * int(count, 16) : 2]
        ]
        row: dict[str, object] = {"id": f"{offset}-{pos}", "words": ", ".join(lemmas)}
        if gloss.strip():
            row["gloss"] = gloss.strip()
        yield row | {"pos": pos, "domain": _DOMAINS[int(domain)], "lemmas": lemmas}


def _take(folder: Path, target: Path) -> Path:
    return _require(folder).rename(target)


def _require(folder: Path) -> Path:
    if not folder.is_dir():
        raise DatasetUnavailableError(
            "the package does not hold what it should",
            expected=f"a folder {folder.name} in it",
            got="none",
            remedy="Its layout has changed: benchmarks/conversion.py has to follow.",
        )
    return folder


def _with(counts: Mapping[str, int], fields: Iterable[str]) -> Counts:
    return {f"with_{field}": counts[field] for field in fields}


def _write(path: Path, rows: Iterable[Row]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
