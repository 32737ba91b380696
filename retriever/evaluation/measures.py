"""Measures of rankings, as ir-measures computes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Grades = Mapping[str, int]

NDCG = "NDCG@10"
"""The measure by which settings are chosen."""


def measured(
    rankings: Sequence[Sequence[str]], grades: Sequence[Grades], depth: int
) -> dict[str, Doubles]:
    """Judge rankings: each measure of each query, float64 (m,), between 0 and 1.

    Args:
        rankings: for each query the ids that were found, best first.
        grades: for each query how relevant which id is; 0 and below, and ids that are not named,
            are not. At least one query.
        depth: how many ids were asked for; what is found later counts nowhere.
    """
    import ir_measures
    from ir_measures import AP, RR, R, nDCG

    named = {
        NDCG: nDCG @ 10,
        "MRR@10": RR @ 10,
        "Recall@10": R @ 10,
        f"Recall@{depth}": R @ depth,
        "MAP": AP @ depth,
    }
    # Sorted by score, ties by name: ranks as scores keep the order that hits were shown in.
    run = {
        str(query): {one: float(-rank) for rank, one in enumerate(ids)}
        for query, ids in enumerate(rankings)
        if ids
    }
    qrels = {str(query): dict(judged) for query, judged in enumerate(grades)}
    each = {measure: np.zeros(len(grades)) for measure in named.values()}
    for one in ir_measures.iter_calc(list(each), qrels, run):
        each[one.measure][int(one.query_id)] = one.value
    return {name: each[measure] for name, measure in named.items()}
