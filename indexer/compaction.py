"""Compaction: a generation of all that lives, fresh rows folded in and dead ones dropped."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from .derivation import Derivation
from .durable import translated_os_errors
from .faiss_index import wants_gpu
from .fold import Folding
from .generation import Generation
from .layout import IndexLayout
from .live import Live
from .progress import Progress
from .publish import publish, publish_folded
from .recipe import Recipe
from .store import Store
from .unnamed import drop_unnamed


@dataclass(frozen=True)
class CompactSummary:
    """What a compaction did: how many rows it folded in, how many dead ones it dropped, and how
    many embeddings that no item names; `trained` tells whether spaces and index were fitted and
    trained anew."""

    path: Path
    items: int
    folded: int
    dropped: int
    embeddings_dropped: int
    trained: bool
    index: str
    recall: dict[str, float]
    seconds: float


def compact(
    layout: IndexLayout,
    store: Store,
    derivation: Derivation,
    progress: Progress,
    *,
    keep_embeddings: bool,
) -> tuple[CompactSummary, Derivation]:
    """Compact an index, under the writer's lock; return what was done, and how what is current then
    was made. Where nothing is to be folded in or dropped, the generation stays.

    Args:
        layout, store: the index.
        derivation: how its generation was made.
        progress: told of every stage.
        keep_embeddings: whether those that no item names stay.

    Raises:
        EmptyIndexError: no item is left.
        StoreError: no space, no permission.
    """
    started = monotonic()
    with store.snapshot() as snapshot:
        fresh, dead = snapshot.uncompacted()
    trained = False
    if fresh or dead:
        with translated_os_errors(f"index {layout.root}"):
            trained = not _fold(layout, store, derivation.recipe, progress)
            if trained:
                recipe, edition = derivation.recipe, derivation.manifest.edition
                gpu = wants_gpu(recipe.device)
                publish(layout, store, edition, recipe, gpu=gpu, progress=progress)
        with store.snapshot() as snapshot:
            derivation = Derivation.read(snapshot)
    manifest = derivation.manifest
    summary = CompactSummary(
        path=layout.root,
        items=manifest.items,
        folded=fresh,
        dropped=dead,
        embeddings_dropped=0 if keep_embeddings else drop_unnamed(store, manifest),
        trained=trained,
        index=manifest.index.factory,
        recall=manifest.index.recall,
        seconds=monotonic() - started,
    )
    return summary, derivation


def _fold(layout: IndexLayout, store: Store, recipe: Recipe, progress: Progress) -> bool:
    """Compact by what the generation was trained with, where that still fits; return whether it
    did."""
    with store.snapshot() as snapshot:
        generation = Generation.open(layout, snapshot.current)
        try:
            folding = Folding(Live(generation, snapshot), recipe)
            if folding.fits:
                publish_folded(layout, store, generation, folding, progress)
            return folding.fits
        finally:
            generation.close()
