"""Several pictures of one item: their mean, or the one that is most like the query."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from catalens import Query, Retriever, build_index, rebuild_index
from tests import toy_encoders
from tests.catalogs import Opened

N = 300


def texts(n: int) -> list[str]:
    return [f"word{n}", f"thing{n % 40}", f"sort{n % 7}"]


@pytest.fixture(scope="module", params=["mean", "max-similarity"])
def index(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("pooling") / "index"
    preset = {
        "name": "several",
        "spaces": [
            {
                "name": "looks",
                "item": "text",
                "encoders": {"text": {"kind": "toy-text"}},
            }
        ],
    }
    rows = [{"id": str(n), "text": texts(n)} for n in range(N)]
    toy_encoders.install()
    build_index(rows, out, preset=preset, device="cpu")
    rebuild_index(out, pool={"looks": request.param})
    return request.param, out


def test_scores_are_those_of_the_most_similar_input_or_of_the_mean(index: tuple[str, Path]) -> None:
    pool, path = index
    opened = Opened(path)
    transform = opened.fusion.transforms["looks"]
    with Retriever.open(path) as shop:
        internals: Any = shop
        view = internals._view

        def block(text: str) -> np.ndarray:
            wanted = ("looks", "text", text.encode())
            vector = view.encoder.encode([wanted], view.snapshot)[wanted]
            return transform.query_block(vector, "text").astype(np.float64)

        for asked in ("thing3", "sort2", "word17"):
            query = block(asked)
            expected = np.array(
                [max(query @ block(text) for text in texts(n)) for n in range(N)]
                if pool == "max-similarity"
                else opened.rows.astype(np.float64) @ query
            )
            hits = shop.search(Query(text=asked), 5)
            assert [hit.score for hit in hits] == pytest.approx(
                np.sort(expected)[::-1][:5], abs=2e-3
            )
            for hit in hits:
                match = hit.spaces["looks"]
                assert match.similarity == pytest.approx(expected[int(hit.id)], abs=2e-3)
                assert match.contribution == pytest.approx(hit.score, abs=1e-4)
            if pool == "max-similarity":
                assert hits[0].spaces["looks"].similarity == pytest.approx(1.0, abs=1e-3)
            else:
                assert (hits[0].spaces["looks"].similarity or 0.0) < 0.9
