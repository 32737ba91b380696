"""Errors of re-ranking heads.

CatalensError
└── RankingHeadError
    ├── HeadOptionError          no such model or loss, or a number out of bounds
    ├── TooFewQueriesError       too few queries to learn from and to be judged by
    ├── NothingToLearnError      no candidate is relevant, or all of every query's are
    ├── WeakHeadError            on queries held out it is not better than the fused score
    ├── HeadMismatchError        learned for another index, or other features
    └── PrivacyError             privacy that cannot be had as asked
"""

from __future__ import annotations

from encoders.errors import CatalensError


class RankingHeadError(CatalensError):
    """A re-ranking head cannot be learned or used."""


class HeadOptionError(RankingHeadError):
    """A model or loss that there is not, or a number out of bounds."""


class TooFewQueriesError(RankingHeadError):
    """Too few queries to learn from and to be judged by."""


class NothingToLearnError(RankingHeadError):
    """No candidate of any query is relevant, or all are: the labels are constant."""


class WeakHeadError(RankingHeadError):
    """On queries that were held out it does not rank better than the fused score."""


class HeadMismatchError(RankingHeadError):
    """A head that was learned for another index, or from other features."""


class PrivacyError(RankingHeadError):
    """Differential privacy that cannot be had as asked."""
