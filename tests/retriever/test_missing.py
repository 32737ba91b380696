"""What becomes of a modality that an item lacks, policy by policy, against numpy on the rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from catalens import Hit, Query, Retriever, build_index, learn_alignment, rebuild_index
from indexer import PolicyError
from indexer.errors import (
    DefaultWeightError,
    FusionError,
    NotAnIndexError,
    PoolingError,
    UnknownSpaceError,
)
from tests.catalogs import Opened, clustered

N, A, B = 600, 24, 16
GAINS = 7  # the item that has no second space in one catalog, and one in the other
HALF = np.random.default_rng(4).permutation(N) < N // 2


def vectors() -> tuple[np.ndarray, np.ndarray]:
    """Two views of the same items: the second is a linear map of the first, and some noise."""
    a = clustered(N, A, seed=1)
    rng = np.random.default_rng(2)
    b = a @ rng.standard_normal((A, B)) + 0.3 * rng.standard_normal((N, B))
    return a, (b / np.linalg.norm(b, axis=1, keepdims=True)).astype(np.float32)


def rows(*, gained: bool = False) -> Iterator[dict[str, Any]]:
    a, b = vectors()
    for n in range(N):
        row = {"id": str(n), "number": n, "a": a[n]}
        if (HALF[n] and n != GAINS) or (n == GAINS and gained):
            row["b"] = b[n]
        yield row


def built(out: Path, *, gained: bool = False, **options: Any) -> Path:
    build_index(
        list(rows(gained=gained)), out, vector={"a": "a", "b": "b"}, device="cpu", **options
    )
    return out


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("missing") / "plain")


@pytest.fixture(scope="module")
def imputed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = built(tmp_path_factory.mktemp("missing") / "imputed")
    learn_alignment(out)
    rebuild_index(out, missing="impute")
    return out


def asked(n: int, **options: Any) -> Query:
    a, b = vectors()
    return Query(vector={"a": a[n], "b": b[n]}, **options)


def added(hit: Hit) -> float:
    return sum(match.contribution for match in hit.spaces.values())


@pytest.mark.parametrize("missing", ["neutral", "renormalise", "drop", "impute"])
@pytest.mark.parametrize("weights", [{}, {"a": 3.0, "b": 0.5}, {"a": 1.0, "b": -0.5}])
def test_contributions_add_up_to_the_score(
    imputed: Path, missing: str, weights: dict[str, float]
) -> None:
    with Retriever.open(imputed) as shop:
        for n in (0, 5, 9):
            for hit in shop.search(asked(n, missing=missing, weights=weights), 20):
                assert added(hit) == pytest.approx(hit.score, abs=1e-4)
                for match in hit.spaces.values():
                    assert (match.similarity is None) == (not match.present and not match.imputed)


@pytest.mark.parametrize("weights", [{"a": 1.0, "b": 1.0}, {"a": 1.0, "b": 4.0}])
def test_renormalise_is_the_weighted_mean_over_what_both_have(
    plain: Path, weights: dict[str, float]
) -> None:
    opened = Opened(plain)
    blocks = opened.fusion.blocks
    with Retriever.open(plain) as shop:
        for n in (1, 2, 3):
            query = asked(n, missing="renormalise", weights=weights)
            vector = shop._view.composer.compose([query])[0].vector.astype(np.float64)
            total, weight = np.zeros(N), np.zeros(N)
            for column, (name, where) in enumerate(blocks.items()):
                total += opened.rows[:, where] @ vector[where]
                weight += weights[name] * opened.mask[:, column]
            expected = np.sort(total / weight)[::-1][:10]
            hits = shop.search(query, 10)
            assert [hit.score for hit in hits] == pytest.approx(expected, abs=1e-3)
            for hit in hits:
                counted = [m.weight for m in hit.spaces.values() if m.present]
                assert sum(counted) == pytest.approx(1.0, abs=1e-5)


def test_drop_returns_exactly_the_best_that_have_what_is_asked(plain: Path) -> None:
    opened = Opened(plain)
    with Retriever.open(plain) as shop:
        query = asked(3, missing="drop")
        scores = opened.rows @ shop._view.composer.compose([query])[0].vector
        allowed = np.flatnonzero(opened.mask.all(axis=1))
        best = allowed[np.argsort(-scores[allowed], kind="stable")[:25]]
        assert [int(hit.id) for hit in shop.search(query, 25)] == best.tolist()
        # Who does not ask for b may be given items without.
        alone = shop.search(Query(vector={"a": vectors()[0][3]}, missing="drop"), 25)
        assert not all(hit.spaces["b"].present for hit in alone)
        filtered = shop.search(query, 25, where="number < 100")
        assert [int(h.id) for h in filtered] == [
            n for n in allowed[np.argsort(-scores[allowed])].tolist() if n < 100
        ][:25]


def test_neutral_hides_what_was_imputed(plain: Path, imputed: Path) -> None:
    with Retriever.open(plain) as one, Retriever.open(imputed) as other:
        for n in np.flatnonzero(HALF & (np.arange(N) != GAINS))[:3].tolist():
            # Items that have both spaces ask each for itself, and no head is in between.
            expected = one.search(Query(like=[str(n)]), 10)
            got = other.search(Query(like=[str(n)], missing="neutral"), 10)
            assert [hit.score for hit in got] == pytest.approx(
                [hit.score for hit in expected], abs=2e-3
            )
            assert not any(match.imputed for hit in got for match in hit.spaces.values())


def test_imputed_blocks_are_marked_shorter_and_worth_having(imputed: Path) -> None:
    opened = Opened(imputed)
    where = opened.fusion.blocks["b"]
    lengths = np.linalg.norm(opened.rows[:, where], axis=1)
    real = opened.mask[:, 1]
    assert np.allclose(lengths[~real], lengths[~real][0], atol=1e-3) and lengths[~real][0] < 0.96
    assert opened.manifest.spaces[1].imputed == (~real).sum()
    # Asked in b alone, an item that has no b is found by what a told of it.
    b = vectors()[1]
    with Retriever.open(imputed) as shop:
        ranks = []
        for n in np.flatnonzero(~real)[:40].tolist():
            hits = shop.search(Query(vector={"b": b[n]}, weights={"a": 0.0}), N)
            ranks.append([hit.id for hit in hits].index(str(n)))
            own = hits[ranks[-1]].spaces["b"]
            assert (
                own.imputed
                and not own.present
                and own.gate == pytest.approx(lengths[~real][0], abs=2e-3)
            )
    assert np.median(ranks) < 30  # 300 by chance


@pytest.mark.parametrize("missing", ["neutral", "drop", "renormalise", "impute"])
def test_what_an_item_gains_leaves_its_other_contributions_alone(
    tmp_path: Path, missing: str
) -> None:
    found = []
    both = str(np.flatnonzero(HALF & (np.arange(N) != GAINS))[0])
    for gained in (False, True):
        out = built(tmp_path / str(gained), gained=gained)
        if missing == "impute":
            learn_alignment(out)
            rebuild_index(out, missing="impute")
        with Retriever.open(out) as shop:
            # What does not have b is not returned by `drop`: asked otherwise, it still is there.
            policy = "neutral" if missing == "drop" and not gained else missing
            k = N // 2 - 1 if policy == "drop" else N - 1
            every = {h.id: h.spaces for h in shop.search(Query(like=[both], missing=policy), k)}
        found.append(every[str(GAINS)])
    before, after = found
    assert not before["b"].present and after["b"].present
    assert before["b"].imputed == (missing == "impute") and not after["b"].imputed
    # In proportion to the weight that is shown, a says what it said: the means of the catalog
    # have moved by one item.
    shares = [one["a"].contribution / one["a"].weight for one in found]
    assert shares[0] == pytest.approx(shares[1], abs=5e-3)
    if missing == "renormalise":
        assert before["a"].weight == pytest.approx(1.0) and after["a"].weight < 0.9
    else:
        assert before["a"].weight == after["a"].weight


def test_policies_may_differ_within_a_batch(imputed: Path) -> None:
    queries = [
        asked(n, missing=missing)
        for n, missing in enumerate(["neutral", "drop", "renormalise", "impute", None, "drop"])
    ]
    with Retriever.open(imputed) as shop:
        together = shop.search_many(queries, 7)
        alone = [shop.search(query, 7) for query in queries]
    for one, other in zip(together, alone, strict=True):
        assert [hit.id for hit in one] == [hit.id for hit in other]
        assert [h.score for h in one] == pytest.approx([h.score for h in other], abs=1e-5)


def test_a_space_is_reached_through_a_head(imputed: Path) -> None:
    a, _ = vectors()
    opened = Opened(imputed)
    entry = opened.manifest.spaces[1].heads["vector:a"]
    with Retriever.open(imputed) as shop:
        found = 0
        for n in np.flatnonzero(HALF)[:40].tolist():
            hits = shop.search(
                Query(vector={"a": a[n]}, weights={"a": 0.0, "b": 1.0}, missing="drop"), 10
            )
            assert hits[0].spaces["b"].weight == pytest.approx(entry.trust, abs=1e-4)
            found += str(n) in [hit.id for hit in hits]
        # 300 items have b: ten of them by chance find one in thirty.
        assert found > 20
        # An item that has b asks it for itself, and not a second time through a.
        one = shop.search(Query(like=[str(np.flatnonzero(HALF)[0])], weights={"a": 0.0}), 1)[0]
        assert one.spaces["b"].weight == pytest.approx(1.0, abs=1e-5)


def test_bad_policies_are_refused(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="'skip'"):
        asked(0, missing="skip")
    with pytest.raises(PolicyError, match="catalens rebuild INDEX --missing impute"):
        Retriever.open(plain).search(asked(0, missing="impute"))
    with pytest.raises(PolicyError, match="'skip'"):
        built(tmp_path / "x", missing="skip")
    with pytest.raises(FusionError, match="catalens learn fusion INDEX --fusion neural"):
        rebuild_index(plain, fusion="neural")
    with pytest.raises(FusionError, match="'sum'"):
        rebuild_index(plain, fusion="sum")
    with pytest.raises(UnknownSpaceError, match="'c'"):
        rebuild_index(plain, weights={"c": 1.0})
    with pytest.raises(DefaultWeightError, match="above 0"):
        rebuild_index(plain, weights={"a": -1.0})
    with pytest.raises(PoolingError, match="'median'"):
        rebuild_index(plain, pool={"a": "median"})
    with pytest.raises(NotAnIndexError):
        rebuild_index(tmp_path / "none")
    mean = built(tmp_path / "mean", fusion="mean")
    with Retriever.open(mean) as shop, pytest.raises(PolicyError, match="keeps spaces apart"):
        shop.search(asked(0, missing="renormalise"))
    with pytest.raises(PolicyError, match="keeps spaces apart"):
        rebuild_index(mean, missing="renormalise")
