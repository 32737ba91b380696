"""LMDB made safe: growth, isolation, dropped databases, forks."""

from __future__ import annotations

import gc
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import lmdb
import pytest

from indexer import environment
from indexer.environment import Environment, WriteTransaction
from indexer.errors import CorruptIndexError, StoreFullError, StoreUnavailableError
from tests.processes import OPEN_STORE, run_python, start_python


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Environment]:
    env = Environment.acquire(tmp_path / "store", create=True)
    yield env
    env.release()


def put(env: Environment, database: str, pairs: dict[bytes, bytes]) -> None:
    def work(transaction: WriteTransaction) -> None:
        for key, value in pairs.items():
            transaction.put(database, key, value)

    env.write(work)


def everything(env: Environment, database: str) -> dict[bytes, bytes]:
    with env.view() as view:
        return dict(view.scan(database))


def test_what_is_written_is_read_as_a_dict_would(opened: Environment) -> None:
    pairs = {bytes([a, b]): bytes([b]) * a for a in range(40) for b in range(0, 256, 5)}
    put(opened, "db", pairs)
    with opened.view() as view:
        assert dict(view.scan("db")) == pairs
        assert [key for key, _ in view.scan("db")] == sorted(pairs)
        low, high = bytes([7, 9]), bytes([30])
        assert dict(view.scan("db", low, high)) == {
            k: v for k, v in pairs.items() if low <= k < high
        }
        keys = [b"\x03\x05", b"none", b"\x27\xff", b"\x03\x05"]
        assert view.get_many("db", keys) == [pairs.get(key) for key in keys]
        assert view.get("db", b"none") is None
        assert view.count("db") == len(pairs)
        assert view.get("no such", b"x") is None
        assert view.get_many("no such", [b"x"]) == [None]
        assert list(view.scan("no such")) == []
        assert view.count("no such") == 0


def test_scan_goes_on_over_slices(opened: Environment) -> None:
    pairs = {number.to_bytes(4): b"" for number in range(4096 * 2 + 3)}
    put(opened, "db", pairs)
    assert everything(opened, "db") == pairs


def test_map_grows_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "INITIAL_MAP_BYTES", 1 << 20)
    env = Environment.acquire(tmp_path / "store", create=True)
    try:
        pairs = {bytes([number]): os.urandom(100_000) for number in range(60)}
        put(env, "db", pairs)  # one transaction of six times the map
        more = {bytes([1, number]): os.urandom(100_000) for number in range(60)}
        for key, value in more.items():
            put(env, "db", {key: value})
        assert everything(env, "db") == pairs | more
    finally:
        env.release()


def test_map_does_not_grow_under_a_view(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "INITIAL_MAP_BYTES", 1 << 20)
    monkeypatch.setattr(environment, "_GROW_WAIT_SECONDS", 0.05)
    env = Environment.acquire(tmp_path / "store", create=True)
    try:
        put(env, "db", {b"small": b"x"})
        with env.view() as view:
            with pytest.raises(StoreFullError, match="1 open"):
                put(env, "db", {b"large": bytes(4 << 20)})
            assert view.get("db", b"small") == b"x"
        put(env, "db", {b"large": bytes(4 << 20)})
        assert set(everything(env, "db")) == {b"small", b"large"}
    finally:
        env.release()


def test_batch_that_raises_leaves_nothing(opened: Environment) -> None:
    put(opened, "db", {b"a": b"1"})

    def work(transaction: WriteTransaction) -> None:
        transaction.put("db", b"a", b"2")
        transaction.put("new", b"b", b"3")
        transaction.delete("db", b"a")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        opened.write(work)
    assert everything(opened, "db") == {b"a": b"1"}
    with opened.view() as view:
        assert view.databases() == ["db"]
    put(opened, "new", {b"b": b"4"})  # the handle made in the lost transaction died with it
    assert everything(opened, "new") == {b"b": b"4"}


