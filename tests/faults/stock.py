"""Items whose vectors follow from their metadata: what is read shows whether it is whole."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalens import Hit, Query, Retriever
from indexer.errors import NotAnIndexError

D = 8
State = dict[int, int]
"""The version that each item, by number, is in."""


def vector(n: int, version: int) -> NDArray[np.float32]:
    """The unit vector (D,) of an item in a version."""
    drawn = np.random.default_rng([n, version]).standard_normal(D)
    return (drawn / np.linalg.norm(drawn)).astype(np.float32)


def row(n: int, version: int) -> dict[str, Any]:
    """The item in a version, as a catalog has it; `twice` tells a record that is whole."""
    return {
        "id": f"item-{n}",
        "v": vector(n, version),
        "n": n,
        "version": version,
        "twice": 2 * version,
    }


def rows(state: State) -> list[dict[str, Any]]:
    """A catalog in a state."""
    return [row(n, version) for n, version in state.items()]


def check(hit: Hit, query: NDArray[np.float32]) -> tuple[int, int]:
    """Compare a hit for a unit query vector with what its record says; return number, version."""
    n, version = hit.metadata["n"], hit.metadata["version"]
    assert hit.id == f"item-{n}", hit
    if "vector" in hit.spaces:
        assert hit.metadata["twice"] == 2 * version, hit
        off = abs(hit.spaces["vector"].similarity - float(vector(n, version) @ query))
        assert off < 5e-3, (hit, off)
    return n, version


def state_of(shop: Retriever, query: NDArray[np.float32] | None = None) -> State:
    """All items, each checked, by a search of every row."""
    query = vector(-1 & 0xFFFF, 0) if query is None else query
    # Spaces are asked by what they are of: an index of text has no such vector.
    asked = Query(vector=query) if "vector" in _spaces(shop) else Query(text="number1")
    hits = shop.search(asked, len(shop), recall=1.0) if len(shop) else []
    found = dict(check(hit, query) for hit in hits)
    assert len(found) == len(hits) == len(shop), (len(found), len(hits), len(shop))
    return found


def _spaces(shop: Retriever) -> Iterable[str]:
    return [space.spec.name for space in shop.manifest.spaces]


def read(index: Path) -> State | None:
    """What a reader finds; None where there is no finished index."""
    try:
        with Retriever.open(index, device="cpu") as shop:
            state = state_of(shop)
            if state:
                passing = shop.search(_like(state), len(shop) - 1 or 1, where="version >= 0")
                assert len(passing) == max(len(state) - 1, 0)
            return state
    except NotAnIndexError:
        return None


def _like(state: State) -> Query:
    return Query(like=f"item-{min(state)}")
