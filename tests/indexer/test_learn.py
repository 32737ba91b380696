"""Learning on whole indexes: what is switched on, kept, refused, and what it is worth."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from catalens import (
    Query,
    Retriever,
    build_index,
    learn_alignment,
    learn_fusion,
    rebuild_index,
)
from indexer import verify_index
from indexer.errors import FusionError
from indexer.learning.errors import (
    JudgementsError,
    NoPairsError,
    OneSpaceError,
    TooFewPairsError,
    WeakAlignmentError,
)
from tests.catalogs import Opened, build_toy, clustered, toy_preset, toy_rows
from tests.toy_encoders import ToyEncoder, word_vector

N, A, B = 500, 24, 16


def flat_png(values: np.ndarray) -> bytes:
    """A picture of (h, w, 3) values between 0 and 1, each a square."""
    pixels = (np.clip(values, 0, 1) * 255).round().astype(np.uint8)
    out = BytesIO()
    Image.fromarray(pixels.repeat(8, axis=0).repeat(8, axis=1)).save(out, "png")
    return out.getvalue()


def pair_rows(n: int = N, *, aligned: bool = True) -> list[dict[str, Any]]:
    a = clustered(n, A, seed=1, clusters=n)
    rng = np.random.default_rng(2)
    b = a @ rng.standard_normal((A, B)) + 0.3 * rng.standard_normal((n, B))
    order = np.arange(n) if aligned else rng.permutation(n)
    return [{"id": f"item{k}x", "a": a[k], "b": b[order[k]], "n": k} for k in range(n)]


def build_pairs(out: Path, rows: list[dict[str, Any]]) -> Path:
    build_index(rows, out, vector={"a": "a", "b": "b"}, device="cpu")
    return out


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return build_pairs(tmp_path / "index", pair_rows())


def test_heads_are_switched_on_told_of_and_kept(pairs: Path) -> None:
    summary = learn_alignment(pairs)
    assert {(h.source, h.target) for h in summary.heads} == {("a", "b"), ("b", "a")}
    for head in summary.heads:
        assert head.report is not None and head.refused is None
        assert head.report.pairs == N
        assert head.report.recall[10] > 0.9 > 0.2 > head.report.chance[10]
    entry = Opened(pairs).manifest.spaces[1].heads["vector:a"]
    assert entry.source == "a" and 0.5 < entry.trust <= 1.0
    assert verify_index(pairs).problems == []
    # Building again from a catalog that has changed keeps them: their encoders are the same.
    rows = pair_rows()[: N // 2]
    summary_of_build = build_index(rows, pairs, vector={"a": "a", "b": "b"}, device="cpu")
    assert summary_of_build.notes == () and summary_of_build.items == N // 2
    assert Opened(pairs).manifest.spaces[1].heads["vector:a"] == entry
    # Of vectors of another length they know nothing.
    rows = [row | {"a": row["a"][:10]} for row in pair_rows()]
    told = build_index(rows, pairs, vector={"a": "a", "b": "b"}, device="cpu")
    assert len(told.notes) == 2 and "catalens learn alignment" in told.notes[0]
    assert not any(space.heads for space in Opened(pairs).manifest.spaces)


def test_the_same_seed_gives_the_same_heads(tmp_path: Path) -> None:
    found = []
    for name, seed in (("one", 0), ("two", 0)):
        index = build_pairs(tmp_path / name, pair_rows(200))
        learn_alignment(index, seed=seed)
        found.append([s.heads for s in Opened(index).manifest.spaces])
    assert found[0] == found[1] and found[0][1]


def test_what_cannot_be_aligned_is_refused(tmp_path: Path) -> None:
    shuffled = build_pairs(tmp_path / "shuffled", pair_rows(aligned=False))
    before = Opened(shuffled).current
    with pytest.raises(WeakAlignmentError, match="chance"):
        learn_alignment(shuffled)
    assert Opened(shuffled).current == before
    few = build_pairs(tmp_path / "few", pair_rows(30))
    with pytest.raises(TooFewPairsError, match="30"):
        learn_alignment(few)
    apart = pair_rows(100)
    for row in apart:
        row.pop("a" if row["n"] % 2 else "b")
    with pytest.raises(NoPairsError, match="0 pairs"):
        learn_alignment(build_pairs(tmp_path / "apart", apart))
    build_index(
        [{"id": str(n), "a": v} for n, v in enumerate(clustered(60, 8))],
        tmp_path / "single",
        vector={"a": "a"},
        device="cpu",
    )
    with pytest.raises(NoPairsError, match="different modalities"):
        learn_alignment(tmp_path / "single")
    with pytest.raises(OneSpaceError, match="at least two spaces"):
        learn_fusion(tmp_path / "single")


def test_a_space_that_all_items_lack_is_left_out(tmp_path: Path) -> None:
    rows = toy_rows(80, pictures=False)
    build_toy(tmp_path / "index", [row | {"image": None} for row in rows], missing="impute")
    assert [space.spec.name for space in Opened(tmp_path / "index").manifest.spaces] == ["words"]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("learn") / "toy"
    build_toy(out, toy_rows(400))
    return out


def judgements(path: Path, count: int = 260) -> Path:
    rows = toy_rows(400)
    lines = [{"query": row["text"], "relevant": [row["id"]]} for row in rows[:count]]
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    return path


@pytest.mark.parametrize("fusion", ["concat", "attention", "neural"])
def test_learned_fusions_answer_explain_and_survive_a_build(
    toy: Path, tmp_path: Path, fusion: str
) -> None:
    index = tmp_path / "index"
    build_toy(index, toy_rows(400))
    encoded = dict(ToyEncoder.encoded)
    summary = learn_fusion(index, fusion=fusion, judgements=judgements(tmp_path / "j.jsonl"))
    # The queries went through the encoder of text, and nothing else was encoded.
    assert ToyEncoder.encoded["toy-image"] == encoded["toy-image"]
    assert summary.queries == 260
    manifest = Opened(index).manifest
    assert manifest.fusion == fusion
    assert verify_index(index).problems == []
    rows = toy_rows(400)
    with Retriever.open(index) as shop:
        found = 0
        for row in rows[300:340]:
            hits = shop.search(Query(text=row["text"]), 10)
            found += row["id"] in [hit.id for hit in hits]
            for hit in hits:
                told = sum(match.contribution for match in hit.spaces.values())
                assert told == pytest.approx(hit.score, abs=1e-4)
        assert found >= 38
    told_of = build_toy(index, toy_rows(380))
    assert told_of.notes == () and Opened(index).manifest.fusion == fusion
    rebuild_index(index, fusion="mean")
    assert Opened(index).manifest.fusion == "mean"


def test_titles_are_the_questions_where_nobody_judged(toy: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    build_toy(index, toy_rows(300))
    summary = learn_fusion(index, fusion="concat")
    texts = {row["text"].casefold() for row in toy_rows(300)}
    assert summary.queries == len(texts)
    best, alone = summary.report.best_alone  # type: ignore[union-attr]
    assert best == "words" and summary.report.after[0] >= alone  # type: ignore[union-attr]


def test_bad_judgements_and_fusions_are_refused(toy: Path, tmp_path: Path) -> None:
    bad = tmp_path / "j.jsonl"
    for line, why in (
        ("{", "line 1"),
        ('{"query": "red", "relevant": "item-1"}', "ids are strings"),
        ('{"query": " ", "relevant": ["item-1"]}', "line 1"),
        ('{"query": "red", "relevant": []}', "line 1"),
        ('{"query": "red", "relevant": ["no such id"]}', "ids of items of this index"),
        ("", "no line at all"),
    ):
        bad.write_text(line + "\n")
        with pytest.raises(JudgementsError, match=why):
            learn_fusion(toy, judgements=bad)
    with pytest.raises(JudgementsError, match="No such file"):
        learn_fusion(toy, judgements=tmp_path / "none")
    with pytest.raises(FusionError, match="rebuild INDEX --fusion mean"):
        learn_fusion(toy, fusion="mean")


def test_mean_needs_no_learning(toy: Path, tmp_path: Path) -> None:
    index = build_pairs(tmp_path / "index", pair_rows())
    rebuild_index(index, fusion="mean")
    a = pair_rows()
    opened = Opened(index)
    assert opened.manifest.fusion == "mean" and opened.fusion.dimension < A + B + 4
    with Retriever.open(index) as shop:
        # The shared dimensions let a alone find items, whatever they are made of.
        hits = shop.search_many([Query(vector={"a": row["a"]}) for row in a[:50]], 5)
        assert sum(a[n]["id"] in [h.id for h in one] for n, one in enumerate(hits)) > 45
    assert verify_index(index).problems == []


def test_columns_that_stay_empty_do_not_cost_what_was_learned(tmp_path: Path) -> None:
    index = tmp_path / "index"
    sound = {"name": "sound", "item": "audio", "encoders": {"audio": {"kind": "log-mel"}}}
    preset = toy_preset()
    preset = preset | {"spaces": [*preset["spaces"], sound]}
    rows = [row | {"audio": None} for row in toy_rows(300)]
    build_toy(index, rows, preset=preset)
    learn_fusion(index, fusion="attention", judgements=judgements(tmp_path / "j.jsonl", 100))
    summary = build_toy(index, rows, preset=preset)
    assert summary.notes == () and Opened(index).manifest.fusion == "attention"


def test_heads_may_be_learned_after_a_fusion(tmp_path: Path) -> None:
    index = tmp_path / "index"
    rows = [row | {"text": str(row["n"] % 50)} for row in pair_rows(300)]
    preset = {
        "name": "words",
        "spaces": [{"name": "words", "item": "text", "encoders": {"text": {"kind": "toy-text"}}}],
    }
    build_index(rows, index, text="text", vector={"a": "a", "b": "b"}, preset=preset, device="cpu")
    learn_fusion(index, fusion="neural")
    learn_alignment(index)
    manifest = Opened(index).manifest
    assert manifest.fusion == "neural" and manifest.spaces[2].heads["vector:a"].source == "a"
    assert verify_index(index).problems == []
    with Retriever.open(index) as shop:
        assert len(shop.search(Query(vector={"a": rows[3]["a"]}), 5)) == 5


def test_a_shared_space_imputes_through_its_other_tower(tmp_path: Path) -> None:
    """As text fills the pictures that items lack in a space that both reach."""
    shared = {
        "name": "shared",
        "item": "image",
        "encoders": {
            "image": {"kind": "toy-image"},
            "text": {"kind": "toy-text", "dimension": 48},
        },
    }
    rows: list[dict[str, Any]] = [{"id": str(n), "text": f"word{n % 19}"} for n in range(200)]
    centres = {f"word{n}": word_vector(f"word{n}", 48) for n in range(19)}
    for n, row in enumerate(rows):
        # A picture whose 48 values point where its word does, so that the towers agree.
        values = centres[row["text"]] / 8 + 0.5
        if n % 4:
            row["image"] = flat_png(values.reshape(4, 4, 3))
    build_toy(tmp_path / "index", rows, preset={"name": "s", "spaces": [shared]}, missing="impute")
    opened = Opened(tmp_path / "index")
    # Items without a picture are in no space of their own: the one space is filled by pictures.
    assert opened.manifest.items == 150
    words = {"name": "words", "item": "text", "encoders": {"text": {"kind": "toy-text"}}}
    both = {"name": "s", "spaces": [words, shared]}
    build_toy(tmp_path / "both", rows, preset=both, missing="impute")
    opened = Opened(tmp_path / "both")
    entry = opened.manifest.spaces[1]
    assert (entry.coverage, entry.imputed) == (150, 50)
    where = opened.fusion.blocks["shared"]  # type: ignore[attr-defined]
    blocks = opened.rows[:, where]
    lengths = np.linalg.norm(blocks, axis=1)
    holes = np.arange(200) % 4 == 0
    assert np.ptp(lengths[holes]) < 2e-3 and 0.5 < lengths[holes][0] < 1.0
    # What was imputed points to the pictures of the same word.
    nearest = (blocks[holes] @ blocks[~holes].T).argmax(axis=1)
    found = np.flatnonzero(~holes)[nearest] % 19 == np.flatnonzero(holes) % 19
    assert found.mean() > 0.9
