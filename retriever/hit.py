"""What a search returns: an item, its score, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class SpaceMatch(NamedTuple):
    """How an item and the query compare in one space.

    `similarity` is the cosine in [-1, 1] of the item's block and the query's, in a centred space
    after centring. The query's block is the sum of its parts in that space, each times its own
    weight and the space's, signs included: where all that a query says is `unlike`, items that
    are unlike show a positive similarity. None when either side has no block, as where the
    query's parts cancel out. `present` tells whether the item has one.
    """

    similarity: float | None
    present: bool


class Hit(NamedTuple):
    """One item found.

    `score` is the sum over spaces of the length of the query's block there times (similarity less
    that of an average item). The length of one part's block is its weight without its sign. The
    average item's similarity is 0 in a centred space, and an item without a block adds nothing.
    """

    id: str
    score: float
    spaces: Mapping[str, SpaceMatch]
    metadata: Mapping[str, Any]
