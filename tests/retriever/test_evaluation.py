"""Measures, intervals and tests against libraries and hand-worked numbers; files of judgements."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import ir_measures
import numpy as np
import pytest

from catalens import Query, Retriever, evaluate_index, read_topics, sweep_index
from indexer.errors import FusionError
from indexer.learning.errors import JudgementsError
from retriever.errors import UnknownWeightError
from retriever.evaluation import Setting, Topic
from retriever.evaluation.measures import measured
from retriever.evaluation.statistics import difference, estimate
from tests.catalogs import build_toy, toy_rows
from tests.processes import run_python
from tests.retriever import judged


def test_measures_are_those_worked_out_by_hand() -> None:
    grades = [{"b": 2, "c": 1, "gone": 1}, {"a": 1}, {"z": 1}]
    found = measured([["a", "b", "c"], ["a"], []], grades, 100)
    ideal = 2 + 1 / math.log2(3) + 1 / math.log2(4)
    ndcg = (2 / math.log2(3) + 1 / math.log2(4)) / ideal
    np.testing.assert_allclose(found["NDCG@10"], [ndcg, 1, 0])
    np.testing.assert_allclose(found["MRR@10"], [1 / 2, 1, 0])
    np.testing.assert_allclose(found["Recall@10"], [2 / 3, 1, 0])
    np.testing.assert_allclose(found["MAP"], [(1 / 2 + 2 / 3) / 3, 1, 0])


def test_the_order_of_hits_is_kept_whatever_their_ids() -> None:
    rankings = [[f"{n:02d}" for n in order] for order in itertools.permutations(range(5))]
    grades = [{"03": 1}] * len(rankings)
    found = measured(rankings, grades, 100)["MRR@10"]
    np.testing.assert_allclose(found, [1 / (ids.index("03") + 1) for ids in rankings])


def test_intervals_hold_the_mean_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for n in range(200):
        told = estimate(rng.beta(2, 3, 60), seed=n)
        assert told.low is not None and told.high is not None
        held += told.low <= 0.4 <= told.high
    assert 0.89 <= held / 200 <= 0.99
    assert estimate(np.array([0.5])).low is None
    assert estimate(np.full(9, 0.5)).high == 0.5


def test_p_is_that_of_all_signs() -> None:
    each = np.array([0.3, -0.1, 0.2, 0.25, 0.05, -0.02, 0.4, 0.1])
    signs = np.array(list(itertools.product((-1, 1), repeat=len(each))))
    means = (signs * each).mean(axis=1)
    exact = (np.abs(means) >= each.mean() - 1e-12).mean()
    assert difference(each, np.zeros(8)).p == pytest.approx(exact, abs=1e-9)
    assert difference(each, each).p == 1.0
    assert difference(np.array([0.5]), np.array([0.1])).p == 1.0


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return judged.build(tmp_path_factory.mktemp("eval") / "index", judged.rows())


@pytest.fixture(scope="module")
def topics() -> list[Topic]:
    return judged.topics_of(judged.rows(), judged.is_good, 40)


def test_an_index_is_measured_as_ir_measures_would(index: Path, topics: list[Topic]) -> None:
    report = evaluate_index(index, topics)
    with Retriever.open(index) as shop:
        run = [
            # Ties are broken by id there, and by position here.
            ir_measures.ScoredDoc(topic.id, hit.id, hit.score - 1e-5 * rank)
            for topic in topics
            for rank, hit in enumerate(shop.search(Query(text=topic.text), 100))
        ]
    qrels = [ir_measures.Qrel(t.id, i, g) for t in topics for i, g in t.grades.items()]
    for name, measure in {
        "MRR@10": "RR@10",
        "NDCG@10": "nDCG@10",
        "Recall@100": "R@100",
        "MAP": "AP@100",
    }.items():
        wanted = ir_measures.calc_aggregate([ir_measures.parse_measure(measure)], qrels, run)
        assert report.measures[name].mean == pytest.approx(*wanted.values())
    assert (report.queries, report.unknown) == (40, 0)


def test_settings_are_compared_query_by_query(index: Path, topics: list[Topic]) -> None:
    report = evaluate_index(index, topics, against=Setting({"words": -1.0}))
    assert report.against is not None and report.differences is not None
    for name, gain in report.differences.items():
        assert gain.mean == pytest.approx(report.measures[name].mean - report.against[name].mean)
    assert report.differences["NDCG@10"].p < 0.01 < report.differences["NDCG@10"].mean
    with pytest.raises(UnknownWeightError):
        evaluate_index(index, topics, setting=Setting({"nothing": 1.0}))


def test_items_that_are_not_here_are_counted(index: Path, topics: list[Topic]) -> None:
    more = [Topic(t.id, t.text, {**t.grades, "gone": 1}) for t in topics]
    report = evaluate_index(index, more)
    assert report.unknown == 40
    assert (
        report.measures["Recall@100"].mean
        < evaluate_index(index, topics).measures["Recall@100"].mean
    )
    with pytest.raises(JudgementsError, match="none among 1"):
        evaluate_index(index, [Topic("1", "red", {"gone": 1})])


def test_trec_files_say_the_same_as_json_lines(tmp_path: Path, topics: list[Topic]) -> None:
    qrels, queries = tmp_path / "qrels", tmp_path / "queries.tsv"
    lines = [f"{t.id} 0 {item} {g}" for t in topics for item, g in t.grades.items()]
    qrels.write_text("\n".join(["0 0 bad -1", *lines, "unasked 0 item-1 1"]) + "\n")
    queries.write_text("".join(f"{t.id}\t{t.text}\n" for t in topics) + "unjudged\tred\n")
    read = read_topics(qrels, queries)
    assert [t.text for t in read] == [t.text for t in topics]
    assert [dict(t.grades) for t in read[1:]] == [dict(t.grades) for t in topics[1:]]
    assert read[0].grades["bad"] == -1
    again = read_topics(judged.write_jsonl(tmp_path / "j.jsonl", topics))
    assert [t.grades.keys() for t in again] == [t.grades.keys() for t in topics]


@pytest.mark.parametrize(
    ("qrels", "queries", "told"),
    [
        (b"1 0 a 1\n", None, "--queries"),
        (b"1 0 a\n", b"1\tred\n", "line 1"),
        (b"1 0 a 1\n2 0 b x\n", b"1\tred\n", "line 2"),
        (b"1 0 a 1\n", b"1 red\n", "line 1"),
        (b"1 0 a 1\n", b"1\tred\n1\tblue\n", "line 2"),
        (b"1 0 a 1\n", b"2\tred\n", "same numbers"),
        (b"1 0 a 0\n", b"1\tred\n", "relevant"),
        (b"\xff\xfe", b"1\tred\n", "UTF-8"),
        (b"{}\n", None, "line 1"),
    ],
)
def test_files_that_do_not_read(
    tmp_path: Path, qrels: bytes, queries: bytes | None, told: str
) -> None:
    (tmp_path / "qrels").write_bytes(qrels)
    if queries is not None:
        (tmp_path / "queries").write_bytes(queries)
    with pytest.raises(JudgementsError, match=told):
        read_topics(tmp_path / "qrels", None if queries is None else tmp_path / "queries")
    with pytest.raises(JudgementsError):
        read_topics(tmp_path / "none")


def test_a_sweep_tries_weights_and_measures_as_searches_do(tmp_path: Path) -> None:
    items = toy_rows(200)
    build_toy(tmp_path / "index", items)
    topics = [
        Topic(str(n), f"{row['words'][0]} {row['words'][1]} number{n}", {row["id"]: 1})
        for n, row in enumerate(items[:60])
    ]
    report = sweep_index(tmp_path / "index", topics)
    assert report.held_out == 20 and report.searched == 40
    assert report.best == report.tried[0].weights and max(report.best.values()) == 1.0
    assert len(report.tried) > 5
    # What was worked out from the blocks is what the index answers.
    held_out = evaluate_index(tmp_path / "index", topics, setting=Setting(report.best))
    share = (40 * report.tried[0].quality[0] + 20 * report.then.mean) / 60
    assert held_out.measures["NDCG@10"].mean == pytest.approx(share, abs=0.01)
    with pytest.raises(JudgementsError, match="at least 10"):
        sweep_index(tmp_path / "index", topics[:9])


def test_a_sweep_wants_weights_that_scale_similarities(tmp_path: Path) -> None:
    items = toy_rows(60)
    build_toy(tmp_path / "index", items, fusion="mean")
    topics = [Topic(str(n), row["text"], {row["id"]: 1}) for n, row in enumerate(items)]
    with pytest.raises(FusionError, match="concat"):
        sweep_index(tmp_path / "index", topics)


COMMAND = """
from tests import toy_encoders
from catalens.cli import main
main()
"""


def test_the_commands(tmp_path: Path, index: Path, topics: list[Topic]) -> None:
    file = judged.write_jsonl(tmp_path / "j.jsonl", topics)
    asked = ("eval", index, "--qrels", file, "--against", "words=-1")
    done = run_python(COMMAND, *asked, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert told["measures"]["NDCG@10"]["low"] <= told["measures"]["NDCG@10"]["mean"]
    assert told["differences"]["NDCG@10"]["p"] < 0.05
    done = run_python(COMMAND, *asked)
    assert done.returncode == 0 and "difference" in done.stdout and "40 queries" in done.stdout
    done = run_python(COMMAND, "eval", index, "--qrels", tmp_path / "none")
    assert done.returncode == 2 and done.stderr.startswith("error:")
