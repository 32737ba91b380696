"""A small catalog made here: coloured shapes with words, pictures, sounds, and holes.

What a query should find is known beforehand ("red circle" finds red circles, and the
sound of a bell finds rings), so tests can check answers; and the demo falls back to it
where no dataset can be fetched.

    python -m benchmarks.synthetic DIR
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile

from .synthetic_media import COLOURS, PATTERNS, SAMPLE_RATE, SHAPES, draw, synthesise

CATALOG = "catalog.jsonl"
DEFECTS = "defects.json"

_SOUNDS = {
    "circle": "a steady tone",
    "square": "a deep buzz",
    "triangle": "a rising chirp",
    "star": "a plucked string",
    "ring": "a bell",
    "cross": "a noisy shaker",
}
_SIZES = {"small": 0.45, "medium": 0.62, "large": 0.85}
_PRICES = {"small": 5.0, "medium": 20.0, "large": 60.0}
_SENTENCES = (
    "A {size} {colour} {shape}, {pattern}, that sounds like {sound}.",
    "{Pattern} and {size}: this {shape} is {colour}. Tap it and hear {sound}.",
    "For those who like {colour}: a {pattern} {shape} with the sound of {sound}.",
)


@dataclass(frozen=True)
class Defect:
    """One thing that is wrong with a catalog made with `broken=True`.

    `line` counts from 1. `costs` says what a tolerant reader loses: the whole row, or the
    one modality whose medium is bad (then the item stays, and `id` names it). Of a
    duplicate id, the second row is the defect.
    """

    line: int
    kind: str
    costs: Literal["row", "image", "audio"]
    id: str | None


def make_catalog(folder: Path, n: int = 120, seed: int = 0, *, broken: bool = False) -> Path:
    """Write `n` items below `folder` and return the path of their `catalog.jsonl`.

    Columns: `sku`, `title` and `description`, `photo`, `clip`; metadata `shape`, `colour`,
    `pattern`, `size`, `price`, `stock`, `tags`. Every combination of the 6 shapes and 8
    colours comes once before any comes again. Of the items, n // 10 have no photo, n // 10
    no text, n // 5 no clip, and n // 20 text alone; a hole is a missing key. `broken` adds
    seven rows with one defect each behind them, listed by `read_defects`.
    """
    rng = np.random.default_rng(seed)
    for media in ("photo", "clip"):
        (folder / media).mkdir(parents=True, exist_ok=True)
    pairs = [(shape, colour) for colour in COLOURS for shape in SHAPES]
    order = [int(i) for _ in range(0, n, len(pairs)) for i in rng.permutation(len(pairs))]
    holes = _holes(n, rng)
    rows = [
        json.dumps(_make_item(folder, f"sku-{i:04d}", *pairs[order[i]], holes[i], rng))
        for i in range(n)
    ]
    lines = [row.encode() for row in rows]
    if broken:
        lines += _make_defects(folder, lines, rng)
    catalog = folder / CATALOG
    catalog.write_bytes(b"".join(line + b"\n" for line in lines))
    return catalog


def read_defects(folder: Path) -> list[Defect]:
    """What is wrong with the catalog that `make_catalog(folder, broken=True)` wrote."""
    return [Defect(**defect) for defect in json.loads((folder / DEFECTS).read_text("utf-8"))]


def make_query_media(folder: Path, shape: str, colour: str, seed: int = 1) -> tuple[Path, Path]:
    """A picture and a clip of a shape that are in no catalog, to ask with."""
    rng = np.random.default_rng([seed, SHAPES.index(shape), list(COLOURS).index(colour)])
    folder.mkdir(parents=True, exist_ok=True)
    photo, clip = folder / f"{colour}-{shape}.png", folder / f"{colour}-{shape}.wav"
    draw(shape, colour, "plain", 0.65, rng).save(photo)
    soundfile.write(clip, synthesise(shape, 1.0, rng), SAMPLE_RATE, subtype="PCM_16")
    return photo, clip


def _holes(n: int, rng: np.random.Generator) -> list[frozenset[str]]:
    """What each item lacks, in the exact numbers `make_catalog` promises."""
    kinds: list[frozenset[str]] = [frozenset()] * n
    chosen = iter(rng.permutation(n))
    for lacking, count in (
        ({"photo"}, n // 10),
        ({"text"}, n // 10),
        ({"clip"}, n // 5),
        ({"photo", "clip"}, n // 20),
    ):
        for _ in range(count):
            kinds[next(chosen)] = frozenset(lacking)
    return kinds


def _make_item(
    folder: Path,
    sku: str,
    shape: str,
    colour: str,
    lacking: frozenset[str],
    rng: np.random.Generator,
) -> dict[str, object]:
    pattern, size = str(rng.choice(PATTERNS)), str(rng.choice(list(_SIZES)))
    sentence = _SENTENCES[int(rng.integers(len(_SENTENCES)))]
    picture = draw(shape, colour, pattern, _SIZES[size], rng)
    samples = synthesise(shape, float(rng.uniform(0.8, 1.4)), rng)
    row: dict[str, object] = {"sku": sku}
    if "text" not in lacking:
        row["title"] = f"{colour.capitalize()} {shape}"
        row["description"] = sentence.format(
            size=size,
            colour=colour,
            shape=shape,
            pattern=pattern,
            Pattern=pattern.capitalize(),
            sound=_SOUNDS[shape],
        )
    if "photo" not in lacking:
        row["photo"] = f"photo/{sku}.png"
        picture.save(folder / "photo" / f"{sku}.png")
    if "clip" not in lacking:
        row["clip"] = f"clip/{sku}.wav"
        soundfile.write(folder / "clip" / f"{sku}.wav", samples, SAMPLE_RATE, subtype="PCM_16")
    return row | {
        "shape": shape,
        "colour": colour,
        "pattern": pattern,
        "size": size,
        "price": round(_PRICES[size] * float(rng.uniform(0.8, 1.6)), 2),
        "stock": int(rng.integers(0, 40)),
        "tags": [colour, pattern, size],
    }


def _make_defects(folder: Path, good: Sequence[bytes], rng: np.random.Generator) -> list[bytes]:
    """Rows with one defect each, and `defects.json` to say which."""
    whole = draw("circle", "red", "plain", 0.6, rng)
    whole.save(folder / "photo" / "truncated.png")
    truncated = folder / "photo" / "truncated.png"
    truncated.write_bytes(truncated.read_bytes()[:200])

    def with_photo(sku: str, photo: str) -> bytes:
        return json.dumps({"sku": sku, "title": "Red circle", "photo": photo}).encode()

    cases: list[tuple[str, Literal["row", "image", "audio"], str | None, bytes]] = [
        ("broken_json", "row", None, b'{"sku": "sku-broken", "title": "Red cir'),
        ("missing_id", "row", None, b'{"title": "A circle without a name"}'),
        ("not_utf8", "row", None, b'{"sku": "sku-latin", "title": "Caf\xe9"}'),
        ("truncated_image", "image", "sku-truncated", b""),
        ("missing_file", "image", "sku-missing", b""),
        ("path_climbs", "image", "sku-climbs", b""),
    ]
    photos = {
        "truncated_image": "photo/truncated.png",
        "missing_file": "photo/nowhere.png",
        "path_climbs": "../outside.png",
    }
    if good:
        first = json.loads(good[0])["sku"]
        again = json.dumps({"sku": first, "title": "The same name again"}).encode()
        cases.insert(3, ("duplicate_id", "row", first, again))
    lines, defects = [], []
    for line, (kind, costs, sku, text) in enumerate(cases, start=len(good) + 1):
        defects.append(Defect(line=line, kind=kind, costs=costs, id=sku))
        lines.append(text or with_photo(str(sku), photos[kind]))
    (folder / DEFECTS).write_text(json.dumps([asdict(d) for d in defects], indent=2), "utf-8")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Make a catalog and print its path."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.synthetic", description=main.__doc__
    )
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("-n", type=int, default=120, help="items (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--broken", action="store_true", help="add rows with defects")
    options = parser.parse_args(arguments)
    print(make_catalog(options.folder, options.n, options.seed, broken=options.broken))
    return 0


if __name__ == "__main__":
    sys.exit(main())
