"""What a query means: weights, parts, likes, explanations; each against numpy on the rows."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalens import CatalensError, Hit, Query, Retriever, build_index
from encoders import EncoderPool, SpaceSpec
from retriever.errors import (
    InvalidKError,
    InvalidWeightError,
    NoWeightError,
    RetrieverClosedError,
    UnknownItemError,
)
from retriever.query import UNLIKE_WEIGHT
from tests.catalogs import WORDS, Opened, clustered, png, toy_preset, toy_rows

N = 400
PICTURE = png(np.random.default_rng(77))


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Spaces words (text), colours (image) and v (vectors), each with holes but the first."""
    out = tmp_path_factory.mktemp("queries") / "index"
    rows = toy_rows(N)
    for row, vector in zip(rows, clustered(N, 12), strict=True):
        if row["number"] % 4:
            row["v"] = vector
    build_index(rows, out, vector={"v": "v"}, preset=toy_preset(), device="cpu")
    return out


@pytest.fixture(scope="module")
def retriever(index: Path) -> Iterator[Retriever]:
    with Retriever.open(index, device="cpu") as opened:
        yield opened


@pytest.fixture(scope="module")
def oracle(index: Path) -> Oracle:
    return Oracle(Opened(index))


class Oracle:
    """Cosines per space in float64, from the stored rows and the encoders alone."""

    def __init__(self, opened: Opened) -> None:
        self.opened = opened
        self.names = [space.spec.name for space in opened.manifest.spaces]
        self.weights = opened.manifest.weights
        self.position = {item: n for n, item in enumerate(opened.ids)}
        self._pool = EncoderPool("cpu")

    def spec(self, space: str) -> SpaceSpec:
        return self.opened.manifest.spaces[self.names.index(space)].spec

    def stored(self, space: str) -> np.ndarray:
        rows = self.opened.rows[:, self.opened.fusion.blocks[space]].astype(np.float64)
        return rows / np.sqrt(self.weights[space])

    def offset(self, space: str) -> np.ndarray:
        """What a plain-cosine space takes off its items, and a centred one off both sides."""
        spec = self.spec(space)
        return self.opened.fusion.transforms[space].means[spec.item].astype(np.float64)

    def block(self, space: str, content: Any) -> np.ndarray:
        """The unit block of an input."""
        spec = self.spec(space)
        if spec.item.startswith("vector"):
            x = np.asarray(content, dtype=np.float64)
        else:
            encoder = self._pool.get(spec.encoders[spec.item])
            data = content.encode() if isinstance(content, str) else content
            prepared = encoder.prepare(spec.item, data)
            x = encoder.encode(spec.item, [prepared])[0].astype(np.float64)
            x = x - self.offset(space)
        return x / np.linalg.norm(x)

    def item_block(self, space: str, item: str) -> np.ndarray | None:
        position = self.position[item]
        if not self.opened.mask[position, self.names.index(space)]:
            return None
        block = self.stored(space)[position]
        if self.spec(space).compare == "cosine":
            block = block + self.offset(space)
        return block / np.linalg.norm(block)

    def scores(self, blocks: dict[str, np.ndarray]) -> np.ndarray:
        """Scores of all items for the weighted sum of blocks in each space."""
        return np.sum([self.stored(space) @ block for space, block in blocks.items()], axis=0)

    def check(self, hits: list[Hit], blocks: dict[str, np.ndarray], k: int) -> None:
        """Hits are the k best, their scores and similarities those of numpy."""
        scores = self.scores(blocks)
        assert len(hits) == k
        assert [hit.score for hit in hits] == pytest.approx(np.sort(scores)[::-1][:k], abs=1e-3)
        for hit in hits:
            position = self.position[hit.id]
            assert hit.score == pytest.approx(scores[position], abs=1e-3)
            assert list(hit.spaces) == self.names
            for column, space in enumerate(self.names):
                match = hit.spaces[space]
                present = bool(self.opened.mask[position, column])
                assert match.present is present
                if not present or space not in blocks:
                    assert match.similarity is None
                    continue
                unit = blocks[space] / np.linalg.norm(blocks[space])
                stored = self.stored(space)[position]
                if self.spec(space).compare == "cosine":
                    stored = stored + self.offset(space)
                assert match.similarity == pytest.approx(stored @ unit, abs=2e-3)


