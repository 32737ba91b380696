"""Pictures by any backbone that timm knows: VGG, ResNet, ConvNeXt, ViT and hundreds more."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
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

_LOCAL, _HUB = "local-dir:", "hf-hub:"
_NAMED = 5


class TimmOptions(BaseModel):
    """Options of the kind `timm`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    """A name timm knows, with or without the tag of its weights (`resnet18.a1_in1k`),
    `hf-hub:ORG/NAME`, or `local-dir:FOLDER`."""
    checkpoint: str | None = None
    """Weights of that model in a file, safetensors or a state dict, instead of those of the hub;
    the classifier may be any, or missing."""


class TimmEncoder(Encoder):
    """What a backbone computes before its classifier: the features of the last pooled layer.

    Size, crop and normalisation are those that timm has for these weights.
    """

    kind: ClassVar[str] = "timm"
    revision: ClassVar[int] = 1
    options_model: ClassVar[type[BaseModel]] = TimmOptions
    modalities = ("image",)

    def __init__(self, options: TimmOptions, device: str, limits: Limits) -> None:
        self.limits = limits
        self.device = resolve_device(device)
        self.batch_size = 8 if self.device == "cpu" else 64
        model, name = _load(options)
        # Taken on the CPU in float32, before anything depends on the device.
        self._weights = f"{name} {state_sha256(model.state_dict())}"
        try:
            from timm import data

            config = data.resolve_model_data_config(model)
            self._side = min(config["input_size"][1:])
            self._transform = data.create_transform(**config, is_training=False)
            self._model = model.to(self.device)
            self.dimension = self._features_of_nothing(config["input_size"])
        except Exception as error:
            raise _not_loaded(options, error) from error

    def fingerprint(self, modality: str) -> str:
        """Return 32 hex digits naming architecture, weights and transform."""
        self.check_modality(modality)
        return fingerprint(
            kind=self.kind,
            revision=self.revision,
            modality=modality,
            options={"weights": self._weights, "preparation": str(self._transform)},
            files=(),
        )

    def prepare(self, modality: str, content: bytes) -> Any:
        """Return a float32 tensor with shape (3, height, width).

        Raises:
            MediaError: as `image.decode_image`.
        """
        self.check_modality(modality)
        return self._transform(decode_image(content, self.limits, target=self._side))

    def _encode(self, modality: str, prepared: Sequence[Any]) -> Any:
        import torch

        return self._features(torch.stack(list(prepared)))

    def _features(self, batch: Any) -> Any:
        with inference(self.kind, len(batch), self.device):
            return self._model(batch.to(self.device)).float().cpu().numpy()

    def _features_of_nothing(self, size: Sequence[int]) -> int:
        """The number of features, which timm names differently from model to model."""
        import torch

        features = self._features(torch.zeros((1, *size)))
        if features.ndim != 2:
            raise ValueError(f"features of shape {features.shape[1:]}, not pooled to one vector")
        return int(features.shape[1])


def _load(options: TimmOptions) -> tuple[Any, str]:
    """The model without its classifier, on the CPU, and the name of its architecture."""
    try:
        with torch_jit_accepted():
            import timm
    except ImportError as error:
        raise _not_loaded(options, error) from error
    name = options.model
    if name.startswith(_LOCAL):
        name = _LOCAL + str(Path(name.removeprefix(_LOCAL)).expanduser())
    elif not name.startswith(_HUB):
        _check_name(name)
    try:
        if options.checkpoint is None:
            # With all its classes: asked for none, timm does not mind weights of something else.
            model: Any = timm.create_model(name, pretrained=True)
            model.reset_classifier(0)
        else:
            model = timm.create_model(name, pretrained=False, num_classes=0)
            _load_checkpoint(model, Path(options.checkpoint).expanduser())
    except Exception as error:
        # timm raises RuntimeError, ValueError, FileNotFoundError, the hub's and torch's errors.
        raise _not_loaded(options, error) from error
    return model.eval(), str(model.pretrained_cfg.get("architecture") or type(model).__name__)


def _load_checkpoint(model: Any, file: Path) -> None:
    from timm.models import load_state_dict

    if not file.is_file():
        raise FileNotFoundError(f"no such file: {file}")
    state = load_state_dict(str(file), weights_only=True)
    classifier = model.pretrained_cfg.get("classifier") or ()
    layers = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    of_classifier = tuple(f"{layer}." for layer in layers)
    given = {name: x for name, x in state.items() if not name.startswith(of_classifier)}
    own = {name: x.shape for name, x in model.state_dict().items()}
    for told, names in (
        ("missing", own.keys() - given.keys()),
        ("of something else", given.keys() - own.keys()),
        ("of another shape", {n for n in own.keys() & given.keys() if own[n] != given[n].shape}),
    ):
        if names:
            shown = ", ".join(sorted(names)[:3])
            raise ValueError(f"{len(names)} of {len(own)} parameters are {told}: {shown}")
    model.load_state_dict(given)


def _check_name(name: str) -> None:
    import timm

    architecture = name.partition(".")[0]
    if name in timm.list_models(pretrained=True) or timm.is_model(architecture):
        return
    near = get_close_matches(architecture, timm.list_models(), n=_NAMED, cutoff=0.5)
    raise ModelLoadError(
        f"timm model {name!r}",
        expected="a name that timm knows, local-dir:FOLDER or hf-hub:ORG/NAME",
        got=f"an unknown name; the nearest are {', '.join(near)}" if near else "an unknown name",
        remedy="See timm.list_models().",
    )


def _not_loaded(options: TimmOptions, error: Exception) -> ModelLoadError:
    weights = "" if options.checkpoint is None else f", checkpoint {options.checkpoint!r}"
    told = " ".join(str(error).split())
    return ModelLoadError(
        f"timm model {options.model!r}{weights}",
        expected="a model of timm, and weights of just that architecture",
        got=f"{type(error).__name__}: {told[:300]}",
        remedy="Name the model that the weights are of; where the hub cannot be reached, download "
        "them and give 'checkpoint' or local-dir:FOLDER. catalens[clip] installs timm.",
    )