def test_database_survives_a_dropping_batch_that_raises(opened: Environment) -> None:
    put(opened, "db", {b"a": b"1"})

    def work(transaction: WriteTransaction) -> None:
        transaction.drop("db")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        opened.write(work)
    assert everything(opened, "db") == {b"a": b"1"}


def test_database_survives_a_drop_that_is_tried_again_in_a_larger_map(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "INITIAL_MAP_BYTES", 1 << 20)
    env = Environment.acquire(tmp_path / "store", create=True)
    try:
        put(env, "db", {b"a": b"1"})

        def work(transaction: WriteTransaction) -> None:
            transaction.drop("db")
            transaction.put("db", b"large", bytes(4 << 20))

        env.write(work)
        assert everything(env, "db") == {b"large": bytes(4 << 20)}
    finally:
        env.release()


def test_view_reads_on_what_is_dropped_and_made_again(opened: Environment) -> None:
    before = {bytes([number]): b"old" for number in range(200)}
    put(opened, "read", before)
    put(opened, "unread", before)
    with opened.view() as view:
        assert view.get("read", b"\x01") == b"old"

        def drop(transaction: WriteTransaction) -> None:
            transaction.drop("read")
            transaction.drop("unread")

        opened.write(drop)
        put(opened, "other", {b"a": b"new"})
        put(opened, "read", {b"a": b"new"})
        for database in ("read", "unread"):
            assert dict(view.scan(database)) == before
        with opened.view() as after:
            assert dict(after.scan("read")) == {b"a": b"new"}
            assert after.count("unread") == 0
    opened.write(lambda transaction: transaction.drop("unread"))
    with opened.view() as view:
        assert view.databases() == ["other", "read"]


def test_hundreds_of_editions_fit_under_an_open_view(opened: Environment) -> None:
    put(opened, "db.0", {b"a": b"0"})
    with opened.view() as first:
        for number in range(1, 501):

            def work(transaction: WriteTransaction, number: int = number) -> None:
                for name in "abcdef":
                    transaction.put(f"{name}.{number}", b"a", b"%d" % number)

            opened.write(work)
        with opened.view() as last:
            assert last.get("f.500", b"a") == b"500"
        assert first.databases() == ["db.0"]


def test_one_database_too_many_is_our_error(opened: Environment) -> None:
    def work(transaction: WriteTransaction) -> None:
        for number in range(5000):
            transaction.put(f"db.{number}", b"a", b"")

    with pytest.raises(StoreUnavailableError, match="4,096 databases"):
        opened.write(work)


def test_view_that_was_not_closed_counts_until_it_is_collected(opened: Environment) -> None:
    put(opened, "db", {b"a": b"1"})
    view = opened.view()
    assert opened.has_views
    del view
    gc.collect()
    assert not opened.has_views
    assert opened._env.readers().count("\n") <= 2  # a header and at most a free slot


def test_deleted_store_is_not_written_to(tmp_path: Path) -> None:
    old = Environment.acquire(tmp_path / "store", create=True)
    put(old, "db", {b"a": b"old"})
    with old.view() as view:
        shutil.rmtree(tmp_path / "store")
        new = Environment.acquire(tmp_path / "store", create=True)
        put(new, "db", {b"a": b"new"})
        assert view.get("db", b"a") == b"old"
    old.release()
    again = Environment.acquire(tmp_path / "store")
    assert again is new
    again.release()
    new.release()
    done = run_python(OPEN_STORE, tmp_path / "store")
    assert done.stdout == "read 1\n"


def test_dropped_database_can_be_made_again(opened: Environment) -> None:
    put(opened, "db", {b"a": b"1"})
    opened.write(lambda transaction: transaction.drop("db"))
    with opened.view() as view:
        assert view.databases() == []
    put(opened, "db", {b"b": b"2"})
    assert everything(opened, "db") == {b"b": b"2"}


