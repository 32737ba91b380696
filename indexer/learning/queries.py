"""What a catalog can be asked to learn from: its own titles, or judgements that people made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson

from encoders import EncoderPool, encode_all

from ..fusion import SpaceTransform
from ..fusion.transform import Floats
from ..progress import Progress
from ..recipe import Recipe
from ..snapshot import Record, Snapshot
from ..spaces import checked_encoder
from .errors import JudgementsError
from .groups import Ints

_TEXT = "text"
# Titles are short; where all text is one column, its beginning stands for a title.
_WORDS = 6
# More tell nothing new, and each has to be encoded.
_MOST_QUERIES = 10_000
_ENCODED_AT_ONCE = 256


@dataclass(frozen=True)
class Judged:
    """A text query and the ids of the items that are relevant to it."""

    text: str
    relevant: tuple[str, ...]


def read_judgements(path: Path) -> list[Judged]:
    """Read JSON lines of {"query": text, "relevant": [ids]}.

    Raises:
        JudgementsError: the file cannot be read, or a line is something else.
    """
    judged = []
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    judged.append(_parsed(line, f"{path}, line {number}"))
    except OSError as error:
        raise _misread(str(path), error.strerror or str(error)) from error
    if not judged:
        raise _misread(str(path), "no line at all")
    return judged


def _parsed(line: bytes, where: str) -> Judged:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise _misread(where, str(error)) from error
    query, relevant = (
        (value.get("query"), value.get("relevant")) if isinstance(value, dict) else (None, None)
    )
    if not (
        isinstance(query, str)
        and query.strip()
        and isinstance(relevant, list)
        and relevant
        and all(isinstance(one, str) for one in relevant)
    ):
        raise _misread(where, line.decode("utf-8", "replace").strip()[:80])
    return Judged(query, tuple(relevant))


def _misread(where: str, got: str) -> JudgementsError:
    return JudgementsError(
        where,
        expected='lines like {"query": "red shoe", "relevant": ["sku-1", "sku-7"]}',
        got=got,
        remedy="Mend the file; ids are strings.",
    )


def own_titles(records: Sequence[Record], recipe: Recipe, seed: int = 0) -> list[Judged]:
    """The first words of the first column of text, each with all items that have the same.

    Empty where the catalog has no text, or no space that text reaches.
    """
    columns = recipe.catalog.columns.get(_TEXT)
    if not (isinstance(columns, list | tuple) and columns and _reached_by_text(recipe)):
        return []
    relevant: dict[str, list[str]] = {}
    shown: dict[str, str] = {}
    for record in records:
        value = record.metadata.get(columns[0])
        words = " ".join(value.split()[:_WORDS]) if isinstance(value, str) else ""
        if words:
            relevant.setdefault(words.casefold(), []).append(record.id)
            shown.setdefault(words.casefold(), words)
    chosen = np.array(list(relevant))
    if len(chosen) > _MOST_QUERIES:
        chosen = np.random.default_rng(seed).choice(chosen, _MOST_QUERIES, replace=False)
    return [Judged(shown[key], tuple(relevant[key])) for key in chosen.tolist()]


def encoded_queries(
    judged: Sequence[Judged],
    records: Sequence[Record],
    recipe: Recipe,
    transforms: Mapping[str, SpaceTransform],
    snapshot: Snapshot,
    progress: Progress,
) -> tuple[dict[str, Floats], Ints]:
    """Queries as the spaces see them, and which items are relevant to them.

    Returns:
        float32 (m, d_s) per space: unit blocks times the weight with which text asks the space,
        zero where it does not reach it; int64 (p, 2): pairs of query number and item number.

    Raises:
        JudgementsError: no judgement names an item of the index.
        EncoderError: the encoder of text cannot be loaded.
        FingerprintMismatchError: it is not the one that the index was built with.
        MediaError: a query is no text.
    """
    number = {record.id: n for n, record in enumerate(records)}
    pairs = [(q, number[i]) for q, one in enumerate(judged) for i in one.relevant if i in number]
    if judged and not pairs:
        raise JudgementsError(
            "judgements",
            expected="ids of items of this index",
            got=f"none among {sum(len(one.relevant) for one in judged)}",
            remedy="Check the ids: they are strings, compared exactly.",
        )
    queries = {
        name: np.zeros((len(judged), transform.dimension), dtype=np.float32)
        for name, transform in transforms.items()
    }
    if judged:
        texts = [one.text for one in judged]
        for name, x, factor in _encoded(texts, recipe, snapshot, progress):
            blocks = transforms[name].query_blocks(x, _TEXT)
            queries[name] = np.float32(factor) * blocks
    return queries, np.array(pairs, dtype=np.int64).reshape(-1, 2)


def _reached_by_text(recipe: Recipe) -> bool:
    return any(_TEXT in space.spec.encoders for space in recipe.spaces)


def _encoded(
    texts: Sequence[str], recipe: Recipe, snapshot: Snapshot, progress: Progress
) -> list[tuple[str, Floats, float]]:
    """For each space that text reaches: its name, unit vectors (m, d_in), and the weight."""
    pool = EncoderPool(recipe.device)
    found: list[tuple[str, Floats, float]] = []
    vectors: dict[str, Floats] = {}
    ways = [space for space in recipe.spaces if _TEXT in space.spec.encoders]
    progress.start("encode queries", len(ways) * len(texts))
    for space in ways:
        known = space.fingerprints[_TEXT]
        encoder = checked_encoder(pool, space.spec, _TEXT, known, snapshot).for_queries()
        parts = []
        for start in range(0, len(texts), _ENCODED_AT_ONCE):
            some = texts[start : start + _ENCODED_AT_ONCE]
            prepared = [encoder.prepare(_TEXT, text.encode()) for text in some]
            parts.append(encode_all(encoder, _TEXT, prepared))
            progress.advance(len(some))
        vectors[space.name] = np.concatenate(parts)
        found.append((space.name, vectors[space.name], space.spec.weight))
    progress.finish()
    for space in recipe.spaces:
        reach = space.heads.get(_TEXT)
        if reach is not None and space.name not in vectors:
            aligned = reach.head(vectors[reach.source])
            found.append((space.name, aligned, space.spec.weight * reach.trust))
    return found
