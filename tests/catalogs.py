"""Small catalogs made here, and the indexes built from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from indexer import BuildSummary, Generation, IndexLayout, Store, build_index

from . import toy_encoders

Floats = NDArray[np.float32]

WORDS = (
    *("red", "green", "blue", "round", "square", "large", "small", "old"),
    *("new", "wooden", "steel", "paper", "glass", "soft", "loud"),
)


def toy_preset(**options: Any) -> dict[str, Any]:
    """Text and pictures, each in a space of its own; `options` go to both encoders."""
    toy_encoders.install()
    return {
        "name": "toy",
        "spaces": [
            {
                "name": "words",
                "item": "text",
                "encoders": {"text": {"kind": "toy-text", **options}},
            },
            {
                "name": "colours",
                "item": "image",
                "weight": 0.5,
                "encoders": {"image": {"kind": "toy-image", **options}},
            },
        ],
    }


def png(rng: np.random.Generator, size: int = 8) -> bytes:
    """A picture of noise around one colour."""
    pixels = rng.normal(rng.uniform(0, 255, 3), 40, (size, size, 3)).clip(0, 255)
    stream = BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def toy_rows(n: int, seed: int = 0, *, pictures: bool = True) -> list[dict[str, Any]]:
    """Rows with text and, every third apart, a picture; metadata number, parity, words."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for number in range(n):
        words = [str(w) for w in rng.choice(WORDS, 3)]
        row: dict[str, Any] = {
            "id": f"item-{number}",
            "text": f"{' '.join(words)} number{number}",
            "number": number,
            "even": number % 2 == 0,
            "words": words,
        }
        if pictures and number % 3:
            row["image"] = png(rng)
        rows.append(row)
    return rows


def clustered(n: int, dimension: int, seed: int = 0, clusters: int = 50) -> Floats:
    """Unit rows (n, dimension) around random centres."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((clusters, dimension))
    x = centres[rng.integers(clusters, size=n)] + 0.6 * rng.standard_normal((n, dimension))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def vector_rows(vectors: Floats, **metadata: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """Rows with ready-made vectors; `metadata` maps a field to its values."""
    columns = {name: list(values) for name, values in metadata.items()}
    for number, vector in enumerate(vectors):
        row = {name: values[number] for name, values in columns.items()}
        yield {"id": f"v{number}", "v": vector, **row}


def build_vectors(out: Path, vectors: Floats, **metadata: Iterable[Any]) -> BuildSummary:
    """An index of one `vector` space, of codes where there is enough to train them on."""
    rows = list(vector_rows(vectors, **metadata))
    return build_index(rows, out, vector="v", device="cpu", profile="fast")


def build_toy(out: Path, rows: Iterable[dict[str, Any]], **options: Any) -> BuildSummary:
    """An index of the spaces `words` and `colours`."""
    options = {"preset": toy_preset(), "device": "cpu", **options}
    return build_index(list(rows), out, **options)


class Opened:
    """A generation as plain arrays: the oracle's view of an index."""

    def __init__(self, path: Path) -> None:
        layout = IndexLayout(path)
        store = Store.open(layout)
        try:
            with store.snapshot() as snapshot:
                self.current = snapshot.current
                self.records = [record for _, record in snapshot.scan_records()]
                self.rejects = list(snapshot.rejects())
                generation = Generation.open(layout, snapshot.current)
        finally:
            store.close()
        self.folder = generation.layout.root
        self.manifest = generation.manifest
        self.fusion = generation.fusion
        self.mask = generation.states == 1
        if self.manifest.index.rows == "int8":
            steps = np.fromfile(self.folder / "row_steps.f32", dtype="<f4")
            codes = np.fromfile(self.folder / "rows.i8", dtype=np.uint8)
            raw = steps * (codes.reshape(-1, len(steps)).astype(np.int16) - 128)
        else:
            raw = np.fromfile(self.folder / "rows.f16", dtype="<f2")
        self.rows: Floats = raw.reshape(-1, self.manifest.dimension).astype(np.float32)
        self.ids = [record.id for record in self.records]
