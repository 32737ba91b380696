"""Pictures and text into one space by open_clip models."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from .base import Encoder
from .device import inference, resolve_device
from .errors import ModelLoadError
from .fingerprint import fingerprint, state_sha256
from .image import decode_image
from .imports import torch_jit_accepted
from .limits import Limits
from .text import MAX_CHARACTERS, decode_text

_LOCAL = "local-dir:"


class OpenClipOptions(BaseModel):
    """Options of the kind `open-clip`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    """A name open_clip knows, `hf-hub:ORG/NAME`, or `local-dir:PATH`."""
    pretrained: str | None = None
    """A tag open_clip knows, or the path of a checkpoint; not for `hf-hub:` and `local-dir:`,
    which bring their own."""


class OpenClipEncoder(Encoder):
    """The image and the text tower of one CLIP."""

    kind: ClassVar[str] = "open-clip"
    revision: ClassVar[int] = 1
    options_model: ClassVar[type[BaseModel]] = OpenClipOptions
    modalities = ("image", "text")

    def __init__(self, options: OpenClipOptions, device: str, limits: Limits) -> None:
        self.limits = limits
        self.device = resolve_device(device)
        self.batch_size = 16 if self.device == "cpu" else 128
        name = options.model
        if name.startswith(_LOCAL):
            name = _LOCAL + str(Path(name.removeprefix(_LOCAL)).expanduser())
        try:
            model, transform, tokenizer = _load(name, options.pretrained)
            # Taken on the CPU in float32, before anything depends on the device.
            self._weights = state_sha256(model.state_dict())
            self._model = model.to(self.device)
            size = model.visual.image_size
            self._side = min(size) if isinstance(size, tuple | list) else int(size)
            self._transform = transform
            self._tokenizer = tokenizer
            # A tokenizer from transformers changes its own padding on every call.
            self._lock = threading.Lock()
            self.dimension = len(self._encode_text(self._tokenizer(["a"]))[0])
        except Exception as error:
            # open_clip raises RuntimeError, FileNotFoundError, ValueError and the hub's errors.
            raise ModelLoadError(
                f"open_clip model {options.model!r}, pretrained {options.pretrained!r}",
                expected="a model open_clip knows with its weights, or local-dir:PATH",
                got=f"{type(error).__name__}: {error}",
                remedy="See open_clip.list_pretrained(); the extra catalens[clip] installs it.",
            ) from error

    def fingerprint(self, modality: str) -> str:
        """Return 32 hex digits naming weights, transform, tokenizer and tower."""
        self.check_modality(modality)
        length = getattr(self._tokenizer, "context_length", None)
        preparation = (
            str(self._transform)
            if modality == "image"
            else f"{type(self._tokenizer).__name__} {length} {MAX_CHARACTERS}"
        )
        return fingerprint(
            kind=self.kind,
            revision=self.revision,
            modality=modality,
            options={"weights": self._weights, "preparation": preparation},
            files=(),
        )

    def prepare(self, modality: str, content: bytes) -> Any:
        """Return a float32 tensor (3, H, W) for a picture, an int64 tensor (tokens,) for a text.

        Raises:
            MediaError: as `image.decode_image` and `text.decode_text`.
        """
        self.check_modality(modality)
        if modality == "image":
            return self._transform(decode_image(content, self.limits, target=self._side))
        text = decode_text(content)
        with self._lock:
            return self._tokenizer([text])[0]

    def _encode(self, modality: str, prepared: Sequence[Any]) -> Any:
        import torch

        tower = self._encode_image if modality == "image" else self._encode_text
        return tower(torch.stack(list(prepared)))

    def _encode_image(self, batch: Any) -> Any:
        with inference(self.kind, len(batch), self.device):
            return self._model.encode_image(batch.to(self.device)).float().cpu().numpy()

    def _encode_text(self, batch: Any) -> Any:
        with inference(self.kind, len(batch), self.device):
            return self._model.encode_text(batch.to(self.device)).float().cpu().numpy()


def _load(name: str, pretrained: str | None) -> tuple[Any, Any, Any]:
    with torch_jit_accepted():  # by timm, which open_clip imports
        import open_clip

        model, _, transform = open_clip.create_model_and_transforms(
            name,
            pretrained=pretrained,
            precision="fp32",
            device="cpu",
            weights_only=True,
            # Without it, weights that are not found are drawn at random, with a line in the log.
            require_pretrained=True,
        )
        return model.eval(), transform, open_clip.get_tokenizer(name)
