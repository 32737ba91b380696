"""Queries to fused query vectors: which part reaches which space, with what weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexer import Generation, Snapshot, SpaceEntry, kind_of_input

from .errors import ModalityNotIndexedError, NoWeightError, UnknownItemError, UnknownWeightError
from .query import Part, Query
from .query_encoder import QueryEncoder

Floats = NDArray[np.float32]
Input = tuple[str, str, bytes]


@dataclass(frozen=True)
class Composed:
    """A fused query vector (D,), and the positions that must not be among its hits."""

    vector: Floats
    excluded: frozenset[int]


class Composer:
    """Composes the query vectors of one generation."""

    def __init__(self, generation: Generation, snapshot: Snapshot, encoder: QueryEncoder) -> None:
        self._generation = generation
        self._snapshot = snapshot
        self._encoder = encoder
        self._spaces = generation.manifest.spaces
        self._blocks = generation.fusion.blocks
        self._weights = generation.manifest.weights

    def compose(self, queries: Sequence[Query]) -> list[Composed]:
        """Query vectors, all inputs encoded in one batch per encoder.

        Raises:
            QueryError: a query that this index cannot answer.
            MediaError: an input is bad.
        """
        for query in queries:
            self._check_weights(query)
        inputs = [[self._inputs(part) for part in query.parts] for query in queries]
        encoded = self._encoder.encode(i for parts in inputs for part in parts for i in part)
        return [
            self._compose(query, parts, encoded)
            for query, parts in zip(queries, inputs, strict=True)
        ]

    def _inputs(self, part: Part) -> list[Input]:
        """What must be encoded for a part: (space, modality, content)."""
        if part.kind == "item":
            return []
        if part.kind == "vector":
            space, content = part.value
            return [self._vector_input(space, content)]
        reached = [s.spec.name for s in self._spaces if part.kind in s.spec.encoders]
        if not reached:
            raise self._not_indexed(part.kind)
        content = self._encoder.content(part)
        return [(space, part.kind, content) for space in reached]

    def _vector_input(self, space: str | None, content: bytes) -> Input:
        ready = [s for s in self._spaces if kind_of_input(s.spec.item) == "vector"]
        chosen = [s for s in ready if space is None or s.spec.name == space]
        if not ready:
            raise self._not_indexed("vector")
        if len(chosen) != 1:
            raise ModalityNotIndexedError(
                "vector part",
                expected=f"the name of one of the spaces {[s.spec.name for s in ready]}",
                got=repr(space),
                remedy='Pass vector={"name": array}.',
            )
        return chosen[0].spec.name, chosen[0].spec.item, content

    def _compose(
        self, query: Query, inputs: list[list[Input]], encoded: dict[Input, Floats]
    ) -> Composed:
        blocks: dict[str, Floats] = {}
        excluded = set()
        for part, wanted in zip(query.parts, inputs, strict=True):
            if part.kind == "item":
                position = self._position(part.value)
                excluded.add(position)
                found = self._item_blocks(position)
            else:
                found = [
                    (space, modality, self._block(space, modality, encoded[space, modality, data]))
                    for space, modality, data in wanted
                ]
            for space, modality, block in found:
                weight = part.weight * self._weight(query, space, modality)
                if weight:
                    blocks[space] = blocks.get(space, np.float32(0)) + np.float32(weight) * block
        vector = self._generation.fusion.fuse_query(blocks)
        if not np.any(np.abs(vector) > 1e-9):
            raise NoWeightError(
                "query",
                expected="a weight other than zero for at least one part in one space",
                got="parts whose weights are all zero or cancel out",
                remedy="Raise a weight, or leave out parts that say the same with both signs.",
            )
        return Composed(vector, frozenset(excluded))

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
        row = self._snapshot.row_of(item_id)
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
        known = _names(self._spaces)
        unknown = [name for name in query.weights if name not in known]
        if unknown:
            raise UnknownWeightError(
                "weights",
                expected=f"spaces or modalities of the index: {', '.join(sorted(known))}",
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


def _names(spaces: list[SpaceEntry]) -> set[str]:
    """Everything a weight may name."""
    modalities = {kind_of_input(m) for space in spaces for m in space.spec.encoders}
    return modalities | {space.spec.name for space in spaces}
