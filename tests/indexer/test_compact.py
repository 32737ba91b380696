"""Compaction: what it folds in and drops, who goes on meanwhile, and which folders it leaves."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from catalens import CatalensError, Query, Retriever, Writer, rebuild_index, tune_index
from indexer import Generation, IndexLayout, Store, verify_index
from indexer.errors import EmptyIndexError
from tests.catalogs import Opened, build_toy, build_vectors, clustered, toy_rows, vector_rows
from tests.processes import start_python
from tests.stopping import StopAfter, StoppedError

N, D = 2000, 16


@pytest.fixture
def index(tmp_path: Path) -> Path:
    build_vectors(tmp_path / "index", clustered(N, D), number=range(N))
    return tmp_path / "index"


def change(index: Path) -> None:
    """50 items more, 10 of other content, 30 fewer."""
    x = np.random.default_rng(1).standard_normal((N + 50, D)).astype(np.float32)
    rows = list(vector_rows(x, number=range(N + 50)))
    with Writer.open(index) as writer:
        writer.add(rows[N:])
        writer.update(rows[:10])
        writer.delete([f"v{n}" for n in range(100, 130)])


def answers(index: Path) -> list[list[float]]:
    """How similar the best are: near ties may change places."""
    queries = [Query(vector=q) for q in np.random.default_rng(2).standard_normal((20, D))]
    with Retriever.open(index) as shop:
        return [
            [hit.spaces["vector"].similarity or 0.0 for hit in hits]
            for hits in shop.search_many(queries, 5, recall=1.0)
        ]


def like_v7(shop: Retriever) -> list[str]:
    return [hit.id for hit in shop.search(Query(like="v7"), 10)]


def folders(index: Path) -> list[str]:
    return sorted(path.name for path in IndexLayout(index).generations.iterdir())


def test_answers_stay_and_nothing_is_left_over(index: Path) -> None:
    change(index)
    before = answers(index)
    with Writer.open(index) as writer:
        summary = writer.compact()
        assert (summary.items, summary.folded, summary.dropped) == (N + 20, 60, 40)
        assert writer.compact().folded == 0  # and no generation is made for nothing
        # Without a build the writer goes on in what it has made.
        writer.add([{"id": "later", "v": np.ones(D)}])
        assert writer.commit().items == N + 21
    assert folders(index) == ["000002"]
    assert np.allclose(answers(index), before, atol=2e-3)
    store = Store.open(IndexLayout(index))
    with store.snapshot() as snapshot:
        assert snapshot.uncompacted() == (1, 0) and snapshot.next_row == N + 61
    store.close()
    assert verify_index(index).problems == []
    assert len(Opened(index).rows) == N + 20


def test_what_is_not_committed_waits(index: Path) -> None:
    change(index)
    with Writer.open(index) as writer:
        writer.add([{"id": "a", "v": np.ones(D)}])
        assert writer.compact().items == N + 20
        with Retriever.open(index) as shop:
            assert len(shop) == N + 20
        assert writer.commit().added == 1


def test_readers_go_on_and_refresh(index: Path) -> None:
    change(index)
    with Retriever.open(index) as old, Retriever.open(index) as other:
        before = like_v7(old)
        with Writer.open(index) as writer:
            writer.compact()
            writer.delete(["v7"])
        assert like_v7(old) == before
        assert old.refresh() and len(old) == N + 19
        with pytest.raises(CatalensError, match="'v7'"):
            like_v7(old)
        assert like_v7(other) == before


def test_folders_go_when_no_reader_holds_them(index: Path) -> None:
    def compact() -> None:
        change_one(index)
        with Writer.open(index) as writer:
            writer.compact()

    first = Retriever.open(index)
    compact()
    assert folders(index) == ["000001", "000002"]
    second = Retriever.open(index)
    compact()
    assert folders(index) == ["000001", "000002", "000003"]
    assert first.refresh()
    compact()
    assert folders(index) == ["000002", "000003", "000004"]
    first.close()
    second.close()
    with Writer.open(index):
        pass
    assert folders(index) == ["000004"]
    tune_index(index, device="cpu")  # a tuned generation shares files, not the hold
    assert folders(index) == ["000005"]
    assert verify_index(index).problems == []


def change_one(index: Path) -> None:
    with Writer.open(index) as writer:
        writer.update([{"id": "v1", "v": np.random.default_rng().standard_normal(D)}])


READER = """
import sys
from catalens import Query, Retriever
shop = Retriever.open(sys.argv[1])
print(len(shop), flush=True)
for line in sys.stdin:
    print(len(shop.search(Query(like="v7"), 10)), flush=True)
