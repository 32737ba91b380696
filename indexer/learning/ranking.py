"""How well scores rank, and how catalogs with holes are made to ask that of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .groups import Ints

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Bools = NDArray[np.bool_]


def ndcg_at(scores: Floats, relevant: Sequence[Ints], k: int = 10) -> float:
    """Mean over the queries of `ndcg_each`; 0 where there are no queries."""
    return float(ndcg_each(scores, relevant, k).mean()) if len(scores) else 0.0


def ndcg_each(scores: Floats, relevant: Sequence[Ints], k: int = 10) -> Doubles:
    """Normalised discounted cumulative gain of the first k items.

    A relevant item at rank r, from 1, gains 1 / log2(r + 1), and a query's gains are divided by
    the most that its relevant items could gain (Järvelin and Kekäläinen 2002, "Cumulated
    gain-based evaluation of IR techniques", with relevance 0 or 1).

    Args:
        scores: float32 array with shape (m, n): of each query for each item, larger is better.
            Of equal scores the item that comes first is ranked first.
        relevant: m int64 arrays of item numbers, each once. A query without any counts 0.
        k: how many items are looked at.

    Returns:
        float64 array with shape (m,), between 0 and 1.

    Raises:
        ValueError: there are not as many lists as queries.
    """
    m, n = scores.shape
    if m != len(relevant):
        raise ValueError(f"{len(relevant)} lists of relevant items for {m} queries")
    k = min(k, n)
    if not m or not k:
        return np.zeros(m)
    counts = np.array([len(items) for items in relevant])
    is_relevant = np.zeros((m, n), dtype=bool)
    is_relevant[np.repeat(np.arange(m), counts), np.concatenate(relevant).astype(np.int64)] = True
    discounts = 1 / np.log2(np.arange(2, k + 2))
    gains = np.take_along_axis(is_relevant, _first(scores, k), axis=1) @ discounts
    # With no relevant item there is nothing to gain, and the quotient is 0 whatever divides it.
    ideal = np.cumsum(discounts)[np.clip(counts, 1, k) - 1]
    each: Doubles = gains / ideal
    return each


def _first(scores: Floats, k: int) -> Ints:
    """The numbers (m, k) of each row's k largest scores, in order, ties by number."""
    least = -np.partition(-scores, k - 1, axis=1)[:, k - 1]
    first = np.empty((len(scores), k), dtype=np.int64)
    for row, (one, bound) in enumerate(zip(scores, least, strict=True)):
        # Ties with the k-th are all candidates, so that the lowest numbers among them stay.
        candidates = np.flatnonzero(one >= bound)
        first[row] = candidates[np.argsort(-one[candidates], kind="stable")[:k]]
    return first


def holes(present: Bools, share: float, seed: int) -> Bools:
    """Take one space away from some items, at random; from none its last one.

    Args:
        present: bool array with shape (n, S): which item has which space.
        share: which part of the items with at least two spaces loses one, between 0 and 1.
        seed: the same seed takes away the same.

    Returns:
        bool array with shape (n, S): what is left.
    """
    draw = np.random.default_rng(seed)
    several = np.flatnonzero(present.sum(axis=1) > 1)
    losing = draw.permutation(several)[: round(share * len(several))]
    left = present.copy()
    left[losing] &= ~drawn(present[losing], 1, draw)
    return left


def drawn(present: Bools, counts: Ints | int, draw: np.random.Generator) -> Bools:
    """So many random spaces of each item, of those that it has.

    Args:
        present: bool array with shape (n, S).
        counts: int64 array with shape (n,), or one number for all; no more than it has.
        draw: what decides.

    Returns:
        bool array with shape (n, S), with `counts` spaces in each row.
    """
    order = np.where(present, draw.random(present.shape), 2.0).argsort(axis=1).argsort(axis=1)
    taken: Bools = order < np.reshape(counts, (-1, 1))
    return taken & present
