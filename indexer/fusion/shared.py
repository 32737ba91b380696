"""What the fusions have in common whose spaces share one set of dimensions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import ClassVar

import numpy as np

from .base import NOTHING, FusedQuery, Fusion, Match, QueryPart, States, Terms, added
from .transform import Floats, SpaceTransform


class SharedFusion(Fusion):
    """Every space is projected into the same D dimensions.

    A query is q = sum_s u_s b_s p_s, where the unit vector p_s is what a query in that space alone
    is projected to and b_s a constant of the space. An item's similarity in a space is <p_s, v>:
    how the whole item, whatever it is seen through, answers to what the query says there. So a
    weight scales that similarity, and raising it never lowers the similarity of what is found.
    """

    keeps_spaces_apart: ClassVar[bool] = False

    transforms: Mapping[str, SpaceTransform]
    weights: Mapping[str, float]

    @cached_property
    def starts(self) -> list[int]:
        """Nothing must be kept apart."""
        return [0]

    @abstractmethod
    def project(self, space: str, block: Floats) -> Floats:
        """The unit vector (D,) of a query's unit block (d_s,) in one space."""

    @abstractmethod
    def gate(self, space: str) -> float:
        """The constant b_s."""

    def fuse_query(self, terms: Terms) -> FusedQuery:
        """See `Fusion.fuse_query`."""
        parts = {}
        for name, weighted in terms.items():
            size = sum(abs(weight) for weight, _ in weighted)
            if not size:
                continue
            gate = self.gate(name)
            vector = np.zeros(self.dimension, dtype=np.float32)
            for weight, block in weighted:
                vector += np.float32(weight * gate) * self.project(name, block)
            length = float(np.linalg.norm(vector))
            if length > NOTHING * size * gate:
                parts[name] = QueryPart(slice(0, self.dimension), vector, length, gate)
        return added(parts, self.dimension)

    def match(self, part: QueryPart, space: str, rows: Floats, states: States) -> Match:
        """See `Fusion.match`; an item is matched whole, also where it lacks the space."""
        contribution = np.vecdot(rows, part.vector)
        return Match(
            contribution, contribution / np.float32(part.length), np.ones_like(contribution)
        )

    def like_row(self, row: Floats, present: Mapping[str, bool]) -> Floats:
        """See `Fusion.like_row`: the row itself."""
        return row
