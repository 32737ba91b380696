"""AdamW on a one-cycle schedule, one step for each loss."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@contextmanager
def threads_for(*, small: bool) -> Iterator[None]:
    """One thread for small batches: more of them spend their time waiting for each other, and ten
    times as much of it where something else is at work on the machine."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1 if small else threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Steps:
    """AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101) whose rate rises and falls once (Smith
    and Topin 2018, arXiv:1708.07120).

    Args:
        decayed: parameters with weight decay.
        free: parameters without.
        rate: the highest learning rate.
        decay: of weights.
        total: steps that there will be.
        fused: one call for all parameters, which rounds differently.
    """

    def __init__(
        self,
        decayed: Iterable[Tensor],
        free: Iterable[Tensor] = (),
        *,
        rate: float,
        decay: float,
        total: int,
        fused: bool = False,
    ) -> None:
        import torch

        groups: list[dict[str, Any]] = [
            {"params": list(decayed), "weight_decay": decay},
            {"params": list(free), "weight_decay": 0.0},
        ]
        self._optimizer = torch.optim.AdamW(
            [group for group in groups if group["params"]], lr=rate, fused=fused
        )
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimizer, rate, total_steps=total
        )

    def __call__(self, loss: Tensor) -> None:
        """Take one step down a loss."""
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self._schedule.step()

    def state(self) -> dict[str, Tensor]:
        """What the next step hangs on besides the parameters, as tensors by name."""
        import torch

        groups = self._optimizer.param_groups
        rates = [[group["lr"], group["betas"][0]] for group in groups]
        return {
            "rates": torch.tensor(rates, dtype=torch.float64),
            **{
                f"{number}.{name}": value
                for number, moments in self._optimizer.state_dict()["state"].items()
                for name, value in moments.items()
            },
        }

    def restore(self, state: Mapping[str, Tensor], done: int) -> None:
        """Go on from what `state` gave after so many steps."""
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in state.items():
            if key != "rates":
                number, _, name = key.partition(".")
                moments.setdefault(int(number), {})[name] = value
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": moments, "param_groups": groups})
        for group, (rate, momentum) in zip(
            self._optimizer.param_groups, state["rates"].tolist(), strict=True
        ):
            group["lr"], group["betas"] = rate, (momentum, group["betas"][1])
        self._schedule.last_epoch = done
