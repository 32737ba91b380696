"""A query by id or by vector loads no model library."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.catalogs import build_vectors, clustered
from tests.processes import run_python

HEAVY = ("torch", "transformers", "open_clip", "openvino", "torchaudio", "sentence_transformers")

CODE = """
import sys
import catalens
with catalens.Retriever.open(sys.argv[1]) as retriever:
    assert len(retriever.search(catalens.Query(like="v0"), 3)) == 3
    assert len(retriever.search(catalens.Query(vector=[1.0] * 8), 3, where="even = true")) == 3
print(sorted(set(sys.argv[2].split(",")) & set(sys.modules)))
"""


@pytest.mark.parametrize("n", [20, 5000])
def test_no_model_library_is_loaded(tmp_path: Path, n: int) -> None:
    build_vectors(tmp_path / "index", clustered(n, 8), even=[i % 2 == 0 for i in range(n)])
    done = run_python(CODE, tmp_path / "index", ",".join(HEAVY))
    assert (done.stdout, done.stderr) == ("[]\n", "")
