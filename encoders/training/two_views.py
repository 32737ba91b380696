"""What `train` is told to teach a network that is to tell inputs apart by two views of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .contrast import nt_xent

if TYPE_CHECKING:
    from torch import Generator, Tensor
    from torch.nn import Module

_PROJECTION = 128


class TwoViews:
    """SimCLR (Chen et al. 2020, arXiv:2002.05709): the loss sees the network's vectors through a
    projection, which is thrown away afterwards: what goes into it keeps more than what comes out.

    Args:
        kind: of the encoder, for messages.
        name: tells the network and its inputs from any others.
        network: what learns.
        width: values of its vectors.
        count: inputs there are.
        views: from rows of inputs and a generator to what the network is called with: a view of
            each row, and then another of each, on the device.
        temperature: of the loss.
        seed: of the projection.
        device: where all of it is trained.
    """

    def __init__(
        self,
        *,
        kind: str,
        name: str,
        network: Any,
        width: int,
        count: int,
        views: Callable[[Tensor, Generator], tuple[Tensor, ...]],
        temperature: float,
        seed: int,
        device: str,
    ) -> None:
        import torch
        from torch import nn

        self.kind, self.name, self.count = kind, name, count
        self.network = network
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._head = nn.Sequential(
                nn.Linear(width, width), nn.ReLU(), nn.Linear(width, _PROJECTION)
            )
        self.module: Module = nn.ModuleList([network, self._head]).to(device)
        self._views = views
        self._temperature = temperature

    def loss(self, rows: Tensor, draw: Generator) -> Tensor:
        """NT-Xent between two views of each row."""
        first, second = self._head(self.network(*self._views(rows, draw))).chunk(2)
        return nt_xent(first, second, self._temperature)
