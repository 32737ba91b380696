"""Functions that kill their process at some call: for scripts that tests run."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any


class Dying:
    """Wraps functions: of all their calls together so many are let through, and the next kills."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function as one that dies."""

        def wrapped(*arguments: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                os.kill(os.getpid(), 9)
            return function(*arguments, **options)

        return wrapped
