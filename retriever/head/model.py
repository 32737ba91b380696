"""A head in numpy: from features to scores, and from scores back to what each feature added.

A head is an ensemble of members, each linear in the standardised features z, after the article's
y = b0 + b1 F, with, in the model `mlp`, one hidden layer beside it:

    z = clip((x - mean) / scale)
    y = z @ linear + relu(z @ up + up_bias) @ down + bias

and its score is the mean over the members.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexer.errors import CorruptIndexError

Floats = NDArray[np.float32]

# So many standard deviations and no more: an item far from all that was learned from is not to
# outweigh everything by that alone.
LARGEST_Z = 8.0
_ALWAYS = {"mean": 1, "scale": 1, "linear": 2, "bias": 1}
_HIDDEN = {"up": 3, "up_bias": 2, "down": 2}
_LARGEST = 1e6


@dataclass(frozen=True, eq=False)
class HeadModel:
    """Weights of E members for F features, all float32.

    `mean` and `scale` (F,) standardise; `linear` (E, F) and `bias` (E,); `up` (E, F, H), `up_bias`
    (E, H) and `down` (E, H) are the hidden layer, all three or none.

    Raises:
        CorruptIndexError: tensors that do not fit together, or values that are no weights.
    """

    mean: Floats
    scale: Floats
    linear: Floats
    bias: Floats
    up: Floats | None = None
    up_bias: Floats | None = None
    down: Floats | None = None

    def __post_init__(self) -> None:
        tensors = self.tensors()
        if not (_ALWAYS.keys() <= tensors.keys()) or len(_HIDDEN.keys() & tensors.keys()) in (1, 2):
            raise _misfit("all tensors of a head", f"{sorted(tensors)}")
        for name, tensor in tensors.items():
            _check_values(name, tensor)
        members, features = self.linear.shape
        expected = {"mean": (features,), "scale": (features,), "bias": (members,)}
        if self.up is not None:
            hidden = self.up.shape[2]
            expected |= {"up": (members, features, hidden)}  # type: ignore[dict-item]
            expected |= {"up_bias": (members, hidden), "down": (members, hidden)}  # type: ignore[dict-item]
        for name, shape in expected.items():
            if tensors[name].shape != shape:
                raise _misfit(f"{name} of shape {shape}", f"shape {tensors[name].shape}")
        if not (self.scale > 0).all():
            raise _misfit("scales above 0", f"{self.scale.min()}")

    def __call__(self, x: Floats) -> Floats:
        """Scores float32 (n,) of features float32 (n, F), larger is better."""
        z = self._standardised(x)
        y: Floats = z @ self.linear.mean(axis=0) + self.bias.mean()
        if self.up is not None and self.up_bias is not None and self.down is not None:
            hidden = z @ _side_by_side(self.up) + self.up_bias.reshape(-1)
            np.maximum(hidden, 0, out=hidden)
            y += hidden @ (self.down.reshape(-1) / np.float32(self.members))
        return y

    def contributions(self, x: Floats) -> Floats:
        """What each feature adds to the scores of x (n, F), float32 (n, F); with `base` they add up
        to the scores.

        Exact where the model is linear. Of the hidden layer these are integrated gradients along
        the line from the average candidate, z = 0 (Sundararajan, Taly and Yan 2017,
        arXiv:1703.01365), in closed form: a unit counts for the part of the line on which it is
        active.
        """
        z = self._standardised(x)
        found: Floats = z * self.linear.mean(axis=0)
        if self.up is not None and self.up_bias is not None and self.down is not None:
            for up, start, down in zip(self.up, self.up_bias, self.down, strict=True):
                rise = z @ up
                active = np.maximum(start + rise, 0) - np.maximum(start, 0)
                share = np.divide(active, rise, out=np.zeros_like(rise), where=np.abs(rise) > 1e-12)
                found += z * ((share * down) @ up.T) / np.float32(self.members)
        return found

    @property
    def base(self) -> float:
        """The score of the average candidate, z = 0."""
        base = float(self.bias.mean())
        if self.up_bias is not None and self.down is not None:
            base += float((np.maximum(self.up_bias, 0) * self.down).sum(axis=1).mean())
        return base

    @property
    def members(self) -> int:
        """Number of members."""
        return len(self.linear)

    @property
    def hidden(self) -> int:
        """Units of the hidden layer; 0 in a linear model."""
        return 0 if self.up is None else self.up.shape[2]

    def tensors(self) -> dict[str, Floats]:
        """Every tensor it has by the name of its field."""
        named = {name: getattr(self, name) for name in (*_ALWAYS, *_HIDDEN)}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Floats]) -> HeadModel:
        """The model that `tensors` came from.

        Raises:
            CorruptIndexError: a tensor is missing, unknown, misshapen, not float32 or not finite.
        """
        if not _ALWAYS.keys() <= tensors.keys() <= _ALWAYS.keys() | _HIDDEN.keys():
            raise _misfit("the tensors of a head", f"{sorted(tensors)[:20]}")
        return cls(**dict(tensors))

    def _standardised(self, x: Floats) -> Floats:
        z = x - self.mean
        z /= self.scale
        found: Floats = np.clip(z, -LARGEST_Z, LARGEST_Z, out=z)
        return found


def _side_by_side(up: Floats) -> Floats:
    """(E, F, H) as one matrix (F, E * H)."""
    members, features, hidden = up.shape
    return up.transpose(1, 0, 2).reshape(features, members * hidden)


def _check_values(name: str, tensor: Floats) -> None:
    rank = {**_ALWAYS, **_HIDDEN}[name]
    array = np.asarray(tensor)
    if array.dtype != np.float32 or array.ndim != rank or array.size == 0:
        raise _misfit(f"{name} as float32 with {rank} axes", f"{array.dtype} {array.shape}")
    largest = float(np.abs(array).max())
    # What is standardised by may be as large as metadata are.
    if not largest <= (1e13 if name in ("mean", "scale") else _LARGEST):  # NaN compares false
        raise _misfit(f"finite values in {name}", f"{largest}")


def _misfit(expected: str, got: str) -> CorruptIndexError:
    return CorruptIndexError(
        "re-ranking head",
        expected=expected,
        got=got,
        remedy="Learn it again: catalens learn head INDEX.",
    )