def test_view_keeps_its_snapshot_while_threads_write(opened: Environment) -> None:
    put(opened, "db", {bytes([n]): b"0" for n in range(200)})
    stop = threading.Event()
    torn: list[set[bytes]] = []

    def read() -> None:
        while not stop.is_set():
            with opened.view() as view:
                # Each commit writes one value everywhere: a view that sees two is torn.
                seen = {value for _, value in view.scan("db")}
                seen |= {view.get("db", bytes([n])) or b"" for n in range(0, 200, 17)}
            if len(seen) > 1:
                torn.append(seen)

    readers = [threading.Thread(target=read) for _ in range(4)]
    with opened.view() as first:
        for reader in readers:
            reader.start()
        for number in range(1, 60):
            put(opened, "db", {bytes([n]): b"%d" % number for n in range(200)})
        stop.set()
        for reader in readers:
            reader.join()
        assert {value for _, value in first.scan("db")} == {b"0"}
    assert torn == []
    assert set(everything(opened, "db").values()) == {b"59"}


WRITER = """
import sys
from pathlib import Path
from indexer.environment import Environment
env = Environment.acquire(Path(sys.argv[1]))
def work(transaction):
    for number in range(200):
        transaction.put("db", bytes([number]), line.encode())
    transaction.put("late", b"key", line.encode())
for line in map(str.strip, sys.stdin):
    env.write(work)
    print("done", flush=True)
"""


def test_view_keeps_its_snapshot_while_a_process_writes(tmp_path: Path) -> None:
    env = Environment.acquire(tmp_path / "store", create=True)
    put(env, "db", {bytes([n]): b"0" for n in range(200)})
    writer = start_python(WRITER, tmp_path / "store")
    assert writer.stdin and writer.stdout
    try:
        with env.view() as before:
            for number in (1, 2, 3):
                writer.stdin.write(f"{number}\n")
                writer.stdin.flush()
                assert writer.stdout.readline() == "done\n"
                assert {v for _, v in before.scan("db")} == {b"0"}
                assert before.databases() == ["db"]
                with env.view() as after:
                    assert {v for _, v in after.scan("db")} == {b"%d" % number}
                    assert after.get("late", b"key") == b"%d" % number
    finally:
        writer.communicate(timeout=30)
        env.release()
    assert writer.returncode == 0


def test_two_openings_share_one_map(tmp_path: Path) -> None:
    first = Environment.acquire(tmp_path / "store", create=True)
    (tmp_path / "link").symlink_to(tmp_path / "store")
    second = Environment.acquire(tmp_path / "link")
    assert second is first
    first.release()
    put(second, "db", {b"a": b"1"})  # still open: one of two was given back
    second.release()
    again = Environment.acquire(tmp_path / "store")
    assert again is not first
    assert everything(again, "db") == {b"a": b"1"}
    again.release()


FORK = """
import os, sys
from pathlib import Path
from indexer.environment import Environment
from indexer.errors import ForkedStoreError
folder = Path(sys.argv[1])
env = Environment.acquire(folder, create=True)
env.write(lambda t: t.put("db", b"a", b"1"))
view = env.view()
if os.fork() == 0:
    refused = 0
    for use in (lambda: view.get("db", b"a"), env.view, lambda: env.write(lambda t: None)):
        try:
            use()
        except ForkedStoreError as error:
            refused += str(os.getppid()) in str(error) and str(os.getpid()) in str(error)
    os._exit(0 if refused == 3 else 1)
_, status = os.wait()
print(status, view.get("db", b"a"))
"""

FORK_OPENS = """
import os, sys
from pathlib import Path
from indexer.environment import Environment
folder = Path(sys.argv[1])
env = Environment.acquire(folder, create=True)
env.write(lambda t: t.put("db", b"a", b"1"))
view = env.view()
if os.fork() == 0:
    del view
    fresh = Environment.acquire(folder)
    with fresh.view() as own:
        found = own.get("db", b"a")
    fresh.write(lambda t: t.put("db", b"b", b"2"))
    fresh.release()
    sys.exit(found != b"1")
_, status = os.wait()
with env.view() as after:
    print(status, after.get("db", b"b"))
"""


