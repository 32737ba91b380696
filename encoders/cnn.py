"""Pictures by a small convolutional network that is trained on the catalog itself."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from .device import inference, resolve_device
from .fitting import FitTask, FittedEncoder, State
from .image import decode_square
from .limits import Limits
from .training import Plan, train
from .training.inputs import arrays_of, decode_sample, load_arrays
from .training.pictures import picture_views
from .training.two_views import TwoViews

if TYPE_CHECKING:
    from torch import Generator, Tensor

DIMENSION = 192
LEAST_PICTURES = 16
# Channels in, channels out, stride.
_LAYERS = ((3, 32, 2), (32, 64, 2), (64, 96, 2), (96, 96, 1), (96, 192, 2), (192, DIMENSION, 1))
_TEMPERATURE = 0.2
_BATCH = 256
_RATE = 2e-3

Picture = NDArray[np.uint8]


class CnnOptions(BaseModel):
    """Options of the kind `cnn`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    side: int = Field(default=64, ge=32, le=128)
    """Pixels of the square that a picture is brought to."""
    epochs: int = Field(default=6, ge=0, le=1000)
    """Times that it learns from each picture, at most; 0 leaves the network as it was drawn."""
    seed: int = 0
    """The same seed trains the same network on the same machine."""


class CnnEncoder(FittedEncoder):
    """Learns what pictures of this catalog have in common, without labels.

    Two views of each picture (crop, scaling, rotation, flip, colour) must find each other among
    those of all others: SimCLR (Chen et al. 2020, arXiv:2002.05709), on six layers and 64 x 64
    pixels, which two cores train in minutes. Vectors are what goes into the projection that the
    loss sees, which keeps more than what comes out.
    """

    kind: ClassVar[str] = "cnn"
    revision: ClassVar[int] = 1
    options_model: ClassVar[type[BaseModel]] = CnnOptions
    modalities = ("image",)
    dimension = DIMENSION

    def __init__(self, options: CnnOptions, device: str, limits: Limits, state: State) -> None:
        self.options = options
        self.state = state
        self.limits = limits
        self.device = resolve_device(device)
        self.batch_size = 64 if self.device == "cpu" else 512
        self._side = options.side
        self._network = load_arrays(make_network(options.seed), state).eval().to(self.device)

    @classmethod
    def fit(
        cls, options: CnnOptions, modality: str, inputs: Sequence[bytes], task: FitTask
    ) -> State:
        """Train on pictures.

        Raises:
            FitError: fewer than 16 that can be decoded.
            OutOfMemoryError: a batch does not fit on the device.
        """
        pictures = decode_sample(
            inputs,
            lambda content: decode_square(content, options.side, task.limits),
            task.progress,
            kind=cls.kind,
            least=LEAST_PICTURES,
            what="pictures",
        )
        network = make_network(options.seed)
        learned = _two_views(np.stack(pictures), network, options, resolve_device(task.device))
        plan = Plan(epochs=options.epochs, batch=_BATCH, rate=_RATE, seed=options.seed)
        trained = train(learned, plan, task.progress, task.folder)
        return State(arrays_of(network), trained.told())

    def prepare(self, modality: str, content: bytes) -> Picture:
        """Return the picture as uint8 with shape (side, side, 3), made square by white.

        Raises:
            MediaError: as `image.decode_image`.
        """
        self.check_modality(modality)
        return decode_square(content, self._side, self.limits)

    def _encode(self, modality: str, prepared: Sequence[Any]) -> Any:
        import torch

        pictures = torch.from_numpy(np.stack(prepared)).to(self.device)
        with inference(self.kind, len(prepared), self.device):
            return self._network(_scaled(pictures) * 2 - 1).float().cpu().numpy()


def _two_views(pictures: Picture, network: Any, options: CnnOptions, device: str) -> TwoViews:
    import torch

    stored = torch.from_numpy(pictures)

    def views(rows: Tensor, draw: Generator) -> tuple[Tensor]:
        some = _scaled(stored[rows].to(device))
        return (torch.cat([picture_views(some, draw), picture_views(some, draw)]) * 2 - 1,)

    digest = hashlib.sha256(pictures.tobytes()).hexdigest()
    return TwoViews(
        kind=CnnEncoder.kind,
        name=f"{CnnEncoder.kind} {CnnEncoder.revision} {options!r} {digest}",
        network=network,
        width=DIMENSION,
        count=len(pictures),
        views=views,
        temperature=_TEMPERATURE,
        seed=options.seed,
        device=device,
    )


def make_network(seed: int) -> Any:
    """The network, drawn at random: from (n, 3, side, side) in [-1, 1] to (n, 192)."""
    import torch
    from torch import nn

    def layer(wide: int, out: int, stride: int) -> list[Any]:
        convolution = nn.Conv2d(wide, out, 3, stride, padding=1, bias=False)
        # Activations keep their size from layer to layer before batch norm has seen any.
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        return [convolution, nn.BatchNorm2d(out), nn.ReLU(inplace=True)]

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [one for shape in _LAYERS for one in layer(*shape)]
        network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    # Height, width, channel in memory, which convolutions on a CPU are faster in.
    return network.to(memory_format=torch.channels_last)


def _scaled(pictures: Tensor) -> Tensor:
    """uint8 (n, side, side, 3) to float32 (n, 3, side, side) in [0, 1]."""
    return pictures.permute(0, 3, 1, 2).float() / 255
