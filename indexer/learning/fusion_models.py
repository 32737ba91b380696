"""The learned fusions in torch, as functions of their weights; each gives its numpy counterpart.

What a model does to items and to queries is what `AttentionFusion` and `NeuralFusion` do, for
whole batches and with gradients. Randomness is drawn from a generator of our own, torch's global
one is neither read nor moved.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..fusion import (
    LEAST_LOG_GATE,
    MOST_LOG_GATE,
    AttentionFusion,
    Fusion,
    NeuralFusion,
    Perceptron,
    SpaceTransform,
)
from ..fusion.base import NOTHING

if TYPE_CHECKING:
    from torch import Generator, Tensor

Floats = NDArray[np.float32]
Made = TypeVar("Made", bound=Fusion)

GATE_HIDDEN = 64
NEURAL_DIMENSION = 384
NEURAL_HIDDEN = 1024
# The perceptron begins as a small correction of the skip connection.
_START_SHRINK = 0.1
_DROPOUT = 0.2


class Model(ABC, Generic[Made]):
    """A fusion that is being trained.

    Blocks are tensors (n, d_s) float32, one for each space in order; `parameters` are the tensors
    to train.
    """

    learns_from_views: ClassVar[bool]
    """Whether an item seen through a part of its spaces has something to teach."""
    parameters: list[Tensor]

    def __init__(
        self,
        transforms: Mapping[str, SpaceTransform],
        weights: Mapping[str, float],
        draw: Generator,
    ) -> None:
        self.transforms = transforms
        self.weights = {name: weights[name] for name in transforms}
        self.dimensions = [transform.dimension for transform in transforms.values()]

    @abstractmethod
    def items(self, blocks: Sequence[Tensor], draw: Generator | None = None) -> Tensor:
        """Items' vectors (n, D), padding left out; with a generator, under dropout."""

    @abstractmethod
    def queries(self, blocks: Sequence[Tensor], draw: Generator | None = None) -> Tensor:
        """Vectors (n, D) of queries, whose blocks are as long as their weights."""

    @abstractmethod
    def fusion(self) -> Made:
        """What was learned so far, copied."""


class AttentionModel(Model[AttentionFusion]):
    """Starts as concatenation: all gates are one, because their output layers are zero.

    It learns from queries alone where there are any: the gate of an item that has a picture alone
    can suit queries of text or of pictures, not both, and half a batch of views cost titles more
    than they gave.
    """

    learns_from_views: ClassVar[bool] = False

    def __init__(
        self,
        transforms: Mapping[str, SpaceTransform],
        weights: Mapping[str, float],
        draw: Generator,
    ) -> None:
        super().__init__(transforms, weights, draw)
        spaces = len(self.dimensions)
        sides = [
            _layers(sum(self.dimensions) + spaces, GATE_HIDDEN, spaces, draw, shrink=0.0)
            for _ in range(2)
        ]
        self._item_gates, self._query_gates = sides
        self.parameters = [*self._item_gates, *self._query_gates]
        self._roots = [weight**0.5 for weight in self.weights.values()]

    def items(self, blocks: Sequence[Tensor], draw: Generator | None = None) -> Tensor:
        """See `Model.items`; only what the gates see is dropped."""
        import torch

        gates = self._item_logits(blocks, draw).clamp(LEAST_LOG_GATE, MOST_LOG_GATE).exp()
        return torch.cat(
            [block * gates[:, [s]] * self._roots[s] for s, block in enumerate(blocks)], dim=1
        )

    def queries(self, blocks: Sequence[Tensor], draw: Generator | None = None) -> Tensor:
        """See `Model.queries`; only what the gates see is dropped."""
        import torch

        asked = _lengths(blocks) > NOTHING
        # Not -inf: the rows that ask nothing would be nan.
        shares = self._query_logits(blocks, draw).masked_fill(~asked, -1e9).softmax(dim=1)
        gates = shares * asked.sum(dim=1, keepdim=True) * asked
        return torch.cat(
            [block * gates[:, [s]] / self._roots[s] for s, block in enumerate(blocks)], dim=1
        )

    def _item_logits(self, blocks: Sequence[Tensor], draw: Generator | None) -> Tensor:
        import torch

        seen = [_dropped(torch.cat(list(blocks), dim=1), draw), _lengths(blocks)]
        return _perceptron(self._item_gates, torch.cat(seen, dim=1), draw)

    def _query_logits(self, blocks: Sequence[Tensor], draw: Generator | None) -> Tensor:
        import torch
        from torch.nn.functional import normalize

        asked = _lengths(blocks) > NOTHING
        ways = [normalize(b, dim=1) * asked[:, [s]] for s, b in enumerate(blocks)]
        seen = [_dropped(torch.cat(ways, dim=1), draw), _lengths(ways)]
        return _perceptron(self._query_gates, torch.cat(seen, dim=1), draw)

    def fusion(self) -> AttentionFusion:
        """See `Model.fusion`."""
        return AttentionFusion(
            self.transforms,
            self.weights,
            Perceptron(*map(_copied, self._item_gates)),
            Perceptron(*map(_copied, self._query_gates)),
        )


