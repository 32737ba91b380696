"""What the demo asks: one question of each kind and a mixed one, per catalog.

A question knows how to write itself as a line of shell and as Python, so what is shown is
what was asked.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Question:
    """One query and the sentence that introduces it; media are paths of files."""

    caption: str
    text: str | None = None
    image: Path | None = None
    audio: Path | None = None
    like: tuple[str, ...] = ()
    unlike: tuple[str, ...] = ()
    weights: dict[str, float] = field(default_factory=dict)
    where: str | None = None

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of `catalens.Query`: those that were given."""
        given: dict[str, Any] = {
            "text": self.text,
            "image": str(self.image) if self.image else None,
            "audio": str(self.audio) if self.audio else None,
            "like": list(self.like),
            "unlike": list(self.unlike),
            "weights": self.weights,
        }
        return {name: value for name, value in given.items() if value}

    def shell(self, program: str, index: Path, k: int) -> str:
        """The command line that asks the same."""
        words = [program, "query", str(index)]
        for name, value in (("text", self.text), ("image", self.image), ("audio", self.audio)):
            if value is not None:
                words += [f"--{name}", str(value)]
        for name, ids in (("like", self.like), ("unlike", self.unlike)):
            for item in ids:
                words += [f"--{name}", item]
        for name, weight in self.weights.items():
            words += ["--weight", f"{name}={weight:g}"]
        if self.where is not None:
            words += ["--where", self.where]
        return shlex.join([*words, "-k", str(k)])

    def python(self, k: int) -> str:
        """The call that asks the same of an open retriever named `shop`."""
        query = ", ".join(f"{name}={value!r}" for name, value in self.arguments().items())
        where = f", where={self.where!r}" if self.where is not None else ""
        return f"shop.search(cl.Query({query}), k={k}{where})"


@dataclass(frozen=True)
class DemoCatalog:
    """A catalog the demo can show: its file, its columns by role, its questions."""

    name: str
    path: Path
    columns: dict[str, tuple[str, ...]]
    questions: tuple[Question, ...]


def stamps_catalog(folder: Path) -> DemoCatalog:
    """The stamps, as `benchmarks.datasets.stamps` leaves them."""
    media = folder / "media"
    camels = media / "animals/mammals/camel"
    return DemoCatalog(
        name="stamps",
        path=folder / "catalog.jsonl",
        columns={"id": ("id",), "text": ("title",), "image": ("image",), "audio": ("audio",)},
        questions=(
            Question("Words", text="a vehicle that puts out fires"),
            Question("A picture, of a violin", image=media / "hobbies/music/string/violin.png"),
            Question("A sound, a dromedary's", audio=camels / "dromedary.ogg"),
            Question(
                "An item that has no picture, a sail boat", like=("vehicles/ship/sail_boat1",)
            ),
            Question(
                "All at once: words, a picture twice as heavy, away from one item, filtered",
                text="a piece of fruit",
                image=media / "food/vegetables/tomato.png",
                unlike=("food/fruit/apple_red",),
                weights={"text": 1.0, "image": 2.0},
                where='category = "food"',
            ),
        ),
    )


def synthetic_catalog(catalog: Path, photo: Path, clip: Path) -> DemoCatalog:
    """The catalog of `benchmarks.synthetic`, with a picture and a clip to ask with."""
    return DemoCatalog(
        name="synthetic",
        path=catalog,
        columns={
            "id": ("sku",),
            "text": ("title", "description"),
            "image": ("photo",),
            "audio": ("clip",),
        },
        questions=(
            Question("Words", text="red circle"),
            Question("A picture, of a blue star", image=photo),
            Question("A sound, of a plucked string", audio=clip),
            Question("An item, a red triangle", like=("sku-0002",)),
            Question(
                "All at once: words, a picture twice as heavy, away from one item, filtered",
                text="a star with stripes",
                image=photo,
                unlike=("sku-0002",),
                weights={"text": 1.0, "image": 2.0},
                where="price < 50",
            ),
        ),
    )