def test_parts_of_all_modalities_add_up(retriever: Retriever, oracle: Oracle) -> None:
    vector = clustered(5, 12, seed=4)[0]
    hits = retriever.search(Query(text="red paper", image=PICTURE, vector=vector), 50)
    oracle.check(
        hits,
        {
            "words": oracle.weights["words"] * oracle.block("words", "red paper"),
            "colours": oracle.weights["colours"] * oracle.block("colours", PICTURE),
            "v": oracle.weights["v"] * oracle.block("v", vector),
        },
        50,
    )
    assert oracle.weights == {"words": 1.0, "colours": 0.5, "v": 1.0}


weights = st.floats(-3, 3).filter(lambda w: abs(w) > 0.01)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_weights_by_space_and_modality(
    retriever: Retriever, oracle: Oracle, data: st.DataObject
) -> None:
    """A part's weight times the space's, or else the modality's, or else the default."""
    texts = data.draw(st.lists(st.tuples(st.sampled_from(WORDS), weights), min_size=1, max_size=3))
    picture = data.draw(weights)
    given_weights = {
        name: data.draw(weights)
        for name in data.draw(st.sets(st.sampled_from(["words", "text", "colours", "image"])))
    }
    hits = retriever.search(Query(text=texts, image=(PICTURE, picture), weights=given_weights), 20)
    u_words = given_weights.get("words", given_weights.get("text", 1.0))
    u_colours = given_weights.get("colours", given_weights.get("image", 0.5))
    words = np.sum([w * oracle.block("words", text) for text, w in texts], axis=0)
    if np.linalg.norm(words) < 0.05:
        return  # two parts that all but cancel: the rounding of what is left decides
    blocks = {
        "words": u_words * words,
        "colours": u_colours * picture * oracle.block("colours", PICTURE),
    }
    oracle.check(hits, blocks, 20)


def test_likes_and_unlikes_are_parts_and_no_hits(retriever: Retriever, oracle: Oracle) -> None:
    hits = retriever.search(Query(like=["item-1", ("item-3", 0.7)], unlike="item-5"), N - 3)
    assert {hit.id for hit in hits} == set(oracle.opened.ids) - {"item-1", "item-3", "item-5"}
    blocks: dict[str, np.ndarray] = {}
    for item, weight in (("item-1", 1.0), ("item-3", 0.7), ("item-5", UNLIKE_WEIGHT)):
        for space in oracle.names:
            block = oracle.item_block(space, item)
            if block is not None:
                part = weight * oracle.weights[space] * block
                blocks[space] = blocks.get(space, np.zeros_like(block)) + part
    scores = oracle.scores(blocks)
    for hit in hits:
        assert hit.score == pytest.approx(scores[oracle.position[hit.id]], abs=2e-3)
    # item-3 has no picture and item-4 no vector: the query has both all the same.
    assert oracle.item_block("colours", "item-3") is None
    assert all(m.similarity is not None for h in hits for m in h.spaces.values() if m.present)


def test_liked_item_without_a_block_asks_nothing_there(retriever: Retriever) -> None:
    hits = retriever.search(Query(like="item-3"), 5)
    assert all(hit.spaces["colours"].similarity is None for hit in hits)


def test_modality_weights_apply_to_the_blocks_of_liked_items(
    retriever: Retriever, oracle: Oracle
) -> None:
    hits = retriever.search(Query(like="item-1", weights={"text": 0, "vector": 0}), 10)
    block = oracle.item_block("colours", "item-1")
    assert block is not None
    scores = oracle.scores({"colours": 0.5 * block})
    assert [hit.score for hit in hits] == pytest.approx(
        [scores[oracle.position[hit.id]] for hit in hits], abs=1e-3
    )


