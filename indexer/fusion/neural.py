"""A multi-layer perceptron over blocks and mask, beside a linear projection of the blocks.

An item is v = unit(x @ skip + mlp(x, mask)), with x its blocks side by side and mask their
lengths: 1 where a block is there, 0 where it is missing. A query in one space goes through the same
function with all other spaces missing, and the parts of several spaces are added up with their
weights; so it was trained, by contrast with modality dropout.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from .attention import seen
from .perceptron import Perceptron
from .shared import SharedFusion
from .transform import Floats, SpaceTransform, unit_rows


@dataclass(frozen=True)
class NeuralFusion(SharedFusion):
    """A perceptron that was learned; all its spaces are centred.

    `skip` is (total of d_s, D), `mlp` takes blocks and lengths as `seen` gives them, and `gates`
    (S,) are the constants b_s.
    """

    kind: ClassVar[str] = "neural"

    transforms: Mapping[str, SpaceTransform]
    weights: Mapping[str, float]
    skip: Floats
    mlp: Perceptron
    gates: Floats

    @property
    def own_is_best(self) -> bool:
        """Rows are of unit length."""
        return True

    @cached_property
    def dimension(self) -> int:
        """Length of the fused vectors."""
        return int(self.skip.shape[1])

    @cached_property
    def _slices(self) -> dict[str, slice]:
        found, start = {}, 0
        for name, transform in self.transforms.items():
            found[name] = slice(start, start + transform.dimension)
            start += transform.dimension
        return found

    def fuse_items(self, blocks: Mapping[str, Floats]) -> Floats:
        """See `Fusion.fuse_items`."""
        return self._apply(seen([blocks[name] for name in self.transforms]))

    def project(self, space: str, block: Floats) -> Floats:
        """See `SharedFusion.project`."""
        total = self.skip.shape[0]
        x = np.zeros((1, total + len(self.transforms)), dtype=np.float32)
        x[0, self._slices[space]] = block
        x[0, total + list(self.transforms).index(space)] = 1.0
        vector: Floats = self._apply(x)[0]
        return vector

    def _apply(self, x: Floats) -> Floats:
        return unit_rows(x[:, : self.skip.shape[0]] @ self.skip + self.mlp(x))

    def gate(self, space: str) -> float:
        """See `SharedFusion.gate`."""
        return float(self.gates[list(self.transforms).index(space)])

    def tensors(self) -> dict[str, Floats]:
        """The weights of the network."""
        return {"skip": self.skip, "gates": self.gates, **self.mlp.tensors("mlp")}
