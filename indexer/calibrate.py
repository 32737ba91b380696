"""Measure recall on the catalog's own rows and choose the operating point by it.

An index does not know its recall, and it is another one when a query asks for one space alone:
the lists and codes were trained on all of them. So the point is chosen by the worst of the
conditions that users really ask for: all spaces at their default weights, each alone, and all
others against each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .faiss_index import Plan
from .searcher import OperatingPoint, Searcher

Floats = NDArray[np.float32]

TARGET = 0.97
"""Aimed at, so that 0.95 is kept by queries that differ from the rows measured on."""
_K = 10
_QUERIES = 128
# The weight of the space that a query is against: as much as an unliked item's.
_AGAINST = -0.5
_K_FACTORS = (4, 6, 8, 10, 15, 20, 30, 40, 60, 80)
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


def calibrate(
    searcher: Searcher, plan: Plan, blocks: dict[str, slice], seed: int = 0
) -> MeasuredPoint:
    """Choose the cheapest point whose worst recall@10 reaches `TARGET`, or else the best there is.

    Queries are rows of the catalog: whole, one block at a time, and with one block's sign turned;
    each row is left out of its own answer. `blocks` is empty where spaces share dimensions. The
    oracle is an exact scan of the rows, ties allowed.
    """
    n = len(searcher.rows)
    if plan.kind == "exact":
        return MeasuredPoint(OperatingPoint(1, 1), {"exact": 1.0})
    conditions = _conditions(searcher, blocks, np.random.default_rng(seed))
    best: MeasuredPoint | None = None
    for point in _grid(plan, n, searcher.rows.take(np.array([0])).shape[1]):
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


def _conditions(
    searcher: Searcher, blocks: dict[str, slice], rng: np.random.Generator
) -> dict[str, Condition]:
    """Queries (m, D), their own positions (m,), and the exact k-th best score (m,) for each."""
    sample = np.sort(rng.choice(len(searcher.rows), min(4096, len(searcher.rows)), replace=False))
    rows = searcher.rows.take(sample)
    chosen: dict[str, tuple[Floats, NDArray[np.int64]]] = {
        "all spaces": (rows[:_QUERIES], sample[:_QUERIES])
    }
    if len(blocks) > 1:
        for name, where in blocks.items():
            present = np.flatnonzero(np.any(rows[:, where] != 0, axis=1))[:_QUERIES]
            if len(present):
                alone = np.zeros((len(present), rows.shape[1]), dtype=np.float32)
                alone[:, where] = rows[present, where]
                chosen[f"{name} alone"] = (alone, sample[present])
                against = rows[present].copy()
                against[:, where] *= _AGAINST
                chosen[f"against {name}"] = (against, sample[present])
    stacked = np.concatenate([queries for queries, _ in chosen.values()])
    own = np.concatenate([positions for _, positions in chosen.values()])
    kth = _exact_kth(searcher, stacked, own)
    conditions, start = {}, 0
    for name, (queries, positions) in chosen.items():
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
    for (positions, scores, _), mine, bound in zip(
        searcher.search(queries, _K + 1, point), own, kth, strict=True
    ):
        others = scores[positions != mine][:_K]
        # Scores are computed in another order than the oracle's: allow for rounding.
        found += int(np.count_nonzero(others >= bound - 1e-5))
    return found / (_K * len(queries))
