"""A network of one layer that learns a line, for the tests of training; as a program, a training
that waits to be killed."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import torch

from encoders.training import Plan, train

PLAN = Plan(epochs=6, batch=8, rate=0.2)


class Line:
    """Learns a linear map from noisy pairs; hopeless pairs have nothing to be learned."""

    kind = "line"

    def __init__(self, count: int, hopeless: bool = False) -> None:
        self.count = count
        self.name = f"line {count} {hopeless}"
        draw = torch.Generator().manual_seed(7)
        self._x = torch.randn((count, 4), generator=draw)
        self._y = self._x @ torch.tensor([[1.0], [-2.0], [0.5], [3.0]])
        if hopeless:
            self._y = torch.randn((count, 1), generator=draw)
        self.module = torch.nn.Linear(4, 1)
        with torch.no_grad():
            self.module.weight.zero_()
            self.module.bias.zero_()

    def loss(self, rows: Any, draw: Any) -> Any:
        """Mean squared error, of inputs with noise that is drawn."""
        x = self._x[rows]
        x = x + 0.01 * torch.randn(x.shape, generator=draw)
        return ((self.module(x) - self._y[rows]) ** 2).mean()


class Steps:
    """Progress that counts, and waits for a kill after so many steps."""

    def __init__(self, wait_after: int | None = None) -> None:
        self.total = self.done = self.first = 0
        self._calls = 0
        self._wait_after = wait_after

    def start(self, stage: str, total: int | None) -> None:
        """Note how many steps there will be."""
        self.total = total or 0

    def advance(self, steps: int) -> None:
        """Count; the first call tells what was done before."""
        self._calls += 1
        if self._calls == 1:
            self.first = steps
        self.done += steps
        if self._wait_after is not None and self.done >= self._wait_after:
            print("there", flush=True)
            time.sleep(600)

    def finish(self) -> None:
        """Do nothing."""


def line_weights(task: Line) -> Any:
    """All parameters in one vector."""
    return torch.cat([x.detach().reshape(-1) for x in task.module.parameters()])


if __name__ == "__main__":
    train(Line(100), PLAN, Steps(int(sys.argv[2])), Path(sys.argv[1]))
