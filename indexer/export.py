"""An index out to one Parquet file, item by item."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import numpy as np
import orjson

from .description import Described
from .durable import sync_folder, translated_os_errors
from .encode import chunks
from .errors import ExportFileError
from .generation import Generation
from .live import Live
from .opening import open_latest
from .progress import Progress, Silent
from .rebuild import index_layout
from .snapshot import Inputs, Record, Snapshot, embedding_key
from .stored import StoredInput, StoredItem

_READ_TOGETHER = 256
# A row group is held in memory when it is written, and by many a reader: 4,096 inputs of two
# spaces of 1,000 dimensions are 32 MB.
_GROUP_INPUTS = 4096


@dataclass(frozen=True)
class ExportSummary:
    """What an export wrote: items, their inputs, and the bytes of the file."""

    path: Path
    items: int
    inputs: int
    bytes: int
    seconds: float


def export_index(
    path: str | Path, out: str | Path, *, progress: Progress | None = None
) -> ExportSummary:
    """Write all that `import_index` makes an index of into one Parquet file.

    There is a row for each item: id, inputs (modality, SHA-256, source), metadata as JSON, the
    fused vector, and for each space the embeddings of the inputs. The state that is exported is
    the one at the start, whatever a writer does meanwhile. Rejects are left out.

    Args:
        path: the index folder.
        out: the file, which must not be there; it appears when it is whole.
        progress: told of every stage; None tells nobody.

    Raises:
        NotAnIndexError, CorruptIndexError: the index itself.
        ExportFileError: the file is there already, or its folder is not.
        DiskFullError: no space.
    """
    started, progress = monotonic(), progress or Silent()
    layout, out = index_layout(path), Path(out)
    _check_target(out)
    store, snapshot, generation = open_latest(
        layout, lambda now: Generation.open(layout, now.current)
    )
    try:
        with translated_os_errors(f"export {out}"):
            items, inputs, size = _write(Live(generation, snapshot), snapshot, out, progress)
    finally:
        generation.close()
        snapshot.close()
        store.close()
    return ExportSummary(out, items, inputs, size, monotonic() - started)


def _write(live: Live, snapshot: Snapshot, out: Path, progress: Progress) -> tuple[int, int, int]:
    from .parquet_items import ItemsWriter  # pyarrow takes a while to load

    spaces = [space.spec.name for space in live.generation.manifest.spaces]
    positions = np.flatnonzero(live.alive)
    inputs = done = 0
    unfinished = out.with_name(f"{out.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    progress.start("export", len(positions))
    try:
        described = Described.of(live.generation, snapshot)
        with ItemsWriter(unfinished, spaces, described) as writer:
            for group in _groups(live, snapshot, positions.tolist()):
                fused = live.rows(positions[done : done + len(group)])
                writer.write(group, fused)
                done += len(group)
                inputs += sum(len(item.inputs) for item in group)
                progress.advance(len(group))
            size = writer.close()
        unfinished.rename(out)
    finally:
        unfinished.unlink(missing_ok=True)
    sync_folder(out.parent)
    progress.finish()
    return done, inputs, size


def _groups(live: Live, snapshot: Snapshot, positions: Sequence[int]) -> Iterator[list[StoredItem]]:
    """The items at positions, so many at once as make a row group."""
    known = {space.spec.name: space.fingerprints for space in live.generation.manifest.spaces}
    group: list[StoredItem] = []
    inputs = 0
    for some in chunks(positions, _READ_TOGETHER):
        rows = live.row_numbers[some].tolist()
        for record, made_of in zip(snapshot.records(rows), snapshot.inputs(rows), strict=True):
            item = _item(snapshot, record, made_of, known)
            group.append(item)
            inputs += len(item.inputs)
            if inputs >= _GROUP_INPUTS:
                yield group
                group, inputs = [], 0
    if group:
        yield group


def _item(
    snapshot: Snapshot, record: Record, made_of: Inputs, known: dict[str, dict[str, str]]
) -> StoredItem:
    inputs = [
        _input(snapshot, modality, digest, source, known)
        for modality, digests in made_of.hashes.items()
        for digest, source in zip(digests, made_of.sources[modality], strict=True)
    ]
    return StoredItem(record.id, orjson.dumps(record.metadata).decode(), inputs)


def _input(
    snapshot: Snapshot,
    modality: str,
    digest: str,
    source: str | None,
    known: dict[str, dict[str, str]],
) -> StoredInput:
    """An input with all embeddings that there are of it, by the fingerprints of each space."""
    found = {
        space: snapshot.embedding(embedding_key(fingerprints[modality], digest))
        for space, fingerprints in known.items()
        if modality in fingerprints
    }
    there = {space: vector for space, vector in found.items() if vector is not None}
    return StoredInput(modality, digest, source, there)


def _check_target(out: Path) -> None:
    if out.exists() or out.is_symlink():
        got = "something that is there already"
    elif not out.parent.is_dir():
        got = f"no folder {out.parent}"
    else:
        return
    raise ExportFileError(
        f"export {out}",
        expected="a new file in a folder that is there",
        got=got,
        remedy="Choose another name, or remove what is there.",
    )
