"""Losses of a ranking: scores (E, Q, C) of E members for the candidates of Q queries, to (E, Q)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

Loss = Literal["pointwise", "pairwise", "listwise"]


def pointwise(scores: Tensor, grades: Tensor, there: Tensor) -> Tensor:
    """Cross-entropy of each candidate for its grade, over the largest of its query."""
    from torch.nn.functional import binary_cross_entropy_with_logits

    wanted = grades / grades.amax(dim=1, keepdim=True).clamp(min=1)
    each = binary_cross_entropy_with_logits(scores, wanted.expand_as(scores), reduction="none")
    return (each * there).sum(dim=2) / there.sum(dim=1)


def pairwise(scores: Tensor, grades: Tensor, there: Tensor) -> Tensor:
    """RankNet (Burges et al. 2005): the logistic loss of each pair of which one is better."""
    from torch.nn.functional import softplus

    better = (grades[:, :, None] > grades[:, None, :]) & there[:, :, None] & there[:, None, :]
    lead = scores[..., :, None] - scores[..., None, :]
    return (softplus(-lead) * better).sum(dim=(2, 3)) / better.sum(dim=(1, 2)).clamp(min=1)


def listwise(scores: Tensor, grades: Tensor, there: Tensor) -> Tensor:
    """Softmax cross-entropy (ListNet's top-one loss, Cao et al. 2007) with the shares of the
    grades."""
    shares = grades / grades.sum(dim=1, keepdim=True).clamp(min=1e-9)
    logs = scores.masked_fill(~there, float("-inf")).log_softmax(dim=2)
    return -(shares * logs.masked_fill(~there, 0.0)).sum(dim=2)


LOSSES: Mapping[Loss, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "pointwise": pointwise,
    "pairwise": pairwise,
    "listwise": listwise,
}
