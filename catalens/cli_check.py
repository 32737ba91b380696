"""`catalens verify | repair`."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict
from typing import Annotated

import typer
from rich.text import Text

from indexer import RepairSummary, repair_index, verify_index

from .options import Index, Json, print_json
from .terminal import Bars, Output, progress_wanted


def verify(
    index: Index,
    all: Annotated[
        bool, typer.Option("--all", help="Look for every item, not for 10,000 of them.")
    ] = False,
    json: Json = False,
) -> None:
    """Check every checksum, that store and files agree, and that ids are found by their vectors."""
    with Bars() if progress_wanted() else nullcontext() as bars:
        report = verify_index(index, all_items=all, progress=bars)
    if json:
        print_json(
            {
                "sound": not report.problems,
                "items": report.items,
                "files": report.files,
                "searched": report.searched,
                "found_at_point": report.found_at_point,
                "found_by_full_search": report.found_by_full_search,
                "problems": report.problems,
            }
        )
    else:
        for problem in report.problems:
            print(f"problem: {problem}")
        if not report.problems:
            print(
                f"sound: {report.items:,} items, {report.files} files; of {report.searched:,} "
                f"items {report.found_at_point:,} are found by their own vector at the operating "
                f"point, {report.found_by_full_search:,} more by a full search"
            )
    if report.problems:
        raise typer.Exit(1)


def repair(
    index: Index,
    refit: Annotated[
        bool,
        typer.Option(
            "--refit",
            help="Fit spaces anew where what was fitted is damaged in both of its places; items "
            "then rank otherwise, and what was learned is gone.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Derive again what is damaged or missing, from the store; nothing is encoded."""
    with Bars() if progress_wanted() else nullcontext() as bars:
        summary = repair_index(index, refit=refit, progress=bars)
    if json:
        print_json({**asdict(summary), "path": str(summary.path)})
    else:
        _print(summary)
    if summary.lost:
        raise typer.Exit(1)


def _print(summary: RepairSummary) -> None:
    console = Output(soft_wrap=True)
    if not summary.damaged:
        told = f"{summary.path}: nothing is damaged; {summary.items:,} items"
        console.print(Text(f"{told} in {summary.seconds:,.1f} s"))
        return
    lines = [f"{summary.path}: {len(summary.damaged):,} damaged in {summary.seconds:,.1f} s"]
    lines += [f"  damaged: {' '.join(one.split())}" for one in summary.damaged]
    lines += [f"  restored: {one}" for one in summary.restored]
    lines += [f"  changed: {one}" for one in summary.changed]
    lines += [f"  lost: {one}" for one in summary.lost]
    for line in lines:
        console.print(Text(line))  # no markup: a path may hold brackets
