"""What encoders of sound without weights have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import BaseModel

from .base import Encoder
from .fingerprint import fingerprint
from .limits import Limits
from .mel import HOP, MELS, SAMPLE_RATE, WINDOW, MelFrames


class MelEncoder(Encoder):
    """Describes a clip by its log-mel frames.

    All the work is in `prepare`, in worker threads: what it leaves of an hour of sound is some
    hundred numbers.
    """

    revision: ClassVar[int] = 1
    settings: ClassVar[Mapping[str, Any]]
    """What decides the vectors, besides the frames; JSON values."""
    modalities = ("audio",)
    batch_size = 1024

    def __init__(self, options: BaseModel, device: str, limits: Limits) -> None:
        self.limits = limits
        self._frames = MelFrames()

    def fingerprint(self, modality: str) -> str:
        """Return 32 hex digits naming the settings."""
        self.check_modality(modality)
        frames = {"sample_rate": SAMPLE_RATE, "window": WINDOW, "hop": HOP, "mels": MELS}
        return fingerprint(
            kind=self.kind,
            revision=self.revision,
            modality=modality,
            options={**frames, **self.settings},
            files=(),
        )

    def _encode(self, modality: str, prepared: Sequence[Any]) -> Any:
        return prepared
