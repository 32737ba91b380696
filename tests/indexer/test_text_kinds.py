"""Text kinds in an index: fitted by its build, asked in any script, and light to ask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from indexer import Writer, build_index, export_index, import_index
from retriever import Query, Retriever

from ..processes import run_python

ROWS = [
    {"id": "shoe", "text": "红色的皮鞋 适合跑步"},
    {"id": "hat", "text": "蓝色的帽子"},
    {"id": "cat", "text": "一只猫坐在垫子上"},
    {"id": "phone", "text": "iPhone 手机壳 2024"},
    {"id": "boot", "text": "black leather boots for winter"},
    {"id": "symbol", "text": "★★★"},
]
ASKED = {"皮鞋": "shoe", "帽子": "hat", "垫子": "cat", "手机": "phone", "leather boots": "boot"}


def preset(**encoder: Any) -> dict[str, Any]:
    return {
        "name": "one",
        "spaces": [{"name": "text", "item": "text", "encoders": {"text": encoder}}],
    }


@pytest.mark.parametrize(
    "encoder",
    [
        {"kind": "bow"},
        {"kind": "tfidf"},
        {"kind": "tfidf", "analyzer": "char", "dimension": 8},
        {"kind": "word-vectors", "dimension": 16, "epochs": 50},
    ],
    ids=["bow", "tfidf", "char", "word-vectors"],
)
def test_an_index_keeps_what_its_encoder_learned(tmp_path: Path, encoder: dict[str, Any]) -> None:
    # Vectors trained on a handful of texts tell these apart, and no more.
    trained = encoder["kind"] == "word-vectors"
    asked = {row["text"]: row["id"] for row in ROWS[:-1]} if trained else ASKED
    first, copied = tmp_path / "i", tmp_path / "j"
    build_index(ROWS, first, preset=preset(**encoder), device="cpu")
    with Writer.open(first, device="cpu") as writer:
        writer.add([{"id": "new", "text": "黄色的帽子"}, {"id": "odd", "text": "zzz"}])
    export_index(first, tmp_path / "e.parquet")
    import_index(tmp_path / "e.parquet", copied, device="cpu")
    answers = []
    for path in (first, copied):
        with Retriever.open(path, device="cpu") as index:
            for text, expected in asked.items():
                hits = index.search(Query(text=text), k=8)
                assert expected in [hit.id for hit in hits[:2]], text
                answers.append([(hit.id, round(hit.score, 3)) for hit in hits])
    assert answers[: len(asked)] == answers[len(asked) :]
    # Nothing of it is known: nothing is like it, but what nothing is known of either.
    with Retriever.open(first, device="cpu") as index:
        hits = index.search(Query(text="qqq"), k=8)
        assert {hit.id for hit in hits[:2]} == {"symbol", "odd"}
        assert all(hit.score < 0.2 for hit in hits[2:])


def test_asking_loads_neither_scikit_learn_nor_gensim(tmp_path: Path) -> None:
    spaces = [
        {"name": kind, "item": "text", "encoders": {"text": {"kind": kind}}}
        for kind in ("tfidf", "word-vectors")
    ]
    build_index(ROWS, tmp_path / "i", preset={"name": "two", "spaces": spaces}, device="cpu")
    code = """
import sys, catalens
with catalens.Retriever.open(sys.argv[1], device="cpu") as index:
    print(index.search(catalens.Query(text="leather boots"), 1)[0].id)
print(sorted({"sklearn", "gensim", "torch", "scipy"} & set(sys.modules)))
"""
    done = run_python(code, tmp_path / "i")
    assert (done.stdout, done.stderr) == ("boot\n[]\n", "")
