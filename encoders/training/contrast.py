"""The contrastive loss that all training here rests on.

InfoNCE (van den Oord et al. 2018, arXiv:1807.03748), with the share that each candidate has of a
row's target instead of a single right answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_EXCLUDED = -1e9
"""The logit of what is no candidate: its probability is 0, its logarithm finite."""


def shared_cross_entropy(logits: Tensor, shares: Tensor) -> Tensor:
    """The mean cross-entropy of rows of logits (n, m) to target shares (n, m) that sum to one."""
    return -(shares * logits.log_softmax(dim=1)).sum(dim=1).mean()


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """The loss of SimCLR (Chen et al. 2020, arXiv:2002.05709): two views of each of n inputs must
    find each other among all other views of the batch.

    Args:
        first: projections (n, d), of any length.
        second: those of the other views, row by row.
        temperature: what cosines are divided by.
    """
    import torch
    from torch.nn.functional import normalize, one_hot

    n = len(first)
    views = normalize(torch.cat([first, second]).float(), dim=1)
    logits = (views @ views.T / temperature).masked_fill(
        torch.eye(2 * n, dtype=torch.bool, device=views.device), _EXCLUDED
    )
    partner = (torch.arange(2 * n, device=views.device) + n) % (2 * n)
    return shared_cross_entropy(logits, one_hot(partner, 2 * n).to(logits.dtype))
