"""A query: weighted parts of any modality."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from encoders import InvalidVectorError
from indexer.missing import check_policy
from indexer.modalities import TEXT, modalities, modality_named

from .errors import EmptyQueryError, InvalidWeightError, QueryError

UNLIKE_WEIGHT = -0.5
"""Default weight of an unliked item: it should push away, not outvote what was asked for."""

# Products of two weights, and their squares in float64, stay far from the ends of float32.
_SMALLEST_WEIGHT = 1e-12
_LARGEST_WEIGHT = 1e12
_SHOWN = 60


@dataclass(frozen=True)
class Part:
    """One part of a query.

    `kind` is a modality, `vector` or `item`; `value` is a string (of text), a path or bytes (of
    other modalities), a pair of space name (or None) and float32 unit vector, or an item id.
    """

    kind: str
    value: Any
    weight: float


class Query:
    """Weighted parts that add up.

    Every argument but `vector` takes one value, one pair (value, weight), or a list of these.
    Weights may be negative and default to 1, those of `unlike` to -0.5. Several parts that reach
    one space add up there. Liked and unliked items are left out of the hits.

    A weight is any real number (numpy's too) that is zero or of size 1e-12 to 1e12.

    Args:
        text: what the items should say.
        image: a picture they should look like: a path, or the bytes of a file.
        audio: a sound they should sound like: a path, or the bytes of a file.
        video: a video they should be like: a path, or the bytes of a file.
        inputs: values by modality, for modalities that were registered (`register_modality`): a
            list is one value where the modality takes lists.
        vector: a ready-made vector (floats of any precision, shape (dimension,), of any length),
            a pair (vector, weight), or a mapping from space name to either.
        like: ids of items they should resemble, in every space that both have.
        unlike: ids of items they should not.
        weights: weight per space (`minilm`) or per modality (`text`), in place of the index's
            default for that space; a space's own name goes before its modality's. A modality's
            weight applies to the parts of that modality, and to the blocks of liked items that
            come from it. What reaches a space through an alignment head counts by its weight
            times the trust in that head.
        missing: what becomes of a modality that an item lacks: `neutral`, `renormalise` or `drop`
            (and `impute`, where the index was built with it); None for the index's own policy.

    Raises:
        EmptyQueryError: no part at all.
        QueryError: a part of the wrong type.
        InvalidWeightError: a weight that is no number, or out of bounds.
        InvalidVectorError: a vector with NaN or infinite values, or all zero.
        PolicyError: no such policy for missing modalities.
    """

    def __init__(
        self,
        text: Any = None,
        image: Any = None,
        audio: Any = None,
        video: Any = None,
        inputs: Mapping[str, Any] | None = None,
        vector: Any = None,
        like: Any = None,
        unlike: Any = None,
        weights: Mapping[str, float] | None = None,
        missing: str | None = None,
    ) -> None:
        parts = [
            *_parts("text", text, 1.0, str),
            *_parts("image", image, 1.0, _FILE),
            *_parts("audio", audio, 1.0, _FILE),
            *_parts("video", video, 1.0, _FILE),
            *(part for name, given in (inputs or {}).items() for part in _inputs(name, given)),
            *_vector_parts(vector),
            *_parts("item", like, 1.0, str),
            *_parts("item", unlike, UNLIKE_WEIGHT, str),
        ]
        if not parts:
            raise EmptyQueryError(
                "query",
                expected="at least one of text, image, audio, video, inputs, vector, like, unlike",
                got="none",
                remedy='For example Query(text="red shoe").',
            )
        self.parts: tuple[Part, ...] = tuple(parts)
        self.weights: dict[str, float] = {} if weights is None else _weights(weights)
        self.missing: str | None = None if missing is None else check_policy(missing)

    def __repr__(self) -> str:
        return f"Query(parts={self.parts!r}, weights={self.weights!r}, missing={self.missing!r})"


_FILE = (str, Path, bytes)
_NO_PARTS: list[Part] = []


def _parts(kind: str, given: Any, default: float, types: type | tuple[type, ...]) -> Sequence[Part]:
    """A value, a pair (value, weight) or a list of these as parts."""
    if given is None:
        return _NO_PARTS
    if isinstance(given, types) or not isinstance(given, Sequence):
        return [_part(kind, given, default, types)]
    return [
        _part(kind, one[0], _weight("weight", one[1]), types)
        if _is_pair(one)
        else _part(kind, one, default, types)
        for one in ([given] if _is_pair(given) else given)
    ]


def _inputs(name: str, given: Any) -> Sequence[Part]:
    """A value of a registered modality, or a pair (value, weight)."""
    modality = modality_named(name)
    if modality is None:
        raise QueryError(
            f"{name} part",
            expected=f"a modality among {', '.join(modalities())}",
            got=repr(name),
            remedy="Correct the name, or add it with register_modality first.",
        )
    if modality.is_of_files:
        return _parts(name, given, 1.0, _FILE)
    if modality.name == TEXT:
        return _parts(name, given, 1.0, str)
    value, weight = given if _is_pair(given) else (given, 1.0)
    return [Part(name, modality.bytes_of(value), _weight("weight", weight))]


def _part(kind: str, value: Any, weight: float, types: type | tuple[type, ...]) -> Part:
    if not isinstance(value, types):
        expected = types if isinstance(types, tuple) else (types,)
        raise QueryError(
            f"{kind} part",
            expected=" or ".join(t.__name__ for t in expected),
            got=type(value).__name__,
            remedy="Pass a value, a pair (value, weight), or a list of these.",
        )
    return Part(kind, value, weight)


def _vector_parts(given: Any) -> Sequence[Part]:
    if given is None:
        return _NO_PARTS
    spaces = given.items() if isinstance(given, Mapping) else [(None, given)]
    return [_vector_part(space, one) for space, one in spaces]


def _vector_part(space: str | None, given: Any) -> Part:
    # (0.1, 0.2) is a vector of two values, ([0.1, 0.2], 0.5) one with its weight.
    if _is_pair(given) and _has_values(given[0]):
        return Part("vector", (space, _unit(given[0])), _weight("weight", given[1]))
    return Part("vector", (space, _unit(given)), 1.0)


def _is_pair(given: Any) -> bool:
    return isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], Real)


def _has_values(given: Any) -> bool:
    return getattr(given, "ndim", 0) > 0 or (
        isinstance(given, Sequence) and not isinstance(given, str | bytes)
    )


def _unit(value: ArrayLike) -> NDArray[np.float32]:
    """A vector as float32 (dimension,), checked and of unit length.

    Raises:
        QueryError: no real numbers, or not one-dimensional.
        InvalidVectorError: NaN, infinite or all zero.
    """
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "fiubO":
            raise TypeError(f"an array of {array.dtype}")
        vector = array.astype(np.float64)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise QueryError(
            "vector part",
            expected="real numbers",
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
    return (scaled / math.sqrt(scaled @ scaled)).astype(np.float32)


def _weights(given: Any) -> dict[str, float]:
    if not isinstance(given, Mapping):
        raise QueryError(
            "weights",
            expected="a mapping from the names of spaces or modalities to numbers",
            got=type(given).__name__,
            remedy='Pass for example {"text": 2}.',
        )
    return {name: _weight(f"weight {name!r}", weight) for name, weight in given.items()}


def _weight(what: str, given: Any) -> float:
    try:
        weight = (
            math.nan if isinstance(given, bool) or not isinstance(given, Real) else float(given)
        )
    except OverflowError:  # an int of hundreds of digits
        weight = math.inf
    if weight == 0 or _SMALLEST_WEIGHT <= abs(weight) <= _LARGEST_WEIGHT:
        return weight
    raise InvalidWeightError(
        what,
        expected=f"a finite number that is zero or of size {_SMALLEST_WEIGHT:g} "
        f"to {_LARGEST_WEIGHT:g}",
        got=repr(given)[:_SHOWN],
        remedy="Pass an int or a float; only the proportions of weights matter to the order.",
    )
