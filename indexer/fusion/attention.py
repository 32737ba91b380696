"""Gated concatenation: per item and per query, how much each present space counts.

As in attention pooling (Ilse, Tomczak and Welling 2018, arXiv:1802.04712), a small network looks
at the blocks and at which of them are there, and gives each space a weight. An item is
v = [sqrt(w_s) a_s x_s]_s and a query q = [u_s b_s / sqrt(w_s) y_s]_s, so that
<q, v> = sum_s u_s a_s b_s cos(y_s, x_s): still linear in the weights u that the query asks for,
and still rising with similarity in each space.

A query's gates b are a softmax over the spaces that it asks, times their number: 1 is what a space
counts that is neither preferred nor set back. An item's gates a do not sum to anything: a softmax
over the spaces that are present would make an item that has one space alone outrank those that
have all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .base import FusedQuery, Match, QueryPart, States, Terms, added, ratio, weighted_sums
from .concat import ConcatFusion
from .perceptron import Perceptron
from .transform import Floats

# An item's gate lies between exp of these: no space of an item may drown out all others.
LEAST_LOG_GATE, MOST_LOG_GATE = -4.0, 2.0


@dataclass(frozen=True)
class AttentionFusion(ConcatFusion):
    """Concatenation with gates that were learned; all its spaces are centred.

    `item_gates` and `query_gates` take (n, total of d_s + S): the blocks of all spaces, in order
    and without padding, and the length of each; they give (n, S).
    """

    kind: ClassVar[str] = "attention"

    item_gates: Perceptron
    query_gates: Perceptron

    @property
    def own_is_best(self) -> bool:
        """Never: a like item with larger gates scores more than the item itself."""
        return False

    def gates_of_items(self, blocks: Mapping[str, Floats]) -> Floats:
        """The gates of items, float32 (n, S)."""
        logits = self.item_gates(seen([blocks[name] for name in self.blocks]))
        gates: Floats = np.exp(np.clip(logits, LEAST_LOG_GATE, MOST_LOG_GATE))
        return gates

    def fuse_items(self, blocks: Mapping[str, Floats]) -> Floats:
        """See `Fusion.fuse_items`."""
        gates = self.gates_of_items(blocks)
        return super().fuse_items(
            {name: blocks[name] * gates[:, [s]] for s, name in enumerate(self.blocks)}
        )

    def fuse_query(self, terms: Terms) -> FusedQuery:
        """See `Fusion.fuse_query`."""
        sums = weighted_sums(terms)
        if not sums:
            return added({}, self.dimension)
        gates = self._gates_of_query(sums)
        parts = {}
        for name, (block, length) in sums.items():
            gate = gates[name]
            scaled = block * np.float32(gate * self.weights[name] ** -0.5)
            parts[name] = QueryPart(self.blocks[name], scaled, length * gate, gate)
        return added(parts, self.dimension)

    def _gates_of_query(self, sums: Mapping[str, tuple[Floats, float]]) -> dict[str, float]:
        names = list(self.blocks)
        blocks = [
            sums[name][0][None] / np.float32(sums[name][1])
            if name in sums
            else np.zeros((1, self.transforms[name].dimension), dtype=np.float32)
            for name in names
        ]
        asked = [s for s, name in enumerate(names) if name in sums]
        logits = self.query_gates(seen(blocks))[0, asked]
        shares = np.exp(logits - logits.max())
        shares *= len(asked) / shares.sum()
        return {names[s]: float(share) for s, share in zip(asked, shares, strict=True)}

    def match(self, part: QueryPart, space: str, rows: Floats, states: States) -> Match:
        """See `Fusion.match`; the strength is the item's gate, times that of an imputed block."""
        block = rows[:, part.where]
        contribution = np.vecdot(block, part.vector)
        lengths = np.linalg.norm(block, axis=1) / np.float32(self.weights[space] ** 0.5)
        return Match(contribution, ratio(contribution, part.length * lengths), lengths)

    def like_row(self, row: Floats, present: Mapping[str, bool]) -> Floats:
        """See `Fusion.like_row`."""
        terms = {}
        for name, where in self.blocks.items():
            length = np.linalg.norm(row[where])
            if present[name] and length > 0:
                terms[name] = [(self.weights[name], row[where] / length)]
        return self.fuse_query(terms).vector

    def tensors(self) -> dict[str, Floats]:
        """The weights of both networks."""
        return self.item_gates.tensors("item") | self.query_gates.tensors("query")


def seen(blocks: list[Floats]) -> Floats:
    """What the gates look at: blocks (n, d_s) side by side, and the length of each."""
    lengths = [np.linalg.norm(block, axis=1, keepdims=True) for block in blocks]
    return np.concatenate([*blocks, *lengths], axis=1).astype(np.float32)
