"""How rows are kept on disk: float16, or int8 with a step of its own for each dimension.

| rows      | bytes a dimension | a value is off by                         |
|-----------|-------------------|-------------------------------------------|
| `float16` | 2                 | 1/2048 of itself at most                  |
| `int8`    | 1                 | 1/254 of the dimension's largest, at most |

A step for each dimension, not one for all: spaces differ in length, and a query may ask the
shortest alone. Zero is exact in both: a block that an item lacks is zero, and says nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from .errors import RowTypeError

Floats = NDArray[np.float32]
Halves = NDArray[np.float16]
Bytes = NDArray[np.uint8]

RowType = Literal["float16", "int8"]

# A half has 5 exponent and 10 fraction bits, a float 8 and 23: moved 13 bits up, sign-extended
# and masked, a half is a float that lacks only the bias of its exponent, a factor of 2**112.
_SIGN_EXPONENT_FRACTION = np.array(0x8FFFE000, dtype=np.uint32).view(np.int32)
_BIAS = np.float32(2.0**112)
# Codes are unsigned, as FAISS has them; the middle of 1 .. 255 is zero.
_ZERO, _MOST = 128, 127


def check_row_type(rows: str) -> RowType:
    """Return the type of rows.

    Raises:
        RowTypeError: there is none of that name.
    """
    for known in get_args(RowType):
        if rows == known:
            return known  # type: ignore[no-any-return]
    raise RowTypeError(
        "rows",
        expected=f"one of {', '.join(get_args(RowType))}",
        got=repr(rows),
        remedy="Leave it out for what the profile takes.",
    )


@dataclass(frozen=True)
class Float16:
    """Rows rounded to half precision."""

    dtype = np.dtype("<f2")
    steps = None

    def encode(self, vectors: Floats) -> Halves:
        """(n, D) float32 as halves."""
        return vectors.astype(self.dtype)

    def decode(self, stored: Halves) -> Floats:
        """Finite halves to float32, exactly; five times the speed of `astype` on most x86."""
        bits = stored.view(np.int16).astype(np.int32)
        bits <<= 13
        bits &= _SIGN_EXPONENT_FRACTION
        floats = bits.view(np.float32)
        floats *= _BIAS
        return floats


@dataclass(frozen=True)
class Int8:
    """Rows rounded to whole steps, float32 (D,): a value is `step * (code - 128)`."""

    steps: Floats
    dtype = np.dtype("u1")

    @classmethod
    def fit(cls, chunks: Iterable[Floats], dimension: int) -> Int8:
        """The steps by which the largest of each dimension is 127 of them."""
        largest = np.zeros(dimension, dtype=np.float32)
        for chunk in chunks:
            np.maximum(largest, np.abs(chunk).max(axis=0), out=largest)
        return cls(largest / np.float32(_MOST))

    def encode(self, vectors: Floats) -> Bytes:
        """(n, D) float32 as codes."""
        # Where all are zero, there is no step.
        whole = np.divide(vectors, self.steps, out=np.zeros_like(vectors), where=self.steps > 0)
        return (np.rint(whole) + _ZERO).astype(self.dtype)

    def decode(self, stored: Bytes) -> Floats:
        """Codes to float32."""
        floats = stored.astype(np.float32)
        floats -= _ZERO
        floats *= self.steps
        return floats


RowCodec = Float16 | Int8
Stored = NDArray[Any]
"""Rows as they are on disk: halves or codes."""

FLOAT16 = Float16()
