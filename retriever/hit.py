"""What a search returns: an item, its score, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class SpaceMatch(NamedTuple):
    """How an item and the query compare in one space.

    `similarity` is the cosine in [-1, 1] of the two blocks, in a centred space after centring;
    None when either side has no block. `present` tells whether the item has one.
    """

    similarity: float | None
    present: bool


class Hit(NamedTuple):
    """One item found.

    `score` is the sum over spaces of weight times similarity, counted from the similarity of an
    average item: in a centred space that is 0, and a missing block adds nothing.
    """

    id: str
    score: float
    spaces: Mapping[str, SpaceMatch]
    metadata: Mapping[str, Any]
