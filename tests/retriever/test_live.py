"""Fresh rows and dead ones: what a search returns is what an exact scan of all that live says."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from catalens import CatalensError, Hit, Query, Retriever, Writer
from indexer import verify_index
from retriever.errors import InvalidKError, RetrieverClosedError, UnknownItemError
from retriever.filters import parse
from retriever.predicates import matches
from tests.catalogs import build_toy, build_vectors, clustered, toy_preset, toy_rows
from tests.processes import start_python

N, D = 3000, 16


class Shop:
    """An index of ready-made vectors, a dict that says what must be in it, and a scan of that."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rng = np.random.default_rng(7)
        x = clustered(N, D)
        self.vectors = {f"v{n}": x[n] for n in range(N)}
        self.metadata: dict[str, dict[str, Any]] = {
            f"v{n}": {"number": n, "odd": False} for n in range(N)
        }
        build_vectors(path, x, number=range(N), odd=[False] * N)

    def row(self, item: str) -> dict[str, Any]:
        return {"id": item, "v": self.vectors[item], **self.metadata[item]}

    def put(self, *items: str) -> list[dict[str, Any]]:
        """New content and metadata for items, old or new."""
        x = clustered(len(items), D, seed=int(self.rng.integers(1 << 30)))
        for item, vector in zip(items, x, strict=True):
            self.vectors[item] = vector
            self.metadata[item] = {"number": int(self.rng.integers(N)), "odd": True}
        return [self.row(item) for item in items]

    def drop(self, *items: str) -> list[str]:
        for item in items:
            del self.vectors[item], self.metadata[item]
        return list(items)

    def change(self, *, add: int, update: int, delete: int) -> None:
        """Commit so many changes."""
        old = [str(item) for item in self.rng.permutation(sorted(self.vectors))]
        new = [f"n{self.rng.integers(1 << 60)}" for _ in range(add)]
        with Writer.open(self.path) as writer:
            writer.delete(self.drop(*old[:delete]))
            if add or update:
                writer.update(self.put(*old[delete : delete + update], *new), upsert=True)

    def check(self, shop: Retriever, *, k: int = 10, count: int = 40) -> None:
        """Exact searches return what a scan of the dict does."""
        ids = list(self.vectors)
        x = np.stack([self.vectors[item] for item in ids]).astype(np.float64)
        assert len(shop) == len(ids)
        queries = self.rng.standard_normal((count, D))
        queries /= np.linalg.norm(queries, axis=1, keepdims=True)
        asked = [Query(vector=query) for query in queries]
        for hits, q in zip(shop.search_many(asked, k, recall=1.0), queries, strict=True):
            self.compare(hits, ids, x @ q, k)
        where = "number < 900 and not (odd = true and number < 300)"
        passing = [matches(parse(where), self.metadata[item]) for item in ids]
        kept = [item for item, here in zip(ids, passing, strict=True) if here]
        for hits, q in zip(
            shop.search_many(asked, k, where=where, recall=1.0), queries, strict=True
        ):
            self.compare(hits, kept, x[passing] @ q, k)

    def compare(self, hits: list[Hit], ids: list[str], scores: Any, k: int) -> None:
        wanted = np.sort(scores)[::-1][:k]
        known = dict(zip(ids, scores, strict=True))
        found = [known[hit.id] for hit in hits]  # a dead one is a KeyError
        assert len({hit.id for hit in hits}) == len(wanted)
        # Rows are rounded to half precision, so near ties may change places.
        assert found == pytest.approx(wanted, abs=2e-3)
        for hit in hits:
            assert hit.metadata == self.metadata[hit.id]
            assert hit.spaces["vector"].similarity == pytest.approx(known[hit.id], abs=2e-3)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path / "index")


@pytest.mark.parametrize(
    ("add", "update", "delete"), [(200, 0, 0), (0, 200, 0), (0, 0, 300), (150, 100, 250)]
)
def test_searches_are_those_of_a_scan(shop: Shop, add: int, update: int, delete: int) -> None:
    shop.change(add=add, update=update, delete=delete)
    with Retriever.open(shop.path) as retriever:
        shop.check(retriever)
    assert verify_index(shop.path).problems == []


