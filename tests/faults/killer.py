"""Run by `test_kill`: kill a stage at chosen points and random times, and look at what is left.

    python -m tests.faults.killer FOLDER STAGE POINTS TIMES AGAIN SEED

Kills at so many of the stage's points (all of them, if there are no more), at so many random
times, and so many times one after the other on the same index. Prints a line of JSON for each:
where, whether it was killed, the step that the index was left at, and the problem, if any.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path

import numpy as np

from . import points
from .forked import FailedError, killed, log_to, preload, result_of, said
from .stages import STAGES, Stage


class Killer:
    """Kills one stage, each time from the same start."""

    def __init__(self, folder: Path, stage: Stage) -> None:
        self.stage = stage
        self.start, self.index = folder / "start", folder / "index"
        self.log = folder / "log"
        result_of(stage.prepare, self.start)

    def again(self) -> None:
        """The index as it was before."""
        shutil.rmtree(self.index, ignore_errors=True)
        if self.start.exists():
            shutil.copytree(self.start, self.index)
        self.log.unlink(missing_ok=True)

    def work(self, fatal: int) -> list[str]:
        """The stage, in a child that may die."""
        os.environ[points.VARIABLE] = str(fatal)
        reached = points.install()
        self.stage.run(self.index, log_to(self.log))
        return reached

    def left(self, goes_on: bool) -> int:
        """The step that the index is at, after a child that has died; a writer then goes on."""
        outcome = self.stage.outcome(self.index, said(self.log))
        if goes_on:
            self.stage.go_on(self.index)
        return outcome

    def strike(
        self, where: str, fatal: int, after: float | None = None, *, goes_on: bool = True
    ) -> None:
        """Kill it once and tell."""
        told: dict[str, object] = {"where": where, "killed": False, "step": None, "problem": ""}
        try:
            told["killed"] = killed(self.work, fatal, after=after)
            told["step"] = result_of(self.left, goes_on)
        except FailedError as error:
            told["problem"] = str(error)
        print(json.dumps(told), flush=True)


def chosen(reached: list[str], most: int, rng: np.random.Generator) -> list[int]:
    """Points to kill at: each kind of step its part, counted from 1."""
    if len(reached) <= most:
        return list(range(1, len(reached) + 1))
    kinds = sorted(set(reached))
    shuffled = [
        rng.permutation([n for n, name in enumerate(reached, 1) if name == kind]).tolist()
        for kind in kinds
    ]
    taken: list[int] = []
    while len(taken) < most:
        for numbers in shuffled:
            if numbers:
                taken.append(numbers.pop())
    return sorted(taken[:most])


def main() -> None:
    """Kill as the command line says."""
    folder, stage = Path(sys.argv[1]), STAGES[sys.argv[2]]
    most, times, again, seed = map(int, sys.argv[3:])
    preload()
    rng = np.random.default_rng(seed)
    killer = Killer(folder, stage)
    killer.again()
    started = time.monotonic()
    reached: list[str] = result_of(killer.work, 0)
    duration = time.monotonic() - started
    for number in chosen(reached, most, rng):
        killer.again()
        killer.strike(f"point {number} of {len(reached)}: {reached[number - 1]}", number)
    for after in rng.uniform(0, duration, size=times).tolist():
        killer.again()
        killer.strike(f"after {after:.4f} s", 0, after)
    killer.again()
    for after in rng.uniform(duration / 2, duration, size=again).tolist():
        killer.strike(f"again after {after:.4f} s", 0, after, goes_on=False)
    if again:
        killer.strike("at last", 0)


if __name__ == "__main__":
    main()
