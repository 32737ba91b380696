"""The command line: `catalens build | add | update | delete | retry | compact | export | import |
rebuild | learn | tune | eval | sweep | judgements | query | recommend | inspect | verify |
repair`."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from encoders.errors import CatalensError
from indexer import BuildSummary, build_index
from retriever import Query, Retriever

from .cli_check import repair, verify
from .cli_eval import evaluate, judgements, sweep
from .cli_head import head
from .cli_learn import learn, rebuild
from .cli_recommend import behaviour, recommend
from .cli_transfer import export, import_
from .cli_tune import tune
from .cli_write import add, compact, delete, retry, update
from .describe import describe, describe_tables
from .options import (
    MAX_MEGABYTES,
    MAX_MEGAPIXELS,
    MAX_SECONDS,
    AudioColumns,
    Catalog,
    Device,
    Factory,
    ImageColumns,
    Index,
    Json,
    MaxMegabytes,
    MaxMegapixels,
    MaxSeconds,
    MediaRoot,
    Profile,
    Rows,
    Strict,
    TextColumns,
    VectorColumns,
    VideoColumns,
    limits_of,
    named_columns,
    named_numbers,
    named_vectors,
    print_json,
)
from .terminal import Bars, Output, hit_json, hits_table, progress_wanted


class Commands(TyperGroup):
    """Handles what Click would handle in its own way: Ctrl-C and readers that go away."""

    def invoke(self, ctx: Any) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except KeyboardInterrupt:
            print("stopped; run the same command again to go on", file=sys.stderr)
            raise typer.Exit(130) from None
        except BrokenPipeError:
            # The reader of our output has gone (`| head`): nothing is left to say, nor to flush.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(141) from None
        return result


app = typer.Typer(
    name="catalens",
    cls=Commands,
    help="One index of fused vectors from a catalog's text, pictures and sound.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

app.command()(add)
app.command()(update)
app.command()(delete)
app.command()(retry)
app.command()(compact)
app.command()(export)
app.command("import")(import_)
app.command()(rebuild)
app.command()(tune)
app.command("eval")(evaluate)
app.command()(sweep)
app.command()(judgements)
learn.command()(head)
app.command()(recommend)
learn.command()(behaviour)
app.command()(verify)
app.command()(repair)
app.add_typer(learn)


@app.command()
def build(
    catalog: Catalog,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="INDEX", help="Folder to build.")],
    preset: Annotated[
        str, typer.Option(help="local, local-multilingual, spoken, clip, or a file.")
    ] = "local",
    id: Annotated[str, typer.Option(help="Column of the item's id.")] = "id",
    text: TextColumns = None,
    image: ImageColumns = None,
    audio: AudioColumns = None,
    video: VideoColumns = None,
    vector: VectorColumns = None,
    media_root: MediaRoot = None,
    device: Device = "auto",
    max_megapixels: MaxMegapixels = MAX_MEGAPIXELS,
    max_megabytes: MaxMegabytes = MAX_MEGABYTES,
    max_seconds: MaxSeconds = MAX_SECONDS,
    strict: Strict = False,
    fusion: Annotated[str | None, typer.Option(help="concat or mean.")] = None,
    missing: Annotated[
        str | None,
        typer.Option(help="neutral, impute, renormalise or drop: for what an item lacks."),
    ] = None,
    profile: Profile = None,
    factory: Factory = None,
    rows: Rows = None,
    refit: Annotated[
        bool,
        typer.Option("--refit", help="Fit anew the encoders that learn from the catalog."),
    ] = False,
    json: Json = False,
) -> None:
    """Build an index from a catalog dump; run again to resume, or after changes."""
    with Bars() if progress_wanted() else nullcontext() as bars:
        summary = build_index(
            catalog,
            out,
            id=id,
            text=named_columns(text),
            image=named_columns(image),
            audio=named_columns(audio),
            video=named_columns(video),
            vector=named_vectors(vector),
            preset=preset,
            media_root=media_root,
            device=device,
            limits=limits_of(max_megapixels, max_megabytes, max_seconds),
            strict=strict,
            fusion=fusion,
            missing=missing,
            profile=profile,
            factory=factory,
            rows=rows,
            refit=refit,
            progress=bars,
        )
    if json:
        print_json(_summary_json(summary))
    else:
        _print_summary(summary)


@app.command()
def query(
    index: Index,
    text: Annotated[list[str] | None, typer.Option(help="What items should say.")] = None,
    image: Annotated[list[Path] | None, typer.Option(help="What they should look like.")] = None,
    audio: Annotated[list[Path] | None, typer.Option(help="What they should sound like.")] = None,
    video: Annotated[list[Path] | None, typer.Option(help="A video they should be like.")] = None,
    like: Annotated[list[str] | None, typer.Option(help="Id of an item to resemble.")] = None,
    unlike: Annotated[list[str] | None, typer.Option(help="Id of an item not to.")] = None,
    weight: Annotated[
        list[str] | None, typer.Option(help="NAME=NUMBER for a space or modality.")
    ] = None,
    missing: Annotated[
        str | None, typer.Option(help="neutral, renormalise or drop, for what an item lacks.")
    ] = None,
    where: Annotated[str | None, typer.Option(help='Filter: "price < 100".')] = None,
    k: Annotated[
        int | None, typer.Option("-k", help="Hits wanted; 10, or all items of a smaller index.")
    ] = None,
    recall: Annotated[
        float | None, typer.Option(help="Part of the true best to find, such as 0.95.")
    ] = None,
    no_head: Annotated[
        bool, typer.Option("--no-head", help="Leave the order to the fused score.")
    ] = False,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Ask an index; any mix of parts. --json prints one object per hit."""
    asked = Query(
        text=text,
        image=image,
        audio=audio,
        video=video,
        like=like,
        unlike=unlike,
        weights=named_numbers(weight),
        missing=missing,
    )
    with Retriever.open(index, device=device) as retriever:
        hits = retriever.search(asked, k, where=where, recall=recall, head=not no_head)
    if json:
        for rank, hit in enumerate(hits, start=1):
            print_json(hit_json(rank, hit))
    elif hits:
        console = Output()
        console.print(hits_table(hits, console.width), soft_wrap=True)
    else:
        Output().print("No item passes the filter.")


