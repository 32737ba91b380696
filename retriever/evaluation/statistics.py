"""What a mean over queries is worth: confidence intervals, and a test of paired differences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

CONFIDENCE = 0.95
_RESAMPLES = 2_000
_PERMUTATIONS = 9_999
_AT_ONCE = 100
# Sums in another order differ by this; it is no difference of two rankings.
_NOTHING = 1e-12


@dataclass(frozen=True)
class Estimate:
    """A mean over queries, and the interval that holds it with 95 % confidence; None where a single
    query tells nothing of others."""

    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Difference(Estimate):
    """A mean difference of pairs, and how probable one so far from 0 is by chance alone."""

    p: float


def estimate(values: Doubles, seed: int = 0) -> Estimate:
    """The mean of values (m,), m >= 1, with a bootstrap interval (percentile method; Efron and
    Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13)."""
    from scipy.stats import bootstrap

    mean = float(values.mean())
    if len(values) < 2:
        return Estimate(mean, None, None)
    if np.ptp(values) <= _NOTHING:
        return Estimate(mean, mean, mean)
    found = bootstrap(
        (values,),
        np.mean,
        n_resamples=_RESAMPLES,
        batch=_AT_ONCE,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Estimate(mean, float(found.low), float(found.high))


def difference(ours: Doubles, theirs: Doubles, seed: int = 0) -> Difference:
    """The mean of ours - theirs, both (m,) over the same queries, and its two-sided p by a paired
    randomisation test (Smucker, Allan and Carterette 2007, "A comparison of statistical
    significance tests for information retrieval evaluation")."""
    from scipy.stats import permutation_test

    each = ours - theirs
    each[np.abs(each) <= _NOTHING] = 0
    told = estimate(each, seed)
    p = 1.0
    if len(each) > 1 and each.any():
        p = float(
            permutation_test(
                (each,),
                np.mean,
                permutation_type="samples",
                vectorized=True,
                n_resamples=_PERMUTATIONS,
                batch=_AT_ONCE,
                rng=np.random.default_rng(seed),
            ).pvalue
        )
    return Difference(told.mean, told.low, told.high, p)
