"""`catalens add | update | delete | retry | compact`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from time import monotonic
from typing import Annotated, Any

import typer
from rich.text import Text

from indexer import CommitSummary, Writer, read_ids

from .options import (
    MAX_MEGABYTES,
    MAX_MEGAPIXELS,
    MAX_SECONDS,
    AudioColumns,
    Catalog,
    Device,
    ImageColumns,
    Index,
    Json,
    MaxMegabytes,
    MaxMegapixels,
    MaxSeconds,
    MediaRoot,
    Strict,
    TextColumns,
    VectorColumns,
    VideoColumns,
    limits_of,
    named_columns,
    named_vectors,
    print_json,
)
from .terminal import Bars, Output, progress_wanted

Id = Annotated[
    str | None, typer.Option(help="Column of the item's id; columns default to the build's.")
]

AutoCompact = Annotated[
    bool, typer.Option("--auto-compact", help="Compact as well, where it is due.")
]


def add(
    index: Index,
    catalog: Catalog,
    id: Id = None,
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
    auto_compact: AutoCompact = False,
    json: Json = False,
) -> None:
    """Add the items of a dump: all of them, or none when one is there already."""
    columns = _columns(id, text, image, audio, video, vector)
    limits = limits_of(max_megapixels, max_megabytes, max_seconds)
    with _opened(index, device=device, limits=limits, strict=strict) as writer:
        writer.add(catalog, **columns, media_root=media_root)
        summary = _committed(writer, auto_compact=auto_compact)
    _print(summary, json=json)


def update(
    index: Index,
    catalog: Catalog,
    upsert: Annotated[
        bool, typer.Option("--upsert", help="Add items that are not there yet.")
    ] = False,
    id: Id = None,
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
    auto_compact: AutoCompact = False,
    json: Json = False,
) -> None:
    """Put the rows of a dump in the place of what is there; what did not change is not encoded."""
    columns = _columns(id, text, image, audio, video, vector)
    limits = limits_of(max_megapixels, max_megabytes, max_seconds)
    with _opened(index, device=device, limits=limits, strict=strict) as writer:
        writer.update(catalog, upsert=upsert, **columns, media_root=media_root)
        summary = _committed(writer, auto_compact=auto_compact)
    _print(summary, json=json)


def delete(
    index: Index,
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Of items.")] = None,
    dump: Annotated[
        Path | None, typer.Option("--from", metavar="DUMP", help="A file that has the ids.")
    ] = None,
    id: Annotated[str, typer.Option(help="Column of the ids in --from.")] = "id",
    json: Json = False,
) -> None:
    """Delete items by their ids: all of them, or none when one is not there."""
    if not ids and dump is None:
        raise typer.BadParameter("expected ids, or --from DUMP")
    with Writer.open(index) as writer:
        writer.delete([*(ids or ()), *(read_ids(dump, id) if dump is not None else ())])
        summary = writer.commit()
    _print(summary, json=json)


def retry(
    index: Index,
    media_root: MediaRoot = None,
    device: Device = "auto",
    max_megapixels: MaxMegapixels = MAX_MEGAPIXELS,
    max_megabytes: MaxMegabytes = MAX_MEGABYTES,
    max_seconds: MaxSeconds = MAX_SECONDS,
    json: Json = False,
) -> None:
    """Try rejected pictures and sounds again; what works now joins its item."""
    limits = limits_of(max_megapixels, max_megabytes, max_seconds)
    with _opened(index, device=device, limits=limits) as writer:
        found = writer.retry(media_root=media_root)
        summary = writer.commit()
    if json:
        encoded, items = summary.encoded, summary.items
        seconds = round(summary.seconds, 3)
        told = {**asdict(found), "encoded": encoded, "items": items, "seconds": seconds}
        print_json({"path": str(summary.path), **told})
        return
    lines = [
        f"{summary.path}: {found.tried:,} inputs tried again, {found.mended:,} joined their items, "
        f"{found.failed:,} still rejected in {summary.seconds:,.1f} s"
    ]
    if found.without_item:
        lines.append(f"  {found.without_item:,} belong to no item; give their rows to update")
    lines += [f"    {r.source}: {' '.join(r.reason.split())}" for r in summary.rejects]
    console = Output(soft_wrap=True)
    for line in lines:
        console.print(Text(line))  # no markup: a path may hold brackets


def compact(
    index: Index,
    keep_embeddings: Annotated[
        bool,
        typer.Option(
            "--keep-embeddings",
            help="Keep embeddings that no item names any more: what comes back is not encoded.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Fold in what was added since the index was derived last, and drop what is gone."""
    with _opened(index) as writer:
        summary = writer.compact(keep_embeddings=keep_embeddings)
    if json:
        print_json({**asdict(summary), "path": str(summary.path)})
    else:
        told = (
            f"{summary.path}: {summary.folded:,} folded in, {summary.dropped:,} dropped in "
            f"{summary.seconds:,.1f} s{', trained anew' if summary.trained else ''}; "
            f"{summary.items:,} items ({summary.index})"
        )
        if summary.embeddings_dropped:
            told += f"; {summary.embeddings_dropped:,} embeddings that no item names dropped"
        Output(soft_wrap=True).print(Text(told))


