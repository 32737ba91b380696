"""Queries to fused query vectors: which part reaches which space, with what weight."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from encoders import InvalidVectorError
from indexer import Generation, Snapshot, kind_of_input
from indexer.row_parser import MAX_ID_BYTES

from .errors import ModalityNotIndexedError, NoWeightError, UnknownItemError, UnknownWeightError
from .query import Part, Query
from .query_encoder import QueryEncoder

Floats = NDArray[np.float32]
Input = tuple[str, str, bytes]

# Parts that cancel out leave some rounding: less than this in proportion to their weights.
_NOTHING = 1e-6


class Composed(NamedTuple):
    """A fused query vector (D,), and the positions that must not be among its hits.

    `lengths` has, for each space that the query asks, the length of its parts' weighted sum
    there: the factor by which similarity in that space counts.
    """

    vector: Floats
    excluded: list[int]
    lengths: dict[str, float]


class Composer:
    """Composes the query vectors of one generation."""

    def __init__(self, generation: Generation, snapshot: Snapshot, encoder: QueryEncoder) -> None:
        self._generation = generation
        self._snapshot = snapshot
        self._encoder = encoder
        self._spaces = generation.manifest.spaces
        self._blocks = generation.fusion.blocks
        self._weights = generation.manifest.weights
        modalities = {kind_of_input(m) for space in self._spaces for m in space.spec.encoders}
        self._weighable = modalities | set(self._weights)
        self._vector_spaces = {
            space.spec.name: (space.spec.item, len(means[space.spec.item]))
            for space in self._spaces
            if kind_of_input(space.spec.item) == "vector"
            and (means := generation.fusion.transforms[space.spec.name].means)
        }

    def compose(self, queries: Sequence[Query]) -> list[Composed]:
        """Query vectors, all inputs encoded in one batch per encoder.

        Raises:
            QueryError: a query that this index cannot answer.
            MediaError: an input is bad.
        """
        inputs = [[self._inputs(part) for part in query.parts] for query in queries]
        wanted = [i for parts in inputs for part in parts for i in part]
        encoded = self._encoder.encode(wanted) if wanted else {}
        return [
            self._compose(query, parts, encoded)
            for query, parts in zip(queries, inputs, strict=True)
        ]

    def _inputs(self, part: Part) -> list[Input]:
        """What must be encoded for a part: (space, modality, content)."""
        if part.kind in ("item", "vector"):
            return []
        reached = [s.spec.name for s in self._spaces if part.kind in s.spec.encoders]
        if not reached:
            raise self._not_indexed(part.kind)
        content = self._encoder.content(part)
        return [(space, part.kind, content) for space in reached]

    def _compose(
        self, query: Query, inputs: list[list[Input]], encoded: dict[Input, Floats]
    ) -> Composed:
        if query.weights:
            self._check_weights(query)
        terms: dict[str, list[tuple[float, Floats]]] = {}
        excluded = []
        for part, wanted in zip(query.parts, inputs, strict=True):
            if part.kind == "item":
                position = self._position(part.value)
                excluded.append(position)
                found = self._item_blocks(position)
            elif part.kind == "vector":
                found = [self._vector_block(*part.value)]
            else:
                found = [(s, m, self._block(s, m, encoded[s, m, data])) for s, m, data in wanted]
            for space, modality, block in found:
                weight = part.weight * self._weight(query, space, modality)
                if weight:
                    terms.setdefault(space, []).append((weight, block))
        blocks, lengths = _add_up(terms)
        if not blocks:
            raise NoWeightError(
                "query",
                expected="a weight other than zero for at least one part in one space",
                got="parts whose weights are all zero or cancel out",
                remedy="Raise a weight, or leave out parts that say the same with both signs.",
            )
        return Composed(self._generation.fusion.fuse_query(blocks), excluded, lengths)

    def _vector_block(self, space: str | None, vector: Floats) -> tuple[str, str, Floats]:
        """Space, modality and block of a ready-made vector."""
        ready = self._vector_spaces
        if not ready:
            raise self._not_indexed("vector")
        name = next(iter(ready)) if space is None and len(ready) == 1 else space
        if name not in ready:
            raise ModalityNotIndexedError(
                "vector part",
                expected=f"the name of one of the spaces {list(ready)}",
                got=repr(space),
                remedy='Pass vector={"name": array}.',
            )
        modality, dimension = ready[name]
        if len(vector) != dimension:
            raise InvalidVectorError(
                f"vector part for space {name!r}",
                expected=f"{dimension} values",
                got=f"{len(vector)}",
                remedy="Use the model that made the catalog's vectors.",
            )
        return name, modality, self._block(name, modality, vector)

    def _weight(self, query: Query, space: str, modality: str) -> float:
        """The query's weight for the space, else for the modality, else the index's default."""
        given = query.weights.get(space)
        if given is None:
            given = query.weights.get(kind_of_input(modality))
        return self._weights[space] if given is None else given

    def _block(self, space: str, modality: str, vector: Floats) -> Floats:
        return self._generation.fusion.transforms[space].query_block(vector, modality)

    def _item_blocks(self, position: int) -> list[tuple[str, str, Floats]]:
        generation = self._generation
        row = generation.searcher.rows.take(np.array([position]))[0]
        found = []
        for space, here in zip(self._spaces, generation.mask[position], strict=True):
            if here:
                name = space.spec.name
                block = row[self._blocks[name]] / np.sqrt(np.float32(space.spec.weight))
                query = generation.fusion.transforms[name].item_as_query(block)
                found.append((name, space.spec.item, query))
        return found

    def _position(self, item_id: str) -> int:
        # The store refuses keys that no id can be.
        storable = 0 < len(item_id.encode("utf-8", "surrogatepass")) <= MAX_ID_BYTES
        row = self._snapshot.row_of(item_id) if storable else None
        position = None if row is None else self._generation.position_of(row)
        if position is None:
            raise UnknownItemError(
                "item part",
                expected="an id of the index",
                got=repr(item_id),
                remedy="Check the id; ids are strings, compared exactly.",
            )
        return position

    def _check_weights(self, query: Query) -> None:
        unknown = [name for name in query.weights if name not in self._weighable]
        if unknown:
            raise UnknownWeightError(
                "weights",
                expected=f"spaces or modalities of the index: {', '.join(sorted(self._weighable))}",
                got=repr(unknown[0]),
                remedy="See `catalens inspect INDEX` for its spaces.",
            )

    def _not_indexed(self, modality: str) -> ModalityNotIndexedError:
        reached = {kind_of_input(m) for s in self._spaces for m in s.spec.encoders}
        return ModalityNotIndexedError(
            f"{modality} part",
            expected=f"one of the modalities this index is reached from: {sorted(reached)}",
            got=modality,
            remedy=f"Build the index with a column of {modality} and a preset that encodes it.",
        )


def _add_up(
    terms: Mapping[str, Sequence[tuple[float, Floats]]],
) -> tuple[dict[str, Floats], dict[str, float]]:
    """Weighted unit blocks (d_s,) per space to their sum and its length.

    Spaces where the terms cancel out are left out: the query does not ask them.
    """
    blocks, lengths = {}, {}
    for space, weighted in terms.items():
        # Added up in proportion to the weights, of which only then the size counts.
        total = sum(abs(weight) for weight, _ in weighted)
        shares = [
            one if weight == total else one * np.float32(weight / total) for weight, one in weighted
        ]
        block = shares[0]
        for other in shares[1:]:
            block = block + other
        length = math.sqrt(block.dot(block))
        if length > _NOTHING:
            blocks[space] = block if total == 1.0 else block * np.float32(total)
            lengths[space] = length * total
    return blocks, lengths