@pytest.mark.parametrize("weight", [1.0, 0.3, -1.0, -0.5])
def test_score_is_weight_times_similarity_less_the_average(
    retriever: Retriever, oracle: Oracle, weight: float
) -> None:
    """As `Hit` says: in a centred space the average item's similarity is zero."""
    hits = retriever.search(Query(text="red round", weights={"text": weight}), 10)
    oracle.check(hits, {"words": weight * oracle.block("words", "red round")}, 10)
    for hit in hits:
        similarity = hit.spaces["words"].similarity
        assert similarity is not None and similarity > 0
        assert hit.score == pytest.approx(abs(weight) * similarity, abs=2e-3)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_score_adds_up_from_the_similarities(
    retriever: Retriever, oracle: Oracle, sign: float
) -> None:
    """Over spaces: length of the query's block times (similarity less the average item's)."""
    one, other = clustered(2, 12, seed=9)
    query = Query(
        text=[("red", 1.5 * sign), ("paper", -0.7)], image=(PICTURE, sign), vector=(one, -2 * sign)
    )
    blocks = {
        "words": 1.5 * sign * oracle.block("words", "red") - 0.7 * oracle.block("words", "paper"),
        "colours": 0.5 * sign * oracle.block("colours", PICTURE),
        "v": -2 * sign * oracle.block("v", one),
    }
    assert oracle.spec("v").compare == "cosine"
    for asked, expected in ((query, blocks), (Query(vector=(other, sign)), {})):
        hits = retriever.search(asked, 30)
        expected = expected or {"v": sign * oracle.block("v", other)}
        oracle.check(hits, expected, 30)
        for hit in hits:
            total = 0.0
            for space, block in expected.items():
                length, similarity = np.linalg.norm(block), hit.spaces[space].similarity
                if similarity is not None:
                    centred = oracle.spec(space).compare == "centred"
                    average = 0.0 if centred else oracle.offset(space) @ block / length
                    total += length * (similarity - average)
            assert hit.score == pytest.approx(total, abs=3e-3)


def test_unlike_alone_finds_what_is_unlike(retriever: Retriever, oracle: Oracle) -> None:
    block = oracle.item_block("words", "item-1")
    assert block is not None
    hits = retriever.search(Query(unlike="item-1", weights={"image": 0, "vector": 0}), 5)
    oracle.check(hits, {"words": UNLIKE_WEIGHT * block}, 5)
    assert all(hit.score > 0 for hit in hits)


def test_like_of_itself_is_its_own_nearest(retriever: Retriever, oracle: Oracle) -> None:
    # Asked with the very inputs of an item, the item comes first.
    rows = toy_rows(N)
    for number in (1, 7, 130):
        row = rows[number]
        hits = retriever.search(Query(text=row["text"], image=row.get("image")), 3)
        assert hits[0].id == row["id"]


@pytest.mark.parametrize(
    "query",
    [
        Query(text="red", weights={"text": 0}),
        Query(text="red", weights={"words": 0.0}),
        Query(text=("red", 0)),
        Query(text=[("red", 1), ("red", -1)]),
        Query(text=[("red", 0.1), ("red", 0.2), ("red", -0.3)]),
        Query(like="item-3", unlike=("item-3", -1.0)),
        Query(text="red", image=PICTURE, weights={"words": 0, "image": 0}),
    ],
    ids=str,
)
def test_weights_that_are_zero_or_cancel_are_refused(retriever: Retriever, query: Query) -> None:
    with pytest.raises(NoWeightError, match="expected a weight other than zero"):
        retriever.search(query, 3)


def test_space_whose_parts_cancel_is_not_asked(retriever: Retriever) -> None:
    query = Query(text=[("red", 0.1), ("red", 0.2), ("red", -0.3)], image=PICTURE)
    for hit in retriever.search(query, 5):
        assert hit.spaces["words"].similarity is None


@pytest.mark.parametrize("scale", [2e-12, 1e-10, 1e-5, 1e5, 1e12])
def test_scale_of_the_weights_does_not_matter(retriever: Retriever, scale: float) -> None:
    plain = retriever.search(Query(text="red", image=PICTURE), 10)
    scaled = retriever.search(
        Query(text="red", image=PICTURE, weights={"text": scale, "image": scale / 2}), 10
    )
    assert [hit.id for hit in scaled] == [hit.id for hit in plain]
    assert [h.score for h in scaled] == pytest.approx([h.score * scale for h in plain], rel=1e-3)


@pytest.mark.parametrize("size", [1e-12, 5e11])
def test_weights_at_their_bounds_multiply(retriever: Retriever, size: float) -> None:
    plain = retriever.search(Query(like="item-1", unlike="item-2"), 10)
    weights = {"words": 2 * size, "colours": size, "v": 2 * size}
    query = Query(like=("item-1", 2 * size), unlike=("item-2", -size), weights=weights)
    scaled = retriever.search(query, 10)
    assert [hit.id for hit in scaled] == [hit.id for hit in plain]
    for one, other in zip(scaled, plain, strict=True):
        for space, match in other.spaces.items():
            assert one.spaces[space].similarity == pytest.approx(match.similarity, abs=1e-5)


@pytest.mark.parametrize("weight", [1e13, 1e30, 1e300, -1e308, 1e-13, -1e-300])
def test_weights_out_of_bounds_are_refused(weight: float) -> None:
    with pytest.raises(InvalidWeightError, match=r"of size 1e-12 to 1e\+12"):
        Query(text="red", weights={"text": weight})


