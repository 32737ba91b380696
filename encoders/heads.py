"""Projection heads: vectors of one encoder, brought into the space of another.

A head is a linear map with, where it was worth it, a small residual network beside it:

    z   = unit(x - mean_in)
    y   = z @ linear + relu(z @ up + up_bias) @ down + bias
    out = unit(unit(y) @ lift)

It is learned from a catalog's own pairs (see `indexer.learning`) towards a target that is locked,
as in LiT (Zhai et al. 2022, arXiv:2111.07991): what the catalog's pictures are indexed by stays
as it was, and text learns to point there. `lift` leads from the target's principal components,
in which the head was learned, back to the target's own coordinates.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import HeadError
from .fingerprint import DIGITS
from .vectors import Vectors

_ALWAYS = ("mean_in", "linear", "bias")
_HIDDEN = ("up", "up_bias", "down")
_NAMES = (*_ALWAYS, *_HIDDEN, "lift")
_RANKS = {"mean_in": 1, "linear": 2, "bias": 1, "up": 2, "up_bias": 1, "down": 2, "lift": 2}
# No learned weight comes near this; below it no product of weights leaves the range of float32,
# so that a damaged head cannot answer with infinities.
_LARGEST = 1e6
# Rows of `lift` in float32 are orthonormal to about 1e-6.
_ORTHONORMAL = 1e-3


@dataclass(frozen=True, eq=False)
class Head:
    """A map from unit vectors (n, d_in) to unit vectors (n, d_out); all tensors are float32.

    `mean_in` (d_in,) is the mean of the source space, `linear` (d_in, k) and `bias` (k,) the linear
    map, `up` (d_in, h), `up_bias` (h,) and `down` (h, k) the hidden layer, all three or none, and
    `lift` (k, d_out) has orthonormal rows, or is None where k is d_out.

    Raises:
        HeadError: tensors that do not fit together, or values that are no weights.
    """

    mean_in: Vectors
    linear: Vectors
    bias: Vectors
    up: Vectors | None = None
    up_bias: Vectors | None = None
    down: Vectors | None = None
    lift: Vectors | None = None

    def __post_init__(self) -> None:
        tensors = self.tensors()
        _check_names(set(tensors))
        for name, tensor in tensors.items():
            _check_values(name, tensor)
        d_in, k = self.linear.shape
        expected: dict[str, tuple[int, ...]] = {"mean_in": (d_in,), "bias": (k,)}
        if self.up is not None:
            h = self.up.shape[1]
            expected |= {"up": (d_in, h), "up_bias": (h,), "down": (h, k)}
        if self.lift is not None:
            expected["lift"] = (k, self.lift.shape[1])
        for name, shape in expected.items():
            if tensors[name].shape != shape:
                raise _misfit(f"{name} of shape {shape}", f"shape {tensors[name].shape}")
        if self.lift is not None:
            gram = self.lift @ self.lift.T
            if np.abs(gram - np.eye(k, dtype=np.float32)).max() > _ORTHONORMAL:
                raise _misfit("orthonormal rows in lift", "rows that are not")

    def __call__(self, x: Vectors) -> Vectors:
        """Bring source vectors into the target's space.

        Args:
            x: float32 array with shape (n, d_in), unit rows of the source encoder; a single
                vector is a batch of one.

        Returns:
            float32 array with shape (n, d_out): unit rows in centred coordinates of the target
            space, that is, comparable by inner product with x_target - mean_target. A row that
            comes out zero stays zero.

        Raises:
            HeadError: another shape.
        """
        if x.ndim != 2 or x.shape[1] != len(self.mean_in):
            raise HeadError(
                "input of a projection head",
                expected=f"shape (n, {len(self.mean_in)})",
                got=f"shape {x.shape}",
                remedy="Give it vectors of the encoder it was learned for.",
            )
        z = _unit_rows(x - self.mean_in)
        y = z @ self.linear + self.bias
        if self.up is not None and self.up_bias is not None and self.down is not None:
            y += np.maximum(z @ self.up + self.up_bias, 0) @ self.down
        y = _unit_rows(y)
        return y if self.lift is None else _unit_rows(y @ self.lift)

    @property
    def dimension(self) -> int:
        """Length of the vectors it gives."""
        return int((self.linear if self.lift is None else self.lift).shape[1])

    def tensors(self) -> dict[str, Vectors]:
        """Every tensor it has by the name of its field, as float32."""
        present = {name: getattr(self, name) for name in _NAMES}
        return {name: tensor for name, tensor in present.items() if tensor is not None}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Vectors]) -> Head:
        """Make the head that `tensors` came from.

        Raises:
            HeadError: a tensor is missing, unknown, misshapen, not float32 or not finite.
        """
        _check_names(set(tensors))
        return cls(**dict(tensors))

    def fingerprint(self) -> str:
        """Return 32 hex digits of the weights: names, shapes and bytes."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.tensors().items()):
            digest.update(f"{name}:{tensor.shape}\n".encode())
            digest.update(np.ascontiguousarray(tensor, dtype="<f4").data)
        return digest.hexdigest()[:DIGITS]


def _unit_rows(x: Vectors) -> Vectors:
    # Not `vectors.unit_rows`, which refuses zeros: a head may rightly know nothing of a row.
    norms: NDArray[np.float32] = np.linalg.norm(x, axis=1, keepdims=True)
    return np.divide(x, norms, out=np.zeros_like(x), where=norms > 1e-12)


def _check_names(names: set[str]) -> None:
    hidden = names & set(_HIDDEN)
    missing = set(_ALWAYS) - names | (set(_HIDDEN) - hidden if hidden else set())
    if missing:
        raise _misfit(f"tensors {', '.join(sorted(missing))}", "none of that name")
    unknown = names - set(_NAMES)
    if unknown:
        raise _misfit(f"tensors named {', '.join(_NAMES)}", f"{sorted(unknown)}")


def _check_values(name: str, tensor: Vectors) -> None:
    array = np.asarray(tensor)
    if array.dtype != np.float32 or array.ndim != _RANKS[name] or array.size == 0:
        raise _misfit(
            f"{name} as float32 with {_RANKS[name]} axes, none of them empty",
            f"{array.dtype} of shape {array.shape}",
        )
    largest = float(np.abs(array).max())
    if not largest <= _LARGEST:  # NaN compares false
        raise _misfit(f"finite values up to {_LARGEST:.0e} in {name}", f"{largest}")


def _misfit(expected: str, got: str) -> HeadError:
    return HeadError(
        "weights of a projection head",
        expected=expected,
        got=got,
        remedy="Align the catalog again.",
    )