def test_forked_child_is_refused_by_name(tmp_path: Path) -> None:
    done = run_python(FORK, tmp_path / "store")
    assert (done.stdout, done.stderr) == ("0 b'1'\n", "")


def test_forked_child_can_open_afresh(tmp_path: Path) -> None:
    done = run_python(FORK_OPENS, tmp_path / "store")
    assert (done.stdout, done.stderr) == ("0 b'2'\n", "")


FORK_CLOSES = """
import gc, os, subprocess, sys
from pathlib import Path
from indexer.environment import Environment
folder = Path(sys.argv[1])
env = Environment.acquire(folder, create=True)
env.write(lambda t: t.put("db", b"a", b"1"))
view, unclosed = env.view(), env.view()
if os.fork() == 0:
    view.close()
    env.release()
    del view, unclosed, env
    gc.collect()
    sys.exit(0)
os.wait()
show = "import lmdb, sys; print(lmdb.open(sys.argv[1]).readers())"
shown = subprocess.run([sys.executable, "-c", show, sys.argv[1]], capture_output=True)
print(shown.stdout.decode())
"""


def test_child_that_closes_does_not_end_the_parents_view(tmp_path: Path) -> None:
    done = run_python(FORK_CLOSES, tmp_path / "store")
    slots = [line.split() for line in done.stdout.splitlines()[1:] if line.strip()]
    # pid, thread, transaction: a dash would let writers use the pages that the view still reads.
    assert [slot[2].isdigit() for slot in slots] == [True, True], done.stdout + done.stderr


def test_plain_lmdb_reads_what_is_written(opened: Environment, tmp_path: Path) -> None:
    put(opened, "db", {b"a": b"value"})
    code = (
        "import lmdb, sys; e = lmdb.open(sys.argv[1], max_dbs=4); d = e.open_db(b'db');"
        "print(e.begin(db=d).get(b'a')[:-4].decode())"
    )
    assert run_python(code, tmp_path / "store").stdout == "value\n"


def test_keys_that_lmdb_refuses_are_translated(opened: Environment) -> None:
    with pytest.raises(Exception) as raised:
        put(opened, "db", {b"k" * 600: b""})
    assert not isinstance(raised.value, lmdb.Error)


def test_a_file_that_ends_in_free_pages_is_no_damage(tmp_path: Path) -> None:
    """LMDB writes no page that one transaction appends and frees, so a file may end before its last
    page. Which transactions do is LMDB's secret: here the pages are taken away."""
    folder, data = tmp_path / "store", tmp_path / "store" / "data.mdb"
    env = Environment.acquire(folder, create=True)
    env.write(lambda t: [t.put("a", b"%06d" % n, bytes(100)) for n in range(2000)])
    env.write(lambda t: [t.put("b", b"%06d" % n, bytes(100)) for n in range(9000)])
    env.write(lambda t: t.drop("b"))
    for _ in range(8):  # what the drop itself wrote moves into the free pages
        env.write(lambda t: t.put("a", b"000000", bytes(100)))
    full = data.stat().st_size
    env.release()
    os.truncate(data, full - 100 * 4096)
    again = Environment.acquire(folder)
    with again.view() as view:
        assert len(list(view.scan("a"))) == 2000
    assert again.page_problems() == []
    again.write(lambda t: t.put("c", b"k", b"v"))
    assert data.stat().st_size >= full  # filled up
    with again.view() as view:
        assert len(list(view.scan("a"))) == 2000 and view.get("c", b"k") == b"v"
    again.release()
    os.truncate(data, 40 * 4096)
    with pytest.raises(CorruptIndexError, match="cut"):
        Environment.acquire(folder)
