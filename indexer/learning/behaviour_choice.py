"""How much to regularise, and how much behaviour counts beside content: asked of what users liked
last, which was kept from learning."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .collaborative import ItemPairs
from .preference import HeldOut, Scale, profile
from .ranking import ndcg_at

Floats = NDArray[np.float32]
Scored = Callable[[Floats], Floats]

WEIGHTS = (0.3, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0, 30.0, 50.0, 80.0, 120.0, 200.0)
"""Default weights that are tried for behaviour, beside those of the other spaces."""
DEFAULT_WEIGHT = 20.0
LEAST_ASKED = 20
"""Of fewer users nothing is chosen, and the defaults are taken."""
_MOST_ASKED = 1_000
_MOST_CANDIDATES = 20_000


class Trial:
    """Users whose last likes are asked for, of candidates that hold these."""

    def __init__(self, held_out: HeldOut, items: int, scale: Scale, seed: int) -> None:
        generator = np.random.default_rng(seed)
        asked = np.arange(len(held_out.asked))
        if len(asked) > _MOST_ASKED:
            asked = np.sort(generator.choice(asked, _MOST_ASKED, replace=False))
        relevant = [held_out.relevant[n] for n in asked.tolist()]
        candidates = np.arange(items)
        if items > _MOST_CANDIDATES:
            drawn = generator.choice(items, _MOST_CANDIDATES, replace=False)
            candidates = np.unique(np.concatenate([drawn, *relevant]))
        place = np.full(items, -1)
        place[candidates] = np.arange(len(candidates))
        self.users = len(asked)
        self.candidates = candidates
        self._relevant = [place[one] for one in relevant]
        self._profiles: Floats = np.zeros((len(asked), items), dtype=np.float32)
        self._seen = np.zeros((len(asked), len(candidates)), dtype=bool)
        for row, number in enumerate(asked.tolist()):
            history = held_out.histories[held_out.asked[number]]
            np.add.at(self._profiles[row], history.items, profile(history, scale))
            here = place[history.items]
            self._seen[row, here[here >= 0]] = True

    def scores(self, items: Floats, liked: Floats) -> Floats:
        """Scores (users, candidates) by vectors (items, d) of all items."""
        asked: Floats = np.matmul(self._profiles, liked, dtype=np.float32)
        found: Floats = asked @ items[self.candidates].T
        return found

    def ndcg(self, scores: Floats) -> float:
        """NDCG@10 of scores (users, candidates); what a user has seen is no candidate."""
        return ndcg_at(np.where(self._seen, -np.inf, scores).astype(np.float32), self._relevant)


@dataclass(frozen=True)
class Choice:
    """What was chosen, and NDCG@10 of what users liked last by it: `behaviour` and `content` alone,
    and `both`; None where there were too few users to ask. `setting` is EASE's penalty, or the rank
    of another method."""

    setting: float
    weight: float
    users: int
    popularity: float | None = None
    behaviour: float | None = None
    content: float | None = None
    both: float | None = None


def choose(
    trial: Trial,
    pairs_by: Callable[[float], ItemPairs],
    settings: Sequence[float],
    blocks: Mapping[str, tuple[float, Floats]],
    popularity: Floats,
) -> Choice:
    """Choose a setting by behaviour alone, then the weight beside content.

    Args:
        trial: who is asked.
        pairs_by: item vectors by a setting, learned without what is asked for.
        settings: those to try, the default first.
        blocks: for each other space, its default weight and the blocks (items, d) of all items.
        popularity: float32 (items,), without what is asked for.
    """
    if trial.users < LEAST_ASKED:
        return Choice(settings[0], DEFAULT_WEIGHT, trial.users)
    best, ndcg, scores = settings[0], -1.0, None
    for setting in settings:
        pairs = pairs_by(setting)
        found = trial.scores(pairs.items, pairs.liked)
        if (value := trial.ndcg(found)) > ndcg:
            best, ndcg, scores = setting, value, found
    assert scores is not None
    content: Floats = np.zeros_like(scores)
    for weight, rows in blocks.values():
        content += np.float32(weight) * trial.scores(rows, rows)
    together = {w: trial.ndcg(np.float32(w) * scores + content) for w in WEIGHTS}
    weight = max(together, key=lambda one: together[one])
    return Choice(
        setting=best,
        weight=weight,
        users=trial.users,
        popularity=trial.ndcg(np.tile(popularity[trial.candidates], (trial.users, 1))),
        behaviour=ndcg,
        content=trial.ndcg(content),
        both=together[weight],
    )
