"""Items with the embeddings of their inputs, as they leave an index and come back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


class StoredInput(NamedTuple):
    """One input of an item, and what spaces have of it: unit vectors float32 (d_in,)."""

    modality: str
    sha256: str
    source: str | None
    embeddings: Mapping[str, Floats]


class StoredItem(NamedTuple):
    """An item with all its inputs; `metadata` is JSON."""

    id: str
    metadata: str
    inputs: Sequence[StoredInput]
