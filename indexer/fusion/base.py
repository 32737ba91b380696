"""What a fusion is: blocks of many spaces to one vector, on the items' side and the query's.

Every fusion is an inner product that is linear in the query's weights: a query vector is the sum
of one part for each space that it asks, so each space's contribution to a score is told exactly,
and any weights, negative ones included, need no other index.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .transform import Floats, SpaceTransform

States = NDArray[np.uint8]
Terms = Mapping[str, Sequence[tuple[float, Floats]]]
"""For each space that a query asks, its weights u and unit blocks (d_s,)."""

# Parts that cancel out leave some rounding: less than this in proportion to their weights.
NOTHING = 1e-6


class QueryPart(NamedTuple):
    """What one space adds to a query vector.

    `vector` lies at `where` of the fused vector, so `rows[:, where] @ vector` is what the space
    contributes to the scores of rows (n, D). `length` is the factor by which similarity counts:
    the size of the space's weighted sum of unit blocks, times the gate that the fusion gave it.
    """

    where: slice
    vector: Floats
    length: float
    gate: float = 1.0


class FusedQuery(NamedTuple):
    """A query vector (D,) float32 and, for each space that it asks, its part."""

    vector: Floats
    parts: Mapping[str, QueryPart]


class Match(NamedTuple):
    """How rows (h,) match one part: what it contributes, the similarity that stands behind it,
    and the factor on the items' side; contribution = length * strength * (similarity less that of
    an average item)."""

    contribution: Floats
    similarity: Floats
    strength: Floats


class Fusion(ABC):
    """Blocks of several spaces to one vector.

    `transforms` make a space's blocks, `weights` are the default weights w_s, both in the order of
    the spaces.
    """

    kind: ClassVar[str]
    keeps_spaces_apart: ClassVar[bool]
    """Whether each space has a part of the fused vector of its own, so that similarity in it can be
    read off, and policies that weigh spaces per item can be applied to it."""

    transforms: Mapping[str, SpaceTransform]
    weights: Mapping[str, float]

    @property
    @abstractmethod
    def own_is_best(self) -> bool:
        """Whether no row scores more for `like_row` of a row than itself, in exact arithmetic."""

    @property
    @abstractmethod
    def dimension(self) -> int:
        """Length D of the fused vectors; a multiple of `BLOCK_ALIGNMENT`."""

    @property
    @abstractmethod
    def starts(self) -> list[int]:
        """Where sub-vectors that must not be straddled by one code start in the fused vector."""

    @abstractmethod
    def fuse_items(self, blocks: Mapping[str, Floats]) -> Floats:
        """Items to their vectors.

        Args:
            blocks: float32 (n, d_s) per space; a row of zeros is a block that is missing, one
                shorter than its space's usual one is imputed.

        Returns:
            float32 (n, D).
        """

    @abstractmethod
    def fuse_query(self, terms: Terms) -> FusedQuery:
        """A query's weighted blocks to its vector; spaces whose terms cancel out are not asked."""

    @abstractmethod
    def match(self, part: QueryPart, space: str, rows: Floats, states: States) -> Match:
        """How rows (h, D) match one part of a query in its space.

        Args:
            states: uint8 (h,): whether each row's block is `MISSING`, `PRESENT` or `IMPUTED`.
        """

    @abstractmethod
    def like_row(self, row: Floats, present: Mapping[str, bool]) -> Floats:
        """The query vector (D,) that asks for items like that of a row (D,)."""

    @abstractmethod
    def tensors(self) -> dict[str, Floats]:
        """What the fusion learned, to be stored; transforms and weights not included."""


def weighted_sums(terms: Terms) -> dict[str, tuple[Floats, float]]:
    """Each space's weighted sum of unit blocks (d_s,), and its length.

    Spaces where the terms cancel out are left out: the query does not ask them.
    """
    found = {}
    for space, weighted in terms.items():
        if len(weighted) == 1:  # the most usual query by far, and nothing to add up
            weight, block = weighted[0]
            length = math.sqrt(block.dot(block))
            if weight and length > NOTHING:
                found[space] = (
                    block if weight == 1 else block * np.float32(weight),
                    length * abs(weight),
                )
            continue
        # Added up in proportion to the weights, of which only then the size counts.
        total = sum(abs(weight) for weight, _ in weighted)
        if not total:
            continue
        shares = [
            one if weight == total else one * np.float32(weight / total) for weight, one in weighted
        ]
        block = shares[0]
        for other in shares[1:]:
            block = block + other
        length = math.sqrt(block.dot(block))
        if length > NOTHING:
            found[space] = (block if total == 1.0 else block * np.float32(total), length * total)
    return found


def added(parts: Mapping[str, QueryPart], dimension: int) -> FusedQuery:
    """Parts added up to the query vector (D,)."""
    if len(parts) == 1:
        (part,) = parts.values()
        if len(part.vector) == dimension:
            return FusedQuery(part.vector, parts)
    vector = np.zeros(dimension, dtype=np.float32)
    for part in parts.values():
        vector[part.where] += part.vector
    return FusedQuery(vector, parts)


def ratio(a: Floats, b: Floats | float) -> Floats:
    """a / b, 0 where b is 0."""
    return np.divide(a, b, out=np.zeros_like(a), where=np.asarray(b) > 0)
