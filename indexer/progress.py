"""How long work tells whoever waits how far it is."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told of each stage of a build: its name, its size if known, and every step."""

    def start(self, stage: str, total: int | None) -> None:
        """A stage begins; `total` is its number of steps, None when it cannot be known."""

    def advance(self, steps: int) -> None:
        """So many steps more are done."""

    def finish(self) -> None:
        """The stage has ended."""


class Silent:
    """Tells nobody."""

    def start(self, stage: str, total: int | None) -> None:
        """Do nothing."""

    def advance(self, steps: int) -> None:
        """Do nothing."""

    def finish(self) -> None:
        """Do nothing."""
