"""Alignment heads of an index: which space a modality reaches by way of another space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from encoders import Head, HeadError

from .errors import CorruptIndexError

Floats = np.ndarray


@dataclass(frozen=True)
class AlignedReach:
    """A modality's way into a space through the encoder of another space.

    `source` is the space whose vectors the head takes. `trust`, the mean cosine of what the head
    makes to what is there, on held-out items, is the factor by which a query's block that came this
    way counts. `strength` is the length of a block that is imputed this way.
    """

    source: str
    head: Head
    trust: float
    strength: float


Reaches = Mapping[str, Mapping[str, AlignedReach]]
"""For each space, the modalities that reach it through a head."""


def dump_heads(reaches: Reaches) -> bytes:
    """The weights of all heads, as safetensors; the rest is in the manifest."""
    return bytes(
        save_tensors(
            {
                f"{space}/{modality}/{name}": np.ascontiguousarray(tensor)
                for space, heads in reaches.items()
                for modality, reach in heads.items()
                for name, tensor in reach.head.tensors().items()
            }
        )
    )


def load_heads(data: bytes, wanted: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, Head]]:
    """Heads by space and modality; `wanted` has the fingerprint of each.

    Raises:
        CorruptIndexError: a head is missing, or not the one that was written.
    """
    try:
        tensors = load_tensors(data)
    except Exception as error:
        raise _corrupt(str(error)) from error
    heads: dict[str, dict[str, Head]] = {}
    for space, modalities in wanted.items():
        for modality, fingerprint in modalities.items():
            prefix = f"{space}/{modality}/"
            own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            try:
                head = Head.from_tensors(own)
            except HeadError as error:
                raise _corrupt(str(error)) from error
            if head.fingerprint() != fingerprint:
                raise _corrupt(f"another head for {modality} to {space!r}")
            heads.setdefault(space, {})[modality] = head
    return heads


def _corrupt(got: str) -> CorruptIndexError:
    return CorruptIndexError(
        "heads file",
        expected="the tensors of each alignment head, as safetensors",
        got=got,
        remedy="Build the index again from the catalog, and align it again.",
    )
