"""The files that every peer is handed: WordNet's vectors and queries, or those of a folder."""

from __future__ import annotations

from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
import orjson

from catalens import Retriever

from ..corpus import build_text, encode_queries, encoder_vectors, load_corpus
from ..harness import say

VECTORS, QUERIES, ROWS = "vectors.npy", "queries.npy", "rows.jsonl"


def write_wordnet(folder: Path, items: int | None) -> None:
    """Vectors of the glosses, held-out queries and metadata, from the benchmarks' text index."""
    corpus = load_corpus(items)
    with closing(Retriever.open(build_text(corpus), device="cpu")) as shop:
        np.save(folder / VECTORS, encoder_vectors(shop, corpus))
        say(f"encoding {len(corpus.queries):,} queries")
        np.save(folder / QUERIES, encode_queries(shop, corpus)[0])
    with (folder / ROWS).open("wb") as lines:
        lines.writelines(orjson.dumps(row) + b"\n" for row in corpus.rows)


def write_given(given: Path, folder: Path, items: int | None) -> None:
    """The first items of a folder with the same files, metadata optional."""
    np.save(folder / VECTORS, np.load(given / VECTORS, mmap_mode="r")[:items])
    np.save(folder / QUERIES, np.load(given / QUERIES))
    if (given / ROWS).is_file():
        with (given / ROWS).open("rb") as lines, (folder / ROWS).open("wb") as copy:
            copy.writelines(islice(lines, items))
