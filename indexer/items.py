"""What reading a catalog yields: items, their inputs, and what had to be rejected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from encoders import Limits
from encoders.errors import CatalensError
from encoders.files import check_size, read_bytes


@dataclass(frozen=True, slots=True)
class Input:
    """One text, picture, sound or vector of an item; its bytes are read when asked for."""

    content: bytes | None
    """The input itself: UTF-8 text, an encoded file, or little-endian float32 values."""
    path: Path | None
    """Where to read it, resolved and inside the media root; None when `content` is given."""
    source: str | None = None
    """The path as the dump wrote it."""

    def read(self, limits: Limits) -> bytes:
        """Return the bytes.

        Raises:
            MediaTooLargeError: there are more than `limits.max_bytes` of them.
            MediaError: the file has gone or cannot be read since the row was.
        """
        if self.content is None:
            assert self.path is not None
            return read_bytes(self.path, limits)
        check_size(self.content, limits)
        return self.content


@dataclass(frozen=True, slots=True)
class Reject:
    """A row, or one input of a row, that was left out, and why."""

    line: int | None
    """Number of the row, from 1; for text formats, of its first line in the file."""
    id: str | None
    modality: str | None
    """The modality that lost an input; None when the whole row is left out."""
    source: str | None
    """The media path as the dump wrote it, made printable; for files, where they lie."""
    error: str
    """Name of the error class."""
    reason: str

    @classmethod
    def from_error(
        cls,
        error: CatalensError,
        *,
        line: int | None,
        id: str | None = None,
        modality: str | None = None,
        source: str | None = None,
    ) -> Reject:
        """Record an error where raising it would cost the rows that follow."""
        return cls(line, id, modality, source, type(error).__name__, str(error))

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values, one key per field."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Reject:
        """Undo `to_dict`."""
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Item:
    """One usable row: at least one input, and metadata made of JSON values."""

    line: int
    id: str
    inputs: dict[str, tuple[Input, ...]]
    """Inputs per modality (`text`, `image`, `audio`, `vector:<space>`); no key holds none."""
    metadata: dict[str, Any]
    rejects: tuple[Reject, ...] = ()
    """Inputs of this row that were lost while reading it."""
