"""What a search returns: an item, its score, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class SpaceMatch(NamedTuple):
    """How an item and the query compare in one space.

    `contribution` is what the space adds to the score: `weight` times `gate` times the similarity
    less that of an average item (0 in a centred space). The contributions of all spaces add up to
    the score.

    `similarity` is the cosine in [-1, 1] of the item's block and the query's, in a centred space
    after centring. The query's block is the sum of its parts in that space, each times its own
    weight and the space's, signs included: where all that a query says is `unlike`, items that
    are unlike show a positive similarity. None when either side has no block, as where the
    query's parts cancel out. In an index whose spaces share dimensions (fusions `mean` and
    `neural`) it is the cosine of the query's part to the whole item instead, and an item that
    lacks the space may still contribute.

    `present` tells whether the item has a block, `imputed` whether one was estimated for it.
    `weight` is the length of the query's block, that of one part being its weight without its
    sign; `gate` is 1 unless the fusion is learned, or the block is imputed and counts less.
    """

    similarity: float | None
    present: bool
    imputed: bool = False
    weight: float = 0.0
    gate: float = 0.0
    contribution: float = 0.0


class HeadMatch(NamedTuple):
    """Why the re-ranking head put an item where it is: `base` is the score of an average candidate,
    and with what each feature adds to that it makes `score`. Features are described in
    `retriever.head.features`; those that add nothing are left out."""

    score: float
    base: float
    contributions: Mapping[str, float]


class Hit(NamedTuple):
    """One item found; `score` is the sum of the contributions of `spaces`. A search that was asked
    not to explain leaves `spaces` and `metadata` empty, and tells no `head`.

    Where a re-ranking head orders the hits, `head` says why, and hits are not in the order of
    `score`; None for hits that it has not seen.
    """

    id: str
    score: float
    spaces: Mapping[str, SpaceMatch]
    metadata: Mapping[str, Any]
    head: HeadMatch | None = None
