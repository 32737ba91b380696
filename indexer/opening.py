"""Opening what an index names current, while a build may publish and sweep."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from encoders.errors import CatalensError

from .durable import translated_os_errors
from .layout import IndexLayout
from .snapshot import Snapshot
from .store import Store

T = TypeVar("T")

_TRIES = 10


def open_latest(layout: IndexLayout, opener: Callable[[Snapshot], T]) -> tuple[Store, Snapshot, T]:
    """Open the store, take a snapshot, and open what the snapshot names with `opener`.

    A build may publish another generation, and sweep this one, between the two steps: then both
    are done again. The caller closes the snapshot, then the store.

    Raises:
        NotAnIndexError: there is no finished index.
        CorruptIndexError: the store is damaged, or what it still names current is.
        StoreUnavailableError: a file may not be read.
    """
    with translated_os_errors(f"index {layout.root}"):
        return _open_latest(layout, opener)


def _open_latest(layout: IndexLayout, opener: Callable[[Snapshot], T]) -> tuple[Store, Snapshot, T]:
    store = Store.open(layout)
    try:
        for attempt in range(_TRIES):
            snapshot = store.snapshot()
            try:
                return store, snapshot, opener(snapshot)
            except BaseException as error:
                snapshot.close()
                swept = isinstance(error, CatalensError | OSError)
                if attempt == _TRIES - 1 or not swept or not store.has_moved_on(snapshot.current):
                    raise
        raise AssertionError("unreachable")
    except BaseException:
        store.close()
        raise
