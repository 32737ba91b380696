"""A head on a whole index: learned, switched on, explained, kept, dropped and refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from rich.table import Table

from catalens import (
    CatalensError,
    HeadOptions,
    Query,
    Retriever,
    Writer,
    evaluate_index,
    learn_head,
    rebuild_index,
    repair_index,
)
from catalens.describe import describe, describe_tables
from indexer import IndexLayout, verify_index
from indexer.errors import CorruptIndexError, UnsupportedFormatError
from indexer.generation import load_manifest
from indexer.learning.errors import JudgementsError
from indexer.publish import publish_ranking
from indexer.rebuild import opened_for_writing
from retriever import Topic
from retriever.evaluation import Setting
from retriever.head.errors import (
    HeadMismatchError,
    HeadOptionError,
    NothingToLearnError,
    PrivacyError,
    TooFewQueriesError,
    WeakHeadError,
)
from retriever.head.files import load_ranking
from retriever.head.learn import _judgements, feature_spec
from retriever.view import View
from tests.catalogs import Opened, build_toy
from tests.processes import run_python
from tests.retriever import judged

ITEMS = judged.rows()
TOPICS = judged.topics_of(ITEMS, judged.is_good)
QUICK = HeadOptions(trials=1, model="linear")


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    index = judged.build(tmp_path_factory.mktemp("head") / "index", ITEMS)
    return index, learn_head(index, TOPICS, options=HeadOptions(trials=2))


@pytest.fixture
def index(tmp_path: Path, learned: tuple[Path, Any]) -> Path:
    """A copy to change."""
    ignored = shutil.ignore_patterns("lock.mdb")
    return Path(shutil.copytree(learned[0], tmp_path / "index", ignore=ignored))


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    return judged.build(tmp_path / "bare", ITEMS)


def test_it_ranks_better_where_it_has_not_looked(learned: tuple[Path, Any]) -> None:
    index, summary = learned
    assert summary.learned > summary.fused + 0.2 and summary.gain.p < 0.01
    assert (summary.queries, summary.held_out) == (80, 20)
    others = judged.topics_of(ITEMS, judged.is_good, 130)[100:]
    report = evaluate_index(index, others, against=Setting(head=False))
    assert report.differences is not None
    assert report.differences["NDCG@10"].mean > 0.2
    told = json.loads((summary.run / "metrics.json").read_bytes())
    assert len(told["trials"]) == 2 and told["cross_validation"]["head"] > told["fused"]
    assert (summary.run / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_hits_are_in_the_heads_order_and_say_why(learned: tuple[Path, Any]) -> None:
    with Retriever.open(learned[0]) as shop:
        query = Query(text="red green")
        hits, plain = shop.search(query, 20), shop.search(query, 20, head=False)
        assert [hit.id for hit in hits] != [hit.id for hit in plain]
        assert all(hit.head is None for hit in plain)
        scores = [hit.head.score for hit in hits if hit.head]
        assert scores == sorted(scores, reverse=True) and len(scores) == 20
        for hit in hits:
            assert hit.head is not None
            told = hit.head.base + sum(hit.head.contributions.values())
            assert told == pytest.approx(hit.head.score, abs=1e-3)
            match = hit.spaces["words"]
            assert hit.score == pytest.approx(match.contribution, abs=1e-5)
        # What it learned is that the good are wanted.
        good = [hit.metadata["good"] for hit in hits[:10]]
        assert sum(good) > sum(hit.metadata["good"] for hit in plain[:10])
        best = hits[0].head
        assert best is not None and best.contributions["good = True"] > 0.1
        bare = shop.search(query, 20, explain=False)
        assert [hit.id for hit in bare] == [hit.id for hit in hits]
        assert bare[0].head is None


def test_behind_its_candidates_the_fused_order_goes_on(learned: tuple[Path, Any]) -> None:
    with Retriever.open(learned[0]) as shop:
        query = Query(text="red green")
        hits, plain = shop.search(query, 150), shop.search(query, 150, head=False)
        assert [hit.id for hit in hits[100:]] == [hit.id for hit in plain[100:]]
        assert {hit.id for hit in hits[:100]} == {hit.id for hit in plain[:100]}
        assert [hit.head is None for hit in hits] == [False] * 100 + [True] * 50
        filtered = shop.search(query, 5, where="good = false")
        assert len(filtered) == 5 and not any(hit.metadata["good"] for hit in filtered)
        assert shop.search_many([query] * 3, 20)[2] == hits[:20]


@pytest.mark.parametrize(
    "query",
    [
        Query(text="red green", weights={"words": 2.0}),
        Query(text="red green", missing="renormalise"),
        Query(text=("red", -1.0), like="item-3"),
        Query(like="item-3"),
    ],
)
def test_queries_unlike_those_it_learned_from_are_left_alone(
    learned: tuple[Path, Any], query: Query
) -> None:
    with Retriever.open(learned[0]) as shop:
        assert shop.search(query, 10) == shop.search(query, 10, head=False)


def test_features_know_nothing_of_judgements(learned: tuple[Path, Any]) -> None:
    rng = np.random.default_rng(0)
    ids = [row["id"] for row in ITEMS]
    other = [
        Topic(t.id, t.text, dict.fromkeys(rng.choice(ids, len(t.grades), replace=False), 1))
        for t in TOPICS
    ]
    layout = IndexLayout(learned[0])
    view = View.open(layout, "cpu")
    spec = feature_spec(view, past=False)
    silent: Any = type("Silent", (), dict.fromkeys(("start", "advance", "finish"), _nothing))()
    ours, theirs = (_judgements(view, spec, some, 100, silent)[0] for some in (TOPICS, other))
    view.let_go()
    for one, two in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one.features, two.features)
    assert any((one.grades != two.grades).any() for one, two in zip(ours, theirs, strict=True))
    # Nor does any feature name what only a query's answer could know.
    assert set(spec.fields.values) == {"good", "shop"} and spec.fields.numbers == ["price"]


def _nothing(*_: object) -> None:
    pass


def test_noise_is_refused_and_leaves_the_index_as_it_was(bare: Path) -> None:
    rng = np.random.default_rng(1)
    ids = [row["id"] for row in ITEMS]
    noise = [Topic(t.id, t.text, dict.fromkeys(rng.choice(ids, 30), 1)) for t in TOPICS]
    before = Opened(bare).current
    with pytest.raises(WeakHeadError, match="held out"):
        learn_head(bare, noise, options=QUICK)
    assert Opened(bare).current == before
    (run,) = (bare / "runs").iterdir()
    assert json.loads((run / "metrics.json").read_bytes())["p"] > 0.05
    summary = learn_head(bare, noise, options=replace(QUICK, force=True))
    assert summary.gain.p > 0.05
    with Retriever.open(bare) as shop:
        assert shop.search(Query(text="red"), 5)[0].head is not None


def test_judgements_that_cannot_teach(bare: Path) -> None:
    with pytest.raises(TooFewQueriesError, match=r"at least 40 .* got 39"):
        learn_head(bare, TOPICS[:39] * 5)
    far = [Topic(t.id, f"{t.text}", {"item-1": 1, "gone": 1}) for t in TOPICS]
    everything = {row["id"]: 1 for row in ITEMS}
    with pytest.raises(NothingToLearnError, match="all alike"):
        learn_head(bare, [replace(topic, grades=everything) for topic in far])
    with pytest.raises(JudgementsError, match="none among"):
        learn_head(bare, [Topic(t.id, t.text, {"gone": 1}) for t in TOPICS])
    for wrong in ({"model": "tree"}, {"loss": "hinge"}, {"trials": 0}, {"depth": 5}, {"folds": 1}):
        with pytest.raises(HeadOptionError, match="expected"):
            HeadOptions(**wrong)  # type: ignore[arg-type]


def test_it_is_kept_by_compaction_and_builds_and_dropped_by_what_changes_scores(
    index: Path,
) -> None:
    with Writer.open(index) as writer:
        writer.add([{"id": "new", "text": "red green blue", "good": True, "price": 1}])
        writer.delete(["item-0"])
        writer.commit()
        with Retriever.open(index) as shop:
            hit = next(h for h in shop.search(Query(text="red green blue"), 50) if h.id == "new")
            assert hit.head is not None and hit.head.contributions["good = True"] > 0
        writer.compact()
    entry = ranking(index)
    assert verify_index(index).problems == []
    summary = build_toy(index, ITEMS, text="text")
    assert summary.notes == () and ranking(index) == entry
    assert rebuild_index(index, profile="exact").notes == ()
    assert ranking(index) == entry
    changed = rebuild_index(index, missing="renormalise")
    assert len(changed.notes) == 1 and "catalens learn head" in changed.notes[0]
    assert ranking(index) == {}
    with Retriever.open(index) as shop:
        assert shop.search(Query(text="red"), 3)[0].head is None


def ranking(index: Path) -> dict[str, Any]:
    opened = Opened(index)
    if opened.manifest.ranking is None:
        assert not (opened.folder / "ranking.json").exists()
        return {}
    value: dict[str, Any] = orjson.loads((opened.folder / "ranking.json").read_bytes())["heads"]
    return value


def republished(index: Path, change: Any) -> None:
    """Publish the head with other bytes, whose hashes are right."""
    with opened_for_writing(index) as opened:
        files = opened.recipe.ranking
        assert files is not None
        folder = opened.layout.generation(opened.snapshot.current.generation)
        manifest = load_manifest(folder, opened.snapshot.current)
        publish_ranking(opened.layout, opened.store, manifest, change(files))


def test_one_that_was_learned_elsewhere_is_named(index: Path) -> None:
    def other_names(files: Any) -> Any:
        value = orjson.loads(files.description)
        value["heads"]["search"]["names"][0] = "bm25"
        return replace(files, description=orjson.dumps(value))

    republished(index, other_names)
    with Retriever.open(index) as shop:
        with pytest.raises(HeadMismatchError, match="catalens learn head"):
            shop.search(Query(text="red"), 3)
        assert len(shop.search(Query(text="red"), 3, head=False)) == 3
    # Learning again mends it.
    learn_head(index, TOPICS, options=QUICK)
    facts = next(iter(describe_tables(describe(index)[0])))
    assert isinstance(facts, Table)
    assert any("linear of 5 members" in str(cell) for cell in facts.columns[1].cells)
    with Retriever.open(index) as shop:
        assert shop.search(Query(text="red"), 3)[0].head is not None

    def other_basis(files: Any) -> Any:
        value = orjson.loads(files.description)
        return replace(files, description=orjson.dumps({**value, "basis": "0" * 64}))

    republished(index, other_basis)
    with Retriever.open(index) as shop, pytest.raises(HeadMismatchError, match="another"):
        shop.search(Query(text="red"), 3)


def test_flipped_bits_are_noticed_at_open(index: Path) -> None:
    for name in ("ranking.json", "ranking.safetensors"):
        path = Opened(index).folder / name
        good = path.read_bytes()
        bad = bytearray(good)
        bad[len(bad) // 2] ^= 1
        path.write_bytes(bytes(bad))
        with pytest.raises(CorruptIndexError, match=name):
            Retriever.open(index)
        assert any(name in problem for problem in verify_index(index).problems)
        path.write_bytes(good)


def test_a_repair_brings_it_back_to_the_bit(index: Path) -> None:
    names = ("ranking.json", "ranking.safetensors")
    written = {name: (Opened(index).folder / name).read_bytes() for name in names}
    for name in names:
        (Opened(index).folder / name).unlink()
        summary = repair_index(index)
        assert name in summary.restored and not summary.changed and not summary.lost
        assert {one: (Opened(index).folder / one).read_bytes() for one in names} == written
    assert verify_index(index).problems == []


def test_hostile_files_give_our_errors_alone(learned: tuple[Path, Any]) -> None:
    folder = Opened(learned[0]).folder
    manifest = Opened(learned[0]).manifest
    assert manifest.ranking is not None
    from indexer.ranking import RankingFiles

    description = (folder / "ranking.json").read_bytes()
    weights = (folder / "ranking.safetensors").read_bytes()
    spaces = [space.spec.name for space in manifest.spaces]
    good = RankingFiles(manifest.ranking, description, weights)
    assert load_ranking(good, spaces).keys() == {"search"}
    with pytest.raises(UnsupportedFormatError):
        newer = description.replace(b'"format": 1', b'"format": 2')
        load_ranking(replace(good, description=newer), spaces)
    with pytest.raises(HeadMismatchError):
        load_ranking(good, ["other"])
    for bad in mangled(description):
        accepted_or_refused(replace(good, description=bad), spaces)
    for bad in mangled(weights):
        accepted_or_refused(replace(good, weights=bad), spaces)


def mangled(data: bytes) -> Iterator[bytes]:
    rng = np.random.default_rng(0)
    yield b""
    yield b"[]"
    yield b"{" * 5000
    for _ in range(150):
        cut = bytearray(data[: int(rng.integers(1, len(data) + 1))])
        for place in rng.integers(len(cut), size=int(rng.integers(0, 6))).tolist():
            cut[place] = int(rng.integers(256))
        yield bytes(cut)


def accepted_or_refused(files: Any, spaces: list[str]) -> None:
    try:
        load_ranking(files, spaces)
    except CatalensError as error:
        assert "expected" in str(error)


CODE = """
import sys
from tests import toy_encoders
from catalens import Query, Retriever
with Retriever.open(sys.argv[1]) as shop:
    assert shop.search(Query(text="red"), 3)[0].head is not None
