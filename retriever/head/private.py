"""Heads trained with differential privacy: what is learned hardly depends on any one query.

DP-SGD (Abadi et al. 2016, arXiv:1607.00133) by opacus: the gradient of each query, or of each user,
is clipped, noise is added to their sum, and batches are drawn by Poisson sampling. The unit that is
protected is one judged query (or one user) of those learned from, added or taken away.

Nothing else that leaves the training depends on them: features are standardised by what the catalog
asks of itself, settings are fixed, no epoch is chosen by its result. What does depend, on queries
held out and not learned from, is the measured NDCG, and whether the head is switched on.
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .errors import PrivacyError
from .examples import Examples
from .losses import LOSSES
from .model import HeadModel
from .training import Settings, standardised

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.float32]

SETTINGS = Settings(model="linear", loss="listwise", rate=0.02, decay=0.0)
"""What is trained unless the user says otherwise: the fewer weights, the less noise."""
_BATCH = 64
_EPOCHS = 20
_CLIPPED = 1.0
_LARGEST_DELTA = 1e-5
_MOST_EPSILON = 1_000.0


def check_epsilon(epsilon: float) -> float:
    """An epsilon that privacy can have.

    Raises:
        PrivacyError: no number above 0, or one so large that it protects nothing.
    """
    if isinstance(epsilon, bool) or not 0 < epsilon <= _MOST_EPSILON:  # NaN compares false
        raise PrivacyError(
            "epsilon of differential privacy",
            expected=f"a number above 0, at most {_MOST_EPSILON:g}",
            got=repr(epsilon),
            remedy="1 protects well, 10 little; see docs/privacy.md.",
        )
    return float(epsilon)


def train_private(
    examples: Examples, mean: Floats, scale: Floats, settings: Settings, epsilon: float, seed: int
) -> tuple[HeadModel, float, float]:
    """A head of one member, and the epsilon and delta that it was trained with.

    Args:
        examples: those of a group are one unit: one query of each is learned from.
        mean, scale: of the features, float32 (F,), from data that need no protection.
        settings: see `SETTINGS`.
        epsilon: the most that may be spent.
        seed: of weights, batches and noise. Noise that a seed repeats protects from no one who
            knows the seed.

    Raises:
        PrivacyError: opacus is not installed, or so little noise cannot be had.
    """
    try:
        from opacus import PrivacyEngine
    except ImportError as error:
        raise PrivacyError(
            "differential privacy",
            expected="the package opacus",
            got=str(error),
            remedy="pip install 'catalens[privacy]'",
        ) from error
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    some = examples.take(np.unique(examples.groups, return_index=True)[1])
    n = len(some)
    delta = min(_LARGEST_DELTA, 1 / (10 * n))
    torch.manual_seed(seed)
    scorer = _scorer(len(mean), settings)
    # A query that can teach nothing stays in the sample: leaving it out would tell of it.
    data = TensorDataset(
        torch.from_numpy(standardised(some.features, mean, scale)),
        torch.from_numpy(some.grades),
        torch.from_numpy(some.there),
    )
    generator = torch.Generator().manual_seed(seed)
    loader: Any = DataLoader(data, batch_size=min(_BATCH, n), generator=generator)
    with warnings.catch_warnings():
        # Of secure random numbers, which its own package of them does not give on this torch; of
        # backward hooks on inputs that need no gradient; of the accountant's own tail.
        warnings.simplefilter("ignore")
        engine: Any = PrivacyEngine(accountant="rdp")
        optimizer = torch.optim.Adam(scorer.parameters(), lr=settings.rate)
        try:
            model, noisy, batches = engine.make_private_with_epsilon(
                module=scorer,
                optimizer=optimizer,
                data_loader=loader,
                target_epsilon=epsilon,
                target_delta=delta,
                epochs=_EPOCHS,
                max_grad_norm=_CLIPPED,
                noise_generator=generator,
            )
        except ValueError as error:
            # The accountant's bound ends at about .15: no noise is enough for less.
            raise _too_little(epsilon, str(error)) from error
        for _ in range(_EPOCHS):
            for z, grades, there in batches:
                noisy.zero_grad()
                if len(z):
                    _loss(model(z), grades, there, settings).backward()  # type: ignore[no-untyped-call]
                    noisy.step()
        spent = float(engine.get_epsilon(delta))
    if not math.isfinite(spent) or spent > epsilon * 1.01:
        raise _too_little(epsilon, f"{spent:g}")
    return _as_model(scorer, mean, scale, settings), spent, delta


def _too_little(epsilon: float, got: str) -> PrivacyError:
    return PrivacyError(
        "differential privacy",
        expected=f"noise that spends an epsilon of at most {epsilon:g}",
        got=got,
        remedy="Ask for a larger one, or collect more queries.",
    )


def _loss(scores: Tensor, grades: Tensor, there: Tensor, settings: Settings) -> Tensor:
    """Mean over the queries; one without anything relevant adds nothing."""
    teaches = (grades > 0).any(dim=1)
    each = LOSSES[settings.loss](scores[None], grades, there)[0]
    return (each * teaches).mean()


def _scorer(features: int, settings: Settings) -> Any:
    import torch
    from torch import nn

    class Scorer(nn.Module):
        """The twin of `training.forward` in layers that opacus has per-example gradients of."""

        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(features, 1)
            nn.init.zeros_(self.linear.weight)
            nn.init.zeros_(self.linear.bias)
            with torch.no_grad():
                self.linear.weight[0, 0] = 1.0
            if settings.model == "mlp":
                self.up = nn.Linear(features, settings.hidden)
                self.down = nn.Linear(settings.hidden, 1, bias=False)
                nn.init.zeros_(self.down.weight)

        def forward(self, z: Tensor) -> Tensor:
            y: Tensor = self.linear(z)
            if settings.model == "mlp":
                y = y + self.down(self.up(z).relu())
            return y[..., 0]

    return Scorer()


def _as_model(scorer: Any, mean: Floats, scale: Floats, settings: Settings) -> HeadModel:
    def array(tensor: Tensor) -> Floats:
        return np.ascontiguousarray(tensor.detach().numpy(), dtype=np.float32)

    tensors = {
        "linear": array(scorer.linear.weight),
        "bias": array(scorer.linear.bias),
    }
    if settings.model == "mlp":
        tensors["up"] = array(scorer.up.weight.T)[None]
        tensors["up_bias"] = array(scorer.up.bias)[None]
        tensors["down"] = array(scorer.down.weight)
    return HeadModel(mean=mean, scale=scale, **tensors)
