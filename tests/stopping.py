"""Builds stopped where a test wants them to stop."""

from __future__ import annotations


class StoppedError(Exception):
    """Raised by a progress in the middle of a build."""


class StopAfter:
    """A progress that raises at the n-th step of a stage."""

    def __init__(self, stage: str, steps: int) -> None:
        self._wanted, self._steps, self._stage = stage, steps, ""

    def start(self, stage: str, total: int | None) -> None:
        self._stage = stage
        self.advance(0)

    def advance(self, steps: int) -> None:
        if self._stage == self._wanted:
            self._steps -= steps
            if self._steps < 0:
                raise StoppedError(self._stage)

    def finish(self) -> None:
        self._stage = ""
