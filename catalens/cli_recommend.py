"""`catalens learn behaviour` and `catalens recommend`."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from indexer import BehaviourSummary, learn_behaviour
from indexer.interactions import InteractionColumns, read_interactions
from retriever import Retriever

from .options import Index, Json, named_numbers, print_json
from .terminal import Bars, Output, hit_json, hits_table, progress_wanted

ItemColumn = Annotated[str | None, typer.Option("--item", help="Column of item ids.")]
ValueColumn = Annotated[str | None, typer.Option("--value", help="Column of values.")]
TimeColumn = Annotated[str | None, typer.Option("--time", help="Column of times.")]


def behaviour(
    index: Index,
    interactions: Annotated[
        str, typer.Argument(help="JSON lines, CSV, TSV or Parquet of user, item, value, time.")
    ],
    user: Annotated[str | None, typer.Option(help="Column of user ids.")] = None,
    item: ItemColumn = None,
    value: ValueColumn = None,
    time: TimeColumn = None,
    method: Annotated[str, typer.Option(help="ease, als or bpr.")] = "ease",
    rank: Annotated[int, typer.Option(help="Length of the item vectors.")] = 126,
    neutral: Annotated[
        float, typer.Option(help="The value that says nothing; lower ones are dislikes.")
    ] = 0.0,
    liked: Annotated[
        float | None,
        typer.Option(help="The value from which on an item is liked in full; else the median."),
    ] = None,
    keep_histories: Annotated[
        bool,
        typer.Option("--keep-histories", help="Keep what each user did, for recommend --user."),
    ] = False,
    seed: Annotated[int, typer.Option(help="The same seed gives the same result.")] = 0,
    json: Json = False,
) -> None:
    """Learn from what users did: liked items and histories find what others liked beside them."""
    with Bars() if progress_wanted() else nullcontext() as bars:
        summary = learn_behaviour(
            index,
            interactions,
            user=user,
            item=item,
            value=value,
            time=time,
            method=method,
            rank=rank,
            neutral=neutral,
            liked=liked,
            keep_histories=keep_histories,
            seed=seed,
            progress=bars,
        )
    if json:
        print_json({**asdict(summary), "path": str(summary.path)})
    else:
        _print(summary)


def recommend(
    index: Index,
    history: Annotated[
        Path | None,
        typer.Option(help="JSON lines, CSV, TSV or Parquet of item, value, time, of one user."),
    ] = None,
    user: Annotated[str | None, typer.Option(help="A user whose history the index keeps.")] = None,
    item: ItemColumn = None,
    value: ValueColumn = None,
    time: TimeColumn = None,
    where: Annotated[str | None, typer.Option(help='Filter: "price < 100".')] = None,
    k: Annotated[
        int | None, typer.Option("-k", help="Hits wanted; 10, or all items of a smaller index.")
    ] = None,
    include_seen: Annotated[
        bool, typer.Option("--include-seen", help="Items of the history may be among the hits.")
    ] = False,
    weight: Annotated[
        list[str] | None, typer.Option(help="NAME=NUMBER for a space or modality.")
    ] = None,
    half_life: Annotated[
        float, typer.Option(help="So many interactions later one counts half as much.")
    ] = 50.0,
    interests: Annotated[
        int, typer.Option(help="At most so many clusters of liked items ask for themselves.")
    ] = 1,
    diversity: Annotated[
        float, typer.Option(help="0 to 1: how much a hit loses that is like one before it.")
    ] = 0.0,
    no_head: Annotated[
        bool, typer.Option("--no-head", help="Leave the order to the fused score.")
    ] = False,
    json: Json = False,
) -> None:
    """Recommend items to a user, by a history; what is popular where there is none."""
    with Retriever.open(index) as retriever:
        hits = retriever.recommend(
            None
            if history is None
            else _history(history, InteractionColumns(None, item, value, time)),
            k,
            user=user,
            where=where,
            exclude_seen=not include_seen,
            weights=named_numbers(weight),
            half_life=half_life,
            interests=interests,
            diversity=diversity,
            head=not no_head,
        )
    if json:
        for rank, hit in enumerate(hits, start=1):
            print_json(hit_json(rank, hit))
    elif hits:
        console = Output()
        console.print(hits_table(hits, console.width), soft_wrap=True)
    else:
        Output().print("No item is left that passes the filter.")


def _history(path: Path, columns: InteractionColumns) -> list[tuple[Any, ...]]:
    read = read_interactions(path, columns=columns, one_user=True)
    there = read.report.columns
    return [
        (
            read.item_ids[item],
            value if there["value"] else None,
            time if there["time"] else None,
        )
        for item, value, time in zip(
            read.items.tolist(), read.values.tolist(), read.times.tolist(), strict=True
        )
    ]


def _print(summary: BehaviourSummary) -> None:
    read, chosen = summary.interactions, summary.chosen
    lines = [
        f"{summary.path}: behaviour by {summary.method} from {read.kept:,} interactions of "
        f"{summary.users:,} users in {summary.seconds:,.1f} s",
        f"  {summary.items:,} items have vectors of their own, {summary.imputed:,} estimated ones",
        f"  weight {chosen.weight:g}, "
        + (f"penalty {chosen.setting:g}" if summary.method == "ease" else f"rank {summary.rank}"),
    ]
    if chosen.both is None:
        lines.append(f"  nothing was chosen: {chosen.users:,} users have enough likes to be asked")
    else:
        lines.append(
            f"  NDCG@10 of what {chosen.users:,} users liked last: popularity "
            f"{chosen.popularity:.3f}, content {chosen.content:.3f}, behaviour "
            f"{chosen.behaviour:.3f}, both {chosen.both:.3f}"
        )
    lines += [
        f"  {space} explains {part:.0%} of the vectors of items held out"
        for space, part in summary.explained.items()
    ]
    if read.unknown_rows or read.rejected_rows:
        lines.append(
            f"  left out: {read.unknown_rows:,} rows of {read.unknown_items:,} items that the "
            f"index does not have, {read.rejected_rows:,} that cannot be used"
        )
        lines += [f"    line {r.line}: {' '.join(r.reason.split())}" for r in read.rejects]
    lines += [f"  note: {note}" for note in summary.notes]
    console = Output(soft_wrap=True)
    for line in lines:
        console.print(Text(line))  # no markup: a path may hold brackets
