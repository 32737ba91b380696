"""The one module that imports lmdb: environments, transactions, and LMDB's errors made ours.

What LMDB leaves to its user is settled here: a cut file kills the process that maps it, so
sizes are compared before mapping; bits that flip go unnoticed, so each value carries a
checksum; an environment must not cross a fork, nor be opened twice in one process; a map that
is full is grown and the whole batch tried again.
"""

from __future__ import annotations

import os
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import lmdb

from .durable import translated_os_errors
from .errors import (
    CorruptIndexError,
    DiskFullError,
    ForkedStoreError,
    StoreFullError,
    StoreUnavailableError,
)

T = TypeVar("T")

# Address space only: the file holds what was written. Halved where the system grants less.
INITIAL_MAP_BYTES = 1 << 36
_SMALLEST_MAP_BYTES = 1 << 26
_MAX_DATABASES = 256
_MAX_READERS = 1024
_GROW_WAIT_SECONDS = 2.0

# LMDB's meta page: 16 bytes of page header, then magic, version, address, map size, two
# database records of 48 bytes, last page number, transaction number.
_META = struct.Struct("<16xIIQQ48x48xQQ")
_META_MAGIC = 0xBEEFC0DE
_PAGE_SIZE_OFFSET = 16 + 24


def check_file_size(path: Path) -> None:
    """Compare the size of an LMDB file with what its header says, before anything maps it.

    Raises:
        CorruptIndexError: the file is no LMDB file, or shorter than its last page.
    """
    with path.open("rb") as file:
        first = file.read(4096)
        if len(first) < 4096:
            raise _cut(path, 4096 * 2, len(first))
        page_size = struct.unpack_from("<I", first, _PAGE_SIZE_OFFSET)[0]
        if page_size not in (4096, 8192, 16384, 32768, 65536):
            raise _foreign(path)
        file.seek(page_size)
        second = file.read(_META.size)
        size = file.seek(0, os.SEEK_END)
    if len(second) < _META.size:
        raise _cut(path, page_size * 2, size)
    metas = [_META.unpack_from(page) for page in (first, second)]
    if any(meta[0] != _META_MAGIC for meta in metas):
        raise _foreign(path)
    last_page = max(metas, key=lambda meta: int(meta[5]))[4]
    if size < (last_page + 1) * page_size:
        raise _cut(path, (last_page + 1) * page_size, size)


def _cut(path: Path, expected: int, got: int) -> CorruptIndexError:
    return CorruptIndexError(
        f"store {path}",
        expected=f"at least {expected:,} bytes",
        got=f"{got:,}: the file was cut",
        remedy="Restore it from a backup, or build the index again from the catalog.",
    )


def _foreign(path: Path) -> CorruptIndexError:
    return CorruptIndexError(
        f"store {path}",
        expected="an LMDB file with two valid meta pages",
        got="other bytes",
        remedy="Restore it from a backup, or build the index again from the catalog.",
    )


def seal(key: bytes, value: bytes) -> bytes:
    """Append a CRC-32 over key and value, so that flipped bits and swapped values show."""
    return value + zlib.crc32(value, zlib.crc32(key)).to_bytes(4, "little")


def unseal(database: str, key: bytes, sealed: bytes) -> bytes:
    """Check and strip the checksum.

    Raises:
        CorruptIndexError: the value is not what was written under this key.
    """
    value = sealed[:-4]
    if int.from_bytes(sealed[-4:], "little") != zlib.crc32(value, zlib.crc32(key)):
        raise CorruptIndexError(
            f"store, database {database!r}",
            expected=f"the checksum written with key {key[:64]!r}",
            got="another: bits have flipped on disk",
            remedy="Restore the store from a backup, or build the index again from the catalog.",
        )
    return value


def _database_names(transaction: Any) -> list[str]:
    with transaction.cursor() as cursor:
        return [key.decode() for key in cursor.iternext(keys=True, values=False)]


