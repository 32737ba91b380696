"""The training loop of every network that learns from a catalog.

Epochs over shuffled batches, judged after each by a part that was held out; the best epoch counts,
and training stops where it gets no better. After each epoch all that the next hangs on is on disk:
a training that was killed goes on, and ends with the same weights as one that was not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..fitting import FitProgress
from ..memory import device_memory
from .checkpoint import Checkpoint
from .steps import Steps, threads_for

if TYPE_CHECKING:
    from torch import Generator, Tensor
    from torch.nn import Module

_HELD_OUT = 10
"""One input in so many, and at most two batches, judges."""
_STEPS_PER_EPOCH = 8


@dataclass(frozen=True)
class Plan:
    """How long and how fast to learn."""

    epochs: int
    batch: int
    rate: float
    decay: float = 1e-4
    patience: int = 4
    """Epochs without a better loss of what was held out, after which training stops."""
    seed: int = 0


class Task(Protocol):
    """What is learned, from how many inputs, and what it costs to be wrong about some of them."""

    kind: str
    """Of the encoder, for messages."""
    name: str
    """Tells network and inputs from any others: a checkpoint of another task is not used."""
    module: Module
    """All that has parameters, on the device where it is trained."""
    count: int
    """Inputs there are, at least 4."""

    def loss(self, rows: Tensor, draw: Generator) -> Tensor:
        """The loss of a batch of inputs, int64 (n,), n >= 2; all that is random comes from `draw`,
        a generator of the CPU."""


@dataclass(frozen=True)
class Trained:
    """How a training went; losses are of what was held out, the first before any epoch."""

    epochs: int
    best_epoch: int
    losses: tuple[float, ...]
    learned_from: int
    held_out: int

    def told(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "losses": [round(loss, 4) for loss in self.losses]}


def train(task: Task, plan: Plan, progress: FitProgress, folder: Path) -> Trained:
    """Train a task's module in place; its weights are those of the best epoch in the end.

    The same seed gives the same weights on the same machine and number of threads. No global
    generator is read or moved.

    Args:
        task: see there.
        plan: epochs, batch size (less for a small catalog), rate.
        progress: told of one stage, of as many steps as there are batches.
        folder: for the checkpoint.

    Raises:
        OutOfMemoryError: a batch does not fit on the device.
    """
    run = _Run(task, plan, folder)
    progress.start(f"train {task.kind}", plan.epochs * run.steps_per_epoch)
    progress.advance(run.epochs * run.steps_per_epoch)
    with device_memory(task.kind, run.batch), threads_for(small=run.batch < plan.batch):
        while not run.has_ended:
            for _ in run.epoch():
                progress.advance(1)
            run.judge()
    progress.finish()
    return run.finish()


class _Run:
    """A training between two epochs."""

    def __init__(self, task: Task, plan: Plan, folder: Path) -> None:
        import torch

        self._task, self._plan, self._folder = task, plan, folder
        self._draw = torch.Generator().manual_seed(plan.seed)
        order = torch.randperm(task.count, generator=self._draw)
        held_out = max(2, min(task.count // _HELD_OUT, 2 * plan.batch))
        self._held_out, self._learned = order[:held_out], order[held_out:]
        # Smaller catalogs take smaller batches, to have this many steps in an epoch.
        self.batch = max(2, min(plan.batch, len(self._learned) // _STEPS_PER_EPOCH))
        self.steps_per_epoch = len(self._learned) // self.batch
        self._steps = Steps(
            task.module.parameters(),
            rate=plan.rate,
            decay=plan.decay,
            total=max(1, plan.epochs * self.steps_per_epoch),
        )
        self._losses: list[float] = []
        self._best: dict[str, Tensor] = {}
        self._identity = f"{task.name} {asdict(plan)}"
        if not self._restore():
            self.judge()

    @property
    def epochs(self) -> int:
        """Epochs that are done."""
        return len(self._losses) - 1

    @property
    def has_ended(self) -> bool:
        """Whether all epochs are done, or the last ones have not helped."""
        late = self.epochs - self._best_epoch >= self._plan.patience
        return self.epochs >= self._plan.epochs or late

    def epoch(self) -> Iterator[None]:
        """Learn from each input once; yields after each step."""
        import torch

        self._task.module.train()
        rows = self._learned[torch.randperm(len(self._learned), generator=self._draw)]
        for step in range(self.steps_per_epoch):
            some = rows[step * self.batch : (step + 1) * self.batch]
            self._steps(self._task.loss(some, self._draw))
            yield

    def judge(self) -> None:
        """Take the loss of what was held out, always in the same views, and keep all on disk."""
        import torch

        self._task.module.eval()
        draw = torch.Generator().manual_seed(self._plan.seed)
        with torch.inference_mode():
            starts = range(0, len(self._held_out), self.batch)
            parts = [self._held_out[start : start + self.batch] for start in starts]
            # A last part of one has nothing to be told from.
            losses = [self._task.loss(part, draw).item() for part in parts if len(part) > 1]
        self._losses.append(sum(losses) / len(losses))
        if self._best_epoch == self.epochs:
            state = self._task.module.state_dict()
            self._best = {name: x.detach().cpu().clone() for name, x in state.items()}
        self._save()

    def finish(self) -> Trained:
        """Give the module the weights of the best epoch."""
        self._task.module.load_state_dict(self._best)
        self._task.module.eval()
        return Trained(
            self.epochs,
            self._best_epoch,
            tuple(self._losses),
            len(self._learned),
            len(self._held_out),
        )

    @property
    def _best_epoch(self) -> int:
        return min(range(len(self._losses)), key=lambda n: _rank(self._losses[n]))

    def _save(self) -> None:
        tensors = {"draw": self._draw.get_state()}
        for part, named in (
            ("now", self._task.module.state_dict()),
            ("best", self._best),
            ("steps", self._steps.state()),
        ):
            tensors.update({f"{part}/{name}": x for name, x in named.items()})
        told = {"task": self._identity, "losses": self._losses}
        Checkpoint(tensors, told).save(self._folder)

    def _restore(self) -> bool:
        found = Checkpoint.load(self._folder, self._identity)
        if found is None:
            return False
        parts: dict[str, dict[str, Tensor]] = {"now": {}, "best": {}, "steps": {}}
        for key, value in found.tensors.items():
            part, slash, name = key.partition("/")
            if slash:
                parts[part][name] = value
        self._losses = list(found.told["losses"])
        self._best = parts["best"]
        self._task.module.load_state_dict(parts["now"])
        self._steps.restore(parts["steps"], self.epochs * self.steps_per_epoch)
        self._draw.set_state(found.tensors["draw"])
        return True


def _rank(loss: float) -> float:
    return loss if math.isfinite(loss) else math.inf
