"""Weighted concatenation, so that any query-side weights keep their meaning.

An item is v = [sqrt(w_s) x_s]_s, with w_s the space's default weight, and a query is
q = [u_s / sqrt(w_s) y_s]_s, with u_s the weight the query asks for. So <q, v> = sum_s u_s
cos(y_s, x_s) for every u, and the geometry the index is trained on is that of the default weights.
A missing block is zero: in a centred space that is the similarity of an average item, neither
reward nor penalty.

In a space compared by plain cosine only items are centred, and not scaled again: <y, x - mean> is
the cosine less that of an average item, so the order is that of the cosine, and zero still means
average.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from ..missing import IMPUTED, PRESENT
from .base import (
    FusedQuery,
    Fusion,
    Match,
    QueryPart,
    States,
    Terms,
    added,
    ratio,
    weighted_sums,
)
from .transform import Floats, SpaceTransform

# Blocks start at multiples of this, so that the index's sub-quantizers of four dimensions
# never straddle two spaces.
BLOCK_ALIGNMENT = 4


def aligned(dimension: int) -> int:
    """The dimension, padded to a multiple of `BLOCK_ALIGNMENT`."""
    return -(-dimension // BLOCK_ALIGNMENT) * BLOCK_ALIGNMENT


@dataclass(frozen=True)
class ConcatFusion(Fusion):
    """Weighted concatenation of the blocks of several spaces."""

    kind: ClassVar[str] = "concat"
    keeps_spaces_apart: ClassVar[bool] = True

    transforms: Mapping[str, SpaceTransform]
    weights: Mapping[str, float]

    @property
    def own_is_best(self) -> bool:
        """Not where plain-cosine blocks are reduced: longer ones may score more."""
        return all(t.centred or t.components is None for t in self.transforms.values())

    @cached_property
    def blocks(self) -> dict[str, slice]:
        """Where each space's block lies in the fused vector, padding left out."""
        found, start = {}, 0
        for name, transform in self.transforms.items():
            found[name] = slice(start, start + transform.dimension)
            start += aligned(transform.dimension)
        return found

    @cached_property
    def dimension(self) -> int:
        """Length of the fused vector, padding included."""
        last: int = list(self.blocks.values())[-1].stop
        return aligned(last)

    @cached_property
    def starts(self) -> list[int]:
        """Where the blocks start."""
        return [where.start for where in self.blocks.values()]

    def fuse_items(self, blocks: Mapping[str, Floats]) -> Floats:
        """See `Fusion.fuse_items`."""
        n = len(next(iter(blocks.values())))
        fused = np.zeros((n, self.dimension), dtype=np.float32)
        for name, where in self.blocks.items():
            fused[:, where] = np.sqrt(self.weights[name]) * blocks[name]
        return fused

    def fuse_query(self, terms: Terms) -> FusedQuery:
        """See `Fusion.fuse_query`."""
        parts = {}
        for name, (block, length) in weighted_sums(terms).items():
            weight = self.weights[name]
            scaled = block if weight == 1 else block * np.float32(weight**-0.5)
            parts[name] = QueryPart(self.blocks[name], scaled, length)
        return added(parts, self.dimension)

    def match(self, part: QueryPart, space: str, rows: Floats, states: States) -> Match:
        """See `Fusion.match`; similarity is the cosine of the two blocks."""
        block = rows[:, part.where]
        contribution = np.vecdot(block, part.vector)
        present = states == PRESENT
        if present.all():
            strengths = present.astype(np.float32)
            similarity = contribution / np.float32(part.length)
        else:
            strengths = self._strengths(block, space, states)
            similarity = ratio(contribution, np.float32(part.length) * strengths)
        transform = self.transforms[space]
        if not transform.centred:
            unit_block = part.vector * np.float32(self.weights[space] ** 0.5 / part.length)
            similarity += np.float32(transform.average_similarity(unit_block))
        return Match(contribution, similarity, strengths)

    def _strengths(self, block: Floats, space: str, states: States) -> Floats:
        """1 for blocks that are there, 0 for missing ones, and the length of imputed ones, which
        are unit vectors times their strength."""
        strengths: Floats = (states == PRESENT).astype(np.float32)
        imputed = states == IMPUTED
        if self.transforms[space].predicts_items:
            strengths[imputed] = 1
            return strengths
        lengths = np.linalg.norm(block[imputed], axis=1)
        strengths[imputed] = lengths / np.float32(self.weights[space] ** 0.5)
        return strengths

    def like_row(self, row: Floats, present: Mapping[str, bool]) -> Floats:
        """See `Fusion.like_row`: asks each space that the item has, with its default weight."""
        terms = {}
        for name, where in self.blocks.items():
            if present[name]:
                block = row[where] / np.sqrt(np.float32(self.weights[name]))
                terms[name] = [(self.weights[name], self.transforms[name].item_as_query(block))]
        return self.fuse_query(terms).vector

    def tensors(self) -> dict[str, Floats]:
        """Nothing is learned."""
        return {}
