"""Queries of the benchmarks, encoded before the clock runs, are those that a search encodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.corpus import Corpus, encode_queries
from benchmarks.recall import Remembered
from catalens import Query, Retriever, build_index
from tests import toy_encoders

PRESET = {
    "name": "toy",
    "spaces": [{"name": "words", "item": "text", "encoders": {"text": {"kind": "toy-text"}}}],
}


def test_encoded_beforehand_they_find_the_same(tmp_path: Path) -> None:
    toy_encoders.install()
    rows = [{"id": str(n), "text": f"word{n} thing{n % 5}"} for n in range(40)]
    index = tmp_path / "index"
    build_index(rows, index, preset=PRESET, device="cpu")
    corpus = Corpus(tmp_path, rows, ["word3 thing3", "thing1", "word17"])
    with Retriever.open(index, device="cpu") as shop:
        queries = [Query(text=text) for text in corpus.queries]
        expected = shop.search_many(queries, 10, explain=False)
        vectors, seconds = encode_queries(shop, corpus)
        assert len(seconds) == 3 and min(seconds) > 0
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
        internals: Any = shop
        contents = [text.encode() for text in corpus.queries]
        remembered = Remembered(dict(zip(contents, vectors, strict=True)))
        internals._view.composer._encoder = remembered
        assert shop.search_many(queries, 10, explain=False) == expected
