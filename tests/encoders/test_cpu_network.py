"""Networks by OpenVINO: torch's own results, int8 within bounds, threads, no telemetry."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from encoders.cpu_network import open_network
from encoders.exports import export_onnx
from tests.processes import run_python


class Layers(torch.nn.Module):
    """Matrices of 256 inputs, of 100, which are no whole groups, and one of zeros."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(256, 100), torch.nn.GELU(), torch.nn.Linear(100, 64, bias=False)
        )
        self.nothing = torch.nn.Linear(256, 64, bias=False)
        torch.nn.init.zeros_(self.nothing.weight)

    def forward(self, rows: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.layers(rows) * scale + self.nothing(rows)
        return found


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    return Layers().eval()


@pytest.fixture(scope="module")
def export(network: torch.nn.Module) -> bytes:
    return export_onnx(network, {"rows": torch.zeros(2, 256), "scale": torch.ones(2, 1)}, ["n"])


def feed(rows: int, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "rows": rng.standard_normal((rows, 256), dtype=np.float32),
        "scale": np.full((rows, 1), 2, dtype=np.float32),
    }


def told_by_torch(network: torch.nn.Module, given: dict[str, Any]) -> Any:
    with torch.inference_mode():
        return network(*map(torch.from_numpy, given.values())).numpy()


def test_torch_to_network(
    network: torch.nn.Module, export: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model.onnx").write_bytes(export)
    for opened in (open_network(export), open_network(tmp_path / "model.onnx")):
        assert opened.inputs == {"rows", "scale"} and opened.output == [-1, 64]
        for rows in (1, 2, 7):
            given = feed(rows)
            found = opened(given)
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, told_by_torch(network, given), atol=1e-5)
    # Standard output belongs to the command line, which prints JSON there.
    assert capfd.readouterr().out == ""


def test_fast_is_near(network: torch.nn.Module, export: bytes) -> None:
    given = feed(50)
    found, expected = open_network(export, fast=True)(given), told_by_torch(network, given)
    cosines = np.vecdot(found, expected) / (
        np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    )
    assert cosines.min() >= 0.999
    assert np.abs(found - expected).max() > 1e-6  # it is no float32


def test_results_are_not_overwritten_by_later_calls(export: bytes) -> None:
    opened = open_network(export)
    first = opened(feed(3))
    kept = first.copy()
    opened(feed(3, seed=1))
    np.testing.assert_array_equal(first, kept)


def test_threads_share_a_network(network: torch.nn.Module, export: bytes) -> None:
    opened = open_network(export)
    with ThreadPoolExecutor(4) as pool:
        for seed, found in enumerate(pool.map(lambda n: opened(feed(1 + n % 5, n)), range(40))):
            expected = told_by_torch(network, feed(1 + seed % 5, seed))
            np.testing.assert_allclose(found, expected, atol=1e-5)


FIRST_CALLS = """
import faulthandler, sys, threading
faulthandler.dump_traceback_later(60, exit=True)
sys.setswitchinterval(1e-6)
import numpy as np
from pathlib import Path
from encoders.cpu_network import open_network
network, together = open_network(Path(sys.argv[1])), threading.Barrier(8)
given = {"rows": np.zeros((2, 256), np.float32), "scale": np.ones((2, 1), np.float32)}
def call():
    together.wait()
    network(given)
threads = [threading.Thread(target=call) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_first_calls_at_once_do_not_wait_for_each_other(export: bytes, tmp_path: Path) -> None:
    """Without the first conversions at the import, most of these processes never end."""
    (tmp_path / "model.onnx").write_bytes(export)
    for _ in range(4):
        done = run_python(FIRST_CALLS, tmp_path / "model.onnx")
        assert (done.returncode, done.stderr) == (0, "")


def test_the_output_asked_for(export: bytes) -> None:
    names = {"rows", "scale"}
    assert open_network(export, outputs=["there is none such"]).inputs == names


def test_the_runtime_sends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its telemetry tells of the import alone, unless the package that tells is not loaded."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CI", raising=False)
    done = run_python(
        "import sys\nfrom encoders.cpu_network import runtime\nruntime().Core()\n"
        "print(*(name for name in sys.modules if sys.modules[name] and 'openvino_tele' in name))"
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []
