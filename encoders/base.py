"""What an encoder is: one modality's inputs in, float32 unit vectors out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from .errors import UnsupportedModalityError
from .vectors import Vectors, unit_rows


class Encoder(ABC):
    """A model from the inputs of one or more modalities to float32 unit vectors.

    Work is split in two so that decoding overlaps encoding: `prepare` runs in worker threads,
    one input at a time, and releases the GIL where it counts; `encode` runs on batches, on the
    device, in as many threads as `calls_at_once` says.
    """

    kind: ClassVar[str]
    """The name a preset uses."""

    dimension: int
    """Length of the vectors `encode` returns."""

    modalities: tuple[str, ...]
    """The modalities this encoder reaches its space from."""

    batch_size: int = 32
    """Inputs per call of `encode` that suit the model; halved when memory runs out."""

    calls_at_once: int = 1
    """Calls of `encode` that are faster side by side than one after the other.

    One where a call fills the device by itself, as on a GPU. On a CPU a call that keeps to one
    core, with as many calls as there are cores, beats one call on all: nothing waits for the
    slowest part of a layer.
    """

    @abstractmethod
    def fingerprint(self, modality: str) -> str:
        """Return 32 hex digits naming weights, preprocessing and modality, never the runtime.

        Equal fingerprints promise interchangeable vectors: the embedding cache and the check
        that a query fits its index both rest on it.
        """

    @abstractmethod
    def prepare(self, modality: str, content: bytes) -> Any:
        """Decode one input; thread-safe.

        Args:
            modality: one of `modalities`.
            content: the raw input: UTF-8 text, the bytes of an image or audio file, or
                little-endian float32 values for a vector.

        Raises:
            MediaError: the input is bad (a subclass names how).
        """

    def encode(self, modality: str, prepared: Sequence[Any]) -> Vectors:
        """Encode what `prepare` returned.

        Returns:
            float32 array with shape (len(prepared), dimension), rows of unit length.

        Raises:
            UnsupportedModalityError: `modality` is none of `modalities`.
            OutOfMemoryError: the batch does not fit on the device.
            EncoderError: the model gave another shape, NaN or infinite values, or zeros.
        """
        self.check_modality(modality)
        if not prepared:
            return np.zeros((0, self.dimension), dtype=np.float32)
        values = self._encode(modality, prepared)
        return unit_rows(values, rows=len(prepared), dimension=self.dimension, kind=self.kind)

    @abstractmethod
    def _encode(self, modality: str, prepared: Sequence[Any]) -> Any:
        """What the model gives for at least one prepared input.

        Returns:
            array-like with shape (len(prepared), dimension), of any float type and length;
            `encode` makes its rows unit.
        """

    def check_modality(self, modality: str) -> None:
        """Refuse a modality this encoder does not reach its space from.

        Raises:
            UnsupportedModalityError: `modality` is none of `modalities`.
        """
        check_reached(self.kind, self.modalities, modality)

    def for_queries(self) -> Encoder:
        """The encoder of queries for items that this one encodes: itself, but for a model that was
        trained to tell the two apart. Dimension and fingerprint are the same."""
        return self

    def length(self, prepared: Any) -> int:
        """Relative cost of one prepared input; batches are made of inputs of like length."""
        return 0


def check_reached(kind: str, modalities: tuple[str, ...], modality: str) -> None:
    """Refuse a modality that an encoder kind does not reach its space from.

    Raises:
        UnsupportedModalityError: `modality` is none of `modalities`.
    """
    if modality not in modalities:
        raise UnsupportedModalityError(
            f"encoder {kind!r}",
            expected=f"one of {', '.join(modalities)}",
            got=repr(modality),
            remedy="Name another encoder for this modality in the preset.",
        )
