"""What a head learns from: queries, the candidates that retrieval returned, and their grades."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

K = 10


class Judgement(NamedTuple):
    """One query's candidates: features float32 (h, F) in the order of the fused score, grades
    float32 (h,), 0 for what is not relevant, and the most that 10 hits could gain (`ideal_gain`),
    by all that is relevant, found or not. Those of one `group` are never parted by a split."""

    group: str
    features: Floats
    grades: Floats
    ideal: float


@dataclass(frozen=True)
class Examples:
    """Queries side by side, padded to as many candidates as any has."""

    features: Floats
    """float32 (Q, C, F); zeros behind the last candidate."""
    there: Bools
    """bool (Q, C): where there is a candidate."""
    grades: Floats
    """float32 (Q, C)."""
    ideals: Doubles
    """float64 (Q,), above 0."""
    groups: Ints
    """int64 (Q,): queries of one group share a number."""

    @classmethod
    def of(cls, judged: Sequence[Judgement]) -> Examples:
        """Some judgements, at least one."""
        most = max(len(one.grades) for one in judged)
        width = judged[0].features.shape[1]
        features = np.zeros((len(judged), most, width), dtype=np.float32)
        there = np.zeros((len(judged), most), dtype=bool)
        grades = np.zeros((len(judged), most), dtype=np.float32)
        for row, one in enumerate(judged):
            h = len(one.grades)
            features[row, :h], there[row, :h], grades[row, :h] = one.features, True, one.grades
        numbers = {group: n for n, group in enumerate(dict.fromkeys(one.group for one in judged))}
        return cls(
            features,
            there,
            grades,
            np.array([one.ideal for one in judged]),
            np.array([numbers[one.group] for one in judged]),
        )

    def __len__(self) -> int:
        return len(self.grades)

    def take(self, rows: Ints) -> Examples:
        """Some of the queries."""
        return Examples(
            self.features[rows],
            self.there[rows],
            self.grades[rows],
            self.ideals[rows],
            self.groups[rows],
        )

    @property
    def teaching(self) -> Bools:
        """Which queries have a candidate that is relevant and one that is not, bool (Q,)."""
        relevant = (self.grades > 0) & self.there
        other = (self.grades <= 0) & self.there
        return np.logical_and(relevant.any(axis=1), other.any(axis=1))

    @property
    def fused(self) -> Floats:
        """Scores that keep the order of retrieval, float32 (Q, C)."""
        ranks = np.arange(self.grades.shape[1], dtype=np.float32)
        return np.broadcast_to(-ranks, self.grades.shape).copy()

    def ndcg(self, scores: Floats) -> Doubles:
        """NDCG@10 of each query, float64 (Q,), for scores float32 (Q, C); ties in the order of
        retrieval. As `indexer.learning.ranking.ndcg_each`, for grades, and with what retrieval
        did not find in the ideal."""
        ranked = np.where(self.there, -scores.astype(np.float64), np.inf)
        order = np.argsort(ranked, axis=1, kind="stable")[:, :K]
        gains = np.take_along_axis(self.grades, order, axis=1)
        discounts = 1 / np.log2(np.arange(2, gains.shape[1] + 2))
        each: Doubles = (gains @ discounts) / self.ideals
        return each


def ideal_gain(grades: Sequence[float]) -> float:
    """The discounted gain of the 10 best grades, in order."""
    best = np.sort([grade for grade in grades if grade > 0])[::-1][:K]
    return float(best @ (1 / np.log2(np.arange(2, len(best) + 2))))


def split(groups: Ints, parts: int, seed: int) -> Ints:
    """A part from 0 to `parts` - 1 for each query, int64 (Q,); groups stay together, and parts have
    as many groups as can be."""
    numbers = np.unique(groups)
    order = np.random.default_rng(seed).permutation(len(numbers))
    part = np.empty(len(numbers), dtype=np.int64)
    part[order] = np.arange(len(numbers)) % parts
    return part[np.searchsorted(numbers, groups)]
