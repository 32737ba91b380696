"""What users did: (user, item, value, time), out of a dump and into columns."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from time import time

import numpy as np
from numpy.typing import NDArray

from .catalog import open_rows
from .catalog_errors import RejectedRowError
from .columns import listed
from .interaction_errors import (
    ConstantValuesError,
    FutureTimeError,
    MissingColumnError,
    NoInteractionsError,
    SingleUserError,
)
from .items import Reject
from .progress import Progress, Silent
from .readers import Row
from .row_parser import item_id
from .values import is_missing, shown

Ints = NDArray[np.int32]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

CONVENTIONS = {
    "user": ("user", "user_id"),
    "item": ("item", "item_id", "id"),
    "value": ("value", "rating"),
    "time": ("time", "timestamp"),
}
"""Names looked for where a column is not named."""

# Clocks differ, and a time without a zone may be hours ahead of UTC.
_AHEAD_SECONDS = 86_400.0
_LARGEST_VALUE = 1e6
_REJECTS_SHOWN = 10
_ADVANCED_TOGETHER = 4096


@dataclass(frozen=True)
class InteractionColumns:
    """Which column of a dump holds what; None looks for the names in `CONVENTIONS`.

    A dump without a column of values or times may leave these unnamed: each value is then 1, each
    time 0.
    """

    user: str | None = None
    item: str | None = None
    value: str | None = None
    time: str | None = None


@dataclass(frozen=True)
class InteractionReport:
    """What was read: rows, those that were kept, those of items that the index does not have (and
    how many such items), and those that could not be used."""

    rows: int
    kept: int
    unknown_rows: int
    unknown_items: int
    rejected_rows: int
    columns: Mapping[str, str | None]
    """The column of each of user, item, value and time; None for one that was not there."""
    rejects: tuple[Reject, ...] = field(default=())
    """The first ten."""


@dataclass(frozen=True)
class History:
    """What one user did, in order of time: arrays (m,) as those of `Interactions`."""

    items: Ints
    values: Floats
    times: Doubles

    def __len__(self) -> int:
        return len(self.items)

    def until(self, cut: float) -> History:
        """What was done before a time."""
        here = slice(int(np.searchsorted(self.times, cut, side="left")))
        return History(self.items[here], self.values[here], self.times[here])


@dataclass(frozen=True)
class Interactions:
    """What users did, in order of user and then of time; ties as in the dump.

    `users` and `items` are int32 (m,), numbers into `user_ids` and `item_ids`; `values` float32
    (m,), `times` float64 (m,), seconds since 1970 UTC.
    """

    users: Ints
    items: Ints
    values: Floats
    times: Doubles
    user_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    report: InteractionReport

    def __len__(self) -> int:
        return len(self.users)

    @property
    def starts(self) -> NDArray[np.int64]:
        """Where each user begins, and the end: int64 (users + 1,)."""
        return np.searchsorted(self.users, np.arange(len(self.user_ids) + 1))

    def histories(self) -> list[History]:
        """The history of each user, by number."""
        bounds = self.starts.tolist()
        return [
            History(self.items[a:b], self.values[a:b], self.times[a:b]) for a, b in pairwise(bounds)
        ]

    def of_several_users(self) -> Interactions:
        """These.

        Raises:
            SingleUserError: they are all of one user.
        """
        if len(self.user_ids) < 2:
            raise SingleUserError(
                "interactions",
                expected="at least two users",
                got=f"{len(self.user_ids)}",
                remedy="What goes together shows only across users; map --user to their ids.",
            )
        return self

    def of_several_values(self) -> Interactions:
        """These.

        Raises:
            ConstantValuesError: their values are all the same.
        """
        if len(self.values) and float(np.ptp(self.values)) == 0.0:
            raise ConstantValuesError(
                "values of interactions",
                expected="at least two different ones, to learn which is better",
                got=f"{self.values[0]:g} in all {len(self):,}",
                remedy="Map --value to a column that tells likes from dislikes.",
            )
        return self


def read_interactions(
    source: str | Path | Iterable[object],
    *,
    is_known: Callable[[str], bool] | None = None,
    columns: InteractionColumns | None = None,
    one_user: bool = False,
    now: float | None = None,
    progress: Progress | None = None,
) -> Interactions:
    """Read interactions, one row at a time; they are kept as 20 bytes each.

    A row that cannot be used is left out and counted: without user or item, with a value that is
    no number of at most a million, or a time that is none. Rows of items that the index does not
    have are counted apart. Times are numbers, seconds since 1970, or ISO 8601 as strings or dates;
    those without a zone are in UTC.

    Args:
        source: a `.jsonl`, `.ndjson`, `.csv`, `.tsv` or `.parquet` file, or an iterable of dicts.
        is_known: tells whether the index has an item, asked once for each id; None for all.
        columns: which column holds what; conventional names by default.
        one_user: whether all is of one user, so that no column of users is looked for.
        now: seconds since 1970, which no time may be more than a day beyond; None for the clock's.
        progress: told of every step; None tells nobody.

    Raises:
        UnreadableCatalogError: no such file, an unknown format, or damage.
        EmptyCatalogError: there is not one row.
        MissingColumnError: a column is not there.
        FutureTimeError: a time is in the future.
        NoInteractionsError: no row is left.
    """
    progress = progress or Silent()
    reader, seen, name = open_rows(source, "interactions")
    needed = ("item",) if one_user else ("user", "item")
    mapping = _mapped(columns or InteractionColumns(), needed, seen, name)
    if one_user:
        mapping["user"] = None
    gathered = _Gathered(mapping, is_known, (time() if now is None else now) + _AHEAD_SECONDS)
    progress.start("read interactions", reader.count())
    for row in reader.rows():
        gathered.take(row)
        if gathered.rows % _ADVANCED_TOGETHER == 0:
            progress.advance(_ADVANCED_TOGETHER)
    progress.finish()
    return gathered.sorted(name)


class _Gathered:
    """Rows as they come, as columns that grow."""

    def __init__(
        self,
        columns: Mapping[str, str | None],
        is_known: Callable[[str], bool] | None,
        latest: float,
    ) -> None:
        self._columns = columns
        self._is_known = is_known
        self._latest = latest
        self._ids: dict[str | int, str] = {}
        self._user_numbers: dict[str, int] = {}
        self._item_numbers: dict[str, int] = {}
        self._unknown: set[str] = set()
        self._users, self._items = array("i"), array("i")
        self._values, self._times = array("f"), array("d")
        self._rejects: list[Reject] = []
        self.rows = self._unknown_rows = self._rejected = 0

    def take(self, row: Row | Reject) -> None:
        """Keep a row, or count why not."""
        self.rows += 1
        if isinstance(row, Reject):
            self._reject(row)
            return
        get, columns = row.values.get, self._columns
        try:
            user = "" if columns["user"] is None else self._id(get(columns["user"]))
            item = self._id(get(columns["item"] or ""))
            value = 1.0 if columns["value"] is None else value_of(get(columns["value"]))
            when = 0.0 if columns["time"] is None else seconds_of(get(columns["time"]))
        except RejectedRowError as error:
            self._reject(Reject.from_error(error, line=row.line))
            return
        if when > self._latest:
            raise _in_the_future(row.line, when)
        number = self._item_number(item)
        if number is None:
            self._unknown_rows += 1
            return
        self._users.append(self._user_numbers.setdefault(user, len(self._user_numbers)))
        self._items.append(number)
        self._values.append(value)
        self._times.append(when)

    def _id(self, given: object) -> str:
        """The id that a value stands for; each is checked once."""
        if type(given) is not str and type(given) is not int:
            return item_id(given)
        known = self._ids.get(given)
        if known is None:
            known = self._ids[given] = item_id(given)
        return known

    def _item_number(self, item: str) -> int | None:
        number = self._item_numbers.get(item)
        if number is not None or item in self._unknown:
            return number
        if self._is_known is not None and not self._is_known(item):
            self._unknown.add(item)
            return None
        return self._item_numbers.setdefault(item, len(self._item_numbers))

    def _reject(self, reject: Reject) -> None:
        self._rejected += 1
        if len(self._rejects) < _REJECTS_SHOWN:
            self._rejects.append(reject)

    def sorted(self, name: str) -> Interactions:
        """All that was kept, in order."""
        if not self._users:
            raise self._nothing(name)
        users = np.frombuffer(self._users, dtype=np.int32)
        times = np.frombuffer(self._times, dtype=np.float64)
        order = np.lexsort((times, users))
        report = InteractionReport(
            rows=self.rows,
            kept=len(users),
            unknown_rows=self._unknown_rows,
            unknown_items=len(self._unknown),
            rejected_rows=self._rejected,
            columns=self._columns,
            rejects=tuple(self._rejects),
        )
        return Interactions(
            users[order],
            np.frombuffer(self._items, dtype=np.int32)[order],
            np.frombuffer(self._values, dtype=np.float32)[order],
            times[order],
            tuple(self._user_numbers),
            tuple(self._item_numbers),
            report,
        )

    def _nothing(self, name: str) -> NoInteractionsError:
        first = f"; the first: {self._rejects[0].reason}" if self._rejects else ""
        return NoInteractionsError(
            f"interactions {name}",
            expected="at least one of an item that the index has",
            got=f"{self.rows:,} rows, {self._unknown_rows:,} of unknown items and "
            f"{self._rejected:,} that cannot be used{first}",
            remedy="Check that item ids are those of the index, and the mapping of columns.",
        )


def _mapped(
    columns: InteractionColumns, needed: Sequence[str], seen: Mapping[str, None], name: str
) -> dict[str, str | None]:
    """The name of each column; None for values or times that the dump does not have.

    Where none of the first rows could be read, the mapping is taken at its word.
    """
    found: dict[str, str | None] = {}
    for role, names in CONVENTIONS.items():
        given: str | None = getattr(columns, role)
        if given is None:
            found[role] = next((one for one in names if one in seen), None if seen else names[0])
        elif seen and given not in seen:
            near = get_close_matches(given, seen, n=1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise _no_column(name, f"a column {given!r}", seen, hint)
        else:
            found[role] = given
        if found[role] is None and role in needed:
            raise _no_column(name, f"a column of {role}s, such as {names[0]!r}", seen, "")
    return found


def _no_column(name: str, expected: str, seen: Mapping[str, None], hint: str) -> MissingColumnError:
    return MissingColumnError(
        f"interactions {name}",
        expected=expected,
        got=f"the columns {listed(seen)}",
        remedy=f"{hint}Name the columns of user and item, and those of value and time if any.",
    )


def value_of(given: object) -> float:
    """The value of an interaction.

    Raises:
        RejectedRowError: no number of at most a million.
    """
    number = _number(given)
    if number is None or not abs(number) <= _LARGEST_VALUE:  # NaN compares false
        raise RejectedRowError(
            "value",
            expected=f"a number from {-_LARGEST_VALUE:,.0f} to {_LARGEST_VALUE:,.0f}",
            got=shown(given),
            remedy="Give counts as they are, dislikes as negative numbers.",
        )
    return number


def seconds_of(given: object) -> float:
    """Seconds since 1970 of a number, a date, or ISO 8601.

    Raises:
        RejectedRowError: it is none of these.
    """
    when = given if isinstance(given, datetime) else None
    if isinstance(given, date) and when is None:
        when = datetime(given.year, given.month, given.day)
    number = _number(given) if when is None else None
    if number is not None and math.isfinite(number):
        return number
    if isinstance(given, str):
        try:
            when = datetime.fromisoformat(given.strip())
        except ValueError:
            when = None
    try:
        if when is not None and when == when:
            return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (OverflowError, ValueError):
        pass
    raise RejectedRowError(
        "time",
        expected="seconds since 1970, or a date and time in ISO 8601",
        got=shown(given),
        remedy="Convert the times, or leave the column of times out.",
    )


def _number(given: object) -> float | None:
    """A number, also one that a cell of CSV spells; None for anything else."""
    if type(given) is float or type(given) is int:  # nearly always
        try:
            return float(given)
        except OverflowError:
            return None
    if isinstance(given, bool | np.bool_) or is_missing(given):
        return None
    if isinstance(given, int | float | np.integer | np.floating | str):
        try:
            return float(given)
        except (ValueError, OverflowError):
            return None
    return None


def _in_the_future(line: int, when: float) -> FutureTimeError:
    try:
        shown_time = datetime.fromtimestamp(when, UTC).isoformat(timespec="seconds")
    except (OverflowError, ValueError, OSError):
        shown_time = "far beyond the calendar"
    return FutureTimeError(
        f"time in row {line}",
        expected="seconds since 1970, not in the future",
        got=f"{when:.15g}, which is {shown_time}",
        remedy="Milliseconds have to be divided by 1,000; else mend the clock that wrote them.",
    )
