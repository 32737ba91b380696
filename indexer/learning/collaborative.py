"""Item vectors from what users did: pairs of a vector by which an item is found, and one by which
it asks for others when a user likes it.

A user's score for item j is `sum_i h_i <liked_i, item_j>` over the history h, so that a history is
a sum of `liked` vectors, and items are an ordinary space that is searched by inner product.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Method = Literal["ease", "als", "bpr"]
METHODS: tuple[str, ...] = get_args(Method)

RANK = 126
"""With the two slack dimensions of `unit_pairs`, 128."""
PENALTIES = (200.0, 25.0, 50.0, 100.0, 400.0, 800.0, 1600.0)
"""Those of EASE that are tried, the default first."""
RANKS = (32, 16, 64)
"""Those of the other methods that are tried, the default first; a user's own comes last."""
# Up to so many items all eigenvectors are computed: 8,000 take 512 MB and about 2 minutes.
_MOST_DENSE = 8_000
# Beyond, so many singular vectors for each that is kept tell the diagonal of the inverse.
_TIMES_RANK = 2
# The ridge of the map from sums of item vectors to a model's own users, beside values near 1.
_FOLD_IN_RIDGE = 1e-3
_ITERATIONS = {"als": 15, "bpr": 100}


@dataclass(frozen=True)
class ItemPairs:
    """For each item, float32 (n, r): `items`, by which it is found, and `liked`, by which a history
    that has it asks. The longest of each is of length 1."""

    items: Floats
    liked: Floats

    @classmethod
    def scaled(cls, items: Doubles, liked: Doubles) -> ItemPairs:
        """Both divided by their longest."""
        return cls(*((x / _longest(x)).astype(np.float32) for x in (items, liked)))

    def unit_pairs(self) -> tuple[Floats, Floats]:
        """The same as unit vectors (n, r + 2) with the same inner products: what each lacks of
        length 1 goes into a dimension that the other side has not (as in Neyshabur and Srebro 2015,
        arXiv:1410.5518), so that lengths, which tell popular items from rare ones, are kept."""
        items, liked = _slack(self.items), _slack(self.liked)
        nothing = np.zeros_like(items)
        return (
            np.concatenate([self.items, items, nothing], axis=1),
            np.concatenate([self.liked, nothing, liked], axis=1),
        )


def _longest(x: Doubles) -> float:
    return float(np.linalg.norm(x, axis=1).max(initial=0.0)) or 1.0


def _slack(x: Floats) -> Floats:
    squares = np.einsum("ij,ij->i", x, x, dtype=np.float64)
    slack: Floats = np.sqrt(np.maximum(1.0 - squares, 0.0)).astype(np.float32)[:, None]
    return slack


class Ease:
    """Item-to-item weights in closed form (EASE; Steck 2019, arXiv:1905.03375), factorised.

    With P the inverse of X'X + penalty, EASE's weights are -P_ij / P_jj off the diagonal. There
    they equal those of (1/penalty - P)_ij / P_jj, and that matrix before the division is positive
    semidefinite with the eigenvectors of X'X: cut off at a rank, it is F F', so that `liked` is F
    and `items` is F over P's diagonal. Its own diagonal is not zero, which tells only of items that
    the history has already. One decomposition serves all penalties.
    """

    def __init__(self, matrix: Any, rank: int = RANK) -> None:
        """Decompose X, a SciPy sparse array (users, n) of how much each user likes each item."""
        users, n = matrix.shape
        self._rank = min(rank, n, users)
        if n <= _MOST_DENSE:
            gram = (matrix.T @ matrix).toarray().astype(np.float64)
            values, vectors = np.linalg.eigh(gram)
        else:
            from scipy.sparse.linalg import svds

            kept = min(_TIMES_RANK * rank, min(users, n) - 1)
            _, singular, rows = svds(matrix.astype(np.float64), k=kept, rng=0)
            values, vectors = singular**2, rows.T
        order = np.argsort(-values)
        self._values: Doubles = np.maximum(values[order], 0.0)
        self._vectors: Doubles = vectors[:, order]

    def pairs(self, penalty: float) -> ItemPairs:
        """Item vectors by this penalty on the squares of the weights, above 0."""
        shrunk = self._values / (self._values + penalty)
        # P's diagonal times the penalty.
        diagonal = 1.0 - np.square(self._vectors) @ shrunk
        kept = slice(self._rank)
        factors = self._vectors[:, kept] * np.sqrt(shrunk[kept])
        return ItemPairs.scaled(factors / np.maximum(diagonal, 1e-9)[:, None], factors)


def latent_factors(method: Method, matrix: Any, rank: int, seed: int) -> ItemPairs:
    """Item vectors by alternating least squares (Hu, Koren and Volinsky 2008) or Bayesian
    personalised ranking (Rendle et al. 2009, arXiv:1205.2618), as `implicit` trains them.

    A user is folded in by the linear map from the sum of a history's item vectors that comes
    nearest to the users that were trained.

    Args:
        method: `als` or `bpr`.
        matrix: SciPy sparse array (users, n) of how much each user likes each item.
        rank: length of the vectors.
        seed: the same seed gives the same vectors on one thread.
    """
    from scipy.sparse import csr_matrix
    from threadpoolctl import threadpool_limits

    make = _model_of(method, min(rank, *matrix.shape), seed)
    # implicit has threads of its own, and warns of those of a BLAS that is loaded.
    with threadpool_limits(1, "blas"):
        model = make()
        model.fit(csr_matrix(matrix, dtype=np.float32), show_progress=False)
    items = np.asarray(model.item_factors, dtype=np.float64)
    users = np.asarray(model.user_factors, dtype=np.float64)
    sums = np.asarray(matrix @ items)
    gram = sums.T @ sums
    ridge = _FOLD_IN_RIDGE * float(np.trace(gram)) / len(gram) + 1e-12
    fold_in = np.linalg.solve(gram + ridge * np.eye(len(gram)), sums.T @ users)
    return ItemPairs.scaled(items, items @ fold_in)


def _model_of(method: Method, rank: int, seed: int) -> Callable[[], Any]:
    """Makes the model; what it needs is imported by now."""
    shared: dict[str, Any] = {"factors": rank, "random_state": seed, "num_threads": 1}
    shared["iterations"] = _ITERATIONS[method]
    if method == "als":
        from implicit.cpu.als import AlternatingLeastSquares

        return partial(AlternatingLeastSquares, **shared, alpha=1.0)
    from implicit.cpu.bpr import BayesianPersonalizedRanking

    return partial(BayesianPersonalizedRanking, **shared)
