"""`catalens rebuild` and `catalens learn alignment | fusion`; `cli_recommend` has `behaviour`."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from indexer import (
    AlignmentSummary,
    FusionSummary,
    LearnedHead,
    RebuildSummary,
    WeightReport,
    learn_alignment,
    learn_fusion,
    rebuild_index,
)

from .options import Factory, Index, Json, Profile, Rows, named_numbers, named_values, print_json
from .terminal import Bars, Output, progress_wanted

learn = typer.Typer(
    name="learn",
    help="Train parts of an index on the catalog itself.",
    no_args_is_help=True,
)

Seed = Annotated[int, typer.Option(help="The same seed gives the same result.")]
Missing = Annotated[
    str | None,
    typer.Option(help="neutral, impute, renormalise or drop: for what an item lacks."),
]


def rebuild(
    index: Index,
    fusion: Annotated[
        str | None, typer.Option(help="concat, mean, or the fusion that was learned.")
    ] = None,
    missing: Missing = None,
    weight: Annotated[
        list[str] | None, typer.Option(help="SPACE=NUMBER: default weight of a space.")
    ] = None,
    pool: Annotated[
        list[str] | None, typer.Option(help="SPACE=mean or SPACE=max-similarity.")
    ] = None,
    profile: Profile = None,
    factory: Factory = None,
    rows: Rows = None,
    json: Json = False,
) -> None:
    """Derive an index anew with other weights, fusion, policy or FAISS index; nothing is
    encoded."""
    with Bars() if progress_wanted() else nullcontext() as bars:
        summary = rebuild_index(
            index,
            fusion=fusion,
            missing=missing,
            weights=named_numbers(weight),
            pool=named_values(pool, "SPACE=POOLING"),
            profile=profile,
            factory=factory,
            rows=rows,
            progress=bars,
        )
    if json:
        print_json({**asdict(summary), "path": str(summary.path)})
    else:
        _print_rebuilt(summary)


@learn.command()
def alignment(index: Index, seed: Seed = 0, json: Json = False) -> None:
    """Learn heads between spaces: text finds pictures and sounds that carry no text."""
    with Bars() if progress_wanted() else nullcontext() as bars:
        summary = learn_alignment(index, seed=seed, progress=bars)
    if json:
        print_json(_alignment_json(summary))
    else:
        _print_alignment(summary)


@learn.command()
def fusion(
    index: Index,
    fusion: Annotated[
        str, typer.Option(help="neural, attention, or concat: its default weights.")
    ] = "neural",
    judgements: Annotated[
        Path | None,
        typer.Option(help="JSON lines of a query and the ids relevant to it."),
    ] = None,
    missing: Missing = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Learn how much each space counts, from the catalog's titles or from judgements."""
    with Bars() if progress_wanted() else nullcontext() as bars:
        summary = learn_fusion(
            index,
            fusion=fusion,
            judgements=judgements,
            missing=missing,
            seed=seed,
            progress=bars,
        )
    if json:
        print_json({**asdict(summary), "path": str(summary.path)})
    else:
        _print_fusion(summary)


def _print_rebuilt(summary: RebuildSummary) -> None:
    weights = ", ".join(f"{name} {weight:g}" for name, weight in summary.weights.items())
    lines = [
        f"{summary.path}: {summary.items:,} items derived anew in {summary.seconds:,.1f} s",
        f"  fusion {summary.fusion}, missing modalities: {summary.missing}, weights: {weights}",
        *(
            f"  space {name}: {count:,} blocks imputed"
            for name, count in summary.imputed.items()
            if count
        ),
        *(f"  note: {note}" for note in summary.notes),
    ]
    _print(lines)


def _alignment_json(summary: AlignmentSummary) -> dict[str, Any]:
    return {
        "index": str(summary.path),
        "heads": [_head_json(head) for head in summary.heads],
        "recall_at_10": summary.recall,
        "seconds": round(summary.seconds, 3),
        "notes": list(summary.notes),
    }


def _head_json(head: LearnedHead) -> dict[str, Any]:
    found = {"source": head.source, "target": head.target, "refused": head.refused}
    if head.report is None:
        return found
    report = asdict(head.report)
    ranked = ("chance", "ridge", "contrastive")
    for name in ranked:
        if report[name] is not None:
            report[name] = {str(k): value for k, value in report[name].items()}
    return {**found, **report}


def _print_alignment(summary: AlignmentSummary) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("from", "to", "pairs", "head", "held-out recall@10", "chance", ""):
        table.add_column(heading)
    for head in summary.heads:
        if head.report is None:
            refused = Text(f"not switched on: {' '.join((head.refused or '').split())}")
            table.add_row(head.source, head.target, "", "", "", "", refused)
        else:
            table.add_row(
                head.source,
                head.target,
                f"{head.report.pairs:,}",
                head.report.kind,
                f"{head.report.recall[10]:.3f}",
                f"{head.report.chance[10]:.3f}",
                f"switched on, trust {head.report.trust:.2f}",
            )
    Output().print(table)
    notes = [f"  note: {note}" for note in summary.notes]
    _print([f"{summary.path}: {summary.seconds:,.1f} s", *notes])


def _print_fusion(summary: FusionSummary) -> None:
    report = summary.report
    weights = ", ".join(f"{name} {weight:g}" for name, weight in summary.weights.items())
    lines = [
        f"{summary.path}: fusion {summary.fusion} learned from {summary.queries:,} queries in "
        f"{summary.seconds:,.1f} s",
        f"  weights: {weights}",
    ]
    if isinstance(report, WeightReport):
        name, alone = report.best_alone
        lines += [
            _judged("before", report.before),
            _judged("now", report.after),
            f"  best space alone, {name}: {alone:.3f} without holes",
        ]
    elif report.learned is not None and report.concat is not None:
        lines += [_judged("concat", report.concat), _judged(summary.fusion, report.learned)]
    _print([*lines, *(f"  note: {note}" for note in summary.notes)])


def _judged(name: str, quality: tuple[float, ...]) -> str:
    whole, holed = quality
    return f"  NDCG@10, {name}: {whole:.3f}, with half of the items lacking a space {holed:.3f}"


def _print(lines: list[str]) -> None:
    console = Output(soft_wrap=True)
    for line in lines:
        console.print(Text(line))  # no markup: a path may hold brackets