@contextmanager
def _opened(index: Path, **settings: Any) -> Iterator[Writer]:
    """A writer that shows progress to whoever watches."""
    with (
        Bars() if progress_wanted() else nullcontext() as bars,
        Writer.open(index, progress=bars, **settings) as writer,
    ):
        yield writer


def _columns(
    id: str | None,
    text: str | None,
    image: str | None,
    audio: str | None,
    video: str | None,
    vector: str | None,
) -> dict[str, Any]:
    return {
        "id": id,
        "text": named_columns(text),
        "image": named_columns(image),
        "audio": named_columns(audio),
        "video": named_columns(video),
        "vector": named_vectors(vector),
    }


def _committed(writer: Writer, *, auto_compact: bool) -> CommitSummary:
    summary = writer.commit()
    if not (auto_compact and summary.compact_due and summary.items):
        return summary
    started = monotonic()
    # Nobody watches: what was dear to encode goes only when someone says so.
    writer.compact(keep_embeddings=True)
    seconds = summary.seconds + monotonic() - started
    return replace(summary, fresh=0, dead=0, compact_due=False, seconds=seconds)


def _print(summary: CommitSummary, *, json: bool) -> None:
    if json:
        found = asdict(summary)
        del found["rejects"]
        print_json({**found, "path": str(summary.path), "seconds": round(summary.seconds, 3)})
        return
    done = {
        "added": summary.added,
        "updated": summary.updated,
        "changed in metadata alone": summary.metadata_only,
        "left as they were": summary.unchanged,
        "deleted": summary.deleted,
    }
    told = ", ".join(f"{count:,} {what}" for what, count in done.items() if count) or "nothing new"
    lines = [
        f"{summary.path}: {told} in {summary.seconds:,.1f} s; {summary.items:,} items",
        *(
            f"  {modality}: {count:,} inputs, {summary.encoded[modality]:,} encoded"
            for modality, count in summary.inputs.items()
        ),
    ]
    if summary.rejected_rows or summary.rejected_inputs:
        lines.append(
            f"  rejected: {summary.rejected_rows:,} rows, {summary.rejected_inputs:,} inputs; "
            f"all of them: catalens inspect {summary.path} --rejects"
        )
        lines += [f"    line {r.line}: {' '.join(r.reason.split())}" for r in summary.rejects]
    if summary.compact_due:
        lines.append(
            f"  {summary.fresh:,} items are searched beside the generation and {summary.dead:,} of "
            f"its rows are dead; searches are faster after: catalens compact {summary.path}"
        )
    console = Output(soft_wrap=True)
    for line in lines:
        console.print(Text(line))  # no markup: a path may hold brackets
