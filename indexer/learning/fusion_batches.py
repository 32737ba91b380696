"""What a fusion is trained on: relevant pairs, and items seen through a part of themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .groups import Ints, folds
from .ranking import Bools, drawn

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.float32]

_BATCH = 512
# Smaller catalogs take smaller batches to have so many steps in an epoch, larger ones see a part.
_LEAST_STEPS, _MOST_STEPS = 8, 24
# How often an item is met with a space taken away.
_DROPPED = 0.3
_HELD_OUT_FOLDS = 10


@dataclass(frozen=True)
class TrainingData:
    """A catalog and what it is asked.

    All arrays are float32 but `pairs`, and all mappings are in the order of the spaces.
    """

    blocks: Mapping[str, Floats]
    """(n, d_s) unit rows; a row of zeros where the item lacks the space."""
    imputed: Mapping[str, Floats]
    """(n, d_s): what would fill the hole if the item's block were missing, shorter than unit; rows
    of zeros where nothing would."""
    queries: Mapping[str, Floats]
    """(m, d_s): a query's block times the weight with which it asks the space; rows of zeros where
    it does not ask it."""
    pairs: Ints
    """int64 (p, 2): the number of a query, and that of an item relevant to it; every such pair."""
    weights: Mapping[str, float]
    """Default weights, all above 0."""

    @property
    def present(self) -> Bools:
        """Which item has which space, bool (n, S)."""
        return np.stack([block.any(axis=1) for block in self.blocks.values()], axis=1)


def contents_of(data: TrainingData) -> Ints:
    """Number each space's blocks so that equal ones share a number, int64 (n, S)."""
    return np.stack([_numbered(block) for block in data.blocks.values()], axis=1)


def _numbered(rows: NDArray[np.generic]) -> Ints:
    numbers: dict[bytes, int] = {}
    return np.array([numbers.setdefault(row.tobytes(), len(numbers)) for row in rows], np.int64)