class ReadTransaction:
    """A consistent view of the store; safe to use from many threads, one call at a time."""

    def __init__(self, environment: Environment, transaction: Any, handles: dict[str, Any]) -> None:
        self._environment = environment
        self._transaction = transaction
        self._handles = handles
        self._lock = threading.Lock()

    def get(self, database: str, key: bytes) -> bytes | None:
        """The value under a key, its checksum checked; None when there is none."""
        handle = self._handles.get(database)
        if handle is None:
            return None
        with self._environment.guarded(), self._lock:
            sealed = self._transaction.get(key, db=handle)
        return None if sealed is None else unseal(database, key, sealed)

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
            found = {key: unseal(database, key, sealed) for key, sealed in cursor.getmulti(keys)}
        return [found.get(key) for key in keys]

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
                found, start = self._slice(handle, start, high)
            for key, sealed in found:
                yield key, unseal(database, key, sealed)

    def _slice(
        self, handle: Any, start: bytes, high: bytes | None, count: int = 4096
    ) -> tuple[list[tuple[bytes, bytes]], bytes | None]:
        found: list[tuple[bytes, bytes]] = []
        with self._transaction.cursor(db=handle) as cursor:
            if not (cursor.set_range(start) if start else cursor.first()):
                return found, None
            for key, value in cursor.iternext(keys=True, values=True):
                if high is not None and key >= high:
                    return found, None
                if len(found) == count:
                    return found, key
                found.append((key, value))
        return found, None

    def count(self, database: str) -> int:
        """Number of keys in a database."""
        handle = self._handles.get(database)
        if handle is None:
            return 0
        with self._environment.guarded(), self._lock:
            return int(self._transaction.stat(handle)["entries"])

    def databases(self) -> list[str]:
        """Names of all databases there are."""
        return sorted(self._handles)

    def close(self) -> None:
        """Let go of the view; the space it held can be used again."""
        self._environment.close_view(self)
        with self._lock:
            self._transaction.abort()

    def __enter__(self) -> ReadTransaction:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class WriteTransaction(ReadTransaction):
    """Reads and writes that become visible together, or not at all."""

    def put(self, database: str, key: bytes, value: bytes) -> None:
        """Write one value with its checksum."""
        self._transaction.put(key, seal(key, value), db=self._handle(database))

    def delete(self, database: str, key: bytes) -> None:
        """Remove a key; nothing happens when it is not there."""
        self._transaction.delete(key, db=self._handle(database))

    def drop(self, database: str) -> None:
        """Remove a whole database."""
        handle = self._handles.get(database)
        if handle is not None:
            self._transaction.drop(handle, delete=True)
            del self._handles[database]

    def _handle(self, database: str) -> Any:
        found = self._handles.get(database)
        if found is None:
            found = self._environment.open_database(database, self._transaction)
            self._handles[database] = found
        return found


