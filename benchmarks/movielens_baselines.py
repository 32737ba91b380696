"""What others would recommend: popularity, ItemKNN, EASE, implicit's ALS and BPR, and, each in an
environment of its own, LightFM and Surprise's SVD.

Each gives scores of all items for all users. Where it has settings, all of a small grid are tried
on what is held out, and the best counts: more than any user could know, and in their favour.
"""

from __future__ import annotations

import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from .harness import cores
from .movielens_data import POSITIVE, Case
from .peers.contestants import Contestant
from .peers.environments import interpreter
from .peers.errors import PeerFailedError

Doubles = NDArray[np.float64]

HALF_LIFE = 50.0
"""Interactions, in the recency-weighted history; that of `recommend`."""
_MISSING = "the results of the child"


@dataclass(frozen=True)
class Training:
    """Histories as matrices (users, items): `positive` 1 where liked, `all` 1 where rated, `recent`
    the same fading with age; `values` and `times` of the ratings; and 0/1 features of items."""

    positive: Doubles
    all: Doubles
    recent: Doubles
    values: Doubles
    features: Doubles

    @classmethod
    def of(cls, cases: Sequence[Case], places: Mapping[str, int], features: Doubles) -> Training:
        """Of histories alone; `places` numbers the items."""
        shape = (len(cases), len(places))
        positive, rated, recent, values = (np.zeros(shape) for _ in range(4))
        for row, case in enumerate(cases):
            for age, (item, value, _) in enumerate(reversed(case.history)):
                column = places[item]
                values[row, column] = value
                rated[row, column] = 1
                positive[row, column] = value >= POSITIVE
                recent[row, column] = 0.5 ** (age / HALF_LIFE)
        return cls(positive, rated, recent, values, features)


Scores = Iterator[tuple[str, Doubles]]
"""Settings, as text, and scores (users, items) by them."""


def popularity(training: Training) -> Scores:
    """How many liked an item."""
    yield "", np.tile(training.positive.sum(axis=0), (len(training.positive), 1))


def item_knn(training: Training) -> Scores:
    """Cosine of items by who liked them, the most similar ones alone (implicit)."""
    from implicit.nearest_neighbours import CosineRecommender

    for neighbours in (20, 50, 100, 200):
        model = CosineRecommender(K=neighbours)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a conversion that implicit makes itself
            model.fit(csr_matrix(training.positive), show_progress=False)
        similarity = model.similarity.toarray()
        np.fill_diagonal(similarity, 0)
        yield f"{neighbours} neighbours", training.positive @ similarity
        yield f"{neighbours} neighbours, recent", (training.recent * training.positive @ similarity)


def ease(training: Training) -> Scores:
    """EASE in closed form, on what was liked."""
    for penalty in (50, 100, 200, 400):
        yield f"lambda {penalty}", training.positive @ ease_weights(training.positive, penalty)


def ease_recent(training: Training) -> Scores:
    """EASE on all ratings or on the liked ones, of a history that fades."""
    for name, matrix in (("all ratings", training.all), ("liked", training.positive)):
        for penalty in (100, 200, 400, 800):
            weights = ease_weights(matrix, penalty)
            yield f"{name}, lambda {penalty}", training.recent * matrix @ weights


def ease_weights(matrix: Doubles, penalty: float) -> Doubles:
    """Item-to-item weights (n, n) as in Steck 2019, by numpy's inverse."""
    inverse = np.linalg.inv(matrix.T @ matrix + penalty * np.eye(matrix.shape[1]))
    weights: Doubles = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return weights


def als(training: Training) -> Scores:
    """Alternating least squares (implicit)."""
    from implicit.cpu.als import AlternatingLeastSquares

    for factors in (16, 32, 64):
        for alpha in (1.0, 5.0):
            model = partial(AlternatingLeastSquares, factors=factors, alpha=alpha, iterations=15)
            yield f"{factors} factors, alpha {alpha:g}", _fitted(model, training)


def bpr(training: Training) -> Scores:
    """Bayesian personalised ranking (implicit)."""
    from implicit.cpu.bpr import BayesianPersonalizedRanking

    for factors in (32, 64):
        for rate in (0.01, 0.05):
            model = partial(
                BayesianPersonalizedRanking, factors=factors, learning_rate=rate, iterations=200
            )
            yield f"{factors} factors, rate {rate:g}", _fitted(model, training)


def _fitted(kind: Callable[..., Any], training: Training) -> Doubles:
    with threadpool_limits(1, "blas"):
        model = kind(random_state=0, num_threads=cores())
        model.fit(csr_matrix(training.positive, dtype=np.float32), show_progress=False)
    scores: Doubles = np.asarray(model.user_factors @ model.item_factors.T, dtype=np.float64)
    return scores


OURS_TO_RUN: Mapping[str, Callable[[Training], Scores]] = {
    "popularity": popularity,
    "ItemKNN": item_knn,
    "EASE": ease,
    "EASE, recency-weighted": ease_recent,
    "implicit ALS": als,
    "implicit BPR": bpr,
}
"""Those that need no environment of their own."""

_NUMPY = "numpy>=1.26,<3"
APART = (
    Contestant(
        "LightFM", "lightfm", {}, [], "lightfm-next", ("lightfm-next>=1.17", _NUMPY, "scipy")
    ),
    Contestant("Surprise SVD", "surprise", {}, [], "surprise", ("scikit-surprise>=1.1.4", _NUMPY)),
)
"""Those that have one; see `movielens_child.py`."""


def run_apart(contestant: Contestant, training: Training) -> Scores:
    """Train a library in its own environment.

    Raises:
        PeerFailedError: it does not install, or fails.
    """
    python = interpreter(contestant)
    with tempfile.TemporaryDirectory(prefix="catalens-movielens-") as folder:
        given, found = Path(folder, "training.npz"), Path(folder, "scores.npz")
        np.savez(
            given,
            positive=training.positive,
            values=training.values,
            features=training.features,
        )
        child = Path(__file__).with_name("movielens_child.py")
        done = subprocess.run(
            [str(python), str(child), contestant.adapter, str(given), str(found)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise PeerFailedError(
                contestant.name,
                expected="scores of all items for all users",
                got=" ".join(done.stderr.strip().splitlines()[-2:]) or f"status {done.returncode}",
                remedy="The others are measured without it.",
            )
        with np.load(found) as scores:
            yield from ((name, scores[name]) for name in scores.files)
