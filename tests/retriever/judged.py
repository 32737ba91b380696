"""A toy catalog, and judgements that its text alone does not explain."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from retriever import Topic
from tests.catalogs import WORDS, build_toy

Row = dict[str, Any]


def rows(n: int = 300) -> list[Row]:
    """Items of three words; `good` and `price` are metadata that their texts say nothing of."""
    rng = np.random.default_rng(5)
    return [
        {
            "id": f"item-{number}",
            "text": " ".join(map(str, rng.choice(WORDS, 3, replace=False))),
            "good": bool(rng.random() < 0.3),
            "price": int(rng.integers(100)),
            "shop": str(rng.choice(["north", "south"])),
        }
        for number in range(n)
    ]


def topics_of(
    items: list[Row], is_relevant: Callable[[Row, str], bool], n: int = 100
) -> list[Topic]:
    """Queries of two words, each judged for all items."""
    rng = np.random.default_rng(6)
    found = []
    while len(found) < n:
        words = sorted(map(str, rng.choice(WORDS, 2, replace=False)))
        text = f"{' '.join(words)} {len(found)}"
        grades = {row["id"]: 1 for row in items if is_relevant(row, text)}
        if grades:
            found.append(Topic(str(len(found)), text, grades))
    return found


def is_good(row: Row, text: str) -> bool:
    """Says one of the words, and is good."""
    return bool(row["good"]) and bool(set(row["text"].split()) & set(text.split()))


def build(out: Path, items: list[Row]) -> Path:
    build_toy(out, items, text="text")
    return out


def write_jsonl(path: Path, topics: list[Topic]) -> Path:
    lines = [json.dumps({"query": t.text, "relevant": list(t.grades)}) for t in topics]
    path.write_text("\n".join(lines) + "\n")
    return path
