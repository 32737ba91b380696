"""Run by `test_damage`: flip a bit, or cut the file, and ask readers what they see.

    python -m tests.faults.flips INDEX FILE FLIPS CUTS VERIFIED SEED

Places are drawn from all of the file; of a store, a quarter of them from the first 64 bytes of its
pages, where LMDB keeps what it trusts, and a quarter from the page that names the databases, which
no checksum covers. `verify` is asked of every VERIFIED-th. Prints a line of JSON for each: the
place, what `verify` sees and what a reader sees: `found` where an error of ours says so, `same`
where all is as it was, `wrong` where it is not and nobody says so; and where the process died, that
and why.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

import numpy as np

from catalens import CatalensError, Query, Retriever
from indexer import IndexLayout, Store, verify_index
from indexer.sealing import Meta, Tree

from .forked import FailedError, preload, results_of

_PAGE = 4096


def flip(file: Path, place: int, bit: int) -> None:
    """Turn one bit over."""
    with file.open("r+b") as stream:
        stream.seek(place)
        value = stream.read(1)[0]
        stream.seek(place)
        stream.write(bytes([value ^ 1 << bit]))


def by_verify(index: Path) -> str:
    """`found` when verify sees damage, else a hash of all that the store holds."""
    try:
        return "found" if verify_index(index).problems else content(index)
    except CatalensError:
        return "found"


def content(index: Path) -> str:
    """A hash of every key and value of the store."""
    digest = hashlib.sha256()
    store = Store.open(IndexLayout(index))
    try:
        with store.view() as view:
            for database in view.databases():
                for key, value in view.scan(database):
                    digest.update(repr((database, key, value)).encode())
    finally:
        store.close()
    return digest.hexdigest()


def by_reader(index: Path) -> str:
    """`found` when opening or searching raises; else a hash of the answers. All rows, records,
    embeddings and postings are read."""
    answers: list[object] = []
    try:
        with Retriever.open(index, device="cpu") as shop:
            everything = Query(text="red green")
            answers.append(shop.search(everything, len(shop)))
            for where in ("number >= 0", "number < 7 and even = true", "words = 'red'"):
                answers.append(shop.search(everything, len(shop), where=where))
            answers.append(shop.search(everything, len(shop), where="not words in ('old', 'x')"))
            for hit in shop.search(everything, len(shop), explain=False):
                answers.append(shop.search(Query(like=hit.id), 3))
            answers.append(shop.fields())
        return hashlib.sha256(repr(answers).encode()).hexdigest()
    except CatalensError:
        return "found"


def names_page(file: Path) -> int:
    """Where the page of a store begins that names its databases."""
    with file.open("rb") as stream:
        latest = max(Meta.read(stream.fileno()), key=lambda meta: meta.transaction)
    return Tree.read(latest.main).root * _PAGE


class Flips:
    """An index, one of its files, and what is seen of it while it is sound."""

    def __init__(self, index: Path, file: Path, verified: int) -> None:
        self.index, self.file, self.verified = index, file, verified
        self.sound = file.read_bytes()
        self.known = {see: see(index) for see in (by_verify, by_reader)}
        assert "found" not in self.known.values()

    def tell(self, number: int, where: str) -> None:
        """Print what is seen now."""
        print(where, end="\t", flush=True)  # it is told where a process died
        told = {"where": where}
        for see, known in self.known.items():
            if see is by_reader or number % self.verified == 0:
                seen = see(self.index)
                told[see.__name__] = (
                    seen if seen == "found" else "same" if seen == known else "wrong"
                )
        print(json.dumps(told), flush=True)

    def damage(self, number: int, place: tuple[int, int | None]) -> None:
        """Turn one bit over, or cut the end off, and put back what was."""
        at, bit = place
        if bit is None:
            os.truncate(self.file, at)
            self.tell(number, f"cut to {at}")
            self.file.write_bytes(self.sound)
        else:
            flip(self.file, at, bit)
            self.tell(number, f"bit {bit} of byte {at}")
            flip(self.file, at, bit)


def run(index: Path, file: Path, verified: int, places: list[tuple[int, int | None]]) -> None:
    """In a child: damage each place."""
    flips = Flips(index, file, verified)
    for number, place in enumerate(places):
        flips.damage(number, place)


def main() -> None:
    """Do what the command line says."""
    index, file = Path(sys.argv[1]), Path(sys.argv[2])
    count, cuts, verified, seed = map(int, sys.argv[3:])
    preload()
    size, rng = file.stat().st_size, np.random.default_rng(seed)
    places: list[tuple[int, int | None]] = []
    names = names_page(file) if file.name == "data.mdb" else 0
    for number in range(count):
        place = int(rng.integers(size))
        if number % 4 == 3 and file.name == "data.mdb":
            place = names + int(rng.integers(_PAGE))
        elif number % 4 == 1 and size > 2 * _PAGE:
            place = place // _PAGE * _PAGE + int(rng.integers(64))
        places.append((place, int(rng.integers(8))))
    places += [(0, None), (size - 1, None)]
    places += [(kept, None) for kept in rng.integers(0, size, size=cuts - 2).tolist()]
    try:
        results_of([(run, (index, file, verified, places))], timeout=3600)
    except FailedError as error:
        print(json.dumps({"where": "the last", "died": str(error)}))


if __name__ == "__main__":
    main()
