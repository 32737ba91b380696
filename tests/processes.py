"""Other processes: code run in a fresh interpreter, in the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
COMMAND = Path(sys.executable).with_name("catalens")


def run_python(code: str, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run code with `sys.argv[1:]` set; a crash of the interpreter is a negative return code."""
    options = {"timeout": 120, **options}
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


def run_module(module: str, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a module of the checkout, one thread in each process."""
    options = {"timeout": 120, **options}
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


def start_python(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Start code whose input and output are pipes of lines."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
    )


def run_command(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the installed `catalens`."""
    options = {"timeout": 120, "cwd": ROOT, **options}
    return subprocess.run(
        [str(COMMAND), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


OPEN_STORE = """
import sys
from pathlib import Path
from encoders.errors import CatalensError
from indexer.environment import Environment
try:
    env = Environment.acquire(Path(sys.argv[1]))
    with env.view() as view:
        found = sum(len(list(view.scan(name))) for name in view.databases())
    print("read", found)
except CatalensError as error:
    print(type(error).__name__, error.exit_code, "expected" in str(error))
"""
