"""Ridge regression (Hoerl and Kennard 1970) for many penalties at the price of one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]


class Ridge:
    """All ridge solutions from rows x (n, d) to rows y (n, k), by one eigendecomposition.

    There is no intercept: both sides are centred already. The decomposition is that of x'x, or of
    xx' where there are fewer rows than columns; the solutions are the same ones.
    """

    def __init__(self, x: NDArray[Any], y: NDArray[Any]) -> None:
        """Decompose; x and y are of any float type and are worked on in float64."""
        rows, targets = x.astype(np.float64), y.astype(np.float64)
        if rows.shape[0] >= rows.shape[1]:
            values, vectors = np.linalg.eigh(rows.T @ rows)
            self._basis = vectors
            self._turned = vectors.T @ (rows.T @ targets)
        else:
            values, vectors = np.linalg.eigh(rows @ rows.T)
            self._basis = rows.T @ vectors
            self._turned = vectors.T @ targets
        # Rounding leaves eigenvalues of a semidefinite matrix a little below zero.
        self._values: Doubles = np.maximum(values, 0)

    def weights(self, penalty: float) -> Doubles:
        """Return w (d, k) float64, the least of |x w - y|^2 + penalty |w|^2; penalty > 0."""
        solution: Doubles = self._basis @ (self._turned / (self._values + penalty)[:, None])
        return solution