class NeuralModel(Model[NeuralFusion]):
    """Starts near an orthogonal projection of the blocks side by side."""

    learns_from_views: ClassVar[bool] = True

    def __init__(
        self,
        transforms: Mapping[str, SpaceTransform],
        weights: Mapping[str, float],
        draw: Generator,
    ) -> None:
        import torch

        super().__init__(transforms, weights, draw)
        total, spaces = sum(self.dimensions), len(self.dimensions)
        self._skip = torch.nn.init.orthogonal_(torch.empty(total, NEURAL_DIMENSION), generator=draw)
        self._skip.requires_grad_()
        self._mlp = _layers(
            total + spaces, NEURAL_HIDDEN, NEURAL_DIMENSION, draw, shrink=_START_SHRINK
        )
        self._log_gates = torch.zeros(spaces, requires_grad=True)
        self.parameters = [self._skip, *self._mlp, self._log_gates]

    def items(self, blocks: Sequence[Tensor], draw: Generator | None = None) -> Tensor:
        """See `Model.items`."""
        import torch
        from torch.nn.functional import normalize

        x = _dropped(torch.cat(list(blocks), dim=1), draw)
        seen = torch.cat([x, _lengths(blocks)], dim=1)
        return normalize(x @ self._skip + _perceptron(self._mlp, seen, draw), dim=1)

    def queries(self, blocks: Sequence[Tensor], draw: Generator | None = None) -> Tensor:
        """See `Model.queries`."""
        import torch

        lengths, gates = _lengths(blocks), self._log_gates.exp()
        added = torch.zeros(len(lengths), NEURAL_DIMENSION)
        for s, block in enumerate(blocks):
            asking = (lengths[:, s] > NOTHING).nonzero()[:, 0]
            length = lengths[asking, s, None]
            projected = self._project(s, block[asking] / length, draw)
            added = added.index_add(0, asking, projected * length * gates[s])
        return added

    def _project(self, s: int, x: Tensor, draw: Generator | None) -> Tensor:
        """Unit blocks (k, d_s) of one space, all others missing, to unit vectors (k, D)."""
        from torch.nn.functional import normalize

        # Only the rows of the weights that meet something other than zero.
        start = sum(self.dimensions[:s])
        rows = slice(start, start + self.dimensions[s])
        up, up_bias, *down = self._mlp
        x = _dropped(x, draw)
        there = up_bias + up[sum(self.dimensions) + s]
        y = _perceptron([up[rows], there, *down], x, draw)
        return normalize(x @ self._skip[rows] + y, dim=1)

    def fusion(self) -> NeuralFusion:
        """See `Model.fusion`."""
        return NeuralFusion(
            self.transforms,
            self.weights,
            _copied(self._skip),
            Perceptron(*map(_copied, self._mlp)),
            _copied(self._log_gates.exp()),
        )


def _layers(d_in: int, hidden: int, d_out: int, draw: Generator, *, shrink: float) -> list[Tensor]:
    """Weights in the order of `Perceptron`, as torch's `Linear` begins; the last layer shrunk."""
    import torch

    def uniform(*shape: int, fan_in: int, scale: float = 1.0) -> Tensor:
        drawn = (torch.rand(*shape, generator=draw) * 2 - 1) / math.sqrt(fan_in) * scale
        return drawn.requires_grad_()

    return [
        uniform(d_in, hidden, fan_in=d_in),
        uniform(hidden, fan_in=d_in),
        uniform(hidden, d_out, fan_in=hidden, scale=shrink),
        uniform(d_out, fan_in=hidden, scale=shrink),
    ]


def _perceptron(layers: Sequence[Tensor], x: Tensor, draw: Generator | None = None) -> Tensor:
    up, up_bias, down, down_bias = layers
    return _dropped((x @ up + up_bias).relu(), draw) @ down + down_bias


def _dropped(x: Tensor, draw: Generator | None) -> Tensor:
    """Inverted dropout that draws from our own generator; none without one."""
    import torch

    if draw is None:
        return x
    kept = torch.empty_like(x).bernoulli_(1 - _DROPOUT, generator=draw)
    return x * kept / (1 - _DROPOUT)


def _lengths(blocks: Sequence[Tensor]) -> Tensor:
    """The length of each block (n, S)."""
    import torch

    return torch.stack([block.norm(dim=1) for block in blocks], dim=1)


def _copied(tensor: Tensor) -> Floats:
    copy: Floats = tensor.detach().numpy().copy()
    return copy
