"""What people see: progress bars, tables of hits, summaries."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

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
from rich.table import Table
from rich.text import Text

from retriever import Hit, SpaceMatch

_BAR = 5
_METADATA_WIDTH = 60
_PIPE_WIDTH = 160
_ID_WIDTH = 40


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
        "spaces": {
            name: {"similarity": match.similarity, "present": match.present}
            for name, match in hit.spaces.items()
        },
        "metadata": hit.metadata,
    }


def output() -> Console:
    """Standard output; wide where no terminal bounds it, so that pipes and files keep lines."""
    return Console() if sys.stdout.isatty() else Console(width=_PIPE_WIDTH)


def hits_table(hits: Sequence[Hit]) -> Table:
    """Hits as a table, with a bar per space: hollow where the item has nothing there."""
    table = Table(box=None, pad_edge=False)
    for heading in ("#", "score"):
        table.add_column(heading, justify="right")
    table.add_column("id", overflow="fold", max_width=_ID_WIDTH)
    spaces = list(hits[0].spaces) if hits else []
    for name in spaces:
        table.add_column(name, no_wrap=True)
    table.add_column("metadata", no_wrap=True, overflow="ellipsis")
    for rank, hit in enumerate(hits, start=1):
        table.add_row(
            str(rank),
            f"{hit.score:.3f}",
            Text(hit.id),
            *(Text(_bar(hit.spaces[name])) for name in spaces),
            Text(_brief(hit.metadata)),
        )
    return table


def _bar(match: SpaceMatch) -> str:
    if not match.present:
        return "□" * _BAR
    if match.similarity is None:
        return "·" * _BAR
    filled = round(max(match.similarity, 0.0) * _BAR)
    return "■" * filled + "·" * (_BAR - filled) + f" {match.similarity:+.2f}"


def _brief(metadata: Mapping[str, Any]) -> str:
    parts = []
    for name, value in metadata.items():
        text = " ".join(str(value).split())
        parts.append(
            f"{name}={text if len(text) <= _METADATA_WIDTH else text[:_METADATA_WIDTH] + '…'}"
        )
    return "  ".join(parts)
