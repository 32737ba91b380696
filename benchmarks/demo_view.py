"""Hits as a table: rank, id, title, score, and a bar of similarity for each space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from rich.table import Table
from rich.text import Text

_NUMBER = len(" +0.00")
_WIDE = 110
"""Columns of a terminal from which on bars are long."""


class SpaceLike(Protocol):
    """What a hit says of one space."""

    @property
    def similarity(self) -> float | None: ...
    @property
    def present(self) -> bool: ...


class HitLike(Protocol):
    """What the table reads of a hit."""

    @property
    def id(self) -> str: ...
    @property
    def score(self) -> float: ...
    @property
    def spaces(self) -> Mapping[str, SpaceLike]: ...
    @property
    def metadata(self) -> Mapping[str, Any]: ...


def hits_table(hits: Sequence[HitLike], title: str, width: int) -> Table:
    """The hits, best first, on a terminal `width` columns wide.

    `title` names the metadata column that tells a reader what an item is.
    """
    names = list(hits[0].spaces) if hits else []
    cells = 8 if width >= _WIDE else 4
    ranks, scores = 2, 6
    fixed = ranks + scores + len(names) * (cells + _NUMBER)
    room = max(width - fixed - (3 + len(names)), 20)
    ids = min(max((len(hit.id) for hit in hits), default=2), room * 3 // 5)
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("#", justify="right", style="dim", width=ranks)
    table.add_column("id", no_wrap=True, width=ids)
    table.add_column("title", overflow="ellipsis", no_wrap=True, width=min(room - ids, 44))
    table.add_column("score", justify="right", width=scores)
    for name in names:
        table.add_column(Text(name), overflow="ellipsis", no_wrap=True, width=cells + _NUMBER)
    for rank, hit in enumerate(hits, start=1):
        # The end of an id that is a path tells more than its beginning.
        shown = hit.id if len(hit.id) <= ids else "…" + hit.id[1 - ids :]
        table.add_row(
            str(rank),
            Text(shown),
            Text(str(hit.metadata.get(title) or "")),
            f"{hit.score:.3f}",
            *(similarity_cell(hit.spaces[name], cells) for name in names),
        )
    return table


def similarity_cell(space: SpaceLike, cells: int) -> Text:
    """A full bar and its number; hollow where the item lacks the space; empty if not asked."""
    if not space.present:
        return Text("▯" * cells + "  none", style="dim")
    if space.similarity is None:
        return Text("")
    filled = round(min(max(space.similarity, 0.0), 1.0) * cells)
    colour = "red" if space.similarity < 0 else "green"
    return Text.assemble(
        ("▮" * filled, colour),
        ("·" * (cells - filled), "dim"),
        f" {space.similarity:+.2f}",
    )
