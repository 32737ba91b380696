"""Options that several commands share, and how they read."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

Index = Annotated[Path, typer.Argument(metavar="INDEX", help="Folder of the index.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Profile = Annotated[
    str | None, typer.Option(help="Of the index: auto, exact, fast, memory or gpu.")
]
Rows = Annotated[
    str | None,
    typer.Option(help="How rows are kept: float16, or int8, half as large and less exact."),
]
Factory = Annotated[str | None, typer.Option(help="FAISS's own name for an index, such as HNSW32.")]


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
