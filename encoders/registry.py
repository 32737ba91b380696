"""Kinds of encoders by name, each imported when it is first asked for."""

from __future__ import annotations

import importlib
import json
import threading
from typing import Any

from pydantic import BaseModel, ValidationError

from .base import Encoder
from .device import check_device_name
from .errors import InvalidPresetError, ModelLoadError, UnknownEncoderKindError
from .limits import DEFAULT_LIMITS, Limits
from .spec import EncoderSpec

_KINDS: dict[str, str] = {
    "clap": "encoders.clap:ClapEncoder",
    "efficientnet-lite": "encoders.efficientnet:EfficientNetLiteEncoder",
    "log-mel": "encoders.logmel:LogMelEncoder",
    "mel-course": "encoders.melcourse:MelCourseEncoder",
    "open-clip": "encoders.clip:OpenClipEncoder",
    "sentence-transformers": "encoders.sentence:SentenceEncoder",
    "vector": "encoders.vector:VectorEncoder",
}


def register(kind: str, target: str) -> None:
    """Add a kind of your own, or replace one.

    Args:
        kind: the name presets use.
        target: "module:Class". The class derives from `Encoder`, names a pydantic model in
            `options_model`, and is called with (options, device, limits).

    Raises:
        InvalidPresetError: `target` is not "module:Class".
    """
    module, _, name = target.partition(":")
    if not (module and name.isidentifier() and kind):
        raise InvalidPresetError(
            f"encoder kind {kind!r}",
            expected="a kind and a target of the form 'module:Class'",
            got=repr(target),
            remedy="Write for example register('mine', 'my_package.encoders:Mine').",
        )
    _KINDS[kind] = target


def known_kinds() -> list[str]:
    """Return the names of all kinds, sorted."""
    return sorted(_KINDS)


def load_encoder(
    spec: EncoderSpec, device: str = "auto", limits: Limits = DEFAULT_LIMITS
) -> Encoder:
    """Load the encoder a preset names.

    Args:
        spec: kind and options.
        device: `auto`, `cpu`, `mps`, `cuda` or `cuda:N`.
        limits: bounds on each input.

    Raises:
        UnknownEncoderKindError: no such kind.
        InvalidPresetError: the options do not suit the kind.
        ModelLoadError: the weights or the library that runs them are missing or broken.
        DeviceError: the device is not there.
    """
    check_device_name(device)
    encoder_class = _class_of(spec.kind)
    options = _options_of(encoder_class, spec)
    encoder: Encoder = encoder_class(options, device, limits)
    return encoder


def _class_of(kind: str) -> Any:
    if kind not in _KINDS:
        raise UnknownEncoderKindError(
            f"encoder kind {kind!r}",
            expected=f"one of {', '.join(known_kinds())}",
            got=repr(kind),
            remedy="Correct the preset, or add the kind with encoders.register.",
        )
    target = _KINDS[kind]
    module, _, name = target.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ModelLoadError(
            f"encoder kind {kind!r}",
            expected=f"{target} to import",
            got=f"{type(error).__name__}: {error}",
            remedy="Install what it needs, or correct what was registered.",
        ) from error
    if not (isinstance(found, type) and issubclass(found, Encoder)):
        raise InvalidPresetError(
            f"encoder kind {kind!r}",
            expected="a class derived from encoders.Encoder",
            got=repr(found),
            remedy="Correct what was registered.",
        )
    return found


def _options_of(encoder_class: Any, spec: EncoderSpec) -> BaseModel:
    model: type[BaseModel] = encoder_class.options_model
    try:
        return model.model_validate(spec.options)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "options"
        known = ", ".join(model.model_fields) or "none"
        raise InvalidPresetError(
            f"options of encoder kind {spec.kind!r}",
            expected=f"options among: {known}",
            got=f"{where}: {first['msg']}",
            remedy="Correct the preset.",
        ) from error


class EncoderPool:
    """Encoders loaded once each: the image and text towers of one CLIP share their weights.

    Thread-safe; one thread loads while others wait.
    """

    def __init__(self, device: str = "auto", limits: Limits = DEFAULT_LIMITS) -> None:
        self.device = check_device_name(device)
        self.limits = limits
        self._encoders: dict[str, Encoder] = {}
        self._lock = threading.Lock()

    def get(self, spec: EncoderSpec) -> Encoder:
        """Return the encoder of a spec, loading it on first use; raises as `load_encoder`."""
        key = json.dumps(spec.model_dump(mode="json"), sort_keys=True)
        with self._lock:
            if key not in self._encoders:
                self._encoders[key] = load_encoder(spec, self.device, self.limits)
            return self._encoders[key]
