"""Weights of spaces searched against judgements; the index stays as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from .derivation import Derivation
from .errors import FusionError
from .fusion import ConcatFusion
from .learn import gathered
from .learning.queries import Judged
from .learning.weights import Proposed, propose_weights
from .opening import open_latest
from .progress import Progress
from .rebuild import index_layout


def sweep_weights(
    path: str | Path, judged: Sequence[Judged], *, seed: int = 0, progress: Progress
) -> Proposed:
    """Weights that rank what was judged best, searched as `learn_fusion` does for `concat`, on the
    catalog as it is, without further holes.

    Raises:
        FusionError: the fusion is not `concat`, where alone a weight scales a similarity.
        OneSpaceError: the index has a single space.
        JudgementsError: no judgement names an item of the index.
        NotAnIndexError, CorruptIndexError: the index itself.
    """
    layout = index_layout(path)
    store, snapshot, recipe = open_latest(layout, lambda now: Derivation.read(now).recipe)
    try:
        with snapshot:
            if recipe.fusion != ConcatFusion.kind:
                raise FusionError(
                    "fusion of the index",
                    expected="concat, where a weight scales the similarity in one space",
                    got=repr(recipe.fusion),
                    remedy="catalens rebuild INDEX --fusion concat; nothing is encoded again.",
                )
            data = gathered(snapshot, recipe, list(judged), progress).data
    finally:
        store.close()
    filled = {name: data.blocks[name].copy() for name in data.blocks}
    for name, block in filled.items():
        missing = ~block.any(axis=1)
        block[missing] = data.imputed[name][missing]
    return propose_weights(
        replace(data, blocks=filled),
        by_heads=(),
        impute=False,
        shares=(0.0,),
        alike=0.0,
        seed=seed,
        progress=progress,
    )
