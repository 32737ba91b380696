"""The item vectors of items that nobody has touched, estimated from their content."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from encoders import Head

from ..fusion import unit_rows
from .ridge import Ridge

Floats = NDArray[np.float32]

PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
LEAST_ITEMS = 20
"""Of fewer nothing is learned that held-out ones would bear out."""
LEAST_EXPLAINED = 0.002
"""Ridge finds less in noise as well."""
_FOLDS = 5


class Imputer(NamedTuple):
    """A head from content to item vectors, and the part of their variance that heads like it
    explained on items held out, at most 1."""

    head: Head
    explained: float


def learn_imputer(source: Floats, target: Floats, told: int, seed: int) -> Imputer | None:
    """Ridge regression from content to item vectors, penalty by cross-validation.

    What is predicted is the vector itself, length included: an item vector is the longer the more
    the item is liked, and a head that gave directions alone would take all for equally popular.

    Args:
        source: float32 (n, d_s), unit encoder vectors of items that were touched.
        target: float32 (n, d_t), their unit item vectors.
        told: so many of their dimensions tell items apart; the rest makes them of unit length.
        seed: of the folds.

    Returns:
        None where items are too few, or content explains nothing of items held out.
    """
    n = len(source)
    if n < LEAST_ITEMS:
        return None
    mean = source.mean(axis=0, dtype=np.float64).astype(np.float32)
    rows = unit_rows(source - mean)
    centre = target.mean(axis=0, dtype=np.float64).astype(np.float32)
    fold_of = np.random.default_rng(seed).permutation(n) % _FOLDS
    errors = np.zeros(len(PENALTIES))
    total = 0.0
    for fold in range(_FOLDS):
        learned, asked = fold_of != fold, fold_of == fold
        own = target[learned].mean(axis=0)
        ridge = Ridge(rows[learned], target[learned] - own)
        total += float(np.square(target[asked] - own)[:, :told].sum())
        for place, penalty in enumerate(PENALTIES):
            found = rows[asked] @ ridge.weights(penalty) + own
            errors[place] += np.square(target[asked] - found)[:, :told].sum()
    best = int(errors.argmin())
    explained = 1.0 - errors[best] / total if total > 0 else 0.0
    if explained < LEAST_EXPLAINED:
        return None
    weights = Ridge(rows, target - centre).weights(PENALTIES[best]).astype(np.float32)
    return Imputer(Head(mean, weights, centre), float(explained))
