"""WordNet's glosses as two real indexes with 1,000 held-out queries, and the exact answer.

`text` is built from the glosses by the default preset, `vector` from the vectors that the same
encoder gave, brought ready-made. Both are built by the code of the day: when it changes they are
built again, from the embeddings that the text index keeps, so encoding happens once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

import encoders
import indexer
from catalens import Progress, Retriever, build_index
from catalens.terminal import Bars, progress_wanted

from .datasets import cache_folder, wordnet
from .harness import say

SEED = 0
QUERIES = 1_000
_STAMP = "built-by"
_SECONDS_BETWEEN_LINES = 10.0

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Corpus:
    """Folders and rows of the benchmark's catalog; `queries` are glosses that are not in it."""

    folder: Path
    rows: list[dict[str, Any]]
    queries: list[str]

    @property
    def text_index(self) -> Path:
        return self.folder / "text.idx"


def load_corpus(items: int | None = None) -> Corpus:
    """The glosses, those that two synsets share once, shuffled; `items` takes only so many."""
    unique: dict[str, dict[str, Any]] = {}
    with (wordnet() / "catalog.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            if "gloss" in row:
                unique.setdefault(row["gloss"], row)
    rows = list(unique.values())
    order = np.random.default_rng(SEED).permutation(len(rows))
    held_out = min(QUERIES, len(rows) // 10)
    queries = [rows[i]["gloss"] for i in order[:held_out]]
    chosen = [rows[i] for i in order[held_out:]][:items]
    name = "bench-wordnet" if items is None else f"bench-wordnet-{items}"
    return Corpus(cache_folder() / name, chosen, queries)


def build_text(corpus: Corpus) -> Path:
    """The index of the glosses by the default text encoder; encodes what it has not yet."""
    if _is_current(corpus.text_index):
        return corpus.text_index
    corpus.folder.mkdir(parents=True, exist_ok=True)
    say(f"indexing {len(corpus.rows):,} glosses (once: some minutes of encoding)")
    with bars() as shown:
        build_index(corpus.rows, corpus.text_index, text="gloss", device="cpu", progress=shown)
    _stamp(corpus.text_index)
    return corpus.text_index


def build_vector(
    corpus: Corpus, name: str = "vector", extra: Iterable[Mapping[str, Any]] | None = None
) -> Path:
    """The index of the same items by the encoder's vectors, brought ready-made.

    Args:
        name: names the index's folder.
        extra: further metadata, a mapping for each row.
    """
    index = corpus.folder / f"{name}.idx"
    if _is_current(index):
        return index
    with Retriever.open(build_text(corpus), device="cpu") as shop:
        vectors = encoder_vectors(shop, corpus)
    say(f"indexing {len(vectors):,} ready-made vectors")
    more = extra if extra is not None else ({} for _ in corpus.rows)
    rows = (
        {**row, **others, "vec": vector}
        for row, others, vector in zip(corpus.rows, more, vectors, strict=True)
    )
    with bars() as shown:
        build_index(rows, index, vector="vec", device="cpu", progress=shown)
    _stamp(index)
    return index


def encoder_vectors(shop: Retriever, corpus: Corpus) -> Vectors:
    """The encoder's own unit vectors of all rows, (n, d) float32, from the text index's store."""
    store = indexer.Store.open(indexer.IndexLayout(corpus.text_index))
    fingerprint = shop.manifest.spaces[0].fingerprints["text"]
    try:
        with store.snapshot() as snapshot:
            digests = (hashlib.sha256(row["gloss"].encode()) for row in corpus.rows)
            keys = (bytes.fromhex(fingerprint) + digest.digest() for digest in digests)
            return np.stack([_known(snapshot.embedding(key)) for key in keys])
    finally:
        store.close()


def _known(vector: Vectors | None) -> Vectors:
    if vector is None:
        raise LookupError("a gloss has no embedding in the index: remove the benchmark's folder")
    return vector


def encode_queries(shop: Retriever, corpus: Corpus) -> tuple[Vectors, list[float]]:
    """The queries' unit vectors (m, d), and the seconds each took.

    As a search would encode them, one at a time: the vectors of a quantised model depend on the
    batch they were made in.
    """
    internals: Any = shop
    view = internals._view
    space = shop.manifest.spaces[0].spec.name
    vectors, seconds = [], []
    for text in corpus.queries:
        wanted = (space, "text", text.encode())
        start = perf_counter()
        vectors.append(view.encoder.encode([wanted], view.snapshot)[wanted])
        seconds.append(perf_counter() - start)
    return np.stack(vectors), seconds


def bars() -> AbstractContextManager[Progress]:
    return Bars() if progress_wanted() else nullcontext(_Lines())


class _Lines:
    """Progress where no terminal shows bars: a line every ten seconds."""

    def start(self, stage: str, total: int | None) -> None:
        self._stage, self._total, self._done, self._told = stage, total, 0, monotonic()

    def advance(self, steps: int) -> None:
        self._done += steps
        if monotonic() - self._told >= _SECONDS_BETWEEN_LINES:
            self._told = monotonic()
            of = f" of {self._total:,}" if self._total else ""
            say(f"  {self._stage}: {self._done:,}{of}")

    def finish(self) -> None:
        """Say nothing: the next stage will."""


def _is_current(index: Path) -> bool:
    stamp = index.with_suffix(f".{_STAMP}")
    return stamp.is_file() and stamp.read_text("utf-8") == _code()


def _stamp(index: Path) -> None:
    index.with_suffix(f".{_STAMP}").write_text(_code(), "utf-8")


def _code() -> str:
    """Names the code that decides what an index is: ours, and FAISS's."""
    digest = hashlib.sha256(faiss.__version__.encode())
    for package in (encoders, indexer):
        for file in sorted(Path(package.__path__[0]).rglob("*.*")):
            if file.suffix in (".py", ".json"):
                digest.update(file.read_bytes())
    return digest.hexdigest()
