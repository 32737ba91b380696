"""The parent's side of a peer's process: started, asked line by line, ended."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import IO, Any

from ..harness import pinned_environment
from .contestants import Contestant
from .errors import PeerFailedError

_ROOT = Path(__file__).resolve().parents[2]
_BUILD_SECONDS = 3600.0
_MEASURE_SECONDS = 600.0
_REASON_LINES = 3
# Not LANCE_IO_THREADS: with one, building LanceDB's index waits for ever.
_ONE_THREAD = (
    "RAYON_NUM_THREADS",
    "LANCE_CPU_THREADS",
    "TOKIO_WORKER_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)


@dataclass(frozen=True)
class Work:
    """What every peer is handed: files of float32 vectors (n, d) and queries (m, d)."""

    folder: Path
    vectors: Path
    queries: Path
    rows: Path | None
    """Metadata of the items, a JSON line each, for who keeps any."""
    k: int


def core() -> int:
    """The one core that all peers run on, each in its turn."""
    return max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0


def environment() -> dict[str, str]:
    """The variables of a peer's process: one thread by every name known."""
    return {**pinned_environment(1), **dict.fromkeys(_ONE_THREAD, "1")}


class Peer:
    """A contestant in a process of its own."""

    def __init__(self, contestant: Contestant, python: Path, work: Work) -> None:
        self.contestant = contestant
        self._work = work
        self._folder = work.folder / contestant.adapter / contestant.name.replace("/", "-")
        self._folder.mkdir(parents=True)
        self._log = self._folder / "log"
        command = [str(python), "-m", "benchmarks.peers.child"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, contestant.adapter, str(core()), str(work.k)],
                cwd=_ROOT,
                env=environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def build(self) -> dict[str, Any]:
        """Build the index; what the child says of it.

        Raises:
            PeerFailedError: the library raised, died, or took more than an hour.
        """
        wish = {
            "do": "build",
            "vectors": str(self._work.vectors),
            "queries": str(self._work.queries),
            "rows": str(self._work.rows) if self._work.rows else None,
            "folder": str(self._folder / "index"),
            "settings": dict(self.contestant.build),
        }
        return self._ask(wish, _BUILD_SECONDS)

    def measure(
        self, setting: Any, *, first: int, batch_s: float, single_s: float
    ) -> dict[str, Any]:
        """Time a setting; seconds and ids.

        Raises:
            PeerFailedError: the library raised, died, or took more than ten minutes.
        """
        wish = {
            "do": "measure",
            "setting": setting,
            "first": first,
            "batch_s": batch_s,
            "single_s": single_s,
        }
        return self._ask(wish, _MEASURE_SECONDS)

    def close(self) -> None:
        """End the process, which has nothing to save."""
        self._process.kill()
        self._process.communicate()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def _ask(self, wish: dict[str, Any], seconds: float) -> dict[str, Any]:
        timer = Timer(seconds, self._process.kill)
        timer.start()
        try:
            _stream(self._process.stdin).write(json.dumps(wish) + "\n")
            _stream(self._process.stdin).flush()
            line = _stream(self._process.stdout).readline()
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
        answer: dict[str, Any] = json.loads(line) if line else {"error": self._last_words(seconds)}
        if "error" in answer:
            raise PeerFailedError(
                self.contestant.name,
                expected=f"an answer to {wish['do']!r}",
                got=answer["error"],
                remedy="The others are measured without it.",
            )
        done: dict[str, Any] = answer["ok"]
        return done

    def _last_words(self, seconds: float) -> str:
        status = self._process.wait()
        lines = self._log.read_text("utf-8", "replace").strip().splitlines()
        said = " ".join(lines[-_REASON_LINES:])
        return f"its process ended with {status} within {seconds:g} s: {said}"


def _stream(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream
