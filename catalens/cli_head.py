"""`catalens learn head`."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from retriever.evaluation import read_topics
from retriever.head.histories import learn_head_from_interactions
from retriever.head.learn import HeadOptions, HeadSummary, learn_head

from .options import Device, Index, Json, print_json
from .terminal import Bars, Output, progress_wanted


def head(
    index: Index,
    judgements: Annotated[
        Path | None,
        typer.Option(
            help='JSON lines of {"query": text, "relevant": [ids]}; or TREC qrels, with --queries.'
        ),
    ] = None,
    queries: Annotated[
        Path | None, typer.Option(help="Beside TREC qrels: lines of number, tab, text.")
    ] = None,
    interactions: Annotated[
        str | None,
        typer.Option(help="JSON lines, CSV, TSV or Parquet of user, item, value, time."),
    ] = None,
    user: Annotated[str | None, typer.Option(help="Column of user ids.")] = None,
    item: Annotated[str | None, typer.Option(help="Column of item ids.")] = None,
    value: Annotated[str | None, typer.Option(help="Column of values.")] = None,
    time: Annotated[str | None, typer.Option(help="Column of times.")] = None,
    model: Annotated[str | None, typer.Option(help="linear or mlp; searched unless given.")] = None,
    loss: Annotated[
        str | None, typer.Option(help="pointwise, pairwise or listwise; searched unless given.")
    ] = None,
    trials: Annotated[
        int, typer.Option(help="Cross-validations that search for settings.")
    ] = HeadOptions.trials,
    depth: Annotated[int, typer.Option(help="Candidates that are re-ranked.")] = HeadOptions.depth,
    folds: Annotated[
        int, typer.Option(help="Of cross-validation, and members of the head.")
    ] = HeadOptions.folds,
    force: Annotated[
        bool, typer.Option("--force", help="Switch it on even if it is not better.")
    ] = False,
    dp_epsilon: Annotated[
        float | None,
        typer.Option(help="Train with differential privacy; see docs/privacy.md."),
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same head.")] = 0,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Learn to re-rank: what searches find, from judged queries; or what is recommended, from what
    users did."""
    options = HeadOptions(model, loss, trials, depth, folds, seed, force, dp_epsilon)
    if (judgements is None) == (interactions is None):
        raise typer.BadParameter("pass --judgements or --interactions, and not both")
    topics = [] if judgements is None else read_topics(judgements, queries)
    with Bars() if progress_wanted() else nullcontext() as bars:
        if interactions is None:
            summary = learn_head(index, topics, options=options, device=device, progress=bars)
        else:
            summary = learn_head_from_interactions(
                index,
                interactions,
                user=user,
                item=item,
                value=value,
                time=time,
                options=options,
                device=device,
                progress=bars,
            )
    if json:
        print_json({**asdict(summary), "path": str(summary.path), "run": str(summary.run)})
    else:
        for line in _lines(summary):
            Output(soft_wrap=True).print(Text(line))


def _lines(summary: HeadSummary) -> list[str]:
    gain, unit = summary.gain, "queries" if summary.task == "search" else "users"
    settings = summary.settings
    lines = [
        f"{summary.path}: a head for {summary.task} learned from {summary.queries:,} {unit} in "
        f"{summary.seconds:,.1f} s",
        f"  {settings.model}, {settings.loss} loss, {len(summary.features)} features",
        f"  NDCG@10 on {summary.held_out:,} {unit} held out: fused score {summary.fused:.4f}, head "
        f"{summary.learned:.4f} ({gain.mean:+.4f}, p = {gain.p:.4f})",
        f"  of what is relevant {summary.unfound:.1%} was not among the candidates",
        f"  trials and learning curve: {summary.run}",
    ]
    if summary.privacy is not None:
        private = summary.privacy
        lines.append(
            f"  private: epsilon {private.epsilon:.3g}, delta {private.delta:.2g}, for each "
            f"{private.unit}"
        )
    return lines