class Environment:
    """One LMDB environment, shared by all who open the same path in this process."""

    _open: dict[str, Environment] = {}  # noqa: RUF012  (the process's registry)
    _open_lock = threading.Lock()

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pid = os.getpid()
        self._references = 0
        self._handles: dict[str, Any] = {}
        self._views: set[int] = set()
        self._lock = threading.RLock()
        self._env = self._map(INITIAL_MAP_BYTES)

    @classmethod
    def acquire(cls, folder: Path, *, create: bool = False) -> Environment:
        """Open a store, or share it with those in this process who have it open already.

        Raises:
            CorruptIndexError: the file is cut or no LMDB file.
            StoreUnavailableError: it may not be read.
        """
        key = os.path.realpath(folder)
        with cls._open_lock:
            found = cls._open.get(key)
            # A forked child inherits the registry, but must open environments of its own.
            if found is None or found._pid != os.getpid():
                if create:
                    with translated_os_errors(f"store {folder}"):
                        folder.mkdir(parents=True, exist_ok=True)
                if (folder / "data.mdb").exists():
                    with translated_os_errors(f"store {folder}"):
                        check_file_size(folder / "data.mdb")
                found = cls(folder)
                cls._open[key] = found
            found._references += 1
            return found

    def release(self) -> None:
        """Give back what `acquire` gave; the last one closes the environment."""
        with self._open_lock:
            self._references -= 1
            if self._references == 0 and self._pid == os.getpid():
                self._env.close()
                self._open.pop(os.path.realpath(self._folder), None)

    def _map(self, size: int) -> Any:
        data = self._folder / "data.mdb"
        read_only = data.exists() and not os.access(data, os.W_OK)
        while True:
            try:
                return lmdb.open(
                    str(self._folder),
                    map_size=size,
                    max_dbs=_MAX_DATABASES,
                    max_readers=_MAX_READERS,
                    readonly=read_only,
                    # A read-only file system has no place for the lock file, and no writer.
                    lock=not read_only or os.access(self._folder, os.W_OK),
                    readahead=False,
                )
            except lmdb.MemoryError:
                if size <= _SMALLEST_MAP_BYTES:
                    raise StoreFullError(
                        f"store {self._folder}",
                        expected=f"{size >> 20:,} MiB of address space",
                        got="less",
                        remedy="Raise the limit on virtual memory (ulimit -v).",
                    ) from None
                size //= 2
            except lmdb.Error as error:
                raise self.translate(error) from error

    def translate(self, error: Exception) -> Exception:
        """The error of ours that says what an error of LMDB's means."""
        what = f"store {self._folder}"
        text = str(error)
        if "No space left" in text or "File too large" in text or "quota" in text:
            return DiskFullError(
                what,
                expected="room on the disk",
                got=text,
                remedy="Free some space and run the same command again; the index is unharmed.",
            )
        if isinstance(error, lmdb.ReadersFullError):
            return StoreUnavailableError(
                what,
                expected=f"at most {_MAX_READERS} readers",
                got="one more",
                remedy="Close some Retrievers.",
            )
        if isinstance(
            error,
            lmdb.CorruptedError | lmdb.PageNotFoundError | lmdb.InvalidError | lmdb.PanicError,
        ):
            return CorruptIndexError(
                what,
                expected="a sound LMDB file",
                got=text,
                remedy="Restore it from a backup, or build the index again from the catalog.",
            )
        return StoreUnavailableError(
            what,
            expected="a store that can be opened and read",
            got=text,
            remedy="Check that the folder is complete, its owner, its mode and its file system.",
        )

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Refuse use after a fork, and translate LMDB's errors."""
        if self._pid != os.getpid():
            raise ForkedStoreError(
                f"store {self._folder}",
                expected=f"use in process {self._pid}, which opened it",
                got=f"process {os.getpid()}, forked from it",
                remedy="Open the index after the fork, once in each process.",
            )
        try:
            yield
        except lmdb.Error as error:
            raise self.translate(error) from error

    def open_database(self, name: str, transaction: Any) -> Any:
        """A handle of a database, made if need be; it lives on when the transaction commits."""
        return self._env.open_db(name.encode(), txn=transaction)

    def view(self) -> ReadTransaction:
        """A consistent read-only view; close it."""
        with self.guarded(), self._lock:
            while True:
                transaction = self._begin()
                names = _database_names(transaction)
                new = [name for name in names if name not in self._handles]
                if not new:
                    handles = {name: self._handles[name] for name in names}
                    view = ReadTransaction(self, transaction, handles)
                    self._views.add(id(view))
                    return view
                # A transaction cannot use handles that are younger than itself: open those
                # that are missing, then begin again.
                transaction.abort()
                for name in new:
                    with suppress(lmdb.NotFoundError):  # dropped since we looked
                        self._handles[name] = self._env.open_db(name.encode(), create=False)

    def _begin(self) -> Any:
        try:
            return self._env.begin()
        except lmdb.MapResizedError:
            # Another process has grown the store beyond our map: adopt its size.
            self._grow(0)
            return self._env.begin()

    def close_view(self, view: ReadTransaction) -> None:
        self._views.discard(id(view))

    @property
    def has_views(self) -> bool:
        """Whether someone in this process holds a view."""
        return bool(self._views)

    def write(self, work: Callable[[WriteTransaction], T]) -> T:
        """Run `work` in one write transaction, durable on return.

        When the map is full, the transaction is aborted, the map doubled and the whole of
        `work` run again, so it must not change anything outside the transaction.

        Raises:
            StoreFullError: the map cannot grow.
            DiskFullError: the disk is full; nothing of the transaction was kept.
        """
        with self.guarded(), self._lock:
            while True:
                try:
                    with self._env.begin(write=True) as transaction:
                        # Handles made in a transaction that aborts die with it, so they are
                        # kept only after the commit.
                        handles = {
                            name: self._handles.get(name) or self.open_database(name, transaction)
                            for name in _database_names(transaction)
                        }
                        result = work(WriteTransaction(self, transaction, handles))
                    self._handles = handles
                    return result
                except lmdb.MapFullError:
                    self._grow(self._env.info()["map_size"] * 2)
                except lmdb.MapResizedError:
                    self._grow(0)

    def _grow(self, size: int) -> None:
        # Look-ups by threads of this process last microseconds; the views of Retrievers do not.
        deadline = time.monotonic() + _GROW_WAIT_SECONDS
        while self._views and time.monotonic() < deadline:
            time.sleep(0.001)
        if self._views:
            raise StoreFullError(
                f"store {self._folder}",
                expected="no open Retriever in this process while the store's map grows",
                got=f"{len(self._views)} open",
                remedy="Close it, or write from another process.",
            )
        try:
            self._env.set_mapsize(size)
        except lmdb.Error as error:
            raise StoreFullError(
                f"store {self._folder}",
                expected=f"{size >> 20:,} MiB of address space",
                got=str(error),
                remedy="Raise the limit on virtual memory (ulimit -v).",
            ) from error
