"""LightFM or Surprise in an environment of its own: a file of matrices in, one of scores out.

    python movielens_child.py lightfm | surprise TRAINING.npz SCORES.npz

Nothing of Catalens is imported here.
"""

import sys
from typing import Any

import numpy as np

THREADS = 2


def lightfm(given: dict[str, Any]) -> dict[str, Any]:
    """WARP on what was liked, without and with features of items."""
    from lightfm import LightFM
    from scipy.sparse import coo_matrix, csr_matrix, hstack, identity

    positive, features = given["positive"], given["features"]
    items = positive.shape[1]
    with_features = csr_matrix(hstack([identity(items), features]), dtype=np.float32)
    cold = positive.sum(axis=0) == 0
    # An item that nobody touched has learned nothing of its own: its features speak for it.
    asked = csr_matrix(hstack([identity(items).multiply(~cold[:, None]), features]), dtype="f4")
    found = {}
    for factors in (32, 64):
        for epochs in (15, 30, 60):
            for name, known, shown in (
                ("ids", None, None),
                ("ids and features", with_features, asked),
            ):
                model = LightFM(no_components=factors, loss="warp", random_state=0)
                matrix = coo_matrix(positive, dtype=np.float32)
                model.fit(matrix, item_features=known, epochs=epochs, num_threads=THREADS)
                item_bias, item_vectors = model.get_item_representations(shown)
                _, user_vectors = model.get_user_representations()
                scores = user_vectors @ item_vectors.T + item_bias
                found[f"{factors} factors, {epochs} epochs, {name}"] = scores
    return found


def surprise(given: dict[str, Any]) -> dict[str, Any]:
    """SVD on the ratings: predicted ratings."""
    from surprise import SVD, Dataset, Reader

    values = given["values"]
    users, items = np.nonzero(values)
    found = {}
    for factors in (20, 100):
        data = Dataset(Reader(rating_scale=(1, 5)))
        ratings = [
            (int(u), int(i), float(r), None)
            for u, i, r in zip(users, items, values[users, items], strict=True)
        ]
        train = data.construct_trainset(ratings)
        model = SVD(n_factors=factors, random_state=0).fit(train)
        scores = np.full(values.shape, -np.inf)
        known = np.unique(items)
        inner = [train.to_inner_iid(int(i)) for i in known]
        for user in range(values.shape[0]):
            u = train.to_inner_uid(user)
            scores[user, known] = (
                train.global_mean + model.bu[u] + model.bi[inner] + model.qi[inner] @ model.pu[u]
            )
        found[f"{factors} factors"] = scores
    return found


if __name__ == "__main__":
    chosen = {"lightfm": lightfm, "surprise": surprise}[sys.argv[1]]
    with np.load(sys.argv[2]) as given:
        np.savez(sys.argv[3], **chosen(dict(given)))
