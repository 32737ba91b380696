"""The clip art and the stamps as indexes that learn on one part and are judged on another.

Groups of numbered near-duplicates lie on one side only. All pictures and texts are encoded once,
into an index of everything; the others start from a copy of its embeddings.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalens import Query, Retriever, build_index
from indexer import Progress
from indexer.missing import check_policy
from indexer.progress import Silent
from indexer.rebuild import opened_for_writing

from .corpus import SEED, bars
from .datasets import cache_folder, clipart, stamps

Row = dict[str, Any]
Doubles = NDArray[np.float64]

K = 10

_DESCRIPTION = 200
_HELD_OUT = 5  # one group in so many


@dataclass(frozen=True)
class Split:
    """Rows to learn from and rows to be judged on, the folder that media paths start from, and
    where indexes go; `all.idx` there has everything encoded."""

    folder: Path
    media_root: Path
    learned: list[Row]
    judged: list[Row]

    def build(self, name: str, rows: Iterable[Row], **options: Any) -> Path:
        """An index of some rows, from the embeddings of all."""
        out, everything = self.folder / name, self.folder / "all.idx"
        if out != everything:
            shutil.rmtree(out, ignore_errors=True)
            if everything.is_dir():
                (out / "store").mkdir(parents=True)
                shutil.copyfile(everything / "store" / "data.mdb", out / "store" / "data.mdb")
        with bars() as shown:
            build_index(
                list(rows), out, device="cpu", media_root=self.media_root, progress=shown, **options
            )
        return out


def clipart_split(items: int | None = None) -> Split:
    """Clip art: title, keywords and the first of the description as text, and the picture."""
    folder = clipart()
    rows = [_clipart_row(row) for row in _read(folder / "catalog.jsonl")][:items]
    return _split("bench-clipart", folder, rows, items)


def stamps_split(items: int | None = None) -> Split:
    """Stamps: the English description, the picture, and the description spoken."""
    folder = stamps()
    spoken: dict[str, list[Row]] = {}
    for row in _read(folder / "spoken.jsonl"):
        if row["kind"] == "description":
            spoken.setdefault(row["id"], []).append(row)
    rows = [
        {
            **{k: row[k] for k in ("id", "title", "image", "category") if k in row},
            "spoken": {one["lang"]: one["audio"] for one in spoken.get(row["id"], [])},
        }
        for row in _read(folder / "catalog.jsonl")
    ][:items]
    return _split("bench-stamps", folder, rows, items)


def _clipart_row(row: Row) -> Row:
    told = (row.get("title"), " ".join(row.get("keywords") or ()), row.get("description"))
    text = ". ".join(one[:_DESCRIPTION] if n == 2 else one for n, one in enumerate(told) if one)
    kept = {k: row[k] for k in ("id", "title", "image", "category") if row.get(k)}
    return {**kept, **({"text": text} if text else {})}


def _split(name: str, folder: Path, rows: list[Row], items: int | None) -> Split:
    stems = np.array([re.sub(r"[_-]?\d+$", "", row["id"]) for row in rows])
    groups = np.unique(stems)
    held_out = set(np.random.default_rng(SEED).permutation(groups)[: len(groups) // _HELD_OUT])
    out = cache_folder() / (name if items is None else f"{name}-{items}")
    out.mkdir(parents=True, exist_ok=True)
    return Split(
        out,
        folder.resolve(),
        [row for row, stem in zip(rows, stems, strict=True) if stem not in held_out],
        [row for row, stem in zip(rows, stems, strict=True) if stem in held_out],
    )


def _read(path: Path) -> list[Row]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def with_holes(rows: Iterable[Row], share: float, modalities: tuple[str, str]) -> list[Row]:
    """Rows of which a random share lacks one of two modalities, by the toss of a coin."""
    rows = list(rows)
    rng = np.random.default_rng(SEED)
    left = [dict(row) for row in rows]
    for n in rng.permutation(len(rows))[: round(share * len(rows))].tolist():
        left[n].pop(modalities[int(rng.integers(2))], None)
    return [row for row in left if any(one in row for one in modalities)]


def transfer(source: Path, target: Path, missing: str, progress: Progress | None = None) -> None:
    """Derive an index anew with the heads, weights and fusion that another one has learned."""
    with opened_for_writing(source) as one:
        learned = one.recipe
    with opened_for_writing(target) as other:
        recipe = replace(learned, missing=check_policy(missing), catalog=other.recipe.catalog)
        other.publish(recipe, progress or Silent())


def relevant_by(rows: Iterable[Row], field: str) -> dict[str, set[str]]:
    """The different values of a field, and the ids of the rows that carry each."""
    found: dict[str, set[str]] = {}
    for row in rows:
        value = row.get(field)
        if isinstance(value, str) and value.strip():
            found.setdefault(value, set()).add(row["id"])
    return found


def write_judgements(path: Path, relevant: dict[str, set[str]]) -> Path:
    """Judgements as `catalens learn fusion --judgements` reads them."""
    lines = [
        json.dumps({"query": query, "relevant": sorted(ids)}) for query, ids in relevant.items()
    ]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def mean_of(values: Iterable[float]) -> float:
    """Their mean."""
    listed: NDArray[np.float64] = np.fromiter(values, dtype=np.float64)
    return float(listed.mean())


def ndcg(index: Path, relevant: Mapping[str, set[str]], weights: Mapping[str, float]) -> Doubles:
    """NDCG@10 of each text as a query, whose relevant items are known by id."""
    with Retriever.open(index, device="cpu") as shop:
        queries = [Query(text=text, weights=weights) for text in relevant]
        answers = shop.search_many(queries, min(K, len(shop)))
    discounts = 1 / np.log2(np.arange(2, K + 2))
    return np.array(
        [
            sum(d for d, hit in zip(discounts, hits, strict=False) if hit.id in ids)
            / discounts[: len(ids)].sum()
            for hits, ids in zip(answers, relevant.values(), strict=True)
        ]
    )
