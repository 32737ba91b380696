"""The demo's questions and tables, without an index."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks.demo_questions import Question, stamps_catalog, synthetic_catalog
from benchmarks.demo_view import hits_table, similarity_cell


@dataclass(frozen=True)
class _Space:
    similarity: float | None
    present: bool = True


@dataclass(frozen=True)
class _Hit:
    id: str
    score: float
    spaces: Mapping[str, _Space]
    metadata: Mapping[str, Any] = field(default_factory=dict)


_MIXED = Question(
    "All",
    text="a child's toy",
    image=Path("my media/ball.png"),
    like=("a",),
    unlike=("b", "c"),
    weights={"text": 1.0, "image": -0.5},
    where="price < 100",
)


def test_question_as_shell() -> None:
    line = _MIXED.shell("catalens", Path("shop.idx"), 5)
    assert line == (
        "catalens query shop.idx --text 'a child'\"'\"'s toy' --image 'my media/ball.png' "
        "--like a --unlike b --unlike c --weight text=1 --weight image=-0.5 "
        "--where 'price < 100' -k 5"
    )
    assert shlex.split(line)[4] == "a child's toy"


def test_question_as_python() -> None:
    assert _MIXED.python(5) == (
        "shop.search(cl.Query(text=\"a child's toy\", image='my media/ball.png', like=['a'], "
        "unlike=['b', 'c'], weights={'text': 1.0, 'image': -0.5}), k=5, where='price < 100')"
    )
    assert Question("Words", text="x").python(3) == "shop.search(cl.Query(text='x'), k=3)"


@pytest.mark.parametrize(
    ("space", "text"),
    [
        (_Space(1.0), "▮▮▮▮▮▮ +1.00"),
        (_Space(0.5), "▮▮▮··· +0.50"),
        (_Space(-0.25), "······ -0.25"),
        (_Space(None), ""),
        (_Space(None, present=False), "▯▯▯▯▯▯  none"),
    ],
)
def test_similarity_cell(space: _Space, text: str) -> None:
    assert similarity_cell(space, 6).plain == text


@pytest.mark.parametrize("width", [80, 120])
def test_table_fits_the_terminal(width: int) -> None:
    spaces = {"minilm": _Space(0.9), "efficientnet": _Space(None, False), "log-mel": _Space(-0.5)}
    ids = ["animals/birds/[bold]crow", "long/" * 20 + "end"]
    hits = [_Hit(id, 1.25, spaces, {"title": "A crow." * 20}) for id in ids]
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(hits_table(hits, "title", width))
    lines = [line.rstrip() for line in capture.get().splitlines()]
    assert len(lines) == 3
    assert max(map(len, lines)) <= width
    for line in lines[1:]:
        assert "1.250" in line and "A crow." in line
        assert "+0.90" in line and "none" in line and "-0.50" in line
    assert "[bold]crow" in lines[1]  # an id is no markup
    assert "/end" in lines[2]  # the end of a path tells more than its beginning


def test_catalogs_ask_one_question_of_each_kind() -> None:
    folder = Path("stamps")
    for catalog in (
        stamps_catalog(folder),
        synthetic_catalog(folder / "catalog.jsonl", Path("star.png"), Path("star.wav")),
    ):
        kinds = [set(question.arguments()) for question in catalog.questions]
        assert kinds[:4] == [{"text"}, {"image"}, {"audio"}, {"like"}]
        assert kinds[4] == {"text", "image", "unlike", "weights"}
        assert catalog.questions[4].where
