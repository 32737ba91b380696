"""`catalens export | import`."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from indexer import ExportSummary, ImportSummary, export_index, import_index

from .options import Device, Index, Json, print_json
from .terminal import Bars, Output, progress_wanted


def export(
    index: Index,
    out: Annotated[Path, typer.Argument(metavar="OUT.parquet", help="File to write.")],
    json: Json = False,
) -> None:
    """Write ids, metadata, embeddings and fused vectors to one Parquet file."""
    with Bars() if progress_wanted() else nullcontext() as bars:
        summary = export_index(index, out, progress=bars)
    told = (
        f"{summary.path}: {summary.items:,} items, {summary.inputs:,} inputs, "
        f"{summary.bytes:,} bytes in {summary.seconds:,.1f} s"
    )
    _print(summary, told, json=json)


def import_(
    file: Annotated[Path, typer.Argument(metavar="OUT.parquet", help="What export wrote.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="INDEX", help="Folder to make.")],
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Make an index of what export wrote; nothing is encoded."""
    with Bars() if progress_wanted() else nullcontext() as bars:
        summary = import_index(file, out, device=device, progress=bars)
    told = (
        f"{summary.path}: {summary.items:,} items, {summary.inputs:,} inputs in "
        f"{summary.seconds:,.1f} s ({summary.index})"
    )
    _print(summary, told, json=json)


def _print(summary: ExportSummary | ImportSummary, told: str, *, json: bool) -> None:
    if json:
        print_json({**asdict(summary), "path": str(summary.path)})
    else:
        Output(soft_wrap=True).print(Text(told))