def test_a_default_search_finds_what_it_did(shop: Shop) -> None:
    """Recall at the index's own point is not lost to dead rows, wherever they lie."""
    near = np.argsort(-(np.stack(list(shop.vectors.values())) @ shop.vectors["v5"]))[:400]
    with Writer.open(shop.path) as writer:
        writer.delete(shop.drop(*(f"v{n}" for n in near if n != 5)))
    shop.change(add=100, update=0, delete=0)
    ids = list(shop.vectors)
    x = np.stack([shop.vectors[item] for item in ids])
    queries = x[::60] + 0.05 * shop.rng.standard_normal((len(x[::60]), D)).astype(np.float32)
    with Retriever.open(shop.path) as retriever:
        found = retriever.search_many([Query(vector=q) for q in queries], 10)
    recalls = [
        len({hit.id for hit in hits} & {ids[n] for n in np.argsort(-(x @ q))[:10]}) / 10
        for hits, q in zip(found, queries, strict=True)
    ]
    assert all(len(hits) == 10 for hits in found)
    assert np.mean(recalls) > 0.95, np.mean(recalls)  # usually 0.98


def test_a_batch_answers_as_single_searches_do(shop: Shop) -> None:
    shop.change(add=100, update=50, delete=100)
    queries = [Query(vector=q) for q in shop.rng.standard_normal((30, D))]
    with Retriever.open(shop.path) as retriever:
        together = retriever.search_many(queries, 7)
        assert together == [retriever.search(query, 7) for query in queries]
        bare = retriever.search_many(queries, 7, explain=False)
        assert [[(h.id, h.score) for h in one] for one in bare] == [
            [(h.id, h.score) for h in one] for one in together
        ]


def test_k_up_to_all_that_live(shop: Shop) -> None:
    shop.change(add=20, update=20, delete=60)
    with Retriever.open(shop.path) as retriever:
        hits = retriever.search(Query(vector=np.ones(D)), len(shop.vectors))
        assert {hit.id for hit in hits} == set(shop.vectors)
        assert [hit.score for hit in hits] == sorted((h.score for h in hits), reverse=True)
        with pytest.raises(InvalidKError, match=str(len(shop.vectors))):
            retriever.search(Query(vector=np.ones(D)), len(shop.vectors) + 1)


def test_only_fresh_ones_left(shop: Shop) -> None:
    with Writer.open(shop.path) as writer:
        writer.delete(shop.drop(*list(shop.vectors)))
        writer.add(shop.put("a", "b", "c"))
    with Retriever.open(shop.path) as retriever:
        assert len(retriever) == 3
        assert {hit.id for hit in retriever.search(Query(like="b"))} == {"a", "c"}
        assert {h.id for h in retriever.search(Query(vector=np.ones(D)))} == {"a", "b", "c"}
        assert len(retriever.search(Query(vector=np.ones(D)), 2, where="odd = true")) == 2


def test_liked_items_are_fresh_old_or_gone(shop: Shop) -> None:
    with Writer.open(shop.path) as writer:
        writer.add(shop.put("new"))
        writer.update(shop.put("v1"))
        writer.delete(shop.drop("v2"))
    with Retriever.open(shop.path) as retriever:
        for item in ("new", "v1", "v3"):
            hits = retriever.search(Query(like=item), 5, recall=1.0)
            assert item not in {hit.id for hit in hits}
            scores = {i: float(v @ shop.vectors[item]) for i, v in shop.vectors.items()}
            del scores[item]
            best = sorted(scores.values(), reverse=True)[:5]
            assert [scores[hit.id] for hit in hits] == pytest.approx(best, abs=2e-3)
            similar = [hit.spaces["vector"].similarity for hit in hits]
            assert similar == pytest.approx(best, abs=2e-3)
        mixed = retriever.search(Query(like=["new", "v3"], unlike="v1"), 5)
        assert not {hit.id for hit in mixed} & {"new", "v3", "v1"}
        with pytest.raises(UnknownItemError):
            retriever.search(Query(like="v2"), 5)


