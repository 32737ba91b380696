"""Bring your own embedding: vectors computed elsewhere, checked and made unit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from .base import Encoder
from .errors import InvalidVectorError
from .fingerprint import fingerprint
from .limits import Limits
from .vectors import Vectors


class VectorOptions(BaseModel):
    """Options of the kind `vector`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dimension: int = Field(ge=1, le=65_536)
    """Values per vector."""
    label: str = ""
    """Names the model the vectors came from, so that another one is noticed; any text."""


class VectorEncoder(Encoder):
    """Takes little-endian float32 values; needs no model and no torch."""

    kind: ClassVar[str] = "vector"
    revision: ClassVar[int] = 1
    options_model: ClassVar[type[BaseModel]] = VectorOptions
    modalities = ("vector",)
    batch_size = 1024

    def __init__(self, options: VectorOptions, device: str, limits: Limits) -> None:
        self.options = options
        self.dimension = options.dimension

    def fingerprint(self, modality: str) -> str:
        """Return 32 hex digits naming dimension and label."""
        self.check_modality(modality)
        return fingerprint(
            kind=self.kind,
            revision=self.revision,
            modality=modality,
            options=self.options.model_dump(),
            files=(),
        )

    def prepare(self, modality: str, content: bytes) -> Vectors:
        """Return a float32 array with shape (dimension,), finite and not all zero.

        Raises:
            InvalidVectorError: wrong length, NaN or infinite values, or all zero.
        """
        self.check_modality(modality)
        wanted = self.dimension * 4
        if len(content) != wanted:
            values = f"{len(content) / 4:g} values"
            raise InvalidVectorError(
                "vector",
                expected=f"{self.dimension} float32 values ({wanted} bytes)",
                got=f"{values} ({len(content)} bytes)",
                remedy="Bring vectors of the preset's dimension, or change the preset.",
            )
        vector = np.frombuffer(content, dtype="<f4").astype(np.float32, copy=False)
        # One product tells that all is well; only where it does not, look closer. (`vdot` and not
        # `@`: that one warns where large but valid values overflow.)
        if 0.0 < float(np.vdot(vector, vector)) < math.inf:
            return vector
        bad = ~np.isfinite(vector)
        if bad.any():
            raise InvalidVectorError(
                "vector",
                expected="finite values",
                got=f"{int(bad.sum())} NaN or infinite, the first at {int(bad.argmax())}",
                remedy="Mend what computes the vectors.",
            )
        if not vector.any():
            raise InvalidVectorError(
                "vector",
                expected="a direction",
                got=f"{self.dimension} zeros",
                remedy="Leave the vector out of the item instead.",
            )
        return vector

    def _encode(self, modality: str, prepared: Sequence[Any]) -> Any:
        return prepared
