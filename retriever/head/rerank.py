"""A head at work on one state of an index."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..hit import HeadMatch
from .features import Candidates, FeatureReader
from .files import RankingHead

Floats = NDArray[np.float32]


class Reranker:
    """Orders the candidates of a query by what a head makes of their features."""

    def __init__(self, head: RankingHead, reader: FeatureReader) -> None:
        self.depth = head.entry.depth
        self._names = head.entry.names
        self._model = head.model
        self._reader = reader

    def scores(self, candidates: Candidates) -> tuple[Floats, Floats]:
        """Scores (h,) of candidates, at most `depth`, and the features (h, F) behind them."""
        features = self._reader.matrix(candidates)
        return self._model(features), features

    def matches(self, scores: Floats, features: Floats) -> Iterator[HeadMatch]:
        """Why candidates score what they score; features that add nothing are left out."""
        base = self._model.base
        each = self._model.contributions(features).tolist()
        for score, row in zip(scores.tolist(), each, strict=True):
            told = {name: value for name, value in zip(self._names, row, strict=True) if value}
            yield HeadMatch(score, base, told)