def test_refresh_moves_on_and_tells(shop: Shop) -> None:
    with Retriever.open(shop.path) as retriever, Retriever.open(shop.path) as other:
        assert retriever.refresh() is False
        for number in range(3):
            shop.change(add=20, update=10, delete=10)
            assert len(other) == N
            assert retriever.refresh() is True
            assert retriever.refresh() is False
            shop.check(retriever, count=5)
            with Writer.open(shop.path) as writer:
                row = {**shop.row("v7"), "number": number, "name": "seven"}
                shop.metadata["v7"] = {k: v for k, v in row.items() if k not in ("id", "v")}
                writer.update([row])
            assert retriever.refresh() is True
            shop.check(retriever, count=5)
        assert "v7" in other._view.snapshot.records([7])[0].id
        assert len(other.search(Query(like="v7"), 5)) == 5
        assert other.refresh() is True
        shop.check(other)
    with pytest.raises(RetrieverClosedError):
        retriever.refresh()


def test_refresh_moves_on_to_another_build(tmp_path: Path) -> None:
    build_toy(tmp_path / "index", toy_rows(20))
    with Retriever.open(tmp_path / "index", device="cpu") as shop:
        assert shop.search(Query(text="red"), 3)
        loaded = shop._view.encoder
        build_toy(tmp_path / "index", toy_rows(25))
        assert shop.refresh() and len(shop) == 25
        assert shop._view.encoder is loaded  # what is loaded already is kept
        build_toy(tmp_path / "index", toy_rows(9), preset=toy_preset(dimension=20))
        assert shop.refresh() and len(shop) == 9
        assert len(shop.search(Query(text="red"), 9)) == 9


