"""Measure recall on the catalog's own rows and choose the operating point by it.

An index does not know its recall, and it is another one when a query asks for one space alone:
the lists and codes were trained on all of them. So the point is chosen by the worst of the
conditions that users really ask for: all spaces at their default weights, and each alone. Queries
that are against a space have a point of their own, chosen by the worst of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .plan import Plan
from .searcher import OperatingPoint, Searcher

Floats = NDArray[np.float32]

TARGET = 0.97
"""Aimed at, so that 0.95 is kept by queries that differ from the rows measured on."""
_K = 10
_QUERIES = 128
# The weight of the space that a query is against: as much as an unliked item's.
_AGAINST = -0.5
_K_FACTORS = (4, 6, 8, 10, 15, 20, 30, 40, 60, 80, 120, 160)
# Scanning a byte of 4-bit code costs a sixth of rescoring a byte of row (measured, AVX2).
_CODE_COST = 1 / 6


# Queries (m, D), their own positions (m,), and the exact k-th best score (m,) for each.
Condition = tuple[Floats, NDArray[np.int64], Floats]


@dataclass(frozen=True)
class MeasuredPoint:
    """An operating point and its recall@10 under each condition."""

    point: OperatingPoint
    recall: dict[str, float]

    @property
    def worst(self) -> float:
        return min(self.recall.values())


@dataclass(frozen=True)
class Calibrated:
    """The point of queries whose weights are positive, and that of queries that are against a
    space: codes tell least where what is alike must be far away, so these need more candidates."""

    toward: MeasuredPoint
    against: MeasuredPoint | None
    """None where there is a single space, or where spaces share dimensions."""


def calibrate(
    searcher: Searcher,
    plan: Plan,
    blocks: dict[str, slice],
    weights: Mapping[str, float],
    seed: int = 0,
) -> Calibrated:
    """Choose the cheapest points whose worst recall@10 reaches `TARGET`, or else the best.

    Queries are rows of the catalog: whole and one block at a time, and with one block's sign
    turned; each row is left out of its own answer. The oracle is an exact scan of the rows, ties
    allowed.

    Args:
        searcher: what is measured.
        plan: what the index is.
        blocks: where each space lies in the rows; empty where they share dimensions.
        weights: default weight of each space.
        seed: chooses the rows.
    """
    if plan.kind == "exact":
        return Calibrated(MeasuredPoint(OperatingPoint(1, 1), {"exact": 1.0}), None)
    rng = np.random.default_rng(seed)
    # In random order: catalogs are sorted, and their first items are of one kind.
    sample = rng.choice(len(searcher.rows), min(4096, len(searcher.rows)), replace=False)
    rows = searcher.rows.take(sample)
    points = _grid(plan, len(searcher.rows), rows.shape[1])
    toward = _cheapest(searcher, points, _measurable(searcher, _toward(rows, sample, blocks)))
    if len(blocks) < 2:
        return Calibrated(toward, None)
    against = _measurable(searcher, _against(rows, sample, blocks, weights))
    # What is enough for the harder question is at least what is enough for the other.
    dearer = points[points.index(toward.point) :]
    return Calibrated(toward, _cheapest(searcher, dearer, against))


def _cheapest(
    searcher: Searcher, points: Sequence[OperatingPoint], conditions: dict[str, Condition]
) -> MeasuredPoint:
    best: MeasuredPoint | None = None
    for point in points:
        measured = _measure(searcher, point, conditions)
        if measured.worst >= TARGET:
            return measured
        if best is None or measured.worst > best.worst:
            best = measured
    assert best is not None
    return best


def _measure(
    searcher: Searcher, point: OperatingPoint, conditions: dict[str, Condition]
) -> MeasuredPoint:
    """Recall under each condition."""
    return MeasuredPoint(
        point,
        {
            name: _recall(searcher, point, queries, own, kth)
            for name, (queries, own, kth) in conditions.items()
        },
    )


def _grid(plan: Plan, n: int, dimension: int) -> list[OperatingPoint]:
    """Points from cheap to dear, by the bytes each touches."""
    whole = [max(1, plan.lists >> shift) for shift in range(8)]
    nprobes = sorted({*whole, *(max(1, p * 3 // 4) for p in whole)})
    points = [OperatingPoint(p, f) for p in nprobes for f in _K_FACTORS]

    def cost(point: OperatingPoint) -> float:
        scanned = point.nprobe * n / plan.lists * plan.code_bytes
        return _CODE_COST * scanned + point.candidates(_K) * 2 * dimension

    return sorted(points, key=cost)


# Queries (m, D), and the position that each is made of (m,).
Asked = dict[str, tuple[Floats, NDArray[np.int64]]]


def _toward(rows: Floats, positions: NDArray[np.int64], blocks: dict[str, slice]) -> Asked:
    chosen = {"all spaces": (rows[:_QUERIES], positions[:_QUERIES])}
    for name, where in blocks.items() if len(blocks) > 1 else ():
        present = np.flatnonzero(np.any(rows[:, where] != 0, axis=1))[:_QUERIES]
        if len(present):
            alone = np.zeros((len(present), rows.shape[1]), dtype=np.float32)
            alone[:, where] = rows[present, where]
            chosen[f"{name} alone"] = (alone, positions[present])
    return chosen


def _against(
    rows: Floats,
    positions: NDArray[np.int64],
    blocks: dict[str, slice],
    weights: Mapping[str, float],
) -> Asked:
    """All spaces with a weight of 1 but one, which has `_AGAINST`: asked by items that have them
    all, where there are any. To be against a space alone is another question, and an easier one."""
    chosen = {}
    here = np.stack([np.any(rows[:, where] != 0, axis=1) for where in blocks.values()], axis=1)
    whole = here.all(axis=1) if here.all(axis=1).any() else here.any(axis=1)
    for column, name in enumerate(blocks):
        present = np.flatnonzero(whole & here[:, column])[:_QUERIES]
        if len(present):
            # Rows carry the square root of the default weights, queries what is left of theirs.
            asked = rows[present].copy()
            for other, there in blocks.items():
                asked[:, there] *= np.float32((_AGAINST if other == name else 1) / weights[other])
            chosen[f"against {name}"] = (asked, positions[present])
    return chosen


def _measurable(searcher: Searcher, asked: Asked) -> dict[str, Condition]:
    """With the exact k-th best score (m,) for each query."""
    stacked = np.concatenate([queries for queries, _ in asked.values()])
    own = np.concatenate([positions for _, positions in asked.values()])
    kth = _exact_kth(searcher, stacked, own)
    conditions, start = {}, 0
    for name, (queries, positions) in asked.items():
        conditions[name] = (queries, positions, kth[start : start + len(queries)])
        start += len(queries)
    return conditions


def _exact_kth(searcher: Searcher, queries: Floats, own: NDArray[np.int64]) -> Floats:
    """Exact k-th best score of each query over all rows but its own."""
    top = np.full((len(queries), _K), -np.inf, dtype=np.float32)
    for start, rows in searcher.rows.chunks():
        scores = queries @ rows.T
        here = np.flatnonzero((own >= start) & (own < start + len(rows)))
        scores[here, own[here] - start] = -np.inf
        top = np.partition(np.concatenate([top, scores], axis=1), -_K, axis=1)[:, -_K:]
    return np.asarray(top.min(axis=1))


def _recall(
    searcher: Searcher,
    point: OperatingPoint,
    queries: Floats,
    own: NDArray[np.int64],
    kth: Floats,
) -> float:
    """Share of the k best that are found; a score as good as the k-th counts (ties)."""
    found = 0
    for (positions, scores), mine, bound in zip(
        searcher.search(queries, _K + 1, point), own, kth, strict=True
    ):
        others = scores[positions != mine][:_K]
        # Scores are computed in another order than the oracle's: allow for rounding.
        found += int(np.count_nonzero(others >= bound - 1e-5))
    return found / (_K * len(queries))
