"""Groups of near-duplicates against a search of the graph that they are the parts of."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.learning import folds, groups_of


def partition(numbers: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(numbers == g).tolist()) for g in np.unique(numbers)}


def words(n: int) -> list[str]:
    """Ids of which no two are alike but for a number."""
    return ["".join(chr(97 + int(digit)) for digit in f"{i:04d}") for i in range(n)]


@pytest.mark.parametrize(
    ("ids", "groups"),
    [
        (["cat_01", "cat-2", "cat", "cat3", "cat 4", "dog_01"], {(0, 1, 2, 3, 4), (5,)}),
        (["cat_v2", "cat_v3", "cat_2_3", "cat_2_4"], {(0, 1), (2, 3)}),
        (["a/cat_1", "b/cat_1"], {(0,), (1,)}),
        (["cat_1a", "cat_2a"], {(0,), (1,)}),
        # Only a separator before a number is taken off with it.
        (["cat_", "cat"], {(0,), (1,)}),
        (["1", "2", "3"], {(0,), (1,), (2,)}),
    ],
)
def test_ids(ids: list[str], groups: set[tuple[int, ...]]) -> None:
    assert partition(groups_of(ids, [])) == {frozenset(g) for g in groups}


@pytest.mark.parametrize("form", ["{}", "item-{}", "item{}", "SKU {}"])
def test_ids_that_are_all_numbered_say_nothing(form: str) -> None:
    ids = [form.format(i) for i in range(400)]
    assert groups_of(ids, []).tolist() == list(range(400))


def test_common_stem_is_left_aside_and_rare_ones_are_not() -> None:
    ids = [f"item-{i}" for i in range(30)] + [f"cat-{i}" for i in range(20)] + words(350)
    groups = groups_of(ids, [])  # 5 % of 400 are 20
    assert len(set(groups[:30])) == 30
    assert len(set(groups[30:50])) == 1
    assert len(set(groups)) == 30 + 1 + 350


def test_contents_join_across_modalities() -> None:
    texts = ["t1", "t1", "t2", "", "", "t3"]
    pictures = ["", "p1", "p2", "p2", "", "t1"]
    # The same string in another modality is another content.
    assert groups_of(words(6), [texts, pictures]).tolist() == [0, 0, 1, 1, 2, 3]


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="2 content hashes for 3 ids"):
        groups_of(words(3), [["a", "b"]])


def test_no_items() -> None:
    assert groups_of([], [[]]).shape == (0,)


def by_search(ids: list[str], contents: list[list[str]]) -> set[frozenset[int]]:
    """Parts of the graph whose edges are the pairs that the rules name, breadth first."""
    n = len(ids)
    stems = [re.sub(r"[\s_.:/#-]?[0-9]+$", "", i) for i in ids]
    said = {s for s in stems if s and stems.count(s) <= max(0.05 * n, 10)}

    def joined(a: int, b: int) -> bool:
        alike = stems[a] == stems[b] and stems[a] in said
        return alike or any(c[a] and c[a] == c[b] for c in contents)

    left, parts = set(range(n)), set()
    while left:
        part = border = {left.pop()}
        while border:
            border = {b for b in left if any(joined(a, b) for a in border)}
            left -= border
            part = part | border
        parts.add(frozenset(part))
    return parts


few = st.sampled_from(["", "", "", "a", "b", "c", "d"])
items = st.tuples(
    st.sampled_from(["x", "x_1", "x_2", "y-1", "y2", "7", "z"]) | st.uuids().map(str), few, few
)


@given(st.lists(items, max_size=30))
def test_groups_are_the_parts_of_the_graph(drawn: list[tuple[str, str, str]]) -> None:
    ids = [item[0] for item in drawn]
    contents = [[item[m] for item in drawn] for m in (1, 2)]
    groups = groups_of(ids, contents)
    assert groups.dtype == np.int64
    assert partition(groups) == by_search(ids, contents)
    assert sorted(set(groups)) == list(range(len(set(groups))))


@given(st.lists(st.integers(0, 15), min_size=1, max_size=80), st.integers(2, 6), st.integers(0, 9))
def test_no_group_straddles_and_folds_are_even(drawn: list[int], k: int, seed: int) -> None:
    groups = np.array(drawn)
    dealt = folds(groups, k, seed)
    assert dealt.dtype == np.int64 and dealt.shape == groups.shape
    for g in np.unique(groups):
        assert len(set(dealt[groups == g])) == 1
    sizes = np.bincount(dealt, minlength=k)
    assert len(sizes) == k
    assert sizes.max() - sizes.min() <= np.bincount(groups).max()
    if len(np.unique(groups)) >= k:
        assert sizes.min() > 0


def test_folds_by_seed() -> None:
    groups = np.arange(60) // 3
    assert folds(groups, 5, 1).tolist() == folds(groups, 5, 1).tolist()
    assert folds(groups, 5, 1).tolist() != folds(groups, 5, 2).tolist()
    assert set(np.bincount(folds(groups, 5, 1))) == {12}