@app.command()
def inspect(
    index: Index,
    json: Json = False,
    rejects: Annotated[
        bool, typer.Option("--rejects", help="Print every reject, one JSON object a line.")
    ] = False,
) -> None:
    """Show what an index is made of: items, spaces, coverage, generation, sizes, rejects."""
    found, rejected = describe(index)
    if rejects:
        for reject in rejected:
            print_json(reject)
    elif json:
        print_json(found)
    else:
        for part in describe_tables(found):
            Output().print(part)


def main() -> None:
    """Run the command line: errors are one line, never a traceback."""
    # Idle threads of OpenMP sleep and do not spin: on cores that are shared with others, spinning
    # made training ten times slower. Read when FAISS and torch are first imported, which is later.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except CatalensError as error:
        message = " ".join(str(error).split())
        Console(stderr=True, soft_wrap=True).print(Text(f"error: {message}"))
        sys.exit(error.exit_code)


def _summary_json(summary: BuildSummary) -> dict[str, Any]:
    return {
        "index": str(summary.path),
        "items": summary.items,
        "inputs": summary.inputs,
        "encoded": summary.encoded,
        "rejected_rows": summary.rejected_rows,
        "rejected_inputs": summary.rejected_inputs,
        "coverage": summary.coverage,
        "kind": summary.index,
        "notes": list(summary.notes),
        "seconds": round(summary.seconds, 3),
    }


def _print_summary(summary: BuildSummary) -> None:
    lines = [
        f"{summary.path}: {summary.items:,} items in {summary.seconds:,.1f} s ({summary.index})",
        *(
            f"  {modality}: {count:,} inputs, {summary.encoded[modality]:,} encoded now"
            for modality, count in summary.inputs.items()
        ),
        *(
            f"  space {space}: {count:,} items ({count / summary.items:.0%})"
            for space, count in summary.coverage.items()
        ),
    ]
    lines += [f"  note: {note}" for note in summary.notes]
    if summary.rejected_rows or summary.rejected_inputs:
        lines.append(
            f"  rejected: {summary.rejected_rows:,} rows, {summary.rejected_inputs:,} inputs; "
            f"all of them: catalens inspect {summary.path} --rejects"
        )
        lines += [f"    line {r.line}: {' '.join(r.reason.split())}" for r in summary.rejects]
    console = Output(soft_wrap=True)
    for line in lines:
        console.print(Text(line))  # no markup: a path may hold brackets
