"""File systems of a test's own, in a namespace that a plain user may make where the system lets
them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from typing import Any

import pytest

from tests.processes import ROOT

_ENTER = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-euc")


@cache
def can_mount() -> bool:
    """Whether file systems can be mounted in a namespace here."""
    if shutil.which("unshare") is None:
        return False
    tried = subprocess.run([*_ENTER, "mount -t tmpfs tmpfs /tmp"], capture_output=True, check=False)
    return tried.returncode == 0


def run_mounted(
    mounts: str, *command: object, timeout: float = 120, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run Python where the shell line `mounts` has been run before; its `$1` and so on are the
    command's arguments. Skips the test where that is not allowed."""
    if not can_mount():
        pytest.skip("no file system can be mounted here")
    return subprocess.run(
        [*_ENTER, f'{mounts}; exec "$PYTHON" "$@"', "sh", *map(str, command)],
        cwd=ROOT,
        env={**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        **options,
    )


def run_bound_by_modes(*command: object) -> subprocess.CompletedProcess[str]:
    """Run Python as one whom the modes of files bind: as root it gives up root's powers over them
    and owns what root owns. Skips the test where root cannot."""
    alone = () if os.geteuid() else ("unshare", "--user")
    if alone and not can_mount():
        pytest.skip("root cannot give up its powers here")
    return subprocess.run(
        [*alone, sys.executable, *map(str, command)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
