"""Queries to fused query vectors: which part reaches which space, with what weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from encoders import InvalidVectorError
from indexer import Live, PolicyError, Snapshot, kind_of_input
from indexer.fusion import QueryPart, unit
from indexer.heads import AlignedReach
from indexer.missing import PRESENT, renormalise_needs
from indexer.modalities import LIKED
from indexer.pooling import pooled
from indexer.row_parser import MAX_ID_BYTES

from .errors import ModalityNotIndexedError, NoWeightError, UnknownItemError, UnknownWeightError
from .query import Part, Query
from .query_encoder import QueryEncoder

Floats = NDArray[np.float32]
Input = tuple[str, str, bytes]
_Block = tuple[str, str, float, Floats]
"""Space, modality, trust and block of one way that a part reaches a space."""
# Those of a history are looked up when it is weighed, and when it is composed.
_POSITIONS_KEPT = 100_000


class Past(NamedTuple):
    """A history behind a query, for a head to look at: the same with its last few items alone, and
    the positions (m,) of what is liked in it with weights float32 (m,) that add up to 1."""

    recent: Composed
    liked: NDArray[np.int64]
    weights: Floats


class Composed(NamedTuple):
    """A fused query vector (D,), and the positions that must not be among its hits.

    `parts` has, for each space that the query asks, what it adds to the vector; `blocks` the unit
    block (d_s,) that it asks for there. `missing` is the policy for blocks that items lack.
    """

    vector: Floats
    excluded: list[int]
    parts: Mapping[str, QueryPart]
    terms: dict[str, list[tuple[float, Floats]]]
    missing: str
    is_against: bool
    past: Past | None = None

    @property
    def blocks(self) -> dict[str, Floats]:
        """The unit block (d_s,) of each space that the query asks."""
        return {
            name: unit(
                np.sum([np.float32(weight) * block for weight, block in self.terms[name]], axis=0)
            )
            for name in self.parts
        }


class Composer:
    """Composes the query vectors of one state of an index."""

    def __init__(self, live: Live, snapshot: Snapshot, encoder: QueryEncoder) -> None:
        generation = live.generation
        self._live = live
        self._snapshot = snapshot
        self._encoder = encoder
        self._spaces = generation.manifest.spaces
        self._fusion = generation.fusion
        self.find = lru_cache(_POSITIONS_KEPT)(self._find)
        """Position of an item; None where the index has it not."""
        self._leads: dict[tuple[str, str], list[tuple[str, AlignedReach]]] = {}
        for target, heads in generation.heads.items():
            for modality, reach in heads.items():
                self._leads.setdefault((reach.source, modality), []).append((target, reach))
        self._missing = generation.manifest.missing
        self._weights = generation.manifest.weights
        modalities = {kind_of_input(m) for space in self._spaces for m in space.modalities}
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
        encoded = self._encoder.encode(wanted, self._snapshot) if wanted else {}
        items = self._items(queries)
        return [
            self._compose(query, parts, encoded, items)
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
        self,
        query: Query,
        inputs: list[list[Input]],
        encoded: dict[Input, Floats],
        items: Mapping[int, list[_Block]],
    ) -> Composed:
        if query.weights:
            self._check_weights(query)
        missing = self._policy(query)
        terms: dict[str, list[tuple[float, Floats]]] = {}
        excluded = []
        against = False
        for part, wanted in zip(query.parts, inputs, strict=True):
            if part.kind == "item":
                position = self._position(part.value)
                excluded.append(position)
                blocks = items[position]
            elif part.kind == "vector":
                blocks = self._blocks([self._vector(*part.value)])
            else:
                vectors = [(one[0], one[1], encoded[one]) for one in wanted if one in encoded]
                blocks = self._blocks(vectors)
            for space, modality, trust, block in blocks:
                weight = part.weight * self._weight(query, space, modality) * trust
                if weight:
                    terms.setdefault(space, []).append((weight, block))
                    against = against or weight < 0
        vector, parts = self._fusion.fuse_query(terms)
        if not parts:
            raise NoWeightError(
                "query",
                expected="a weight other than zero for at least one part in one space",
                got="parts whose weights are all zero or cancel out",
                remedy="Raise a weight, or leave out parts that say the same with both signs.",
            )
        return Composed(vector, excluded, parts, terms, missing, against)

    def _policy(self, query: Query) -> str:
        """The query's policy for missing modalities, else the index's."""
        missing = self._missing if query.missing is None else query.missing
        if missing == "renormalise":
            renormalise_needs(self._fusion.keeps_spaces_apart, self._fusion.kind)
        if missing == "impute" and self._missing != "impute":
            raise PolicyError(
                "policy `impute`",
                expected="an index that was built or rebuilt with it",
                got=f"one with `{self._missing}`",
                remedy="catalens rebuild INDEX --missing impute; nothing is encoded again.",
            )
        return missing

    def _items(self, queries: Sequence[Query]) -> dict[int, list[_Block]]:
        """The blocks of all items that queries name, by position; each is read once."""
        positions = {
            self._position(part.value): None
            for query in queries
            for part in query.parts
            if part.kind == "item"
        }
        if not positions:
            return {}
        some = list(positions)
        vectors = self._item_vectors(some)
        return {p: self._blocks(own) for p, own in zip(some, vectors, strict=True)}

    def _blocks(self, vectors: list[tuple[str, str, Floats]]) -> list[_Block]:
        """Encoder vectors of one part, as (space, modality, vector), to the blocks that they give:
        in their own space and, through heads, in others that no vector of the part is in."""
        transforms = self._fusion.transforms
        found = [
            (space, modality, 1.0, transforms[space].query_block(vector, modality))
            for space, modality, vector in vectors
        ]
        if not self._leads:
            return found
        own = {space for space, _, _ in vectors}
        for space, modality, vector in vectors:
            for target, reach in self._leads.get((space, modality), ()):
                if target not in own:
                    aligned = reach.head(vector[None])[0]
                    if aligned.any():
                        block = transforms[target].query_block(aligned, modality)
                        found.append((target, modality, reach.trust, block))
        return found

    def _vector(self, space: str | None, vector: Floats) -> tuple[str, str, Floats]:
        """Space, modality and unit vector of a ready-made vector."""
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
        return name, modality, vector

    def _weight(self, query: Query, space: str, modality: str) -> float:
        """The query's weight for the space, else for the modality, else the index's default."""
        if not query.weights:
            return self._weights[space]
        given = query.weights.get(space)
        if given is None:
            given = query.weights.get(kind_of_input(modality))
        return self._weights[space] if given is None else given

    def _item_vectors(self, positions: list[int]) -> list[list[tuple[str, str, Floats]]]:
        """What items are indexed by, each as (space, modality, unit encoder vector)."""
        inputs = self._snapshot.inputs(self._live.row_numbers[positions].tolist())
        states = self._live.states[positions]
        found: list[list[tuple[str, str, Floats]]] = [[] for _ in positions]
        for column, entry in enumerate(self._spaces):
            # A liked item asks by another vector than it is found by, where it has two.
            modality = LIKED if LIKED in entry.fingerprints else entry.spec.item
            here = np.flatnonzero(states[:, column] == PRESENT).tolist()
            some = [inputs[n] for n in here]
            x, known = pooled(self._snapshot, entry.fingerprints[modality], modality, some)
            for n, vector, is_known in zip(here, x, known.tolist(), strict=True):
                if is_known:
                    found[n].append((entry.spec.name, modality, vector))
        return found

    def _find(self, item_id: str) -> int | None:
        # The store refuses keys that no id can be.
        storable = 0 < len(item_id.encode("utf-8", "surrogatepass")) <= MAX_ID_BYTES
        row = self._snapshot.row_of(item_id) if storable else None
        return None if row is None else self._live.position_of(row)

    def _position(self, item_id: str) -> int:
        position = self.find(item_id)
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
        reached = {kind_of_input(m) for s in self._spaces for m in s.modalities}
        return ModalityNotIndexedError(
            f"{modality} part",
            expected=f"one of the modalities this index is reached from: {sorted(reached)}",
            got=modality,
            remedy=f"Build the index with a column of {modality} and a preset that encodes it.",
        )
