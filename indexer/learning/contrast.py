"""Contrastive training of a head towards a locked target.

InfoNCE (van den Oord et al. 2018, arXiv:1807.03748), both ways between a batch's sources and
targets, with only the source side learned (LiT, Zhai et al. 2022, arXiv:2111.07991). It starts at
the ridge solution: the hidden layer's way out is zero at first.

Catalogs repeat themselves, so that the other rows of a batch are not all negatives. Each row's
target is spread over the rows by how alike their sources are, p_ij ~ exp((cos_ij - 1) / 0.1): rows
of one text share it evenly, rows of other texts get next to nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from encoders.training import Steps, shared_cross_entropy, threads_for

from ..progress import Progress

if TYPE_CHECKING:
    from torch import Generator, Tensor

Floats = NDArray[np.float32]

EPOCHS = 30
_BATCH = 512
# Smaller catalogs take smaller batches, to have this many steps in an epoch.
_STEPS_PER_EPOCH = 8
_HIDDEN = 1024
_DROPOUT = 0.3
_RATE = 1e-3
_DECAY = 0.05
_TEMPERATURE = 0.05
_LARGEST_SCALE = 100.0  # one over the temperature; CLIP's bound
_LIKENESS = 0.1
# Ridge shrinks its outputs far below unit length. Only their direction counts, and next to the
# steps of AdamW the weights are better off at the size that unit outputs have.
_START_SCALE = 3.0


@dataclass(frozen=True)
class Weights:
    """What a head of one hidden layer is made of; float32, shapes as in `encoders.Head`."""

    linear: Floats
    bias: Floats
    up: Floats
    up_bias: Floats
    down: Floats


def train(
    source: Floats, target: Floats, start: NDArray[np.float64], *, seed: int, progress: Progress
) -> Weights:
    """Train on all pairs.

    Args:
        source: float32 array with shape (n, d), n >= 2: centred unit rows.
        target: float32 array with shape (n, k): centred unit rows, reduced or not.
        start: float64 array with shape (d, k): the ridge solution to start from.
        seed: the same seed gives the same weights on the same machine. All randomness is drawn
            from a generator of our own, torch's global one is neither read nor moved.
        progress: told of `EPOCHS` steps; the caller starts and finishes the stage.

    Returns:
        The weights after the last epoch.
    """
    import torch
    from torch.nn.functional import normalize, relu

    draw = torch.Generator().manual_seed(seed)
    n, d = source.shape
    k = target.shape[1]
    sources, targets = torch.from_numpy(source), torch.from_numpy(target)
    linear = torch.from_numpy((start * _START_SCALE).astype(np.float32))
    bias = torch.zeros(k)
    up = (torch.rand(d, _HIDDEN, generator=draw) * 2 - 1) / math.sqrt(d)
    up_bias = (torch.rand(_HIDDEN, generator=draw) * 2 - 1) / math.sqrt(d)
    down = torch.zeros(_HIDDEN, k)
    scale = torch.tensor(math.log(1 / _TEMPERATURE))
    weights = [linear, bias, up, up_bias, down]
    for tensor in (*weights, scale):
        tensor.requires_grad_()

    batch = min(_BATCH, max(2, n // _STEPS_PER_EPOCH))
    step_down = Steps(weights, [scale], rate=_RATE, decay=_DECAY, total=EPOCHS * (n // batch))
    drop = _dropout(draw)
    with threads_for(small=batch < _BATCH):
        for _ in range(EPOCHS):
            order = torch.randperm(n, generator=draw)
            for step in range(n // batch):
                rows = order[step * batch : (step + 1) * batch]
                x, t = sources[rows], targets[rows]
                z = drop(x)
                y = z @ linear + drop(relu(z @ up + up_bias)) @ down + bias
                cosines = normalize(y, dim=1) @ t.T
                logits, shares = cosines * scale.exp().clamp(max=_LARGEST_SCALE), _shares(x)
                # From sources to targets, and from targets to sources.
                step_down(
                    shared_cross_entropy(logits, shares) + shared_cross_entropy(logits.T, shares)
                )
            progress.advance(1)
    return Weights(*(tensor.detach().numpy() for tensor in weights))


def _dropout(draw: Generator) -> Callable[[Tensor], Tensor]:
    """Inverted dropout that draws from our own generator."""
    import torch

    def drop(x: Tensor) -> Tensor:
        kept = torch.rand(x.shape, generator=draw) >= _DROPOUT
        return x * kept / (1 - _DROPOUT)

    return drop


def _shares(x: Tensor) -> Tensor:
    """How each row's target spreads over the batch (b, b); rows sum to one."""
    alike = ((x @ x.T - 1) / _LIKENESS).exp()
    return alike / alike.sum(dim=1, keepdim=True)
