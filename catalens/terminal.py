"""What people see: progress bars, tables of hits, summaries."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any
from unicodedata import category

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from retriever import Hit, SpaceMatch

_BAR = 5
_METADATA_WIDTH = 60
_PIPE_WIDTH = 160
_ID_WIDTH = 40
_LEAST_ROOM = 24
_LEAST_VALUE = 8
_NUMBER = len("+0.00")
_GAP = "  "


class RateColumn(TextColumn):
    """Steps per second."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Any) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.1f}/s")


class Bars:
    """A progress bar per stage on stderr, with rate and time left."""

    def __init__(self) -> None:
        self._bars = Progress(
            TextColumn("{task.description:>16}"),
            BarColumn(),
            MofNCompleteColumn(),
            RateColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Bars:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def start(self, stage: str, total: int | None) -> None:
        self._task = self._bars.add_task(stage, total=total)

    def advance(self, steps: int) -> None:
        if self._task is not None:
            self._bars.advance(self._task, steps)

    def finish(self) -> None:
        if self._task is not None:
            task = self._bars.tasks[self._task]
            # A total is an estimate where rows are lines: what was done is what there was.
            self._bars.update(self._task, total=task.completed)
            self._task = None


def progress_wanted() -> bool:
    """Bars are for people: none when stderr is no terminal."""
    return sys.stderr.isatty()


def hit_json(rank: int, hit: Hit) -> dict[str, Any]:
    """A hit as `--json` prints it."""
    return {
        "rank": rank,
        "id": hit.id,
        "score": hit.score,
        "spaces": {name: match._asdict() for name, match in hit.spaces.items()},
        "metadata": hit.metadata,
        **({} if hit.head is None else {"head": hit.head._asdict()}),
    }


class Output(Console):
    """Standard output; wide where no terminal bounds it, so that pipes and files keep lines."""

    def __init__(self, *, soft_wrap: bool = False) -> None:
        width = None if sys.stdout.isatty() else _PIPE_WIDTH
        super().__init__(width=width, soft_wrap=soft_wrap)

    def on_broken_pipe(self) -> None:
        """Raise the BrokenPipeError being handled: the command line ends all commands alike."""
        raise


def hits_table(hits: Sequence[Hit], width: int) -> Text:
    """Hits as a table of one line each, no wider than `width` columns.

    Each space has a bar: hollow where the item has nothing there, hatched where what it has is
    imputed. Where bars would leave no room for ids and metadata, there are numbers alone.
    """
    spaces = list(hits[0].spaces) if hits else []
    ranks = ["#", *(str(rank) for rank in range(1, len(hits) + 1))]
    scores = ["score", *(f"{hit.score:.3f}" for hit in hits)]
    for bar in (_BAR, 0):
        columns = [_right(ranks), _right(scores)]
        if any(hit.head is not None for hit in hits):
            columns.append(_right(["head", *(_head_score(hit) for hit in hits)]))
        before = len(columns)
        for name in spaces:
            cells = [_bar(hit.spaces[name], bar) for hit in hits]
            columns.append(_left([name if bar else _cut(name, _NUMBER), *cells]))
        room = width - sum(cell_len(column[0]) + len(_GAP) for column in columns) - len(_GAP)
        if room >= _LEAST_ROOM:
            break
    id_width = min(_ID_WIDTH, max(room, _LEAST_ROOM) // 2)
    ids = _left(["id", *(_cut(_plain(hit.id), id_width) for hit in hits)])
    room = max(room - cell_len(ids[0]), _LEAST_VALUE)
    columns.insert(before, ids)
    columns.append(["metadata", *(_brief(hit.metadata, room) for hit in hits)])
    lines = [_cut(_GAP.join(cells).rstrip(), width) for cells in zip(*columns, strict=True)]
    return Text.assemble((lines[0], "bold"), "\n", "\n".join(lines[1:]))


def _head_score(hit: Hit) -> str:
    return "" if hit.head is None else f"{hit.head.score:.3f}"


def _left(cells: Sequence[str]) -> list[str]:
    width = max(map(cell_len, cells))
    return [cell + " " * (width - cell_len(cell)) for cell in cells]


def _right(cells: Sequence[str]) -> list[str]:
    width = max(map(cell_len, cells))
    return [cell.rjust(width) for cell in cells]


def _bar(match: SpaceMatch, width: int) -> str:
    if not (match.present or match.imputed):
        return "□" * (width or 1)
    if match.similarity is None:
        return "·" * (width or 1)
    if not width:
        return f"{match.similarity:+.2f}"
    filled = round(max(match.similarity, 0.0) * width)
    mark = "▨" if match.imputed else "■"
    return mark * filled + "·" * (width - filled) + f" {match.similarity:+.2f}"


def _brief(metadata: Mapping[str, Any], room: int) -> str:
    """Metadata in `room` columns: where not all fits, long values are cut before short ones."""
    names = [f"{_plain(name)}=" for name in metadata]
    values = [_plain(str(value)) for value in metadata.values()]
    left = room - sum(cell_len(name) + len(_GAP) for name in names) + len(_GAP)
    for done, n in enumerate(sorted(range(len(values)), key=lambda n: cell_len(values[n]))):
        share = left // (len(values) - done)
        values[n] = _cut(values[n], min(_METADATA_WIDTH, max(_LEAST_VALUE, share)))
        left -= cell_len(values[n])
    return _cut(_GAP.join(map("".join, zip(names, values, strict=True))), room)


def _cut(text: str, width: int) -> str:
    return text if cell_len(text) <= width else set_cell_size(text, width - 1).rstrip() + "…"


def _plain(text: str) -> str:
    """Text on one line, without the characters that steer a terminal."""
    line = " ".join(text.split())
    return "".join("\N{REPLACEMENT CHARACTER}" if category(c) == "Cc" else c for c in line)
