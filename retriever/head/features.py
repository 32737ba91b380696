"""What a head looks at: how each candidate of a query matches it, and what is known of the item.

Nothing here knows of relevance: features are of the query, of the candidates that retrieval
returned for it, and of the index.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from indexer import Live, Snapshot
from indexer.missing import IMPUTED, MISSING

from ..scoring import Account
from .table import MetadataFields, MetadataTable

Floats = NDArray[np.float32]
Positions = NDArray[np.int64]

# How much the best candidates count where it is asked what they have in common: a softmax of
# standard scores.
_SHARPNESS = np.float32(2.0)
_TINY = np.float32(1e-6)


class Candidates(NamedTuple):
    """What retrieval returned for one query, best first: positions (h,), fused scores (h,), fused
    rows (h, D), and how each matches the query."""

    positions: Positions
    scores: Floats
    rows: Floats
    account: Account
    past: PastMatch | None = None


class PastMatch(NamedTuple):
    """How they match the history that asks: by the last few items of it alone; positions (m,) of
    what is liked in it, the weights (m,) of these, which add up to 1, and their fused rows
    (m, D)."""

    recent: Account
    liked: Positions
    weights: Floats
    rows: Floats


class FeatureSpec(BaseModel):
    """Which features there are, in order; kept with the head that learned from them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    spaces: Annotated[list[str], Field(min_length=1, max_length=64)]
    fields: MetadataFields
    popularity: bool = False
    """Whether it is known how popular items are."""
    past: bool = False
    """Whether queries are histories."""

    @property
    def names(self) -> list[str]:
        """Names of the features.

        `standing` is the fused score, in standard deviations from the mean of the candidates: as it
        is it would change with the weights. `rank` and `rank SPACE` are the binary logarithm of
        1 + rank; `similarity`, `present` and `imputed` are those that hits tell; `agreement` is
        where the product of an item's fused row and the weighted mean of the best ones stands, and
        `agreement FIELD` how often the values that it has in a field are found among these. The
        others are the item's metadata.

        `popularity` is the logarithm of one more than that. Of a history, `recent` is the
        similarity to its last few items alone, `closest` the cosine of an item's fused row to the
        liked one that is nearest, `liked FIELD` how often its values are found among what is
        liked, and `distance FIELD` how far its number is from their mean.
        """
        each = ("similarity", "rank", "present", "imputed")
        return [
            "standing",
            "rank",
            "agreement",
            *(f"{what} {space}" for space in self.spaces for what in each),
            *(f"agreement {field}" for field in self.fields.values),
            *(["popularity"] if self.popularity else []),
            *self._of_the_past,
            *self.fields.columns,
        ]

    @property
    def _of_the_past(self) -> list[str]:
        if not self.past:
            return []
        return [
            *(f"recent {space}" for space in self.spaces),
            "closest",
            *(f"liked {field}" for field in self.fields.values),
            *(f"distance {field}" for field in self.fields.numbers),
        ]


class FeatureReader:
    """Reads the features of candidates of one state of an index."""

    def __init__(
        self, spec: FeatureSpec, live: Live, snapshot: Snapshot, popularity: Floats | None
    ) -> None:
        self._spec = spec
        self._table = MetadataTable(spec.fields, live, snapshot)
        self._width = len(spec.names)
        self._blocks = spec.fields.blocks
        self._numbers = len(spec.fields.numbers)
        self._popularity = popularity

    def matrix(self, candidates: Candidates) -> Floats:
        """The features of a query's candidates, float32 (h, F)."""
        positions, scores, rows, account, past = candidates
        h = len(positions)
        found = np.zeros((h, self._width), dtype=np.float32)
        if not h:
            return found
        ranks = np.log2(np.arange(2, h + 2, dtype=np.float32))
        standing = _standing(scores)
        shares = np.exp(_SHARPNESS * (standing - standing.max()))
        shares /= shares.sum()
        found[:, 0], found[:, 1] = standing, ranks
        centre = shares @ rows
        found[:, 2] = _standing(rows @ centre)
        column = 3
        for place, name in enumerate(self._spec.spaces):
            told = account.told.get(name)
            states = account.states[:, place]
            if told is not None:
                similarity = told.match.similarity
                found[:, column] = similarity
                found[(-similarity).argsort(kind="stable"), column + 1] = ranks
            found[:, column + 2] = states != MISSING
            found[:, column + 3] = states == IMPUTED
            column += 4
        table = self._table.take(positions)
        for block in self._blocks:
            values = table[:, block]
            found[:, column] = values @ (shares @ values)
            column += 1
        if self._spec.popularity:
            if self._popularity is not None:
                found[:, column] = np.log1p(self._popularity[positions])
            column += 1
        if self._spec.past:
            if past is not None:
                self._look_back(found[:, column:], past, rows, table)
            column += len(self._spec.spaces) + 1 + len(self._blocks) + self._numbers
        found[:, column:] = table
        return found

    def _look_back(self, found: Floats, past: PastMatch, rows: Floats, table: Floats) -> None:
        """What the history tells of the candidates, into the first columns of `found`."""
        for place, name in enumerate(self._spec.spaces):
            told = past.recent.told.get(name)
            if told is not None:
                found[:, place] = told.match.similarity
        column = len(self._spec.spaces)
        lengths = np.sqrt(np.vecdot(rows, rows))[:, None] * np.sqrt(np.vecdot(past.rows, past.rows))
        found[:, column] = (rows @ past.rows.T / (lengths + _TINY)).max(axis=1, initial=-1.0)
        liked = past.weights @ self._table.take(past.liked)
        for place, block in enumerate(self._blocks, start=column + 1):
            found[:, place] = table[:, block] @ liked[block]
        column += 1 + len(self._blocks)
        n = self._numbers
        known = liked[n : 2 * n]
        mean = np.divide(liked[:n], known, out=np.zeros_like(known), where=known > 0)
        away = np.abs(table[:, :n] - mean) * (table[:, n : 2 * n] > 0) * (known > 0)
        found[:, column : column + n] = away


def _standing(values: Floats) -> Floats:
    """Values (h,) in standard deviations from their mean."""
    away: Floats = values - values.mean()
    away /= np.sqrt(away.dot(away) / np.float32(len(away))) + _TINY
    return away
