"""Whether the secondary indexes of a store say what its records say."""

from __future__ import annotations

from pyroaring import BitMap

from .postings import Posted
from .snapshot import Snapshot

# Postings are compared so many rows at a time, to bound memory.
_POSTED_TOGETHER = 16_384


class PostingsCheck:
    """Compares postings with records: each value of a record is posted, and nothing else is.

    Rows come in order. The postings of some thousand rows are made again and compared with the
    same rows of the stored ones; whether more is stored shows in the totals.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._stored = snapshot.postings()
        self._posted = Posted()
        self._first = 0
        self._last = -1
        self._total = {"values": 0, "fields": 0}

    def add(self, row: int, metadata: dict[str, object]) -> list[str]:
        """Add a record; return problems found so far that were not returned before."""
        problems = self._compare() if row - self._first >= _POSTED_TOGETHER else []
        self._posted.add(row, metadata)
        self._last = row
        return problems

    def finish(self) -> list[str]:
        """Compare the rest, and the totals."""
        problems = self._compare()
        view, edition = self._snapshot.view, self._snapshot.edition
        counts = {
            "values": (len(BitMap.deserialize(v)) for _, v in view.scan(f"postings.{edition}")),
            "fields": (len(self._stored.having(name)) for name in self._stored.fields()),
        }
        for what, stored in counts.items():
            total = empty = 0
            for count in stored:
                total += count
                empty += count == 0
            if empty or total != self._total[what]:
                problems.append(
                    f"postings of {what} name {total} rows where records have "
                    f"{self._total[what]}; {empty} name none"
                )
        return problems

    def _compare(self) -> list[str]:
        here = BitMap(range(self._first, self._last + 1))
        view, edition = self._snapshot.view, self._snapshot.edition
        keys = sorted(self._posted.values)
        problems = []
        for key, stored in zip(keys, view.get_many(f"postings.{edition}", keys), strict=True):
            rows = self._posted.values[key]
            self._total["values"] += len(rows)
            if stored is None or BitMap.deserialize(stored) & here != rows:
                problems.append(f"postings of the value with key {key.hex()} are not its rows")
        for name, rows in self._posted.fields.items():
            self._total["fields"] += len(rows)
            if self._stored.having(name) & here != rows:
                problems.append(f"postings of field {name!r} are not the rows that have it")
        self._posted = Posted()
        self._first = self._last + 1
        return problems
