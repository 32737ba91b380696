"""A derived generation becomes the one that readers open: written whole, renamed, then named."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from importlib.metadata import version

from .derive import Derived, Deriver
from .durable import sync_folder, write_file
from .layout import FORMAT, IndexLayout
from .manifest import Manifest
from .progress import Progress
from .recipe import Recipe
from .store import Current, Snapshot, Store


def publish(
    layout: IndexLayout,
    store: Store,
    edition: int,
    recipe: Recipe,
    *,
    gpu: bool,
    progress: Progress,
) -> Derived:
    """Derive a generation from an edition and name both current, under the writer's lock.

    Whatever stops it leaves the old generation current, and a folder that the next one sweeps.
    """
    number = max(layout.generation_folders().values(), default=0) + 1
    unfinished = layout.unfinished(number)
    with Snapshot(store.view(), Current(edition, number, "")) as snapshot:
        derived = Deriver(snapshot, recipe, progress).write(unfinished, gpu=gpu)
    manifest = _manifest(edition, number, derived)
    _, sha256 = write_file(unfinished.path(unfinished.MANIFEST), manifest.dump())
    sync_folder(unfinished.root)
    unfinished.root.rename(layout.generation(number).root)
    sync_folder(layout.generations)
    store.publish(Current(edition, number, sha256))
    store.sweep_editions()
    _sweep_generations(layout, number)
    return derived


def _manifest(edition: int, number: int, derived: Derived) -> Manifest:
    recipe = derived.recipe
    return Manifest(
        format=FORMAT,
        catalens=version("catalens"),
        edition=edition,
        generation=number,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        items=derived.items,
        dimension=derived.dimension,
        fusion=recipe.fusion,
        missing=recipe.missing,
        weights_from=recipe.weights_from,
        device=recipe.device,
        spaces=derived.spaces,
        index=derived.index,
        catalog=recipe.catalog,
        files=derived.files,
    )


def _sweep_generations(layout: IndexLayout, current: int) -> None:
    """Remove what is no longer named; readers that hold a generation keep its open files."""
    keep = layout.generation(current).root
    for path in layout.generation_folders():
        if path != keep:
            shutil.rmtree(path, ignore_errors=True)