"""


def test_a_reader_that_was_killed_holds_nothing(index: Path) -> None:
    reader = start_python(READER, index)
    assert reader.stdin and reader.stdout
    assert reader.stdout.readline() == f"{N}\n"
    change(index)
    with Writer.open(index) as writer:
        writer.compact()
    assert folders(index) == ["000001", "000002"]
    reader.stdin.write("search\n")
    assert reader.stdout.readline() == "10\n"
    os.kill(reader.pid, signal.SIGKILL)
    reader.communicate(timeout=60)
    with Writer.open(index):
        pass
    assert folders(index) == ["000002"]


def test_reader_of_a_swept_generation_opens_the_newest(index: Path) -> None:
    """Between the look at the store and the hold, a generation may be swept."""
    store = Store.open(IndexLayout(index))
    with store.snapshot() as snapshot:
        current = snapshot.current
    change(index)
    with Writer.open(index) as writer:
        writer.compact()
    assert store.has_moved_on(current)
    with pytest.raises(CatalensError, match="expected"):
        Generation.open(IndexLayout(index), current)
    store.close()


def drawn_alike(index: Path, count: int = 100) -> None:
    """As many more items, drawn as the first were, and ten fewer."""
    rows = list(vector_rows(clustered(N + count, D), number=range(N + count)))
    # The same clusters: `clustered` draws their centres first.
    alike = np.stack([row["v"] for row in rows])[N:]
    with Writer.open(index) as writer:
        writer.add([{"id": f"new{n}", "v": v, "number": n} for n, v in enumerate(alike)])
        writer.delete([f"v{n}" for n in range(10)])


def drift(index: Path) -> tuple[float | None, float | None]:
    entry = Opened(index).manifest.index
    return entry.trained_error, entry.folded_error


def test_rows_drawn_alike_are_folded_in_without_training(index: Path) -> None:
    drawn_alike(index)
    before, (trained, folded) = answers(index), drift(index)
    assert trained is not None and folded is None
    with Writer.open(index) as writer:
        summary = writer.compact()
    assert (summary.trained, summary.items) == (False, N + 90)
    # Nothing was fitted anew: the vectors, and so the answers, are the very same.
    assert np.allclose(answers(index), before, atol=1e-6)
    now, folded = drift(index)
    assert now == trained and folded is not None and folded < 1.05 * trained
    assert verify_index(index).problems == []
    recall = Opened(index).manifest.index.recall
    assert min(recall.values()) > 0.9
    with Writer.open(index) as writer:
        writer.delete(["v20", "new3"])  # dead rows alone are no drift
        writer.commit()
        assert writer.compact().trained is False
    assert drift(index) == (trained, None) and verify_index(index).problems == []


def test_rows_that_codes_do_not_fit_train_anew(index: Path) -> None:
    x = np.random.default_rng(8).standard_normal((300, D))
    with Writer.open(index) as writer:
        writer.add([{"id": f"new{n}", "v": v} for n, v in enumerate(x)])
        writer.commit()
        assert writer.compact().trained is True
    assert drift(index)[1] is None and verify_index(index).problems == []


@pytest.mark.parametrize(
    ("options", "trained"),
    [
        ({"profile": "memory", "rows": "float16"}, False),
        ({"profile": "gpu"}, False),
        ({"profile": "memory"}, True),  # int8 rows: their steps were fitted to those there were
        ({"factory": "HNSW16"}, True),
    ],
)
def test_compaction_of_other_indexes_is_sound(
    index: Path, options: dict[str, str], trained: bool
) -> None:
    rebuild_index(index, **options)
    drawn_alike(index)
    with Writer.open(index) as writer:
        assert writer.compact().items == N + 90
        writer.delete(["new7"])
        writer.commit()
        assert writer.compact().trained is trained
    assert verify_index(index).problems == []


def test_many_more_rows_get_an_index_of_their_size(index: Path) -> None:
    drawn_alike(index, 4 * N)
    with Writer.open(index) as writer:
        summary = writer.compact()
    assert summary.trained and summary.index == "IVF128,PQ4x4fs"


@pytest.mark.parametrize(
    ("stage", "alike"),
    [
        *((stage, False) for stage in ("fuse", "train index", "add to index", "measure recall")),
        *((stage, True) for stage in ("copy rows", "measure recall")),
    ],
)
def test_stopped_compaction_leaves_the_index(index: Path, stage: str, alike: bool) -> None:
    if alike:
        drawn_alike(index)
    else:
        change(index)
    before = answers(index)
    with (
        pytest.raises(StoppedError),
        Writer.open(index, progress=StopAfter(stage, 0)) as writer,
    ):
        writer.compact()
    assert np.allclose(answers(index), before, atol=2e-3) and verify_index(index).problems == []
    with Writer.open(index) as writer:
        writer.compact()
    assert len(folders(index)) == 1 and verify_index(index).problems == []


def test_small_indexes_learned_or_not(tmp_path: Path) -> None:
    build_toy(tmp_path / "index", toy_rows(40), missing="impute")
    with Writer.open(tmp_path / "index", device="cpu") as writer:
        writer.delete([f"item-{n}" for n in range(10)])
        writer.add([{"id": "new", "text": "red new"}])
        writer.commit()
        assert writer.compact().items == 31
        writer.delete(["new"])
        writer.commit()
        assert writer.compact().items == 30
        writer.delete([f"item-{n}" for n in range(10, 40)])
        writer.commit()
        with pytest.raises(EmptyIndexError):
            writer.compact()
    rebuilt = toy_rows(50)[40:]
    with Writer.open(tmp_path / "index", device="cpu") as writer:
        writer.add(rebuilt)
        writer.commit()
        assert writer.compact().items == 10
    rebuild_index(tmp_path / "index")
    assert verify_index(tmp_path / "index").problems == []
