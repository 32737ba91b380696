"""The one module that imports lmdb: environments, transactions, and LMDB's errors made ours.

What LMDB leaves to its user is settled here: a cut or damaged file kills the process that maps
it, so its header is checked before, and its pages as they are come by (`pages`); bits that flip go
unnoticed, so each value carries a checksum (`sealing`); a full disk under a file that is mapped
with holes kills as well; an environment must not cross a fork, nor be opened twice in one process,
nor outlive its file; a handle must not be closed under a transaction; a map that is full is grown
and the whole batch tried again.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from weakref import WeakSet

import lmdb
from lmdb import _envid
from lmdb.verify import VerifyError
from lmdb.verify import verify as walk_pages

from .durable import translated_os_errors
from .errors import (
    CorruptIndexError,
    DiskFullError,
    ForkedStoreError,
    StoreFullError,
    StoreUnavailableError,
)
from .pages import Pages
from .sealing import check_header, decoding
from .transactions import ReadTransaction as ReadTransaction
from .transactions import WriteTransaction as WriteTransaction

T = TypeVar("T")

# Address space only: the file holds what was written. Halved where the system grants less.
INITIAL_MAP_BYTES = 1 << 36
_SMALLEST_MAP_BYTES = 1 << 26
# Each costs a transaction about a nanosecond; those in use, five.
_MAX_DATABASES = 4096
_MAX_READERS = 1024
LOCK_FILE = "lock.mdb"
"""LMDB's own name for its table of readers."""
# That table: a cache line for each reader, and a few for its head.
_LOCK_BYTES = 64 * (_MAX_READERS + 16)
_GROW_WAIT_SECONDS = 2.0
_HANDLE_TRIES = 100

# Objects of a parent process, kept in its forked child so that nothing ends them there: an abort
# would clear the reader's slot in the file that both share, and so the parent's own snapshot.
_inherited: list[object] = []


def _keys_in_this_process(path: Any, subdir: bool) -> tuple[Any, ...]:
    keys = _file_keys(path, subdir)
    return keys if os.getpid() == _FIRST_PROCESS else tuple((os.getpid(), *key) for key in keys)


# py-lmdb refuses a file that "is already open in this process", and a forked child inherits its
# list. LMDB itself allows a child to open the file anew, as locks and reader slots belong to
# processes, so in a child what is listed names the process too.
_FIRST_PROCESS = os.getpid()
_file_keys = _envid.env_keys
_envid.env_keys = _keys_in_this_process


def _walked(path: Path) -> list[str]:
    """What is wrong with the pages in use of an LMDB file, which is read and not mapped."""
    try:
        with decoding("main"):
            return list(walk_pages(str(path), subdir=False))
    except (VerifyError, CorruptIndexError) as error:
        return [str(error)]


def _database_names(transaction: Any) -> list[str]:
    with decoding("main"), transaction.cursor() as cursor:
        return [key.decode() for key in cursor.iternext(keys=True, values=False)]


class _Listed(NamedTuple):
    """What is known of a snapshot: its databases' handles, and its pages."""

    snapshot: int
    handles: dict[str, Any]
    pages: Pages


