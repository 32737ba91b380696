"""Points at which a process can be made to die, chosen by an environment variable.

`CATALENS_FAULT=17` kills the process, as `kill -9` does, before the 17th of the steps below, which
are all that leave something on disk, or begin to read it; 0 kills none. The product knows nothing
of this: a test's process wraps its steps with `install`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

from indexer.durable import HashedFile
from indexer.environment import Environment, WriteTransaction

VARIABLE = "CATALENS_FAULT"

# Of the operating system: files synced, folders and names that come and go.
_SYSTEM = ("fsync", "rename", "link", "unlink", "mkdir", "rmdir", "posix_fallocate")
# Of a transaction: before it begins, and inside of it.
_STEPS: tuple[tuple[Any, str], ...] = (
    (Environment, "write"),
    (Environment, "_fill_up"),  # committed, but `write` has not returned
    (Environment, "view"),
    (WriteTransaction, "put"),
    (WriteTransaction, "delete"),
    (WriteTransaction, "drop"),
    (HashedFile, "write"),
)


def install() -> list[str]:
    """Wrap the steps in this process; return the list that each adds its name to when it is
    reached."""
    reached: list[str] = []
    fatal = int(os.environ.get(VARIABLE, "0"))
    for owner, name in (*((os, name) for name in _SYSTEM), *_STEPS):
        setattr(owner, name, _counted(getattr(owner, name), name, reached, fatal))
    return reached


def _counted(
    step: Callable[..., Any], name: str, reached: list[str], fatal: int
) -> Callable[..., Any]:
    def counted(*arguments: Any, **options: Any) -> Any:
        reached.append(name)
        if len(reached) == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(*arguments, **options)

    return counted
