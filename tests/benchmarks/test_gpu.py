"""The benchmark of a GPU, at sizes that a test can afford and with the CPU in the GPU's place."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.encoding_inputs import Inputs
from benchmarks.gpu import measure_encoding, measure_index, targets
from indexer.faiss_index import gpu_count
from tests.catalogs import WORDS, clustered, png


def inputs(modality: str, folder: Path) -> Inputs:
    rng = np.random.default_rng(0)
    values: list[Any] = [" ".join(rng.choice(WORDS, 4)) for _ in range(12)]
    if modality == "image":
        values = [folder / f"{number}.png" for number in range(6)]
        for path in values:
            path.write_bytes(png(rng, 48))
    return Inputs("some", modality, modality, values, folder, {})


@pytest.mark.parametrize("modality", ["text", "image"])
def test_an_encoder_is_held_against_its_models_own_loop(modality: str, tmp_path: Path) -> None:
    given = inputs(modality, tmp_path)
    found = measure_encoding(given, "cpu", rounds=1)
    assert found["inputs"] == len(given.values)
    assert all(rate > 0 for rate in found["per_second"].values())
    cosines = found["cosine_to_float32_on_cpu"]
    assert cosines["own_loop"] == pytest.approx(1, abs=1e-5)
    assert cosines["encode_all"] > 0.99


def test_an_index_is_held_against_that_of_the_cpu(tmp_path: Path) -> None:
    items, queries = clustered(3_000, 32), clustered(3_020, 32)[3_000:]
    found = measure_index(items, queries, tmp_path, gpu=False, rounds=1)
    assert found["factory"].startswith("IVF64,PQ8x8")
    assert set(found["nprobe"]) == {"8", "32"}
    for point in found["nprobe"].values():
        recalls = point["recall_at_10"]
        assert recalls["cpu"] == recalls["gpu"] > 0.9
        assert set(point["queries_per_second"]) == {
            *("cpu", "gpu"),
            *("cpu, codes alone", "gpu, codes alone"),
        }
        assert all(p50 > 0 for p50 in point["p50_ms"].values())


def test_targets_tell_what_was_missed() -> None:
    def encoding(ratio: float, cosine: float) -> dict[str, Any]:
        return {
            "encode_all_to_own_loop": ratio,
            "per_second": {"encode_all": 90.0, "own_loop": 100.0},
            "cosine_to_float32_on_cpu": {"encode_all": cosine, "own_loop": 1.0},
        }

    def point(gpu: float) -> dict[str, Any]:
        return {"recall_at_10": {"cpu": 0.96, "gpu": gpu}}

    figures = {
        "encoding": {"glosses": encoding(0.9, 0.9), "clip art": encoding(0.8, 0.9999)},
        "index": {
            "100000": {"nprobe": {"8": point(0.955), "32": point(0.97)}},
            "1000000": {"nprobe": {"8": point(0.96), "32": point(0.93)}},
        },
    }
    assert [one.met for one in targets(figures)] == [True, False, False, True, True, False]


@pytest.mark.skipif(gpu_count() > 0, reason="with a GPU it would run")
def test_without_a_gpu_it_says_what_it_needs(tmp_path: Path) -> None:
    asked = [sys.executable, "-m", "benchmarks.gpu", "--items", "100", "--out", str(tmp_path)]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "error: this benchmark: expected an NVIDIA GPU" in done.stderr
    assert "0 that FAISS sees" in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
