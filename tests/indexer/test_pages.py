"""Pages of the store, checked as views come by them: sound ones pass, flipped ones do not."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from indexer.environment import Environment, WriteTransaction
from indexer.errors import CorruptIndexError

Content = dict[str, dict[bytes, bytes]]


def changes(rng: random.Random, known: Content) -> Callable[[WriteTransaction], None]:
    """Many puts, rewrites and deletes, kept in `known` too; values from nothing to many pages."""
    steps: list[tuple[str, bytes, bytes | None]] = []
    for _ in range(rng.choice([1, 30, 400])):
        database = rng.choice(["small", "rows", "large"])
        held = known.setdefault(database, {})
        if held and rng.random() < rng.choice([0.3, 0.6]):
            key = rng.choice(list(held))
            if rng.random() < 0.7:
                del held[key]
                steps.append((database, key, None))
                continue
        elif database == "rows":
            key = rng.randrange(3000).to_bytes(4, "big")
        else:
            key = rng.randbytes(rng.choice([1, 2, 16, 300, 480]))
        most = {"small": 40, "rows": 400, "large": 9000}[database]
        held[key] = rng.randbytes(rng.randrange(most))
        steps.append((database, key, held[key]))

    def work(transaction: WriteTransaction) -> None:
        for database, key, value in steps:
            if value is None:
                transaction.delete(database, key)
            else:
                transaction.put(database, key, value)

    return work


@pytest.mark.parametrize("seed", range(6))
def test_no_sound_page_is_refused(tmp_path: Path, seed: int) -> None:
    rng, known = random.Random(seed), Content()
    env = Environment.acquire(tmp_path / "store", create=True)
    for _ in range(40):
        env.write(changes(rng, known))
        if rng.random() < 0.1:
            database = rng.choice(list(known))
            env.write(lambda transaction, name=database: transaction.drop(name))
            del known[database]
        with env.view() as view:
            for database, held in known.items():
                assert dict(view.scan(database)) == held
                some = rng.sample(sorted(held), min(len(held), 20))
                assert view.get_many(database, some) == [held[key] for key in some]
                for key in [rng.randbytes(rng.choice([1, 4, 200])) for _ in range(20)]:
                    assert view.get(database, key) == held.get(key)
                low, high = sorted(rng.randbytes(2) for _ in range(2))
                wanted = {key: value for key, value in held.items() if low <= key < high}
                assert dict(view.scan(database, low, high)) == wanted
                assert view.last(database) == max(held, default=None)
    env.release()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A tree of three levels, another of two, and values on pages of their own."""
    env = Environment.acquire(tmp_path / "store", create=True)
    env.write(
        lambda t: [
            *(t.put("long", b"%0300d" % n, b"%d" % n) for n in range(1500)),
            *(t.put("rows", n.to_bytes(4, "big"), bytes(150)) for n in range(900)),
            *(t.put("large", b"%d" % n, bytes(9000)) for n in range(10)),
        ]
    )
    env.release()
    return tmp_path / "store"


def everything(folder: Path) -> dict[str, dict[bytes, bytes | None]] | str:
    """All that is in a store, by scans and by look-ups of what is there and what is not."""
    keys = {
        "long": [b"%0300d" % n for n in range(0, 1500, 7)] + [b"%0300d5" % n for n in range(1500)],
        "rows": [n.to_bytes(4, "big") for n in range(0, 1000)],
        "large": [b"%d" % n for n in range(0, 20)],
    }
    try:
        env = Environment.acquire(folder)
        try:
            with env.view() as view:
                found = {f"scan {name}": dict(view.scan(name)) for name in keys}
                found |= {
                    f"get {name}": {k: view.get(name, k) for k in keys[name]} for name in keys
                }
                found["names"] = dict.fromkeys(map(str.encode, view.databases()))
                found["counts"] = {name.encode(): b"%d" % view.count(name) for name in keys}
                return found
        finally:
            env.release()
    except CorruptIndexError:
        return "found"


def in_child(folder: Path) -> str:
    """What a forked child makes of a store; `crash` where it dies."""
    child = os.fork()
    if child == 0:
        found = everything(folder)
        os._exit(3 if found == "found" else 4 if found == SOUND else 5)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return {3: "found", 4: "same", 5: "wrong"}.get(code, f"crash {code}")


SOUND: object = None


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_no_flipped_bit_crashes_or_lies(store: Path) -> None:
    """Headers, pointers and the heads of nodes, where LMDB trusts."""
    global SOUND
    SOUND = everything(store)
    assert SOUND != "found"
    data = store / "data.mdb"
    pages, rng = data.stat().st_size // 4096, random.Random(4)
    bad = []
    seen = {"found": 0, "same": 0}
    for _ in range(150):
        place = rng.randrange(2, pages) * 4096 + rng.choice(
            [rng.randrange(64), rng.randrange(4096)]
        )
        bit = rng.randrange(8)
        flip(data, place, bit)
        told = in_child(store)
        flip(data, place, bit)
        if told not in seen:
            bad.append((place // 4096, place % 4096, bit, told))
        seen[told] = seen.get(told, 0) + 1
    assert bad == []
    assert seen["found"] > 25 and seen["same"] > 10


def flip(file: Path, place: int, bit: int) -> None:
    with file.open("r+b") as stream:
        stream.seek(place)
        value = stream.read(1)[0]
        stream.seek(place)
        stream.write(bytes([value ^ 1 << bit]))
