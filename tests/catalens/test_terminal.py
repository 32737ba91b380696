"""Tables of hits: one line each, as wide as allowed, readable with any metadata."""

from __future__ import annotations

from typing import Any

import pytest
from rich.cells import cell_len

from catalens import Hit, SpaceMatch
from catalens.terminal import hits_table

METADATA: dict[str, Any] = {
    "title": "Red leather shoe with a very long title that goes on and on",
    "price": 12.5,
    "brand": "靴屋さん",
    "url": "https://example.org/catalog/items/2348923489234/photo.jpg",
    "note": "two\nlines \x1b[31m and a bell \a",
}
SPACES = ("minilm", "efficientnet", "log-mel", "clip", "clap", "v", "w")
MATCHES = [SpaceMatch(0.53, True), SpaceMatch(None, True), SpaceMatch(None, False)]


def lines_of(hits: list[Hit], width: int) -> list[str]:
    return hits_table(hits, width).plain.splitlines()


def hit(spaces: int, *, item: str = "sku-17", metadata: dict[str, Any] | None = None) -> Hit:
    found = {name: MATCHES[n % 3] for n, name in enumerate(SPACES[:spaces])}
    return Hit(item, 1.2345, found, METADATA if metadata is None else metadata)


@pytest.mark.parametrize("item", ["a", "sku-" + "0" * 80, "靴" * 50, "a\nb"])
@pytest.mark.parametrize("spaces", [1, 3, 7])
@pytest.mark.parametrize("width", [20, 80, 160])
def test_one_line_per_hit_within_the_width(width: int, spaces: int, item: str) -> None:
    hits = [hit(spaces, item=item), hit(spaces, metadata={}), hit(spaces)] * 4
    lines = lines_of(hits, width)
    assert len(lines) == 1 + len(hits)
    assert max(map(cell_len, lines)) <= width
    assert not any(ord(c) < 32 for line in lines for c in line)
    assert all("1.234" in line for line in lines[1:])


def test_what_is_cut_says_so_and_short_values_stay_whole() -> None:
    [_, line] = lines_of([hit(1)], 160)
    assert "price=12.5" in line and "brand=靴屋さん" in line
    assert "title=Red leather" in line and "…" in line and "note=two lines" in line
    [heading, line] = lines_of([hit(1, metadata={"a": 1})], 80)
    assert heading.split() == ["#", "score", "id", "minilm", "metadata"]
    assert line == "1  1.234  sku-17  ■■■·· +0.53  a=1"


def test_imputed_blocks_are_hatched() -> None:
    found = Hit("a", 0.5, {"minilm": SpaceMatch(0.61, False, True)}, {})
    assert "▨▨▨·· +0.61" in lines_of([found], 80)[1]


def test_bars_make_way_where_there_are_many_spaces() -> None:
    assert "■" in lines_of([hit(3)], 80)[1]
    line = lines_of([hit(7)], 80)[1]
    assert "■" not in line and "+0.53" in line and "□" in line and "title=" in line
