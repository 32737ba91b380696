"""The one place where model output becomes unit vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import EncoderError

Vectors = NDArray[np.float32]

# Squared lengths between these bounds lose nothing in float64; others are scaled first.
_TINY, _HUGE = 1e-200, 1e200


def unit_rows(values: Any, *, rows: int, dimension: int, kind: str) -> Vectors:
    """Return `values` as float32 rows of unit length.

    Args:
        values: array-like with shape (rows, dimension); any float type.
        rows: how many inputs were encoded.
        dimension: the encoder's dimension.
        kind: the encoder kind, for the message.

    Returns:
        C-contiguous float32 array with shape (rows, dimension). The norm is taken in float64 and
        after division by the largest magnitude, so that tiny and huge rows keep their direction.

    Raises:
        EncoderError: another shape, a NaN or infinite value, or a row of zeros.
    """
    matrix = np.asarray(values, dtype=np.float64)
    if matrix.shape != (rows, dimension):
        raise EncoderError(
            f"output of encoder {kind!r}",
            expected=f"shape ({rows}, {dimension})",
            got=f"shape {matrix.shape}",
            remedy="The model's weights and configuration disagree; check the model folder.",
        )
    squares = np.einsum("ij,ij->i", matrix, matrix)
    if not (squares.min() > _TINY and squares.max() < _HUGE):  # NaN compares false
        _check(matrix, kind)
        matrix = matrix / np.abs(matrix).max(axis=1, keepdims=True)
        squares = np.einsum("ij,ij->i", matrix, matrix)
    return np.ascontiguousarray(matrix / np.sqrt(squares)[:, None], dtype=np.float32)


def _check(matrix: NDArray[np.float64], kind: str) -> None:
    largest = np.abs(matrix).max(axis=1)
    bad = ~np.isfinite(largest) | (largest == 0)
    if bad.any():
        raise EncoderError(
            f"output of encoder {kind!r}",
            expected="finite rows that are not all zero",
            got=f"{int(bad.sum())} bad of {len(matrix)} rows, the first at {int(bad.argmax())}",
            remedy="The weights are damaged, or half precision overflows: try device 'cpu'.",
        )
