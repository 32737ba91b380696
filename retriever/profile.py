"""A user's history as weighted items: what is liked, what is not, and how long ago."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.catalog_errors import RejectedRowError
from indexer.interactions import seconds_of, value_of
from indexer.learning.preference import HALF_LIFE, Scale, recency
from indexer.manifest import BehaviourEntry

from .errors import HistoryError, RecommendOptionError

Floats = NDArray[np.float32]

UNLEARNED = Scale(neutral=0.0, liked=1.0)
"""What values mean where no behaviour was learned."""
MOST_INTERESTS = 20


@dataclass(frozen=True)
class Profile:
    """What a user did, oldest first: item ids and float32 (m,) how much each counts, in [-1, 1]."""

    items: tuple[str, ...]
    weights: Floats


@dataclass(frozen=True)
class Wish:
    """How to recommend: see `Retriever.recommend`."""

    where: str | None
    exclude_seen: bool
    weights: Mapping[str, float] | None
    half_life: float
    interests: int
    diversity: float
    recall: float | None
    explain: bool
    head: bool

    @property
    def is_plain(self) -> bool:
        """Whether a head re-ranks: it has learned from histories asked for as one, as the index
        weighs them."""
        varied = self.interests > 1 or self.diversity or self.weights
        return self.head and not varied and self.half_life == HALF_LIFE

    def check(self) -> Wish:
        """This.

        Raises:
            RecommendOptionError: a value that cannot be.
        """
        _check("half_life", self.half_life, 0 < _real(self.half_life) < math.inf, "above 0")
        _check("diversity", self.diversity, 0 <= _real(self.diversity) <= 1, "from 0 to 1")
        whole = isinstance(self.interests, int) and not isinstance(self.interests, bool)
        known = whole and 1 <= self.interests <= MOST_INTERESTS
        _check("interests", self.interests, known, f"from 1 to {MOST_INTERESTS}")
        return self


PLAIN = Wish(None, True, None, HALF_LIFE, 1, 0.0, None, True, True)
"""What is asked for by default."""


def _real(given: Any) -> float:
    return math.nan if isinstance(given, bool) or not isinstance(given, Real) else float(given)


def _check(name: str, given: Any, is_good: bool, expected: str) -> None:
    if not is_good:
        raise RecommendOptionError(
            name,
            expected=f"a number {expected}",
            got=repr(given)[:60],
            remedy="Leave it out for the default.",
        )


def profile_of(
    history: Sequence[Any], behaviour: BehaviourEntry | None, half_life: float = HALF_LIFE
) -> Profile:
    """Weigh a history.

    Args:
        history: items: an id, or a pair (id, value), or (id, value, time).
        behaviour: what the index has learned, which knows what values mean.
        half_life: so many interactions later one counts half as much.

    Raises:
        HistoryError: an entry that is none of these, or times for some entries alone.
    """
    if isinstance(history, str | bytes | Mapping) or not isinstance(history, Sequence):
        raise _misread("history", type(history).__name__)
    entries = [_entry(one, number) for number, one in enumerate(history)]
    times = [when for _, _, when in entries]
    if None in times and any(when is not None for when in times):
        raise HistoryError(
            "history",
            expected="a time for every entry, or for none",
            got=f"{times.count(None)} of {len(times)} without",
            remedy="Without times the order is that of time, oldest first.",
        )
    if None not in times:
        entries.sort(key=lambda entry: entry[2] or 0.0)
    scale = Scale(behaviour.neutral, behaviour.liked) if behaviour else UNLEARNED
    values = np.array(
        [scale.liked if value is None else value for _, value, _ in entries], dtype=np.float64
    )
    weights = scale.weights(values) * recency(len(entries), half_life)
    return Profile(tuple(item for item, _, _ in entries), weights.astype(np.float32))


def _entry(given: Any, number: int) -> tuple[str, float | None, float | None]:
    where = f"history, entry {number + 1}"
    if isinstance(given, str):
        return given, None, None
    if not (isinstance(given, tuple | list) and 1 <= len(given) <= 3 and isinstance(given[0], str)):
        raise _misread(where, repr(given)[:80])
    item, value, when = (*given, None, None)[:3]
    try:
        return (
            item,
            None if value is None else value_of(value),
            None if when is None else seconds_of(when),
        )
    except RejectedRowError as error:
        raise _misread(where, str(error)) from error


def _misread(where: str, got: str) -> HistoryError:
    return HistoryError(
        where,
        expected="a list of ids, (id, value) or (id, value, time)",
        got=got,
        remedy="Ids are strings; times are seconds since 1970 or in ISO 8601.",
    )
