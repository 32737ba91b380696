"""Run by `test_damage`: flip a bit, ask verify and a search what they see, flip it back.

    python -m tests.faults.flipper INDEX FILE [verified] < places

Reads one "byte bit" a line. Says "at ..." before each, so that a crash of the interpreter names
its place, and then what verify and a search saw, as two words. With `verified`, nothing is
searched that verify has found damaged.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from catalens import CatalensError, Query, Retriever
from indexer import IndexLayout, Store, verify_index
from tests import toy_encoders  # noqa: F401  (registers the kinds)


def by_verify(index: Path) -> str:
    """`found` when verify sees damage, `silent` when it does not."""
    try:
        return "found" if verify_index(index).problems else "silent"
    except CatalensError:
        return "found"


def by_search(index: Path) -> str:
    """`found` when opening or a search that reads every row raises; else a hash of the answer."""
    try:
        with Retriever.open(index, device="cpu") as retriever:
            hits = retriever.search(Query(text="red green"), len(retriever), where="number >= 0")
            hits += retriever.search(Query(like="item-1"), len(retriever) - 1)
        return hashlib.sha256(repr(hits).encode()).hexdigest()
    except CatalensError:
        return "found"


def content(index: Path) -> str:
    """A hash of all that the store holds, or `found`."""
    digest = hashlib.sha256()
    try:
        store = Store.open(IndexLayout(index))
        try:
            with store.view() as view:
                for database in view.databases():
                    for key, value in view.scan(database):
                        digest.update(repr((database, key, value)).encode())
        finally:
            store.close()
    except CatalensError:
        return "found"
    return digest.hexdigest()


def main() -> None:
    """Flip what standard input says."""
    index, file = Path(sys.argv[1]), Path(sys.argv[2])
    answer, held = by_search(index), content(index)
    for line in sys.stdin:
        place, bit = map(int, line.split())
        print("at", place, bit, flush=True)
        flip(file, place, bit)
        verify = by_verify(index)
        unasked = verify == "found" and "verified" in sys.argv
        search = "unasked" if unasked else by_search(index)
        if verify == "silent":
            verify = "same" if content(index) == held else "missed"
        if search not in ("found", "unasked"):
            search = "same" if search == answer else "wrong"
        flip(file, place, bit)
        print(verify, search, flush=True)


def flip(file: Path, place: int, bit: int) -> None:
    """Turn one bit over."""
    with file.open("r+b") as stream:
        stream.seek(place)
        value = stream.read(1)[0]
        stream.seek(place)
        stream.write(bytes([value ^ 1 << bit]))


if __name__ == "__main__":
    main()
