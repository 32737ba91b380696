"""Which of the many ways to search an index are worth taking: the cheapest for each recall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .conditions import Condition, K
from .plan import Plan
from .progress import Progress
from .searcher import OperatingPoint, Searcher

_K_FACTORS = (4, 6, 8, 10, 12, 15, 20, 30, 40, 60, 80, 120, 160)
# To scan a byte of 4-bit code costs so much of rescoring a byte of row (measured, AVX-512: 3.3 ns
# for 48 bytes of code, 130 ns for 768 bytes of row).
_CODE_COST = 0.4
# What changes recall by no more than this changes nothing.
_NOISE = 0.001
_CLEARLY_MORE = 1.4


@dataclass(frozen=True)
class Measured:
    """An operating point and its recall@10 under each condition."""

    point: OperatingPoint
    recall: dict[str, float]

    @property
    def worst(self) -> float:
        """The lowest recall of all conditions."""
        return min(self.recall.values())


def grid(plan: Plan, n: int, row_bytes: int, steps: int) -> list[OperatingPoint]:
    """Points from cheap to dear, by the bytes each touches.

    Args:
        plan: what the index is.
        n: rows.
        row_bytes: of one row.
        steps: how many numbers of lists are tried between one and its double.
    """
    halvings = [plan.lists >> shift for shift in range(8)]
    nprobes = sorted(
        {max(1, p * (2 * steps - s) // (2 * steps)) for p in halvings for s in range(steps)}
    )
    points = [OperatingPoint(p, f) for p in nprobes for f in _K_FACTORS]
    # A search scans the lists that hold its candidates, however few it is told to.
    points = [
        point
        for point in points
        if point.nprobe >= min(plan.lists, 2 * point.candidates(K + 1) * plan.lists / n)
    ]

    def cost(point: OperatingPoint) -> float:
        scanned = point.nprobe * n / plan.lists * plan.code_bytes
        return _CODE_COST * scanned + point.candidates(K) * row_bytes

    return sorted(points, key=cost)


def explore(
    searcher: Searcher,
    points: Sequence[OperatingPoint],
    conditions: Mapping[str, Condition],
    rungs: Sequence[float],
    progress: Progress,
) -> list[Measured]:
    """The first point that reaches each rung under all conditions, from cheap to dear.

    Args:
        points: from cheap to dear.
        conditions: what is asked; under filters `SLACK` less than a rung is enough.
        rungs: recall, ascending. Where one is out of reach, the dearest point takes its place.
        progress: told of each point.
    """
    front: list[Measured] = []
    left = list(rungs)
    before = _Before()
    hardest = list(conditions)
    progress.start("explore", len(points))
    for point in points:
        progress.advance(1)
        if before.brought_nothing(point):
            continue
        recall: dict[str, float] = {}
        for name in hardest:
            aim = left[0] - conditions[name].slack
            recall[name] = conditions[name].recall(searcher, point, aim)
            if recall[name] < aim:
                # Where this point failed others will fail.
                hardest.remove(name)
                hardest.insert(0, name)
                # Under a filter as many lists are scanned as the candidates need: fewer change
                # nothing, and more may.
                if not conditions[name].slack:
                    before.note(point, name, recall[name])
                break
        else:
            front.append(Measured(point, recall))
            reached = min(recall[name] + conditions[name].slack for name in recall)
            left = [rung for rung in left if rung > reached]
            if not left:
                break
    progress.finish()
    if left:
        dearest = OperatingPoint(
            max(point.nprobe for point in points), max(point.k_factor for point in points)
        )
        recall = {name: one.recall(searcher, dearest) for name, one in conditions.items()}
        best = Measured(dearest, recall)
        if not front or best.worst > front[-1].worst:
            front.append(best)
    return front


class _Before:
    """What points failed: more candidates for the same lists, or more lists for the same
    candidates, are not tried again once clearly more of them have brought nothing."""

    def __init__(self) -> None:
        self._failed: dict[tuple[str, int], tuple[int, str, float]] = {}
        self._spent: set[tuple[str, int]] = set()

    def brought_nothing(self, point: OperatingPoint) -> bool:
        """Whether it has on either line that the point lies on."""
        return any(line in self._spent for line, _ in self._lines(point))

    def note(self, point: OperatingPoint, condition: str, recall: float) -> None:
        """A point failed, with this recall under this condition."""
        for line, effort in self._lines(point):
            least, name, last = self._failed.get(line, (0, "", 0.0))
            if name != condition or effort >= _CLEARLY_MORE * least:
                if name == condition and abs(recall - last) <= _NOISE:
                    self._spent.add(line)
                self._failed[line] = (effort, condition, recall)

    @staticmethod
    def _lines(point: OperatingPoint) -> tuple[tuple[tuple[str, int], int], ...]:
        """The lines, and how far along each the point lies."""
        return (
            (("nprobe", point.nprobe), point.k_factor),
            (("k_factor", point.k_factor), point.nprobe),
        )
