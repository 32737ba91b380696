"""Which items are near-duplicates, so that no score is earned by having seen the answer."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from heapq import heapify, heapreplace

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

_NUMBERED = re.compile(r"[\s_.:/#-]?[0-9]+\Z")
# Where every id is a number, or a word and a number ("item-1", "item-2"), the stems are shared by
# items that have nothing else in common, and one group would swallow the catalog: then nothing
# could be held out. Numbered variants of one thing are few, so a stem of more items than this
# share says nothing and is left aside.
_COMMON_STEM = 0.05
# In a small catalog that share is less than one honest family of variants.
_SMALL_FAMILY = 10


def groups_of(ids: Sequence[str], contents: Sequence[Sequence[str]]) -> Ints:
    """Number items so that near-duplicates share a number.

    Items are near-duplicates that have the same id but for a number at its end ("cat_01", "cat-2",
    "cat"), or any content in common, and so are the near-duplicates of near-duplicates.

    Args:
        ids: n item ids.
        contents: per modality, one content hash for each of the n items; "" for none.

    Returns:
        int64 array with shape (n,): group numbers from 0, in order of first appearance.

    Raises:
        ValueError: a modality has another number of items than there are ids.
    """
    forest = _Forest(len(ids))
    stems = [_NUMBERED.sub("", item) for item in ids]
    counts = Counter(stems)
    most = max(_COMMON_STEM * len(ids), _SMALL_FAMILY)
    # An id that is nothing but a number has no stem to share.
    forest.join_equal(stem if counts[stem] <= most else "" for stem in stems)
    for hashes in contents:
        if len(hashes) != len(ids):
            raise ValueError(f"{len(hashes)} content hashes for {len(ids)} ids")
        forest.join_equal(hashes)
    numbers: dict[int, int] = {}
    roots = (forest.root(item) for item in range(len(ids)))
    return np.array([numbers.setdefault(root, len(numbers)) for root in roots], dtype=np.int64)


def folds(groups: Ints, k: int, seed: int) -> Ints:
    """Deal items into k folds of about equal size, every group whole.

    The largest groups are dealt first, each to the smallest fold so far, so that no two folds
    differ by more than the largest group (Graham 1969, "Bounds on multiprocessing timing
    anomalies"). Groups of one size are dealt in an order drawn by `seed`.

    Args:
        groups: int64 array with shape (n,), numbered from 0.
        k: number of folds; with fewer groups than folds, some stay empty.
        seed: the same seed deals the same way.

    Returns:
        int64 array with shape (n,): fold numbers below k.
    """
    sizes = np.bincount(groups)
    order = np.random.default_rng(seed).permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    smallest_first = [(0, fold) for fold in range(k)]
    heapify(smallest_first)
    fold_of = np.zeros(len(sizes), dtype=np.int64)
    for group in order.tolist():
        filled, fold = smallest_first[0]
        fold_of[group] = fold
        heapreplace(smallest_first, (filled + int(sizes[group]), fold))
    return fold_of[groups]


class _Forest:
    """Disjoint sets of the numbers below n, with path halving (Tarjan and van Leeuwen 1984)."""

    def __init__(self, n: int) -> None:
        self._parent = list(range(n))

    def root(self, item: int) -> int:
        parent = self._parent
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    def join_equal(self, keys: Iterable[str]) -> None:
        """Join all items of the same key; the empty key joins nothing."""
        first: dict[str, int] = {}
        for item, key in enumerate(keys):
            if key:
                a, b = self.root(first.setdefault(key, item)), self.root(item)
                # The lower number leads, so that the outcome does not hang on the order of joins.
                self._parent[max(a, b)] = min(a, b)
