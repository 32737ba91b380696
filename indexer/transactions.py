"""Reading and writing inside one transaction of an `Environment`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from .pages import Pages
from .sealing import is_sound, seal, unseal

if TYPE_CHECKING:
    from .environment import Environment

# Entries that a scan reads under one lock.
_SLICE = 4096


class ReadTransaction:
    """A consistent view of the store; safe to use from many threads, one call at a time."""

    def __init__(
        self,
        environment: Environment,
        transaction: Any,
        handles: dict[str, Any],
        pages: Pages | None,
    ) -> None:
        self._environment = environment
        self._transaction = transaction
        self._handles = handles
        # None where pages are trusted: in a transaction that changes them.
        self._pages = pages
        self._lock = threading.Lock()

    def get(self, database: str, key: bytes) -> bytes | None:
        """The value under a key, its checksum checked; None when there is none."""
        handle = self._handles.get(database)
        if handle is None:
            return None
        with self._environment.guarded(), self._lock:
            if self._pages is not None:
                self._pages.check(database, key)
            sealed = self._transaction.get(key, db=handle)
            if sealed is None and self._pages is not None:
                self._check_absence(handle, database, key)
        return None if sealed is None else unseal(database, [(key, sealed)])[0]

    def get_many(self, database: str, keys: list[bytes]) -> list[bytes | None]:
        """`get` for several keys under one lock."""
        handle = self._handles.get(database)
        if handle is None:
            return [None] * len(keys)
        with (
            self._environment.guarded(),
            self._lock,
            self._transaction.cursor(db=handle) as cursor,
        ):
            if self._pages is not None:
                for key in keys:
                    self._pages.check(database, key)
            found = cursor.getmulti(keys)
        values = unseal(database, found)
        if len(values) == len(keys):
            return list(values)
        by_key = {key: value for (key, _), value in zip(found, values, strict=True)}
        return [by_key.get(key) for key in keys]

    def scan(
        self, database: str, low: bytes = b"", high: bytes | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        """Keys from `low` up to, not including, `high`, in order, with checked values.

        Takes the lock a slice at a time, so that a long scan does not starve other threads.
        """
        handle = self._handles.get(database)
        start: bytes | None = low
        while handle is not None and start is not None:
            with self._environment.guarded(), self._lock:
                if self._pages is not None:
                    self._pages.check_range(database, start, high, _SLICE)
                    if start:
                        with self._transaction.cursor(db=handle) as cursor:
                            self._check_before(cursor, database, start)
                found, start = self._slice(handle, database, start, high)
            for (key, _), value in zip(found, unseal(database, found), strict=True):
                yield key, value

    def keys(self, database: str) -> Iterator[bytes]:
        """All keys of a database in order; no value is read."""
        handle, start = self._handles.get(database), b""
        while handle is not None:
            with self._environment.guarded(), self._lock, self._transaction.cursor(db=handle) as c:
                if self._pages is not None:
                    self._pages.check_range(database, start, None, _SLICE)
                if not (c.set_range(start) if start else c.first()):
                    return
                found = list(islice(c.iternext(keys=True, values=False), _SLICE))
            yield from found
            start = found[-1] + b"\0"  # the least key above

    def sound(self, database: str, keys: list[bytes]) -> set[bytes]:
        """Which of these keys have a value that is what was written."""
        handle = self._handles.get(database)
        if handle is None:
            return set()
        with (
            self._environment.guarded(),
            self._lock,
            self._transaction.cursor(db=handle) as cursor,
        ):
            if self._pages is not None:
                for key in keys:
                    self._pages.check(database, key)
            return {key for key, value in cursor.getmulti(keys) if is_sound(key, value)}

    def damaged(self, database: str) -> Iterator[bytes]:
        """Keys whose values are not what was written under them."""
        handle = self._handles.get(database)
        start: bytes | None = b""
        while handle is not None and start is not None:
            with self._environment.guarded(), self._lock:
                if self._pages is not None:
                    self._pages.check_range(database, start, None, _SLICE)
                found, start = self._slice(handle, database, start, None)
            yield from (key for key, value in found if not is_sound(key, value))

    def _slice(
        self, handle: Any, database: str, start: bytes, high: bytes | None
    ) -> tuple[list[tuple[bytes, bytes]], bytes | None]:
        found: list[tuple[bytes, bytes]] = []
        with self._transaction.cursor(db=handle) as cursor:
            if start and self._pages is not None:
                self._check_before(cursor, database, start)
            if not (cursor.set_range(start) if start else cursor.first()):
                return found, None
            for key, value in cursor.iternext(keys=True, values=True):
                if high is not None and key >= high:
                    unseal(database, [(key, value)])
                    return found, None
                if len(found) == _SLICE:
                    return found, key
                found.append((key, value))
        return found, None

    def _check_absence(self, handle: Any, database: str, key: bytes) -> None:
        """A key that has flipped is not found, nor are those that it leads astray; all of them end
        beside it, and its checksum tells."""
        assert self._pages is not None
        self._pages.check_around(database, key)
        with self._transaction.cursor(db=handle) as cursor:
            if cursor.set_range(key):
                unseal(database, [cursor.item()])
            self._check_before(cursor, database, key)

    def _check_before(self, cursor: Any, database: str, key: bytes) -> None:
        """The last key before this one is what was written."""
        if cursor.prev() if cursor.set_range(key) else cursor.last():
            unseal(database, [cursor.item()])

    def count(self, database: str) -> int:
        """Number of keys in a database."""
        handle = self._handles.get(database)
        if handle is None:
            return 0
        with self._environment.guarded(), self._lock:
            return int(self._transaction.stat(handle)["entries"])

    def last(self, database: str) -> bytes | None:
        """The last key of a database; None when it is empty."""
        handle = self._handles.get(database)
        if handle is None:
            return None
        with (
            self._environment.guarded(),
            self._lock,
            self._transaction.cursor(db=handle) as cursor,
        ):
            if self._pages is not None:
                self._pages.check_last(database)
            return bytes(cursor.key()) if cursor.last() else None

    def databases(self) -> list[str]:
        """Names of all databases there are."""
        return sorted(self._handles)

    def close(self) -> None:
        """Let go of the view; the space it held can be used again.

        In a forked child of the process that opened it, nothing happens.
        """
        if self._environment.is_inherited:
            return
        with self._lock:
            self._transaction.abort()
        self._environment.close_view(self)

    def __enter__(self) -> ReadTransaction:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class WriteTransaction(ReadTransaction):
    """Reads and writes that become visible together, or not at all."""

    def __init__(self, environment: Environment, transaction: Any, handles: dict[str, Any]) -> None:
        super().__init__(environment, transaction, handles, None)
        self.dropped: set[str] = set()
        """Databases whose handles are closed, whether the transaction commits or not."""

    def put(self, database: str, key: bytes, value: bytes) -> None:
        """Write one value with its checksum."""
        self._transaction.put(key, seal(key, value), db=self._handle(database))

    def delete(self, database: str, key: bytes) -> None:
        """Remove a key; nothing happens when it is not there."""
        self._transaction.delete(key, db=self._handle(database))

    def drop(self, database: str) -> None:
        """Remove a whole database; while this process holds a view, empty it and keep its name.

        To remove a name closes its handle at once, and a view that uses it may then fail, or read
        another database in its place. What a view sees of an emptied database stays whole.
        """
        handle = self._handles.get(database)
        if handle is None:
            return
        if self._environment.has_views:
            self._transaction.drop(handle, delete=False)
        else:
            self.dropped.add(database)
            self._transaction.drop(handle, delete=True)
            del self._handles[database]

    def _handle(self, database: str) -> Any:
        found = self._handles.get(database)
        if found is None:
            found = self._environment.open_database(database, self._transaction)
            self._handles[database] = found
        return found
