"""Hits that differ: interests of a long history, and maximal marginal relevance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from indexer.fusion import unit_rows

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

LEAST_PER_INTEREST = 5
"""An interest has at least so many liked items on average."""
# Ward's method takes all distances: of so many rows 8 MB.
_MOST_CLUSTERED = 1_000


def interests_of(rows: Floats, weights: Floats, wanted: int) -> list[Ints]:
    """Cluster liked items into interests by Ward's method, as in PinnerSage (Pal et al. 2020,
    arXiv:2007.03634); the largest by weight first.

    Args:
        rows: float32 (m, D), fused vectors of the items, oldest first.
        weights: float32 (m,), above 0.
        wanted: at most so many; fewer for a short history.

    Returns:
        the numbers of each interest's items. Of more than 1,000 items the youngest are clustered,
        and the others left out.
    """
    first = max(0, len(rows) - _MOST_CLUSTERED)
    numbers = np.arange(first, len(rows))
    most = min(wanted, len(numbers) // LEAST_PER_INTEREST)
    if most < 2:
        return [np.arange(len(rows))]
    from scipy.cluster.hierarchy import fcluster, linkage

    tree = linkage(unit_rows(rows[numbers]).astype(np.float64), "ward")
    label = fcluster(tree, most, "maxclust")
    groups = [numbers[label == one] for one in np.unique(label)]
    return sorted(groups, key=lambda group: -float(weights[group].sum()))


def dealt(found: list[Ints], shares: list[float], k: int) -> list[tuple[int, int]]:
    """Merge ranked lists by shares (Sainte-Laguë's method): each place goes to the list whose
    share is least served, and what an earlier place has is passed over.

    Returns:
        at most k pairs of list and rank in it.
    """
    turns = sorted(
        (
            ((2 * rank + 1) / share, number, rank)
            for number, (one, share) in enumerate(zip(found, shares, strict=True))
            for rank in range(len(one))
        )
    )
    taken: set[int] = set()
    merged: list[tuple[int, int]] = []
    for _, number, rank in turns:
        position = int(found[number][rank])
        if position not in taken and len(merged) < k:
            taken.add(position)
            merged.append((number, rank))
    return merged


def marginal_relevance(scores: Floats, rows: Floats, k: int, diversity: float) -> Ints:
    """Choose k of m candidates, one after the other, by maximal marginal relevance (Carbonell and
    Goldstein 1998): (1 - diversity) times the score, from 0 to 1 over the candidates, less
    diversity times the cosine to the most similar one that was chosen before.

    Args:
        scores: float32 (m,), best first.
        rows: float32 (m, D), fused vectors.

    Returns:
        int64 (at most k,): numbers of candidates in the order of choice.
    """
    span = float(np.ptp(scores)) or 1.0
    relevance = (scores - scores.min()) / np.float32(span)
    units = unit_rows(rows)
    nearest = np.zeros(len(scores), dtype=np.float32)
    left = np.ones(len(scores), dtype=bool)
    chosen: list[int] = []
    for _ in range(min(k, len(scores))):
        worth = np.where(left, (1 - diversity) * relevance - diversity * nearest, -np.inf)
        best = int(worth.argmax())
        chosen.append(best)
        left[best] = False
        similarity = units @ units[best]
        nearest = similarity if len(chosen) == 1 else np.maximum(nearest, similarity)
    return np.array(chosen, dtype=np.int64)