class Environment:
    """One LMDB environment, shared by all who open the same path in this process."""

    _open: dict[str, Environment] = {}  # noqa: RUF012  (the process's registry)
    _open_lock = threading.Lock()
    _alive: WeakSet[Environment] = WeakSet()  # noqa: RUF012

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder
        self._key = key
        self.pid = os.getpid()
        self._guard = _Guard(self)
        self._references = 0
        self._handles: dict[str, Any] = {}
        self._listed: _Listed | None = None
        # Views that were not closed count until they are collected.
        self._views: WeakSet[ReadTransaction] = WeakSet()
        self._lock = threading.RLock()
        self._env = self._map(INITIAL_MAP_BYTES)
        self._descriptor = os.open(folder / "data.mdb", os.O_RDONLY | os.O_CLOEXEC)
        self._file = _identity(folder / "data.mdb")
        self._alive.add(self)

    @classmethod
    def acquire(cls, folder: Path, *, create: bool = False) -> Environment:
        """Open a store, or share it with those in this process who have it open already.

        Raises:
            CorruptIndexError: the file is cut, no LMDB file, or its header is damaged.
            StoreUnavailableError: it may not be read.
            ForkedStoreError: the parent of this process has it open, and it cannot be opened anew.
        """
        key = os.path.realpath(folder)
        data = folder / "data.mdb"
        with cls._open_lock:
            found = cls._open.get(key)
            # Who holds a store that was deleted since keeps it; the path now names another.
            if found is None or found._file != _identity(data):
                with translated_os_errors(f"store {folder}"):
                    if create:
                        folder.mkdir(parents=True, exist_ok=True)
                        _remove_unmade(data)
                    if data.exists():
                        check_header(data, _walked)
                    if _takes_locks(folder):
                        _reserve(folder / LOCK_FILE)
                found = cls(folder, key)
                cls._open[key] = found
            found._references += 1
            return found

    def release(self) -> None:
        """Give back what `acquire` gave; the last one closes the environment."""
        with self._open_lock:
            self._references -= 1
            if self._references == 0 and not self.is_inherited:
                self._env.close()
                os.close(self._descriptor)
                if self._open.get(self._key) is self:
                    del self._open[self._key]

    def _map(self, size: int) -> Any:
        data = self.folder / "data.mdb"
        read_only = _is_read_only(data)
        while True:
            try:
                return lmdb.open(
                    str(self.folder),
                    map_size=size,
                    max_dbs=_MAX_DATABASES,
                    max_readers=_MAX_READERS,
                    readonly=read_only,
                    lock=_takes_locks(self.folder),
                    readahead=False,
                )
            except lmdb.MemoryError:
                if size <= _SMALLEST_MAP_BYTES:
                    raise StoreFullError(
                        f"store {self.folder}",
                        expected=f"{size >> 20:,} MiB of address space",
                        got="less",
                        remedy="Raise the limit on virtual memory (ulimit -v).",
                    ) from None
                size //= 2
            except lmdb.Error as error:
                raise self.translate(error) from error

    def translate(self, error: Exception) -> Exception:
        """The error of ours that says what an error of LMDB's means."""
        what = f"store {self.folder}"
        text = str(error)
        if "No space left" in text or "File too large" in text or "quota" in text:
            return DiskFullError(
                what,
                expected="room on the disk",
                got=text,
                remedy="Free some space and run the same command again; the index is unharmed.",
            )
        # LMDB's word for a write that was taken in part, which is how a disk begins to be full.
        if "Input/output error" in text:
            return DiskFullError(
                what,
                expected="a disk that takes what is written",
                got=f"a part of it ({text})",
                remedy="Free some space and run the same command again; the index is unharmed. If "
                "there is enough, the disk is failing.",
            )
        if "already open in this process" in text and _inherited:
            return _forked(what, os.getppid())
        if isinstance(error, lmdb.DbsFullError):
            return StoreUnavailableError(
                what,
                expected=f"at most {_MAX_DATABASES:,} databases",
                got="one more: old editions are kept while a Retriever is open",
                remedy="Close every Retriever of this index in this process, and open it again.",
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
            lmdb.CorruptedError
            | lmdb.PageNotFoundError
            | lmdb.InvalidError
            | lmdb.PanicError
            | lmdb.CursorFullError
            | lmdb.IncompatibleError,
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

    def guarded(self) -> _Guard:
        """Refuse use after a fork, and translate LMDB's errors."""
        return self._guard

    def open_database(self, name: str, transaction: Any) -> Any:
        """A handle of a database, made if need be; it lives on when the transaction commits."""
        return self._env.open_db(name.encode(), txn=transaction)

    @property
    def is_inherited(self) -> bool:
        """Whether this process was forked from the one that opened the environment."""
        return self.pid != os.getpid()

    def view(self) -> ReadTransaction:
        """A consistent read-only view; close it.

        Raises:
            CorruptIndexError: pages are damaged.
        """
        with self.guarded(), self._lock:
            missing: list[str] = []
            for _ in range(_HANDLE_TRIES):
                transaction = self._begin()
                try:
                    missing = self._list(transaction)
                except BaseException:
                    transaction.abort()
                    raise
                if self._listed is not None:
                    view = ReadTransaction(
                        self, transaction, self._listed.handles, self._listed.pages
                    )
                    self._views.add(view)
                    return view
                # A transaction cannot use handles that are younger than itself: open those
                # that are missing, then begin again.
                transaction.abort()
                for name in missing:
                    with suppress(lmdb.NotFoundError):  # dropped since we looked
                        self._handles[name] = self._env.open_db(name.encode(), create=False)
        raise CorruptIndexError(
            f"store {self.folder}",
            expected="databases that can be found by their names",
            got=f"none named {missing}",
            remedy="Restore it from a backup, or build the index again from the catalog.",
        )

    def _list(self, transaction: Any) -> list[str]:
        """Set `_listed` to the databases of the transaction's snapshot, or to None and return the
        names whose handles are missing. The list of one snapshot never changes."""
        snapshot = transaction.id()
        if self._listed is None or self._listed.snapshot != snapshot:
            self._listed = None
            pages = Pages.of(str(self.folder), self._descriptor, snapshot)
            if pages is None:
                return []  # two commits have come in between
            names = _database_names(transaction)
            missing = [name for name in names if name not in self._handles]
            if missing:
                return missing
            handles = {name: self._handles[name] for name in names}
            self._listed = _Listed(snapshot, handles, pages)
        return []

    def clear_dead_readers(self) -> None:
        """Let go of what processes held that have died: their views keep pages from being used
        again."""
        with self.guarded():
            self._env.reader_check()

    def page_problems(self) -> list[str]:
        """What is wrong with the pages in use; nothing maps them for that, so it cannot crash.

        All pages are read, about 100 MB a second. Writers may go on meanwhile.
        """
        with self.guarded(), self._lock:
            # Pages that a view may see are not written again: the walk needs them to hold still.
            view = ReadTransaction(self, self._begin(), {}, None)
            self._views.add(view)
        path = self.folder / "data.mdb"
        with view, translated_os_errors(f"store {path}"):
            found = _walked(path)
        return [f"store {path}: {problem}" for problem in found]

    def _begin(self) -> Any:
        try:
            return self._env.begin()
        except lmdb.MapResizedError:
            # Another process has grown the store beyond our map: adopt its size.
            self._grow(0)
            return self._env.begin()

    def close_view(self, view: ReadTransaction) -> None:
        self._views.discard(view)

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
                    return self._write_once(work)
                except lmdb.MapFullError:
                    self._grow(self._env.info()["map_size"] * 2)
                except lmdb.MapResizedError:
                    self._grow(0)

    def _write_once(self, work: Callable[[WriteTransaction], T]) -> T:
        dropped: set[str] = set()
        try:
            with self._env.begin(write=True) as transaction:
                # Handles made in a transaction that aborts die with it, so they are kept only
                # after the commit.
                handles = {
                    name: self._handles.get(name) or self.open_database(name, transaction)
                    for name in _database_names(transaction)
                }
                writer = WriteTransaction(self, transaction, handles)
                dropped = writer.dropped
                result = work(writer)
        except BaseException:
            for name in dropped:
                self._handles.pop(name, None)
            self._listed = None
            raise
        self._handles = handles
        self._fill_up()
        return result

    def _fill_up(self) -> None:
        """Have the file reach to its last page, even where that is free; see `check_header`."""
        pages, size = self._env.info()["last_pgno"] + 1, self._env.stat()["psize"]
        path = self.folder / "data.mdb"
        # On a full disk it is left to a later commit: this one is made.
        with suppress(OSError):
            if path.stat().st_size >= pages * size:
                return
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                # Never cuts what another process may have appended since.
                os.posix_fallocate(descriptor, pages * size - 1, 1)
            finally:
                os.close(descriptor)

    def _grow(self, size: int) -> None:
        # Look-ups by threads of this process last microseconds; the views of Retrievers do not.
        deadline = time.monotonic() + _GROW_WAIT_SECONDS
        while self._views and time.monotonic() < deadline:
            time.sleep(0.001)
        if self._views:
            raise StoreFullError(
                f"store {self.folder}",
                expected="no open Retriever in this process while the store's map grows",
                got=f"{len(self._views)} open",
                remedy="Close it, or write from another process.",
            )
        try:
            self._env.set_mapsize(size)
        except lmdb.Error as error:
            raise StoreFullError(
                f"store {self.folder}",
                expected=f"{size >> 20:,} MiB of address space",
                got=str(error),
                remedy="Raise the limit on virtual memory (ulimit -v).",
            ) from error


class _Guard:
    """What `Environment.guarded` returns: a class, since a generator costs searches more."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment

    def __enter__(self) -> None:
        if self._environment.is_inherited:
            raise _forked(f"store {self._environment.folder}", self._environment.pid)

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, lmdb.Error):
            raise self._environment.translate(error) from error


def _is_read_only(data: Path) -> bool:
    return data.exists() and not os.access(data, os.W_OK)


def _takes_locks(folder: Path) -> bool:
    """Whether readers can be seen; a read-only file system has no place for the lock file, and no
    writer."""
    return not _is_read_only(folder / "data.mdb") or os.access(folder, os.W_OK)


def _remove_unmade(data: Path) -> None:
    """Remove a file that was not made to the end of its two meta pages: nothing was ever committed
    to it."""
    with suppress(FileNotFoundError):
        if data.stat().st_size < 2 * 4096:
            data.unlink()


def _reserve(lock: Path) -> None:
    """Have room on the disk for LMDB's table of readers: it is mapped with holes, and to write into
    one on a full disk kills the process. To be called before LMDB opens the file: to close it, by
    any descriptor, would end LMDB's own locks on it."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        status = os.fstat(descriptor)
        # What is mapped elsewhere keeps its size: LMDB tells by that how many readers there can be.
        size = status.st_size or _LOCK_BYTES
        if status.st_blocks * 512 < size:
            os.posix_fallocate(descriptor, 0, size)
    finally:
        os.close(descriptor)


def _identity(data: Path) -> tuple[int, int] | None:
    """What tells a file from another that is later put in its place; None when there is none."""
    try:
        status = data.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _forked(what: str, opener: int) -> ForkedStoreError:
    return ForkedStoreError(
        what,
        expected=f"use in process {opener}, which opened it",
        got=f"process {os.getpid()}, forked from it",
        remedy="Open the index only after the fork, in each process, or start processes with the "
        "spawn method.",
    )


def _leave_to_parent() -> None:
    """In a forked child: forget what the parent has open, and let nothing end it."""
    for environment in Environment._alive:
        _inherited.extend([environment, *environment._views])
    Environment._open.clear()
    Environment._open_lock = threading.Lock()  # another thread may have held it


os.register_at_fork(after_in_child=_leave_to_parent)
