"""Encoders that learn from a catalog's inputs before they can encode, and what they have learned.

Whoever has a catalog calls `fit_encoder` (in `registry`) on a sample of its inputs, keeps the bytes
of the `State` that it gives, and hands it to `load_encoder` from then on. A state is tensors and
JSON, as safetensors: nothing in it can run.
"""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from .base import Encoder
from .errors import EncoderStateError, MediaError
from .fingerprint import fingerprint
from .limits import DEFAULT_LIMITS, Limits

T = TypeVar("T")

_SETTINGS = "settings"


@dataclass(frozen=True, eq=False)
class State:
    """What an encoder has learned: named arrays, and settings that are JSON values."""

    tensors: Mapping[str, NDArray[Any]]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def dump(self) -> bytes:
        """The state as safetensors; the settings are in its metadata."""
        arrays = {name: np.ascontiguousarray(array) for name, array in self.tensors.items()}
        return bytes(save_tensors(arrays, {_SETTINGS: self._json}))

    @classmethod
    def load(cls, data: bytes) -> State:
        """Undo `dump`.

        Raises:
            EncoderStateError: the bytes are no state.
        """
        try:
            tensors = load_tensors(data)
            header = int.from_bytes(data[:8], "little")
            told = json.loads(data[8 : 8 + header])["__metadata__"][_SETTINGS]
            settings = json.loads(told)
            if not isinstance(settings, dict):
                raise TypeError(f"settings that are a {type(settings).__name__}")
        # The library's errors derive from Exception only.
        except Exception as error:
            raise misfit("bytes that `State.dump` made", f"{error!r:.200}") from error
        return cls(tensors, settings)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of names, types, shapes, bytes and settings, as 64 hex digits."""
        digest = hashlib.sha256(self._json.encode())
        for name, tensor in sorted(self.tensors.items()):
            digest.update(f"{name}:{tensor.dtype.str}:{tensor.shape}\n".encode())
            digest.update(np.ascontiguousarray(tensor).reshape(-1).view(np.uint8).data)
        return digest.hexdigest()

    @cached_property
    def _json(self) -> str:
        return json.dumps(
            self.settings,
            sort_keys=True,
            separators=(",", ":"),
            allow_nan=False,
            ensure_ascii=False,
        )

    def tensor(self, name: str, dtype: Any, *shape: int | None) -> NDArray[Any]:
        """One array, checked.

        Args:
            name: its name.
            dtype: what it must hold.
            shape: how long each axis must be; None for any length.

        Raises:
            EncoderStateError: there is none, or it is another, or a value is not finite.
        """
        found = self.tensors.get(name)
        if found is None:
            raise misfit(f"a tensor {name!r}", f"{sorted(self.tensors)}")
        fits = found.ndim == len(shape) and all(
            wanted in (None, got) for wanted, got in zip(shape, found.shape, strict=True)
        )
        if found.dtype != np.dtype(dtype) or not fits:
            raise misfit(
                f"{name} as {np.dtype(dtype)} of shape {shape}", f"{found.dtype} of {found.shape}"
            )
        if found.dtype.kind == "f" and not np.isfinite(found).all():
            raise misfit(f"finite values in {name}", "others")
        return found

    def setting(self, name: str, kind: type[T]) -> T:
        """One setting, checked.

        Raises:
            EncoderStateError: there is none, or it is of another type.
        """
        found = self.settings.get(name)
        if type(found) is not kind:
            raise misfit(f"a setting {name!r} that is a {kind.__name__}", f"{found!r:.60}")
        return found

    def numbered(self, name: str) -> dict[str, int]:
        """The place of each word of a setting that is a list of different words.

        Raises:
            EncoderStateError: it is none.
        """
        words = self.setting(name, list)
        places = {word: place for place, word in enumerate(words) if isinstance(word, str)}
        if len(places) != len(words):
            raise misfit(f"a setting {name!r} of different words", "another")
        return places


class FitProgress(Protocol):
    """Told how far a fit is: its stages, their steps if known, and every step."""

    def start(self, stage: str, total: int | None) -> None:
        """A stage begins."""

    def advance(self, steps: int) -> None:
        """So many steps more are done."""

    def finish(self) -> None:
        """The stage has ended."""


@dataclass(frozen=True)
class FitTask:
    """Where and how an encoder is fitted."""

    folder: Path
    """For checkpoints: a folder that is there, found again by the next try when a fit was
    interrupted, and removed once the fit is kept."""
    progress: FitProgress
    device: str = "auto"
    limits: Limits = DEFAULT_LIMITS


class FittedEncoder(Encoder):
    """An encoder that learns from a catalog's inputs before it can encode.

    A class derived from it is called with (options, device, limits, state), where the state is
    what its own `fit` gave, here or on another machine, or damaged, or forged: it is checked.
    What is random in a fit is seeded, by an option where users may want another.
    """

    options_model: ClassVar[type[BaseModel]]
    revision: ClassVar[int]
    sample: ClassVar[int] = 20_000
    """Inputs that a fit is given, at most."""
    options: BaseModel
    state: State

    @classmethod
    @abstractmethod
    def fit(cls, options: Any, modality: str, inputs: Sequence[bytes], task: FitTask) -> State:
        """Learn from inputs.

        Args:
            options: of `options_model`.
            modality: of the inputs; one of `modalities`.
            inputs: at least one, in an order that tells nothing; raw, as `prepare` takes them, and
                read from disk one by one: see `decoded` for those that cannot be read.
            task: device, limits, progress and a folder for checkpoints.

        Raises:
            FitError: nothing can be learned from these.
        """

    def fingerprint(self, modality: str) -> str:
        """Return 32 hex digits naming options and state."""
        self.check_modality(modality)
        return fingerprint(
            kind=self.kind,
            revision=self.revision,
            modality=modality,
            options={**self.options.model_dump(mode="json"), "state": self.state.digest},
            files=(),
        )


def decoded(inputs: Sequence[bytes], decode: Callable[[bytes], T]) -> Iterator[T]:
    """Inputs decoded one by one; those that are bad are passed over: the encoding of the catalog,
    which follows, records why."""
    for number in range(len(inputs)):
        try:
            one = decode(inputs[number])
        except MediaError:
            continue
        yield one


def misfit(expected: str, got: str) -> EncoderStateError:
    """The error for a state that is not what `fit` gave."""
    return EncoderStateError(
        "state of a fitted encoder",
        expected=expected,
        got=got,
        remedy="Restore the index from a backup, or build it again with `refit`.",
    )
