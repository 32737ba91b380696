"""A weighted average of spaces that are projected into shared dimensions.

The projections are those of generalised canonical correlation analysis (MAXVAR; Kettenring 1971,
Biometrika 58(3)): the directions in which the spaces of the same item agree most. An item is
v = sum_s w_s p_s(x_s) / sum_s w_s with p_s(x) = unit(x @ P_s); a missing block is zero and leaves
what the others add as it is. In a catalog of one space, or without items that have two, the
directions are principal axes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from .concat import aligned
from .shared import SharedFusion
from .transform import Floats, SpaceTransform, unit, unit_rows

DIMENSION = 256
# Shrinks covariances towards the identity, in rows: a direction that few items show counts less.
_RIDGE = 3.0


@dataclass(frozen=True)
class MeanFusion(SharedFusion):
    """A weighted average; all its spaces are centred. `projections` map a space to (d_s, D)."""

    kind: ClassVar[str] = "mean"

    transforms: Mapping[str, SpaceTransform]
    weights: Mapping[str, float]
    projections: Mapping[str, Floats]

    @classmethod
    def fit(
        cls,
        transforms: Mapping[str, SpaceTransform],
        weights: Mapping[str, float],
        blocks: Mapping[str, Floats],
    ) -> MeanFusion:
        """Fit on the unit blocks (n, d_s) of a sample, rows of zeros where missing."""
        whitened, whitenings = [], {}
        for name, x in blocks.items():
            rows = x.astype(np.float64)
            values, vectors = np.linalg.eigh(rows.T @ rows + _RIDGE * np.eye(rows.shape[1]))
            whitenings[name] = vectors / np.sqrt(values) @ vectors.T
            whitened.append(rows @ whitenings[name])
        stacked = np.concatenate(whitened, axis=1)
        values, vectors = np.linalg.eigh(stacked.T @ stacked)
        order = np.argsort(values)[::-1][:DIMENSION]
        # An eigenvalue is the number of spaces that agree in a direction, shrunk: those in which
        # more agree count more.
        directions = vectors[:, order] * values[order]
        projections, start = {}, 0
        for name, whitening in whitenings.items():
            stop = start + len(whitening)
            projection = np.zeros((len(whitening), aligned(len(order))), dtype=np.float32)
            projection[:, : len(order)] = whitening @ directions[start:stop]
            projections[name] = projection
            start = stop
        return cls(transforms, weights, projections)

    @property
    def own_is_best(self) -> bool:
        """Rows are longer the more their spaces agree."""
        return False

    @cached_property
    def dimension(self) -> int:
        """Length of the fused vectors."""
        return int(next(iter(self.projections.values())).shape[1])

    def fuse_items(self, blocks: Mapping[str, Floats]) -> Floats:
        """See `Fusion.fuse_items`."""
        total = sum(self.weights.values())
        return sum(  # type: ignore[no-any-return]
            np.float32(self.weights[name] / total)
            * np.linalg.norm(blocks[name], axis=1, keepdims=True)
            * unit_rows(blocks[name] @ projection)
            for name, projection in self.projections.items()
        )

    def project(self, space: str, block: Floats) -> Floats:
        """See `SharedFusion.project`."""
        return unit(block @ self.projections[space])

    def gate(self, space: str) -> float:
        """No space is preferred."""
        return 1.0

    def tensors(self) -> dict[str, Floats]:
        """The projections."""
        return {f"projection/{name}": one for name, one in self.projections.items()}
