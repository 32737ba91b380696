"""A query: weighted parts of any modality."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from encoders import InvalidVectorError

from .errors import EmptyQueryError, QueryError, UnknownWeightError

UNLIKE_WEIGHT = -0.5
"""Default weight of an unliked item: it should push away, not outvote what was asked for."""


@dataclass(frozen=True)
class Part:
    """One part of a query.

    `kind` is `text`, `image`, `audio`, `vector` or `item`; `value` is a string, a path or bytes,
    a pair of space name (or None) and float32 unit vector, or an item id.
    """

    kind: str
    value: Any
    weight: float


class Query:
    """Weighted parts that add up.

    Every argument takes one value, one pair (value, weight), or a list of these; weights may be
    negative and default to 1, those of `unlike` to -0.5. Several parts that reach one space add
    up there. Liked and unliked items are left out of the hits.

    Args:
        text: what the items should say.
        image: a picture they should look like: a path, or the bytes of a file.
        audio: a sound they should sound like: a path, or the bytes of a file.
        vector: a ready-made vector (float, shape (dimension,)), or a mapping from space name to
            one.
        like: ids of items they should resemble, in every space that both have.
        unlike: ids of items they should not.
        weights: weight per space (`minilm`) or per modality (`text`), in place of the index's
            default for that space; a space's own name goes before its modality's. A modality's
            weight applies to the parts of that modality, and to the blocks of liked items that
            come from it.

    Raises:
        EmptyQueryError: no part at all.
        QueryError: a part of the wrong type.
        UnknownWeightError: a weight that is no finite number.
        InvalidVectorError: a vector with NaN or infinite values, or all zero.
    """

    def __init__(
        self,
        text: Any = None,
        image: Any = None,
        audio: Any = None,
        vector: Any = None,
        like: Any = None,
        unlike: Any = None,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        parts = [
            *(_part("text", v, w, (str,)) for v, w in _weighted(text, 1.0)),
            *(_part("image", v, w, (str, Path, bytes)) for v, w in _weighted(image, 1.0)),
            *(_part("audio", v, w, (str, Path, bytes)) for v, w in _weighted(audio, 1.0)),
            *_vector_parts(vector),
            *(_part("item", v, w, (str,)) for v, w in _weighted(like, 1.0)),
            *(_part("item", v, w, (str,)) for v, w in _weighted(unlike, UNLIKE_WEIGHT)),
        ]
        if not parts:
            raise EmptyQueryError(
                "query",
                expected="at least one of text, image, audio, vector, like, unlike",
                got="none",
                remedy='For example Query(text="red shoe").',
            )
        self.parts: tuple[Part, ...] = tuple(parts)
        self.weights: dict[str, float] = {
            name: _finite(f"weight {name!r}", weight) for name, weight in (weights or {}).items()
        }

    def __repr__(self) -> str:
        return f"Query(parts={self.parts!r}, weights={self.weights!r})"


def _weighted(given: Any, default: float) -> Iterable[tuple[Any, float]]:
    """Normalise a value, a pair (value, weight) or a list of these to pairs."""
    if given is None:
        return
    if _is_pair(given):
        yield given[0], _finite("weight", given[1])
    elif isinstance(given, Sequence) and not isinstance(given, str | bytes):
        for one in given:
            if _is_pair(one):
                yield one[0], _finite("weight", one[1])
            else:
                yield one, default
    else:
        yield given, default


def _is_pair(given: Any) -> bool:
    return isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], int | float)


def _vector_parts(given: Any) -> Iterable[Part]:
    if given is None:
        return
    for space, vector in given.items() if isinstance(given, Mapping) else [(None, given)]:
        value, weight = vector if _is_pair(vector) else (vector, 1.0)
        yield Part("vector", (space, _unit(value)), _finite("weight", weight))


def _unit(value: ArrayLike) -> NDArray[np.float32]:
    """A vector as float32 (dimension,), checked and of unit length.

    Raises:
        QueryError: no numbers, or not one-dimensional.
        InvalidVectorError: NaN, infinite or all zero.
    """
    try:
        vector = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise QueryError(
            "vector part",
            expected="numbers",
            got=str(error),
            remedy="Pass a one-dimensional array of floats.",
        ) from error
    if vector.ndim != 1:
        raise QueryError(
            "vector part",
            expected="shape (dimension,)",
            got=f"shape {vector.shape}",
            remedy="Pass one vector per query; use search_many for many.",
        )
    largest = float(np.abs(vector).max(initial=0.0))
    if not 0.0 < largest < math.inf:  # NaN compares false
        raise InvalidVectorError(
            "vector part",
            expected="finite values that are not all zero",
            got="all zero" if largest == 0.0 else "NaN or infinite values",
            remedy="Mend what computes the vector.",
        )
    scaled = vector / largest
    return (scaled / np.linalg.norm(scaled)).astype(np.float32)


def _part(kind: str, value: Any, weight: float, types: tuple[type, ...]) -> Part:
    if not isinstance(value, types):
        raise QueryError(
            f"{kind} part",
            expected=" or ".join(t.__name__ for t in types),
            got=type(value).__name__,
            remedy="Pass a value, a pair (value, weight), or a list of these.",
        )
    return Part(kind, value, weight)


def _finite(what: str, weight: Any) -> float:
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
        raise UnknownWeightError(
            what, expected="a finite number", got=repr(weight), remedy="Pass an int or a float."
        )
    return float(weight)
