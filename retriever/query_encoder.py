"""Parts of queries to vectors, by the encoders that the index was built with."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from encoders import (
    AbsentTrackError,
    Encoder,
    EncoderPool,
    Limits,
    Vectors,
    encode_all,
    read_bytes,
)
from indexer import Snapshot, SpaceEntry, kind_of_input
from indexer.spaces import checked_encoder

from .query import Part


class QueryEncoder:
    """Loads encoders when a query first needs them, and encodes many parts in one batch."""

    def __init__(self, spaces: list[SpaceEntry], device: str, limits: Limits) -> None:
        self._spaces = {space.spec.name: space for space in spaces}
        self._device = device
        self._pool = EncoderPool(device, limits)
        self._limits = limits
        self._lock = threading.Lock()
        self._checked: dict[tuple[str, str], Encoder] = {}

    def for_spaces(self, spaces: list[SpaceEntry]) -> QueryEncoder:
        """One for other spaces: this one, with what it has loaded, where it encodes the same."""
        ours, theirs = (
            [(one.spec.name, one.spec.encoders, one.fingerprints) for one in some]
            for some in (self._spaces.values(), spaces)
        )
        return self if ours == theirs else QueryEncoder(spaces, self._device, self._limits)

    def encode(
        self, wanted: Iterable[tuple[str, str, bytes]], snapshot: Snapshot
    ) -> dict[tuple[str, str, bytes], Any]:
        """Encode inputs given as (space, modality, content).

        Args:
            wanted: the inputs.
            snapshot: an open one of the index; it has what encoders learned from the catalog.

        Returns:
            for each, the encoder's unit vector, float32 with shape (d_in,); none for a space of
            which the input has nothing, as a silent video of the space of its sound.

        Raises:
            MediaError: an input is bad, or has nothing for any space.
            FingerprintMismatchError: the encoder here is not the index's.
        """
        groups: dict[tuple[str, str], list[bytes]] = {}
        for space, modality, content in dict.fromkeys(wanted):
            groups.setdefault((space, modality), []).append(content)
        found = {}
        absent: dict[tuple[str, bytes], AbsentTrackError] = {}
        for (space, modality), contents in groups.items():
            encoder = self._encoder(space, modality, snapshot)
            kind = kind_of_input(modality)
            prepared = {}
            for content in contents:
                try:
                    prepared[content] = encoder.prepare(kind, content)
                except AbsentTrackError as error:
                    absent[modality, content] = error
            vectors: Vectors = encode_all(encoder, kind, list(prepared.values()))
            for content, vector in zip(prepared, vectors, strict=True):
                found[space, modality, content] = vector
        reached = {(modality, content) for _, modality, content in found}
        for one, nothing in absent.items():
            if one not in reached:
                raise nothing
        return found

    def _encoder(self, space: str, modality: str, snapshot: Snapshot) -> Encoder:
        key = (space, modality)
        encoder = self._checked.get(key)
        if encoder is not None:
            return encoder
        with self._lock:
            entry = self._spaces[space]
            encoder = checked_encoder(
                self._pool, entry.spec, modality, entry.fingerprints[modality], snapshot
            )
            self._checked[key] = encoder.for_queries()
            return self._checked[key]

    def content(self, part: Part) -> bytes:
        """The bytes of a part's input.

        Raises:
            MediaError: the file is missing or too large.
        """
        if part.kind == "text":
            # Lone surrogates are no text; the encoder reports what it cannot decode.
            return str(part.value).encode("utf-8", "surrogatepass")
        if isinstance(part.value, bytes):
            return part.value
        return read_bytes(Path(part.value), self._limits)