@pytest.mark.parametrize("bad", ["nobody", "item-1 ", "\udc80", "\0", "é" * 200, "", "x" * 600])
def test_unknown_item_is_named(retriever: Retriever, bad: str) -> None:
    with pytest.raises(UnknownItemError, match="an id of the index"):
        retriever.search(Query(like=bad), 1)


@pytest.mark.parametrize("k", [0, -1, N + 1, 10**12, True, 2.0, "3"])
def test_k_is_checked(retriever: Retriever, k: Any) -> None:
    with pytest.raises(InvalidKError, match=f"from 1 to {N}"):
        retriever.search(Query(text="red"), k)


def test_k_is_ten_or_all_items_of_a_smaller_index(retriever: Retriever, tmp_path: Path) -> None:
    assert len(retriever.search(Query(text="red"))) == 10
    build_index(toy_rows(4), tmp_path / "index", preset=toy_preset(), device="cpu")
    with Retriever.open(tmp_path / "index", device="cpu") as small:
        assert len(small.search(Query(text="red"))) == 4
        assert [len(hits) for hits in small.search_many([Query(text="red")] * 2, None)] == [4, 4]


@pytest.mark.parametrize(
    ("given", "weight"),
    [
        ((0.6, 0.8), 1.0),
        ([0.6, 0.8], 1.0),
        ((np.float32(0.6), np.float64(0.8)), 1.0),
        (([3, 4], 0.5), 0.5),
        (((3, 4), np.float32(0.5)), 0.5),
        ((np.array([3.0, 4.0]), -2), -2.0),
    ],
)
def test_two_values_are_a_vector_and_a_pair_has_its_weight(given: Any, weight: float) -> None:
    for query in (Query(vector=given), Query(vector={"v": given})):
        [part] = query.parts
        assert part.value[1] == pytest.approx([0.6, 0.8])
        assert part.weight == weight


def test_every_k_gives_k_hits(retriever: Retriever) -> None:
    for k in (1, 2, N - 1, N):
        assert len({h.id for h in retriever.search(Query(text="red"), k)}) == k


def test_closed_retriever_says_so(index: Path) -> None:
    opened = Retriever.open(index)
    opened.close()
    opened.close()
    with pytest.raises(RetrieverClosedError, match="Open the index again"):
        opened.search(Query(text="red"), 1)
    with pytest.raises(CatalensError):
        opened.fields()


def many_queries() -> list[Query]:
    return [
        *(Query(text=f"{a} {b}") for a in WORDS[:6] for b in WORDS[6:10]),
        *(Query(like=f"item-{n}", text="red") for n in range(20)),
        *(Query(like=[f"item-{n}", f"item-{n + 1}"], unlike="item-0") for n in range(5, 9)),
        *(Query(vector=x, image=PICTURE) for x in clustered(10, 12, seed=6)),
    ]


def same(one: list[Hit], other: list[Hit]) -> bool:
    """Equal up to the rounding of batches, which may swap items that score alike."""
    return len(one) == len(other) and all(
        abs(a.score - b.score) < 1e-5 and (a.id == b.id or abs(a.score - b.score) < 1e-6)
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("where", [None, "number < 200", "even = true and number >= 10"])
def test_search_many_is_search(retriever: Retriever, where: str | None) -> None:
    queries = many_queries()
    together = retriever.search_many(queries, 12, where=where)
    alone = [retriever.search(query, 12, where=where) for query in queries]
    assert all(same(a, b) for a, b in zip(together, alone, strict=True))
    assert retriever.search_many([], 3) == []


def test_threads_get_the_answers_of_one(index: Path) -> None:
    queries = many_queries()
    filters = [None, *(f"number < {n}" for n in range(100, 140))]  # more than are remembered
    with Retriever.open(index, device="cpu") as opened:
        jobs = [(q, filters[n % len(filters)]) for n, q in enumerate(queries * 4)]
        expected = [opened.search(query, 9, where=where) for query, where in jobs]
    failures: list[object] = []
    with Retriever.open(index, device="cpu") as shared:

        def work(offset: int) -> None:
            try:
                for step in range(len(jobs)):
                    n = (step * 7 + offset * 31) % len(jobs)
                    query, where = jobs[n]
                    if shared.search(query, 9, where=where) != expected[n]:
                        failures.append(n)
            except Exception as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []
