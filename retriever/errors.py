"""Errors of this room; the root is `encoders.errors.CatalensError`.

CatalensError
├── QueryError
│   ├── EmptyQueryError           a query without parts
│   ├── InvalidKError             k below 1, or above the number of items
│   ├── InvalidRecallError        a recall that is not above 0, or above 1
│   ├── InvalidWeightError        a weight that is no number, or out of bounds
│   ├── NoWeightError             all weights are zero, or the parts cancel each other out
│   ├── UnknownWeightError        a weight for a space or modality the index does not have
│   ├── ModalityNotIndexedError   no space of the index is reached from that modality
│   ├── QueryFileError            a file of queries that cannot be read
│   ├── HistoryError              a history that does not read
│   ├── RecommendOptionError      a half-life, number of interests or diversity that cannot be
│   ├── HistoriesNotKeptError     a user is named, and the index keeps no histories
│   ├── NoPopularityError         no history, and the index does not know what is popular
│   └── UnknownItemError          a liked or unliked id that is not in the index
├── FingerprintMismatchError      see indexer/errors.py
├── RetrieverClosedError
├── QueryLogError                 a log of queries that cannot be written or read
├── ClicksError                   clicks that do not read, or belong to no search of the log
├── RankingHeadError              see head/errors.py
└── FilterError                   see filter_errors.py
"""

from __future__ import annotations

from encoders.errors import CatalensError
from indexer.errors import FingerprintMismatchError as FingerprintMismatchError


class QueryError(CatalensError):
    """A query cannot be answered as it stands."""


class EmptyQueryError(QueryError):
    """A query without parts."""


class InvalidKError(QueryError):
    """k is below 1, or above the number of items."""


class InvalidRecallError(QueryError):
    """A recall that is not above 0, or above 1."""


class InvalidWeightError(QueryError):
    """A weight that is no number, not finite, or out of bounds."""


class NoWeightError(QueryError):
    """All weights are zero, or the parts of the query cancel each other out."""


class UnknownWeightError(QueryError):
    """A weight for a space or modality that the index does not have."""


class ModalityNotIndexedError(QueryError):
    """No space of the index is reached from that modality."""


class QueryFileError(QueryError):
    """A file of queries that cannot be read, or a line that is none."""


class HistoryError(QueryError):
    """A history that does not read."""


class RecommendOptionError(QueryError):
    """A half-life, a number of interests or a diversity that cannot be."""


class HistoriesNotKeptError(QueryError):
    """A user is named, and the index keeps no histories."""


class NoPopularityError(QueryError):
    """There is no history to go by, and the index does not know what is popular."""


class UnknownItemError(QueryError):
    """An id that is not in the index."""


class QueryLogError(CatalensError):
    """A log of queries that cannot be written or read."""


class ClicksError(CatalensError):
    """Clicks that do not read, or that belong to no search of the log."""


class RetrieverClosedError(CatalensError):
    """The retriever was closed."""
