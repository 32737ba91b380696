"""An environment for each library, made once by pip and kept in the cache."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from ..harness import say
from .contestants import Contestant
from .errors import PeerFailedError

_STAMP = "installed.json"
"""Written last: an environment without it is made again."""
_REASON_LINES = 3
_PIP = ("-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--quiet")


def peers_folder() -> Path:
    """`$CATALENS_CACHE/peers`, or `~/.cache/catalens/peers`."""
    chosen = os.environ.get("CATALENS_CACHE")
    return (Path(chosen) if chosen else Path.home() / ".cache" / "catalens") / "peers"


def interpreter(contestant: Contestant) -> Path:
    """The Python that has the contestant's library, installed where it is not yet.

    Raises:
        PeerFailedError: it cannot be installed.
    """
    if contestant.environment is None:
        return Path(sys.executable)
    folder = peers_folder() / contestant.environment
    python = folder / "bin" / "python"
    wanted = {
        "requirements": list(contestant.requirements),
        "python": platform.python_version(),
    }
    stamp = folder / _STAMP
    if stamp.is_file() and json.loads(stamp.read_text("utf-8")) == wanted:
        return python
    say(f"installing {', '.join(contestant.requirements)} into {folder}")
    shutil.rmtree(folder, ignore_errors=True)
    _run(contestant, [sys.executable, "-m", "venv", str(folder)])
    _run(contestant, [str(python), *_PIP, *contestant.requirements])
    stamp.write_text(json.dumps(wanted), "utf-8")
    return python


def _run(contestant: Contestant, command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise PeerFailedError(
            contestant.name,
            expected=f"an environment with {', '.join(contestant.requirements)}",
            got=" ".join(lines[-_REASON_LINES:]),
            remedy="The others are measured without it.",
        )
