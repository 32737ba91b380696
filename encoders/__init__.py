"""Media in, unit vectors out. Knows nothing of catalogs or indexes.

Importing this package imports numpy and pydantic and no model library.
"""

from __future__ import annotations

from .base import Encoder
from .batching import encode_all
from .device import resolve_device, usable_cores
from .errors import (
    AbsentTrackError,
    CatalensError,
    DeviceError,
    EmptyMediaError,
    EncoderError,
    EncoderStateError,
    FitError,
    HeadError,
    InvalidPresetError,
    InvalidVectorError,
    MediaError,
    MediaTooLargeError,
    MediaTooLongError,
    MissingMediaError,
    ModelLoadError,
    NoFramesError,
    NoSoundError,
    NotFittedError,
    OutOfMemoryError,
    UndecodableMediaError,
    UnknownEncoderKindError,
    UnknownPresetError,
    UnsafePathError,
    UnsupportedModalityError,
)
from .files import read_bytes
from .fitting import FitProgress, FitTask, FittedEncoder, State, decoded
from .heads import Head
from .limits import Limits
from .presets import known_presets, load_preset
from .registry import (
    EncoderPool,
    check_encoder,
    fit_encoder,
    fitted_class,
    known_kinds,
    load_encoder,
    register,
    unwrapped,
    wrapped_by,
)
from .spec import EncoderSpec, Preset, SpaceSpec
from .vectors import Vectors

__all__ = [
    "AbsentTrackError",
    "CatalensError",
    "DeviceError",
    "EmptyMediaError",
    "Encoder",
    "EncoderError",
    "EncoderPool",
    "EncoderSpec",
    "EncoderStateError",
    "FitError",
    "FitProgress",
    "FitTask",
    "FittedEncoder",
    "Head",
    "HeadError",
    "InvalidPresetError",
    "InvalidVectorError",
    "Limits",
    "MediaError",
    "MediaTooLargeError",
    "MediaTooLongError",
    "MissingMediaError",
    "ModelLoadError",
    "NoFramesError",
    "NoSoundError",
    "NotFittedError",
    "OutOfMemoryError",
    "Preset",
    "SpaceSpec",
    "State",
    "UndecodableMediaError",
    "UnknownEncoderKindError",
    "UnknownPresetError",
    "UnsafePathError",
    "UnsupportedModalityError",
    "Vectors",
    "check_encoder",
    "decoded",
    "encode_all",
    "fit_encoder",
    "fitted_class",
    "known_kinds",
    "known_presets",
    "load_encoder",
    "load_preset",
    "read_bytes",
    "register",
    "resolve_device",
    "unwrapped",
    "usable_cores",
    "wrapped_by",
]