print(sorted({"torch", "optuna", "scipy", "matplotlib", "ir_measures"} & set(sys.modules)))
"""

COMMAND = """
from tests import toy_encoders
from catalens.cli import main
main()
"""


def test_it_is_applied_without_torch(learned: tuple[Path, Any]) -> None:
    done = run_python(CODE, learned[0])
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_the_commands(bare: Path, tmp_path: Path) -> None:
    file = judged.write_jsonl(tmp_path / "j.jsonl", TOPICS)
    learn = ("learn", "head", bare, "--judgements", file, "--trials", 1, "--model", "linear")
    done = run_python(COMMAND, *learn)
    assert done.returncode == 0 and "head 0." in done.stdout, done.stderr
    (hit,) = map(
        json.loads,
        run_python(COMMAND, "query", bare, "--text", "red", "-k", 1, "--json").stdout.splitlines(),
    )
    assert hit["head"]["contributions"]["good = True"]
    done = run_python(COMMAND, "query", bare, "--text", "red", "-k", 1, "--json", "--no-head")
    assert "head" not in json.loads(done.stdout)
    told = json.loads(run_python(COMMAND, "inspect", bare, "--json").stdout)
    assert told["ranking"]["search"]["model"] == "linear"


def test_privacy_is_spent_as_told_and_costs_accuracy(bare: Path) -> None:
    private = replace(QUICK, epsilon=4.0, force=True)
    summary = learn_head(bare, TOPICS, options=private)
    assert summary.privacy is not None and summary.privacy.unit == "query"
    assert 3.5 < summary.privacy.epsilon <= 4.04 and summary.privacy.delta <= 1e-5
    assert not (summary.run / "curves.png").exists()
    assert "trials" not in json.loads((summary.run / "metrics.json").read_bytes())
    assert ranking(bare)["search"]["privacy"]["epsilon"] == summary.privacy.epsilon
    loose = learn_head(bare, TOPICS, options=replace(private, epsilon=200.0))
    assert loose.learned > loose.fused + 0.1
    tight = learn_head(bare, TOPICS, options=replace(private, epsilon=0.3))
    assert tight.learned < loose.learned
    with pytest.raises(PrivacyError, match=r"at most 0\.01; got The privacy budget is too low"):
        learn_head(bare, TOPICS, options=replace(private, epsilon=0.01))
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(PrivacyError, match="above 0"):
            HeadOptions(epsilon=wrong)