def held_out(data: TrainingData, contents: Ints, seed: int) -> tuple[Bools, Bools]:
    """About a tenth of the queries, with all that is relevant to them.

    Queries with a relevant content in common stay together. Where that would leave nothing to hold
    out, because all are, queries are held out and their items are not.

    Args:
        data: what is to be divided.
        contents: int64 (n, S), see `contents_of`.
        seed: decides which.

    Returns:
        Which queries, bool (m,), and which items, bool (n,), must not be learned from.
    """
    m, n = len(next(iter(data.queries.values()))), len(contents)
    asked = np.unique(data.pairs[:, 0])
    twins = _numbered(contents)
    groups = _connected(data.pairs[:, 0], twins[data.pairs[:, 1]])[asked]
    fold_of = folds(np.unique(groups, return_inverse=True)[1], _HELD_OUT_FOLDS, seed)
    # The largest groups are dealt first, so the last fold is that of the smallest.
    chosen = asked[fold_of == _HELD_OUT_FOLDS - 1]
    items = np.zeros(n, dtype=bool)
    if len(chosen):
        relevant = data.pairs[np.isin(data.pairs[:, 0], chosen), 1]
        items = np.isin(twins, twins[relevant])
    else:
        order = np.random.default_rng(seed).permutation(asked)
        chosen = order[: len(asked) // _HELD_OUT_FOLDS]
    queries = np.zeros(m, dtype=bool)
    queries[chosen] = True
    return queries, items


def _connected(left: Ints, right: Ints) -> Ints:
    """Label the left ends of edges so that connected ones share a label: the least that reaches."""
    labels = np.arange(left.max() + 1)
    while True:
        reached = np.full(right.max() + 1, len(labels))
        np.minimum.at(reached, right, labels[left])
        lower = labels.copy()
        np.minimum.at(lower, left, reached[right])
        if np.array_equal(lower, labels):
            return labels
        labels = lower


@dataclass(frozen=True)
class Batch:
    """Queries' blocks and items' blocks per space, and how each query's target is shared out among
    the items (b, c); rows sum to one."""

    queries: list[Tensor]
    items: list[Tensor]
    shares: Tensor


class Batches:
    """Endless epochs of steps, drawn by a generator of their own.

    With `views`, queries and views take half of a batch each: most queries speak to one modality,
    and alone they would drown what the others can tell. Without, there are views only where there
    are no queries.
    """

    def __init__(
        self,
        data: TrainingData,
        contents: Ints,
        without: tuple[Bools, Bools],
        seed: int,
        *,
        views: bool,
    ) -> None:
        import torch

        self._data, self._contents = data, contents
        self._present = data.present
        self._draw = np.random.default_rng(seed)
        queries, items = without
        learned = ~queries[data.pairs[:, 0]] & ~items[data.pairs[:, 1]]
        learned &= self._present[data.pairs[:, 1]].any(axis=1)
        pairs = data.pairs[learned]
        self.pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
        _, self._starts, self._counts = np.unique(
            self.pairs[:, 0], return_index=True, return_counts=True
        )
        self.viewed = np.flatnonzero((self._present.sum(axis=1) > 1) & ~items)
        n = len(contents)
        # A pair as one number, so that whole batches are looked up at once.
        # One that is larger than all ends the list, so that every search stops at a number.
        keys = np.append(data.pairs[:, 0] * n + data.pairs[:, 1], np.iinfo(np.int64).max)
        self._keys = torch.from_numpy(np.sort(keys))
        self._query_stream = _cycle(len(self._starts), self._draw)
        self._view_stream = _cycle(len(self.viewed), self._draw)
        places = (len(self.pairs), len(self.viewed) if views or not len(self.pairs) else 0)
        most = _BATCH // max(1, sum(count > 0 for count in places))
        self.steps = int(np.clip(max(places) // most, _LEAST_STEPS, _MOST_STEPS))
        self._sizes = [min(most, max(2, count // _LEAST_STEPS)) if count else 0 for count in places]

    def epoch(self) -> Iterator[Batch]:
        """`steps` batches."""
        for _ in range(self.steps):
            yield self._batch()

    def _batch(self) -> Batch:
        import torch

        pairs = self._pairs_of(_take(self._query_stream, self._sizes[0]))
        views = self.viewed[_take(self._view_stream, self._sizes[1])]
        items = np.concatenate([pairs[:, 1], views])
        shown = self._some_of(views)
        left = self._left_of(items)
        queries, whole = [], []
        for s, name in enumerate(self._data.blocks):
            blocks = self._data.blocks[name]
            weighted = blocks[views] * np.float32(self._data.weights[name])
            terms = [self._data.queries[name][pairs[:, 0]], weighted * shown[:, [s]]]
            queries.append(torch.from_numpy(np.concatenate(terms)))
            filled = np.where(left[:, [s]], blocks[items], self._data.imputed[name][items])
            whole.append(torch.from_numpy(filled))
        return Batch(queries, whole, self._shares(pairs[:, 0], views, shown, items))

    def _pairs_of(self, asked: Ints) -> Ints:
        """A random pair of each query: all count alike, however many items are relevant to them,
        or popular ones would teach that what is common is relevant."""
        drawn = self._draw.random(len(asked)) * self._counts[asked]
        return self.pairs[self._starts[asked] + drawn.astype(np.int64)]

    def _some_of(self, items: Ints) -> Bools:
        """A random part of each item's spaces: not none, not all."""
        present = self._present[items]
        return drawn(present, self._draw.integers(1, present.sum(axis=1)), self._draw)

    def _left_of(self, items: Ints) -> Bools:
        """What modality dropout leaves of items: most often all, never nothing."""
        left = self._present[items].copy()
        hit = (self._draw.random(len(items)) < _DROPPED) & (left.sum(axis=1) > 1)
        left[hit] = self._some_of(items[hit])
        return left

    def _shares(self, queries: Ints, views: Ints, shown: Bools, items: Ints) -> Tensor:
        """Every relevant item of the batch is as right as that of the pair, and all that look the
        same in what a view shows are as right as the one it is of."""
        import torch

        wanted = torch.from_numpy(queries[:, None] * len(self._contents) + items)
        relevant = self._keys[torch.searchsorted(self._keys, wanted)] == wanted
        same = self._contents[views][:, None] == self._contents[items]  # (v, c, S)
        same = (same | ~shown[:, None]).all(axis=2)
        right = torch.cat([relevant, torch.from_numpy(same)]).float()
        return right / right.sum(dim=1, keepdim=True)


def _cycle(count: int, draw: np.random.Generator) -> Iterator[int]:
    """All numbers below count in random order, again and again."""
    while count:
        yield from draw.permutation(count).tolist()


def _take(stream: Iterator[int], count: int) -> Ints:
    return np.fromiter((next(stream) for _ in range(count)), dtype=np.int64, count=count)
