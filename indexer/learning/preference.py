"""From values and ages of interactions to how much each counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..interactions import History, Interactions

Floats = NDArray[np.float32]

HALF_LIFE = 50.0
"""An interaction counts half as much as one that is so many interactions younger."""


@dataclass(frozen=True)
class Scale:
    """What values mean: `neutral` says nothing, `liked` and above count 1, values below `neutral`
    are dislikes, down to -1; in between by proportion."""

    neutral: float
    liked: float

    def weights(self, values: NDArray[Any]) -> Floats:
        """How much values (m,) count, float32 in [-1, 1]."""
        span = self.liked - self.neutral
        weights: Floats = np.clip((values - self.neutral) / span, -1, 1).astype(np.float32)
        return weights


def recency(count: int, half_life: float) -> Floats:
    """How much interactions count by their age, oldest first: float32 (count,), the youngest 1."""
    ages = np.arange(count - 1, -1, -1, dtype=np.float64)
    faded: Floats = np.exp2(-ages / half_life).astype(np.float32)
    return faded


def profile(history: History, scale: Scale, half_life: float = HALF_LIFE) -> Floats:
    """How much each interaction of a history counts, float32 (m,)."""
    return scale.weights(history.values) * recency(len(history), half_life)


def likes_matrix(histories: Sequence[History], items: int, scale: Scale) -> Any:
    """How much each user likes each item: a SciPy sparse array (users, items) float32 of values in
    [0, 1]; of several interactions with one item the best counts."""
    from scipy.sparse import csr_array

    numbers = np.repeat(np.arange(len(histories)), [len(h) for h in histories])
    chosen = np.concatenate([h.items for h in histories]).astype(np.int64)
    weights = scale.weights(np.concatenate([h.values for h in histories]))
    order = np.lexsort((-weights, chosen, numbers))
    keys = (numbers * items + chosen)[order]
    first = np.flatnonzero(np.diff(keys, prepend=-1))
    kept = order[first]
    kept = kept[weights[kept] > 0]
    return csr_array((weights[kept], (numbers[kept], chosen[kept])), shape=(len(histories), items))


@dataclass(frozen=True)
class HeldOut:
    """The last of what users liked, kept from learning: for each user that has enough, the history
    before, and the items liked after, each once."""

    histories: list[History]
    asked: list[int]
    relevant: list[NDArray[np.int64]]


LEAST_LIKED = 5
PART_HELD_OUT = 0.2


def hold_out(interactions: Interactions, scale: Scale) -> HeldOut:
    """Split each user that likes at least `LEAST_LIKED` items: the last 20 % of what they liked is
    asked for, and nothing that they did from the first of these on is learned from."""
    histories, asked, relevant = [], [], []
    for number, history in enumerate(interactions.histories()):
        liked = np.flatnonzero(scale.weights(history.values) >= 1)
        before = history
        if len(liked) >= LEAST_LIKED:
            held = liked[-max(1, int(len(liked) * PART_HELD_OUT)) :]
            before = history.until(float(history.times[held[0]]))
            wanted = np.setdiff1d(history.items[held], before.items).astype(np.int64)
            if len(before) and len(wanted):
                asked.append(number)
                relevant.append(wanted)
        histories.append(before)
    return HeldOut(histories, asked, relevant)
