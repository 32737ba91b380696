"""Why rows score what they score, space by space; and scores that are no inner product.

The index gives candidates by inner product. What is exact only row by row is settled here, on
more candidates than are wanted: the policies for missing modalities that weigh spaces per item,
and items with several inputs of which the most similar one counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from indexer import Live, Snapshot
from indexer.fusion import Match
from indexer.missing import IMPUTED, MISSING, PRESENT
from indexer.pooling import embeddings_of

from .compose import Composed
from .hit import SpaceMatch

Floats = NDArray[np.float32]
Positions = NDArray[np.int64]
States = NDArray[np.uint8]

_NOT_ASKED = {
    MISSING: SpaceMatch(None, False),
    PRESENT: SpaceMatch(None, True),
    IMPUTED: SpaceMatch(None, False, True),
}


class Told(NamedTuple):
    """How rows (h,) match one space that a query asks."""

    match: Match
    weights: Floats
    """float32 (h,): the weight with which the space counts."""

    def take(self, order: Positions) -> Told:
        """The same of some rows, in another order."""
        return Told(Match(*(values[order] for values in self.match)), self.weights[order])


class Account(NamedTuple):
    """How rows (h,) match a query: the state of each space's block, uint8 (h, S), and what the
    spaces that are asked say."""

    states: States
    told: dict[str, Told]

    def scores(self) -> Floats:
        """The sum of all contributions, float32 (h,)."""
        total: Floats = np.sum([one.match.contribution for one in self.told.values()], axis=0)
        return total

    def take(self, order: Positions) -> Account:
        """The same of some rows, in another order."""
        return Account(
            self.states[order], {name: one.take(order) for name, one in self.told.items()}
        )


class Scorer:
    """Scores and explains the items of one state of an index."""

    def __init__(self, live: Live, snapshot: Snapshot) -> None:
        generation = live.generation
        self._live = live
        self._snapshot = snapshot
        self._fusion = generation.fusion
        self._missing = generation.manifest.missing
        self._entries = {entry.spec.name: entry for entry in generation.manifest.spaces}
        self._late = {n for n, entry in self._entries.items() if entry.spec.pool != "mean"}
        self._columns = {name: column for column, name in enumerate(self._entries)}

    def rescores(self, query: Composed) -> bool:
        """Whether a query's scores are other than the inner product that the index knows."""
        return (
            query.missing == "renormalise"
            or (query.missing == "neutral" and self._missing == "impute")
            or not self._late.isdisjoint(query.parts)
        )

    def having(self, spaces: Sequence[str]) -> NDArray[np.bool_]:
        """Which items have all of some spaces, bool (n,); what is imputed they have not."""
        columns = [self._columns[name] for name in spaces]
        here: NDArray[np.bool_] = (self._live.states[:, columns] == PRESENT).all(axis=1)
        return here

    def account(self, query: Composed, positions: Positions, rows: Floats) -> Account:
        """How rows (h, D) match a query, space by space."""
        states = self._live.states.take(positions, axis=0)
        if query.missing == "neutral" and self._missing == "impute":
            states = np.where(states == IMPUTED, np.uint8(MISSING), states)
        told = {}
        for name, part in query.parts.items():
            here = states[:, self._columns[name]]
            match = self._fusion.match(part, name, rows, here)
            if name in self._late:
                match = self._most_similar(query, name, positions, here, match)
            if self._fusion.keeps_spaces_apart and not here.all():
                match = Match(*(values * (here != MISSING) for values in match))
            weights = np.full(len(rows), part.length / part.gate, dtype=np.float32)
            told[name] = Told(match, weights)
        account = Account(states, told)
        return self._renormalised(account, query) if query.missing == "renormalise" else account

    def matches(self, account: Account, query: Composed) -> list[list[SpaceMatch]]:
        """For each space, how each row matches the query there."""
        columns = []
        for name, here in zip(self._columns, account.states.T.tolist(), strict=True):
            if name in account.told:
                columns.append(_matches(account.told[name], here, query.parts[name].gate))
            else:
                columns.append([_NOT_ASKED[state] for state in here])
        return columns

    def not_asked(self, states: States) -> list[list[SpaceMatch]]:
        """For each row of states (h, S), what there is to say of spaces that were not asked."""
        return [[_NOT_ASKED[state] for state in row] for row in states.tolist()]

    def _renormalised(self, account: Account, query: Composed) -> Account:
        """Weights divided by what those of the spaces that are there add up to, sizes alone."""
        there = {name: account.states[:, self._columns[name]] == PRESENT for name in account.told}
        counted = {
            name: one.weights * query.parts[name].gate * one.match.strength * there[name]
            for name, one in account.told.items()
        }
        total = np.sum(list(counted.values()), axis=0)
        share = np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)
        told = {}
        for name, one in account.told.items():
            factor = share * there[name]
            match = one.match._replace(contribution=one.match.contribution * factor)
            told[name] = Told(match, one.weights * factor)
        return account._replace(told=told)

    def _most_similar(
        self, query: Composed, name: str, positions: Positions, states: States, match: Match
    ) -> Match:
        """Of items with several inputs, the input that is most similar to the query counts (late
        interaction; Khattab and Zaharia 2020, arXiv:2004.12832, for one query vector)."""
        entry, transform = self._entries[name], self._fusion.transforms[name]
        modality = entry.spec.item
        block = query.blocks[name]
        numbers = self._live.row_numbers.take(positions).tolist()
        similarity, contribution = match.similarity.copy(), match.contribution.copy()
        average = np.float32(transform.average_similarity(block))
        for row, item in enumerate(self._snapshot.inputs(numbers)):
            if states[row] != PRESENT or len(item.hashes[modality]) < 2:
                continue
            several = np.stack(
                embeddings_of(self._snapshot, entry.fingerprints[modality], modality, item)
            )
            best = float((transform.query_blocks(several, modality) @ block).max())
            scale = query.parts[name].length * match.strength[row]
            similarity[row], contribution[row] = best, scale * (best - average)
        return Match(contribution, similarity, match.strength)


def _matches(told: Told, states: list[int], gate: float) -> list[SpaceMatch]:
    match = told.match
    # Rows are rounded, so their blocks are not quite of unit length.
    return [
        SpaceMatch(
            max(-1.0, min(1.0, s)), state == PRESENT, state == IMPUTED, w, gate * strength, c
        )
        if state != MISSING
        else SpaceMatch(None, False, False, w, 0.0, c)
        for s, state, w, strength, c in zip(
            match.similarity.tolist(),
            states,
            told.weights.tolist(),
            match.strength.tolist(),
            match.contribution.tolist(),
            strict=True,
        )
    ]
