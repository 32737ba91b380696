"""`catalens eval` and `catalens sweep`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from retriever import join_clicks
from retriever.evaluation import (
    Estimate,
    EvaluationReport,
    Setting,
    evaluate_index,
    read_topics,
    sweep_index,
)

from .options import Device, Index, Json, named_numbers, print_json
from .terminal import Bars, Output, progress_wanted

Qrels = Annotated[
    Path,
    typer.Option(
        help='JSON lines of {"query": text, "relevant": [ids]}; or TREC qrels, with --queries.'
    ),
]
Queries = Annotated[
    Path | None, typer.Option(help="Beside TREC qrels: lines of number, tab, text.")
]
Weight = Annotated[
    list[str] | None, typer.Option(help="NAME=NUMBER for a space or modality, in every query.")
]
Seed = Annotated[int, typer.Option(help="Of what is drawn at random.")]
_SHOWN = 10


def evaluate(
    index: Index,
    qrels: Qrels,
    queries: Queries = None,
    weight: Weight = None,
    missing: Annotated[
        str | None, typer.Option(help="neutral, renormalise or drop, for what an item lacks.")
    ] = None,
    no_head: Annotated[
        bool, typer.Option("--no-head", help="Leave the order to the fused score.")
    ] = False,
    against: Annotated[
        list[str] | None,
        typer.Option(
            help="Compare with another setting: as-is, no-head, missing:POLICY or NAME=NUMBER; "
            "may be given several times."
        ),
    ] = None,
    depth: Annotated[int, typer.Option(min=10, max=10_000, help="Hits looked at.")] = 100,
    seed: Seed = 0,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Measure how well an index answers judged queries: NDCG, MRR, recall, MAP."""
    topics = read_topics(qrels, queries)
    with Bars() if progress_wanted() else nullcontext() as bars:
        report = evaluate_index(
            index,
            topics,
            setting=Setting(named_numbers(weight), missing, not no_head),
            against=None if not against else _setting(against),
            depth=depth,
            device=device,
            seed=seed,
            progress=bars,
        )
    if json:
        print_json(_report_json(report))
        return
    console = Output()
    console.print(_measures(report))
    lost = f", {report.unknown:,} of them not in the index" if report.unknown else ""
    console.print(
        Text(
            f"\n{report.path}: {report.queries:,} queries, {report.judged:,} relevant items{lost}; "
            f"{report.depth} hits looked at; {report.seconds:,.1f} s"
        ),
        soft_wrap=True,
    )


def sweep(
    index: Index,
    qrels: Qrels,
    queries: Queries = None,
    seed: Seed = 0,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Search the weights of the spaces that rank judged queries best; the index stays as it is."""
    topics = read_topics(qrels, queries)
    with Bars() if progress_wanted() else nullcontext() as bars:
        report = sweep_index(index, topics, device=device, seed=seed, progress=bars)
    if json:
        print_json({**asdict(report), "path": str(report.path)})
        return
    console = Output()
    table = Table(box=None, pad_edge=False)
    for name in report.best:
        table.add_column(Text(name), justify="right")
    table.add_column("NDCG@10", justify="right")
    for one in report.tried[:_SHOWN]:
        table.add_row(*(f"{w:.3g}" for w in one.weights.values()), f"{one.quality[0]:.4f}")
    console.print(table)
    weights = " ".join(f"--weight {name}={weight:.3g}" for name, weight in report.best.items())
    gain = report.gain
    better = gain.mean > 0 and gain.p < 0.05
    lines = [
        "",
        f"{report.path}: {len(report.tried):,} weights tried on {report.searched:,} queries, the "
        f"best {min(_SHOWN, len(report.tried))} shown; {report.seconds:,.1f} s",
        f"  held out, {report.held_out:,} queries: as it is {_told(report.now)}, by the best "
        f"{_told(report.then)}; {gain.mean:+.4f}, p = {gain.p:.4f}",
        f"  keep them: catalens rebuild {report.path} {weights}"
        if better
        else "  on queries held out the best is not better, but for chance, than the weights as "
        "they are",
    ]
    for line in lines:
        console.print(Text(line), soft_wrap=True)


def judgements(
    log: Annotated[Path, typer.Argument(metavar="LOG", help="Of Retriever.open(log=...).")],
    clicks: Annotated[Path, typer.Option(help='JSON lines of {"search": name, "item": id}.')],
    out: Annotated[Path, typer.Option("--out", "-o", help="File of judgements to write.")],
    least: Annotated[int, typer.Option(min=1, help="Clicks that make an item relevant.")] = 1,
    json: Json = False,
) -> None:
    """Join logged queries with clicks to judgements, for `learn head`, `eval` and `sweep`."""
    summary = join_clicks(log, clicks, out, least=least)
    if json:
        print_json(asdict(summary))
        return
    told = (
        f"{out}: {summary.queries:,} queries of {summary.clicks:,} clicks; left out: "
        f"{summary.unknown_searches:,} clicks on unknown searches, {summary.not_shown:,} on items "
        f"that were not shown, {summary.unread:,} lines of the log that do not read"
    )
    Output(soft_wrap=True).print(Text(told))


def _setting(given: list[str]) -> Setting:
    """`as-is`, `no-head`, `missing:POLICY` and NAME=NUMBER as one setting."""
    policies = [one.removeprefix("missing:") for one in given if one.startswith("missing:")]
    words = {"as-is", "no-head"}
    numbers = [one for one in given if one not in words and not one.startswith("missing:")]
    return Setting(
        named_numbers(numbers), policies[-1] if policies else None, "no-head" not in given
    )


def _measures(report: EvaluationReport) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    headings = ["", "95 %"]
    if report.against is not None:
        headings += ["against", "95 %", "difference", "95 %", "p"]
    for heading in headings:
        table.add_column(heading, justify="right")
    for name, one in report.measures.items():
        cells = [f"{one.mean:.4f}", _interval(one)]
        if report.against is not None and report.differences is not None:
            other, gain = report.against[name], report.differences[name]
            cells += [f"{other.mean:.4f}", _interval(other)]
            cells += [f"{gain.mean:+.4f}", _interval(gain), f"{gain.p:.4f}"]
        table.add_row(name, *cells)
    return table


def _interval(one: Estimate) -> str:
    return "" if one.low is None or one.high is None else f"{one.low:.4f} to {one.high:.4f}"


def _told(one: Estimate) -> str:
    interval = _interval(one)
    return f"{one.mean:.4f}" + (f" ({interval})" if interval else "")


def _report_json(report: EvaluationReport) -> dict[str, Any]:
    def values(found: Mapping[str, Estimate] | None) -> dict[str, Any] | None:
        return None if found is None else {name: asdict(one) for name, one in found.items()}

    return {
        "index": str(report.path),
        "queries": report.queries,
        "judged": report.judged,
        "unknown": report.unknown,
        "depth": report.depth,
        "measures": values(report.measures),
        "against": values(report.against),
        "differences": values(report.differences),
        "seconds": round(report.seconds, 3),
    }
