"""Options that several commands share, and how they read."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from encoders import Limits

Index = Annotated[Path, typer.Argument(metavar="INDEX", help="Folder of the index.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Catalog = Annotated[
    str, typer.Argument(help="JSON lines, CSV, TSV, Parquet, or a folder of files.")
]
TextColumns = Annotated[str | None, typer.Option(help="Columns of text: title,description.")]
ImageColumns = Annotated[str | None, typer.Option(help="Columns of picture paths.")]
AudioColumns = Annotated[str | None, typer.Option(help="Columns of sound paths.")]
VideoColumns = Annotated[str | None, typer.Option(help="Columns of video paths.")]
VectorColumns = Annotated[
    str | None, typer.Option(help="Column of ready-made vectors, or SPACE=COLUMN,...")
]
MediaRoot = Annotated[
    Path | None, typer.Option(help="Folder media paths start from and may not leave.")
]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first bad row or input.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Profile = Annotated[
    str | None, typer.Option(help="Of the index: auto, exact, fast, memory or gpu.")
]
Rows = Annotated[
    str | None,
    typer.Option(help="How rows are kept: float16, or int8, half as large and less exact."),
]
Factory = Annotated[str | None, typer.Option(help="FAISS's own name for an index, such as HNSW32.")]


def _positive(most: float) -> Callable[[float], float]:
    def check(value: float) -> float:
        if not 0 < value <= most:  # NaN compares false
            raise typer.BadParameter(
                f"expected a number above 0, at most {most:,.0f}; got {value:g}"
            )
        return value

    return check


MaxMegapixels = Annotated[float, typer.Option(help="Largest picture.", callback=_positive(1e6))]
MaxMegabytes = Annotated[float, typer.Option(help="Largest media file.", callback=_positive(1e6))]
MaxSeconds = Annotated[float, typer.Option(help="Longest sound.", callback=_positive(1e6))]
MAX_MEGAPIXELS = Limits().max_pixels / 1e6
MAX_MEGABYTES = Limits().max_bytes / 2**20
MAX_SECONDS = Limits().max_seconds


def limits_of(max_megapixels: float, max_megabytes: float, max_seconds: float) -> Limits:
    """Bounds on media as the options name them."""
    return Limits(
        max_pixels=int(max_megapixels * 1e6),
        max_bytes=int(max_megabytes * 2**20),
        max_seconds=max_seconds,
    )


def named_columns(given: str | None) -> list[str] | None:
    """COLUMN,COLUMN as a list."""
    return None if given is None else [name.strip() for name in given.split(",") if name.strip()]


def named_vectors(given: str | None) -> str | dict[str, str] | None:
    """COLUMN, or SPACE=COLUMN,SPACE=COLUMN as a mapping."""
    if given is None or "=" not in given:
        return given
    return named_values(given.split(","), "SPACE=COLUMN")


def named_numbers(given: list[str] | None) -> dict[str, float]:
    """NAME=NUMBER options as a mapping."""
    found = {}
    for one in given or []:
        name, number = pair(one, "NAME=NUMBER")
        try:
            found[name] = float(number)
        except ValueError:
            raise typer.BadParameter(f"expected NAME=NUMBER, got {one!r}") from None
    return found


def named_values(given: list[str] | None, form: str) -> dict[str, str]:
    """NAME=VALUE options as a mapping."""
    return dict(pair(one, form) for one in given or [])


def pair(given: str, form: str) -> tuple[str, str]:
    """The two sides of one NAME=VALUE."""
    name, equals, value = given.partition("=")
    if not (name and equals and value):
        raise typer.BadParameter(f"expected {form}, got {given!r}")
    return name.strip(), value.strip()


def print_json(value: Any) -> None:
    """One JSON value on a line of its own."""
    sys.stdout.write(orjson.dumps(value).decode() + "\n")
