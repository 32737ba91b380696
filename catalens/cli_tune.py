"""`catalens tune`."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from indexer import TuneReport
from retriever import read_queries

from .describe import points_json, points_tables
from .options import Device, Index, Json, print_json
from .terminal import Bars, Output, progress_wanted
from .tuning import tune_index


def tune(
    index: Index,
    target: Annotated[float, typer.Option(help="Recall of the default, at worst.")] = 0.95,
    queries: Annotated[
        Path | None,
        typer.Option(help="Real queries, a line each: text, or a JSON object."),
    ] = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Measure recall and speed, and keep the best ways to search; nothing is encoded again."""
    given = [] if queries is None else read_queries(queries)
    with Bars() if progress_wanted() else nullcontext() as bars:
        report = tune_index(index, target=target, queries=given, device=device, progress=bars)
    if json:
        print_json(_json(report))
        return
    console = Output()
    for part in points_tables(points_json(report.index)):
        console.print(part)
    console.print(_conditions(report))
    console.print(Text(f"\n{_summary(report)}"), soft_wrap=True)


def _json(report: TuneReport) -> dict[str, Any]:
    return {
        "index": str(report.path),
        **points_json(report.index),
        "reached": report.reached,
        "queries": report.queries,
        "seconds": round(report.seconds, 3),
    }


def _conditions(report: TuneReport) -> Table:
    """Recall of the default points under each condition, the worst first."""
    table = Table(box=None, pad_edge=False)
    table.add_column("\ndefault, asked for")
    table.add_column("\nrecall@10", justify="right")
    for name, recall in sorted(report.index.recall.items(), key=lambda one: one[1]):
        table.add_row(Text(name), f"{recall:.3f}")
    return table


def _summary(report: TuneReport) -> str:
    target = f"{report.index.target:g}"
    told = f"{report.path}: {report.seconds:,.1f} s; "
    if report.reached:
        return told + f"searches find {target} of the 10 best or more under each of these"
    told += (
        f"no point reaches {target} under each of these: the default is the best there is, and "
        f"recall={target} scans every row"
    )
    rows_recall = report.index.rows_recall
    return told if rows_recall == 1 else told + f", which finds {rows_recall:.3f}"
