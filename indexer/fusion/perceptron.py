"""A small multi-layer perceptron applied in numpy: trained in torch, served without it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .transform import Floats


@dataclass(frozen=True)
class Perceptron:
    """y = relu(x @ up + up_bias) @ down + down_bias, for rows x (n, d_in) to y (n, d_out)."""

    up: Floats
    """(d_in, hidden)"""
    up_bias: Floats
    down: Floats
    """(hidden, d_out)"""
    down_bias: Floats

    def __call__(self, x: Floats) -> Floats:
        hidden = np.maximum(x @ self.up + self.up_bias, 0)
        y: Floats = hidden @ self.down + self.down_bias
        return y

    def tensors(self, prefix: str) -> dict[str, Floats]:
        """Its weights by name, each name after `prefix`."""
        return {f"{prefix}/{name}": value for name, value in vars(self).items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Floats], prefix: str) -> Perceptron:
        """What `tensors` gave.

        Raises:
            KeyError: one is missing.
            ValueError: shapes that do not fit together.
        """
        up, up_bias, down, down_bias = (
            tensors[f"{prefix}/{name}"] for name in ("up", "up_bias", "down", "down_bias")
        )
        if up.shape[1:] != up_bias.shape or up.shape[1] != down.shape[0]:
            raise ValueError(f"{prefix}: {up.shape}, {up_bias.shape} and {down.shape}")
        if down.shape[1:] != down_bias.shape:
            raise ValueError(f"{prefix}: {down.shape} and {down_bias.shape}")
        return cls(up, up_bias, down, down_bias)
