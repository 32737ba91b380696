"""What a head sees of an item's metadata: numbers, and whether it carries a value."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from indexer import Live, Snapshot

Floats = NDArray[np.float32]
Positions = NDArray[np.int64]
Value = bool | str

# A field is of numbers, or a value worth a column, if so many of the records say so.
_NUMBERS = 0.2
_LEAST_PART, _LEAST_ITEMS = 0.01, 5
_MOST_VALUES = 24
_MOST_FIELDS = 8
# Larger numbers say nothing that their size does not.
_LARGEST = 1e12
# "Drama, Comedy" are two values, a sentence with commas is one.
_LONGEST_VALUE = 30
Name = Annotated[str, Field(max_length=1_000)]


class MetadataFields(BaseModel):
    """Which fields of the metadata are looked at; `values` are those that are counted, by field."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    numbers: Annotated[list[Name], Field(max_length=_MOST_FIELDS)] = []
    values: Annotated[
        dict[Name, Annotated[list[bool | Name], Field(max_length=_MOST_VALUES)]],
        Field(max_length=_MOST_FIELDS),
    ] = {}

    @classmethod
    def chosen(cls, records: Sequence[Mapping[str, Any]], leave: Iterable[str]) -> MetadataFields:
        """Those that a sample of records has in common; `leave` are fields to pass over."""
        numeric: Counter[str] = Counter()
        values: dict[str, Counter[Value]] = {}
        for record in records:
            for field, value in record.items():
                if _number(value) is not None:
                    numeric[field] += 1
                for one in _values(value):
                    values.setdefault(field, Counter())[one] += 1
        left, n = set(leave), len(records)
        numbers = [
            field
            for field, count in numeric.most_common()
            if field not in left and count >= max(_LEAST_ITEMS, _NUMBERS * n)
        ]
        least = max(_LEAST_ITEMS, _LEAST_PART * n)
        kept = {}
        for field, counts in sorted(values.items(), key=lambda one: -one[1].total()):
            common = [v for v, c in counts.most_common(_MOST_VALUES) if least <= c < n]
            if field not in left and common and _tell(records, field, common):
                kept[field] = common
        return cls(
            numbers=numbers[:_MOST_FIELDS],
            values=dict(list(kept.items())[:_MOST_FIELDS]),
        )

    @property
    def columns(self) -> list[str]:
        """Names of the columns of a table."""
        return [
            *(f"number {field}" for field in self.numbers),
            *(f"has {field}" for field in self.numbers),
            *(f"{field} = {value}" for field, values in self.values.items() for value in values),
        ]

    def row(self, metadata: Mapping[str, Any]) -> list[float]:
        """The columns of one item; a number that is not there is 0."""
        numbers = [_number(metadata.get(field)) for field in self.numbers]
        row = [0.0 if number is None else number for number in numbers]
        row += [float(number is not None) for number in numbers]
        for field, values in self.values.items():
            here = _values(metadata.get(field))
            row += [float(value in here) for value in values]
        return row

    @property
    def blocks(self) -> list[slice]:
        """Where the columns of each field of values lie."""
        found, start = [], 2 * len(self.numbers)
        for values in self.values.values():
            found.append(slice(start, start + len(values)))
            start += len(values)
        return found


class MetadataTable:
    """The rows of items, read from their records when first asked for."""

    def __init__(self, fields: MetadataFields, live: Live, snapshot: Snapshot) -> None:
        self._fields = fields
        self._live = live
        self._snapshot = snapshot
        self._width = len(fields.columns)
        # Zeros cost nothing until they are written to.
        self._rows = np.zeros((len(live.row_numbers), self._width), dtype=np.float32)
        self._known = np.zeros(len(live.row_numbers), dtype=bool)

    def take(self, positions: Positions) -> Floats:
        """float32 (h, columns)."""
        if not self._width:
            return np.zeros((len(positions), 0), dtype=np.float32)
        known = self._known[positions]
        if not known.all():
            unknown = np.unique(positions[~known])
            records = self._snapshot.records(self._live.row_numbers[unknown].tolist())
            self._rows[unknown] = [self._fields.row(record.metadata) for record in records]
            # Last: who reads it in another thread finds the row written.
            self._known[unknown] = True
        return self._rows.take(positions, axis=0)


def _tell(records: Sequence[Mapping[str, Any]], field: str, values: Sequence[Value]) -> bool:
    """Whether these values are what a field is about: half of the records that have it carry one.
    Of titles that are parted by commas, as "Net, The", few do."""
    known = [_values(record[field]) for record in records if field in record]
    carried = sum(any(one in values for one in here) for here in known)
    return 2 * carried >= len(known)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return max(-_LARGEST, min(_LARGEST, number)) if math.isfinite(number) else None


def _values(value: Any) -> Sequence[Value]:
    if isinstance(value, str):
        parts = [part.strip() for part in value.split(",")]
        return parts if all(0 < len(part) <= _LONGEST_VALUE for part in parts) else (value,)
    if isinstance(value, bool):
        return (value,)
    if isinstance(value, list):
        return [one for one in value if isinstance(one, bool | str)]
    return ()
