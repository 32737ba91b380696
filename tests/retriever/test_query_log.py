"""The query log: what is written and what is not, crashes, and the join with clicks."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from catalens import Query, Retriever, join_clicks, read_topics
from retriever.errors import ClicksError, QueryError, QueryLogError
from retriever.query_log import QueryLog, read_log
from tests.processes import run_python
from tests.retriever import judged


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return judged.build(tmp_path_factory.mktemp("log") / "index", judged.rows(60))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_nothing_is_logged_unless_asked(index: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in index.rglob("*") if path.is_file()}
    with Retriever.open(index) as shop:
        shop.search(Query(text="red"), 3)
    after = {path: path.stat().st_mtime_ns for path in index.rglob("*") if path.is_file()}
    lock = index / "store" / "lock.mdb"  # where LMDB notes its readers
    assert before.pop(lock) and after.pop(lock) and before == after


def test_queries_and_shown_hits_are_appended(index: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    with Retriever.open(index, log=log) as shop:
        hits = shop.search(Query(text=("red green", 2.0)), 3, name="s1", where="price >= 0")
        shop.search_many([Query(like="item-3"), Query(text="old")], 2)
        with pytest.raises(QueryError, match="one for each"):
            shop.search_many([Query(text="old")], 2, names=["a", "b"])
    first, second, third = lines(log)
    assert first["search"] == "s1" and first["shown"] == [hit.id for hit in hits]
    assert first["parts"] == [{"kind": "text", "weight": 2.0, "text": "red green"}]
    assert first["where"] == "price >= 0"
    assert second["parts"][0]["item"] == "item-3"
    assert len({second["search"], third["search"]}) == 2
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    with Retriever.open(index, log=log) as shop:
        shop.search(Query(text="new"), 1)
    assert len(lines(log)) == 4


def test_media_and_vectors_are_not_kept(tmp_path: Path) -> None:
    log = QueryLog(tmp_path / "log")
    query = Query(image=b"secret picture", vector=[1.0, 2.0], text="ok")
    log.append([query], [[]], None)
    log.close()
    log.close()
    (line,) = lines(tmp_path / "log")
    assert [part["kind"] for part in line["parts"]] == ["text", "image", "vector"]
    assert "secret" not in json.dumps(line) and "0.4" not in json.dumps(line)


def test_a_line_cut_by_a_crash_costs_itself_alone(index: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with Retriever.open(index, log=log) as shop:
        shop.search(Query(text="red"), 1, name="a")
    log.write_bytes(log.read_bytes() + b'{"search": "cut", "par')
    with Retriever.open(index, log=log) as shop:
        shop.search(Query(text="red"), 1, name="b")
    found = list(read_log(log))
    assert [one and one.name for one in found] == ["a", None, "b"]


def test_a_full_disk_stops_no_search(index: Path) -> None:
    with Retriever.open(index, log="/dev/full") as shop:
        with pytest.warns(UserWarning, match="No space left"):
            assert len(shop.search(Query(text="red"), 2)) == 2
        assert len(shop.search(Query(text="red"), 2)) == 2
    with pytest.raises(QueryLogError, match="expected"):
        Retriever.open(index, log="/nowhere/log")


WRITER = """
import sys
from retriever import Query
from retriever.query_log import QueryLog
log = QueryLog(sys.argv[1])
for n in range(200):
    log.append([Query(text="x" * 3000)], [[]], None, [f"{sys.argv[2]}-{n}"])
"""


def test_processes_share_a_log(tmp_path: Path) -> None:
    import threading

    log = tmp_path / "log"
    workers = [threading.Thread(target=run_python, args=(WRITER, log, name)) for name in ("a", "b")]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    names = [one.name for one in read_log(log) if one is not None]
    assert sorted(names) == sorted(f"{name}-{n}" for name in "ab" for n in range(200))


def write_clicks(path: Path, clicks: list[tuple[str, str]]) -> Path:
    rows = [json.dumps({"search": search, "item": item}) for search, item in clicks]
    path.write_text("\n".join(rows) + "\n")
    return path


def test_clicks_become_judgements(index: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with Retriever.open(index, log=log) as shop:
        one = shop.search(Query(text="red green"), 5, name="1")
        two = shop.search(Query(text=" Red  GREEN"), 5, name="2")
        shop.search(Query(like="item-3"), 5, name="3")
    with log.open("ab") as file:
        file.write(b"broken\n")
    clicks = write_clicks(
        tmp_path / "clicks",
        [
            ("1", one[0].id),
            ("1", one[0].id),
            ("1", one[2].id),
            ("2", two[2].id),
            ("1", "item-999"),
            ("3", "item-4"),
            ("none", "item-4"),
        ],
    )
    summary = join_clicks(log, clicks, tmp_path / "j.jsonl")
    assert (summary.queries, summary.clicks, summary.not_shown) == (1, 3, 1)
    assert (summary.unknown_searches, summary.unread) == (2, 1)
    (topic,) = read_topics(tmp_path / "j.jsonl")
    assert topic.text == "red green" and set(topic.grades) == {one[0].id, one[2].id}
    join_clicks(log, clicks, tmp_path / "twice.jsonl", least=2)
    assert set(read_topics(tmp_path / "twice.jsonl")[0].grades) == {one[2].id}
    with pytest.raises(ClicksError, match="a new file"):
        join_clicks(log, clicks, tmp_path / "j.jsonl")
    with pytest.raises(ClicksError, match="at least 3 times"):
        join_clicks(log, clicks, tmp_path / "k.jsonl", least=3)
    assert not (tmp_path / "k.jsonl").exists()


@pytest.mark.parametrize(
    "line", [b"x", b"[]", b'{"search": 1, "item": "a"}', b'{"item": "a"}', b"3"]
)
def test_clicks_that_do_not_read(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "clicks").write_bytes(b'{"search": "1", "item": "a"}\n' + line + b"\n")
    (tmp_path / "log").write_bytes(b"")
    with pytest.raises(ClicksError, match="line 2"):
        join_clicks(tmp_path / "log", tmp_path / "clicks", tmp_path / "out")
    with pytest.raises(QueryLogError):
        list(read_log(tmp_path / "none"))
