"""The demo's questions and tables, without an index."""

from __future__ import annotations

import shlex
from pathlib import Path

from benchmarks.demo_questions import Question, stamps_catalog, synthetic_catalog

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
