"""The stored embeddings of an item's inputs, pooled into one vector."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .fusion import unit_rows
from .fusion.transform import Floats
from .snapshot import Inputs, Snapshot, embedding_key


def embeddings_of(
    snapshot: Snapshot, fingerprint: str, modality: str, item: Inputs
) -> list[Floats]:
    """What the store knows of an item's inputs of one modality: unit vectors (d_in,)."""
    keys = (embedding_key(fingerprint, digest) for digest in item.hashes.get(modality, ()))
    found = (snapshot.embedding(key) for key in keys)
    return [vector for vector in found if vector is not None]


def pooled(
    snapshot: Snapshot, fingerprint: str, modality: str, items: Sequence[Inputs]
) -> tuple[Floats, NDArray[np.bool_]]:
    """The mean direction of each item's inputs.

    Returns:
        float32 (n, d_in), unit rows, zero where nothing is known, with d_in 0 where nothing is
        known of any; and bool (n,): of which something is.
    """
    keys = [
        [embedding_key(fingerprint, digest) for digest in item.hashes.get(modality, ())]
        for item in items
    ]
    known = snapshot.embeddings(key for some in keys for key in some)
    vectors = [[known[key] for key in some if key in known] for some in keys]
    dimension = next((len(one[0]) for one in vectors if one), 0)
    rows = np.zeros((len(items), dimension), dtype=np.float32)
    for row, found in zip(rows, vectors, strict=True):
        for vector in found:
            row += vector
    return unit_rows(rows), np.array([bool(one) for one in vectors], dtype=bool)
