"""Encoders that take an input apart and have another encoder encode the pieces."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict

from .base import Encoder
from .batching import encode_all
from .errors import AbsentTrackError
from .fingerprint import fingerprint
from .limits import Limits
from .spec import EncoderSpec

_KEPT = 16


class WrappingOptions(BaseModel):
    """Options of a kind that wraps an encoder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoder: EncoderSpec
    """Kind and options of the encoder that is wrapped."""

    @property
    def pieces(self) -> int:
        """Into how many pieces an input is taken apart, at most."""
        return 1


class WrappingEncoder(Encoder):
    """The mean direction of an input's pieces, in the space of the encoder that it wraps.

    A class derived from it is called with (options, encoder, limits). It says which modality its
    pieces are of, and how to come by them.
    """

    options_model: ClassVar[type[WrappingOptions]]
    revision: ClassVar[int]
    wraps: ClassVar[str]
    """The modality of the pieces."""
    batch_size = 8

    def __init__(self, options: WrappingOptions, encoder: Encoder, limits: Limits) -> None:
        self.options = options
        self.limits = limits
        self.dimension = encoder.dimension
        self._encoder = encoder

    @classmethod
    @abstractmethod
    def unwrap(cls, options: Any, content: bytes, limits: Limits) -> list[bytes]:
        """Take an input apart; thread-safe.

        Returns:
            at least one piece, and `options.pieces` at most, each as a file of its modality.

        Raises:
            AbsentTrackError: the input is sound, and has nothing for this encoder.
            MediaError: the input is bad.
        """

    def fingerprint(self, modality: str) -> str:
        """Return 32 hex digits naming the encoder that is wrapped, and the pieces."""
        self.check_modality(modality)
        return fingerprint(
            kind=self.kind,
            revision=self.revision,
            modality=modality,
            options={
                "encoder": self._encoder.fingerprint(self.wraps),
                "pieces": self.options.pieces,
            },
            files=(),
        )

    def prepare(self, modality: str, content: bytes) -> list[Any]:
        """Return the pieces as the encoder that is wrapped prepares them.

        Raises:
            AbsentTrackError: the input is sound, and has nothing for this encoder.
            MediaError: the input is bad.
        """
        self.check_modality(modality)
        pieces = self.unwrap(self.options, content, self.limits)
        return [self._encoder.prepare(self.wraps, piece) for piece in pieces]

    def length(self, prepared: Any) -> int:
        """That of all pieces."""
        return sum(1 + self._encoder.length(piece) for piece in prepared)

    def _encode(self, modality: str, prepared: Sequence[Any]) -> Any:
        pieces = [piece for one in prepared for piece in one]
        vectors = encode_all(self._encoder, self.wraps, pieces)
        starts = np.cumsum([0, *(len(one) for one in prepared)])[:-1]
        return np.add.reduceat(vectors, starts, axis=0)


class Unwrapped(Sequence[bytes]):
    """The pieces of inputs, each made when it is asked for, which raises `MediaError` where it
    cannot be: what an encoder is fitted on that is reached through another alone."""

    def __init__(
        self,
        encoder: type[WrappingEncoder],
        options: WrappingOptions,
        inputs: Sequence[bytes],
        limits: Limits,
    ) -> None:
        self._pieces = options.pieces
        self._inputs = inputs
        # Pieces of one input are asked for one after the other.
        self._unwrapped = lru_cache(_KEPT)(lambda n: encoder.unwrap(options, inputs[n], limits))

    def __len__(self) -> int:
        return len(self._inputs) * self._pieces

    def __getitem__(self, where: Any) -> Any:
        if isinstance(where, slice):
            return _Part(self, range(len(self))[where])
        number, piece = divmod(where, self._pieces)
        found = self._unwrapped(number)
        if piece >= len(found):
            raise AbsentTrackError(
                "video",
                expected=f"{self._pieces} pieces",
                got=str(len(found)),
                remedy="Nothing is wrong: it is shorter than most.",
            )
        return found[piece]


class _Part(Sequence[bytes]):
    def __init__(self, whole: Unwrapped, numbers: range) -> None:
        self._whole = whole
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, where: Any) -> Any:
        if isinstance(where, slice):
            return _Part(self._whole, self._numbers[where])
        return self._whole[self._numbers[where]]
