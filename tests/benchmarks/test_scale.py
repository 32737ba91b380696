"""The scale benchmark on sizes that a test can afford."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers.scoring import Oracle
from benchmarks.scale import NOISE, K, in_child, targets, write_vectors
from tests.catalogs import clustered


def test_vectors_are_the_real_ones_and_then_noisy_copies(tmp_path: Path) -> None:
    real = clustered(50, 64)
    write_vectors(real, 120, tmp_path / "v.npy")
    found = np.load(tmp_path / "v.npy")
    assert found.shape == (120, 64) and found.dtype == np.float32
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert np.allclose(found[:50], real, atol=1e-6)
    cosines = np.vecdot(found[50:], real[np.arange(50, 120) % 50])
    assert np.all(cosines < 1 - NOISE**2 / 8) and np.all(cosines > 1 - NOISE**2)


@pytest.mark.parametrize("n", [10, 11, 300])
def test_kth_best_is_that_of_a_sort(n: int) -> None:
    items, queries = clustered(n, 8), clustered(n + 5, 8)[n:]
    expected = np.sort(queries @ items.T, axis=1)[:, -K]
    assert Oracle.of(items, queries, K).kth == pytest.approx(expected, abs=1e-6)


def test_an_index_is_built_and_asked_in_other_processes(tmp_path: Path) -> None:
    items, queries = clustered(1_500, 32), clustered(1_520, 32)[1_500:]
    np.save(tmp_path / "items.npy", items)
    np.save(tmp_path / "queries.npy", queries)
    built = in_child("build", 1, str(tmp_path / "items.npy"), str(tmp_path / "index"))
    assert built["index"].startswith("IVF") and built["peak_anonymous_bytes"] > 2**20
    assert {"encode", "train index"} <= set(built["stages_s"])
    answered = in_child("ask", 1, str(tmp_path / "index"), str(tmp_path / "queries.npy"))
    assert Oracle.of(items, queries, K).recall(answered["ids"]) > 0.9
    assert 0 < answered["p50_ms"] <= answered["p99_ms"]
    with pytest.raises(RuntimeError, match="failed"):
        in_child("ask", 1, str(tmp_path / "nothing"), str(tmp_path / "queries.npy"))


def test_targets_tell_what_was_missed() -> None:
    def size(recall: float, share: float) -> dict[str, object]:
        build = {"peak_anonymous_bytes": 2e9}
        return {"recall_at_10": recall, "opened_share": share, "build": build}

    figures = {"exponent": 0.4, "sizes": {"1000": size(0.94, 0.2), "20000": size(0.97, 0.04)}}
    assert [target.met for target in targets(figures)] == [True, False, False, True]