def test_searches_go_on_while_it_refreshes(shop: Shop) -> None:
    stop, errors = threading.Event(), []
    with Retriever.open(shop.path) as retriever:

        def search() -> None:
            rng = np.random.default_rng(threading.get_ident() % 1000)
            while not stop.is_set():
                try:
                    hits = retriever.search(Query(vector=rng.standard_normal(D)), 10)
                    assert len({hit.id for hit in hits}) == 10
                    retriever.search(Query(like=hits[0].id), 3, where="number < 2000")
                except UnknownItemError:
                    pass  # it was deleted between the two
                except BaseException as error:
                    errors.append(error)
                    raise

        threads = [threading.Thread(target=search) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(15):
                shop.change(add=30, update=30, delete=30)
                retriever.refresh()
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert not errors
        shop.check(retriever)


def test_a_refresh_waits_for_no_search_and_ends_none(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search that began before it goes on in the state that it began in, and then lets go."""
    began, goes_on = threading.Event(), threading.Event()
    with Retriever.open(shop.path) as retriever, ThreadPoolExecutor(1) as pool:
        before = retriever._view
        search = before.live.search

        def slowly(*arguments: Any) -> Any:
            began.set()
            assert goes_on.wait(30)
            return search(*arguments)

        monkeypatch.setattr(before.live, "search", slowly)
        running = pool.submit(retriever.search, Query(like="v5"), 10)
        assert began.wait(30)
        with Writer.open(shop.path) as writer:
            writer.delete(shop.drop("v5"))
        assert retriever.refresh()
        with pytest.raises(UnknownItemError):
            retriever.search(Query(like="v5"), 10)
        goes_on.set()
        assert len(running.result()) == 10
        assert before._holders == 0


READER = """
import sys
from catalens import Query, Retriever
with Retriever.open(sys.argv[1]) as shop:
    for line in sys.stdin:
        if line == "refresh\\n":
            print(shop.refresh(), flush=True)
        else:
            hits = shop.search(Query(like="v5"), len(shop) - 1)
            print(len(shop), len({hit.id for hit in hits}), flush=True)
"""


def test_other_processes_keep_their_snapshot(shop: Shop) -> None:
    reader = start_python(READER, shop.path)
    assert reader.stdin and reader.stdout

    def ask(word: str) -> str:
        assert reader.stdin and reader.stdout
        reader.stdin.write(word + "\n")
        return reader.stdout.readline().strip()

    try:
        assert ask("search") == f"{N} {N - 1}"
        shop.put("v5")
        with Writer.open(shop.path) as writer:
            writer.add(shop.put("a", "b"))
            writer.delete(shop.drop("v9"))
        assert ask("search") == f"{N} {N - 1}"
        assert ask("refresh") == "True"
        assert ask("refresh") == "False"
        assert ask("search") == f"{N + 1} {N}"
    finally:
        _, errors = reader.communicate(timeout=60)
    assert reader.returncode == 0, errors


@pytest.fixture(params=["neutral", "impute", "renormalise", "drop"])
def policy(request: pytest.FixtureRequest) -> Iterator[str]:
    yield request.param


def test_policies_and_explanations_of_fresh_rows(tmp_path: Path, policy: str) -> None:
    """A row that was added scores as it does in an index built with the same means."""
    rows = toy_rows(60)
    build_toy(tmp_path / "index", rows, missing=policy)
    changed = [*rows[:6], {**rows[8], "id": "twin-8"}, {**rows[9], "id": "twin-9"}]
    with Writer.open(tmp_path / "index", device="cpu") as writer:
        writer.delete([row["id"] for row in rows[:6]])
        writer.commit()
        writer.update(changed, upsert=True)
        assert writer.commit().fresh == 8
    assert verify_index(tmp_path / "index").problems == []
    with Retriever.open(tmp_path / "index", device="cpu") as shop:
        for query in (
            Query(text=rows[8]["text"], image=rows[7]["image"]),
            Query(text="red old", weights={"image": 2.0}),
            Query(like="item-1", unlike="item-2"),
        ):
            hits = {hit.id: hit for hit in shop.search(query, len(shop) - 2)}
            for item in ("8", "9"):
                if f"item-{item}" not in hits:
                    assert policy == "drop" and f"twin-{item}" not in hits
                    continue
                old, new = hits[f"item-{item}"], hits[f"twin-{item}"]
                assert new.score == pytest.approx(old.score, abs=2e-3)
                for name, match in old.spaces.items():
                    assert new.spaces[name].present == match.present
                    assert new.spaces[name].imputed == match.imputed
                    assert new.spaces[name].contribution == pytest.approx(
                        match.contribution, abs=2e-3
                    )
                total = sum(match.contribution for match in new.spaces.values())
                assert new.score == pytest.approx(total, abs=1e-4)


def test_most_similar_inputs_of_fresh_rows(tmp_path: Path) -> None:
    preset = toy_preset()
    preset["spaces"][1]["pool"] = "max-similarity"
    rows = toy_rows(30)
    build_toy(tmp_path / "index", rows, preset=preset)
    with Writer.open(tmp_path / "index", device="cpu") as writer:
        writer.add([{"id": "two", "image": [rows[1]["image"], rows[2]["image"]]}])
    with Retriever.open(tmp_path / "index", device="cpu") as shop:
        (hit,) = (h for h in shop.search(Query(image=rows[2]["image"]), 31) if h.id == "two")
        assert hit.spaces["colours"].similarity == pytest.approx(1.0, abs=1e-3)


def test_an_index_that_lacks_a_fresh_vector_is_refused(shop: Shop) -> None:
    from indexer import IndexLayout
    from indexer.environment import Environment

    shop.change(add=3, update=0, delete=2)
    env = Environment.acquire(IndexLayout(shop.path).store)
    try:
        env.write(lambda t: t.put("fresh.1", N.to_bytes(4, "big"), b"short"))
        with pytest.raises(CatalensError, match="fresh"):
            Retriever.open(shop.path)
        assert any("fresh" in problem for problem in verify_index(shop.path).problems)
        env.write(lambda t: t.delete("fresh.1", N.to_bytes(4, "big")))
        assert verify_index(shop.path).problems
    finally:
        env.release()
