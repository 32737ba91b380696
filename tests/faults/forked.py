"""Children forked from a process that has imported everything and opened nothing.

An LMDB environment must not cross a fork, and an interpreter takes most of a second to start: so
tests start one such process, and that forks a child for each fault.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

_FORK = multiprocessing.get_context("fork")
_LONGEST = 60.0


class FailedError(Exception):
    """The child raised; its traceback."""


def preload() -> None:
    """Import what children would each import for themselves; nothing is opened and no thread
    started."""
    import faiss
    import pyroaring  # noqa: F401

    import tests.toy_encoders  # noqa: F401

    faiss.omp_set_num_threads(1)


def result_of(work: Callable[..., Any], *arguments: Any) -> Any:
    """What a child's work returns.

    Raises:
        FailedError: it raised, died or hung.
    """
    return results_of([(work, arguments)])[0]


def results_of(
    works: Sequence[tuple[Callable[..., Any], tuple[Any, ...]]], timeout: float = _LONGEST
) -> list[Any]:
    """What several children return that run side by side.

    Raises:
        FailedError: one raised, died or hung; all are ended then.
    """
    children = []
    for work, arguments in works:
        ours, theirs = _FORK.Pipe(duplex=False)
        child = _FORK.Process(target=_send, args=(theirs, work, arguments))
        child.start()
        theirs.close()
        children.append((ours, child))
    end, answers = time.monotonic() + timeout, []
    try:
        for ours, child in children:
            if not ours.poll(max(0.0, end - time.monotonic())):
                raise FailedError("it hangs")
            try:
                raised, answer = ours.recv()
            except EOFError:
                child.join()
                raise FailedError(f"it died (exit {child.exitcode})") from None
            if raised:
                raise FailedError(answer)
            answers.append(answer)
        return answers
    finally:
        for ours, child in children:
            if len(answers) < len(children):
                child.kill()
            child.join()
            ours.close()


def killed(work: Callable[..., Any], *arguments: Any, after: float | None = None) -> bool:
    """Run work in a child, killed after so many seconds, if any; whether it was killed, by us or by
    itself.

    Raises:
        FailedError: it ended in another way than by its end.
    """
    child = _FORK.Process(target=_run, args=(work, arguments))
    child.start()
    if after is not None:
        time.sleep(after)
        assert child.pid
        os.kill(child.pid, signal.SIGKILL)
    child.join(_LONGEST)
    if child.exitcode not in (0, -signal.SIGKILL):
        child.kill()
        raise FailedError(f"exit {child.exitcode}")
    return child.exitcode != 0


def log_to(path: Path) -> Callable[[str], None]:
    """A log whose lines outlive their process."""

    def say(line: str) -> None:
        with path.open("a") as file:
            file.write(line + "\n")

    return say


def said(path: Path) -> list[str]:
    """The lines of a log."""
    return path.read_text().splitlines() if path.exists() else []


def _send(pipe: Any, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        pipe.send((False, work(*arguments)))
    except BaseException:
        pipe.send((True, traceback.format_exc()))


def _run(work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    work(*arguments)
