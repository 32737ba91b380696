"""A derived generation becomes the one that readers open: written whole, renamed, then named."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version

from .derive import Derived, Deriver, entry_of
from .durable import link_file, sync_folder, write_file
from .fold import Folding
from .generation import Generation, read_checked
from .layout import FORMAT, GenerationLayout, IndexLayout
from .lock import unheld
from .manifest import IndexEntry, Manifest
from .modalities import BEHAVIOUR
from .progress import Progress
from .ranking import RankingFiles, ranking_files
from .recipe import Recipe
from .snapshot import Current, Snapshot
from .store import Store


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
    number, unfinished = next_generation(layout, store)
    with Snapshot(store.view(), Current(edition, number, "")) as snapshot:
        derived = Deriver(snapshot, recipe, progress).write(unfinished, gpu=gpu)
    name_generation(layout, store, unfinished, _manifest(edition, number, derived), folds=True)
    return derived


def publish_folded(
    layout: IndexLayout, store: Store, generation: Generation, folding: Folding, progress: Progress
) -> None:
    """Name a generation current that was made of the one before, under the writer's lock."""
    number, unfinished = next_generation(layout, store)
    derived = folding.write(unfinished, progress)
    generation.close()
    edition = generation.manifest.edition
    name_generation(layout, store, unfinished, _manifest(edition, number, derived), folds=True)


def publish_tuned(layout: IndexLayout, store: Store, manifest: Manifest, index: IndexEntry) -> None:
    """Name a generation current that is searched in another way and has the same files, under the
    writer's lock.

    Args:
        manifest: the current one.
        index: the index as it is to be searched.
    """
    number, unfinished = _linked(layout, store, manifest, manifest.files)
    changed = {"generation": number, "created": now(), "index": index}
    name_generation(layout, store, unfinished, manifest.model_copy(update=changed), folds=False)


def publish_ranking(
    layout: IndexLayout, store: Store, manifest: Manifest, ranking: RankingFiles
) -> None:
    """Name a generation current that has other re-ranking heads and else the same files, under the
    writer's lock.

    Args:
        manifest: the current one.
    """
    written = ranking_files(GenerationLayout(layout.root), ranking)
    files = {name: entry for name, entry in manifest.files.items() if name not in written}
    number, unfinished = _linked(layout, store, manifest, files)
    for name, data in written.items():
        files[name] = entry_of(write_file(unfinished.path(name), data))
    changed = {
        "generation": number,
        "created": now(),
        "files": files,
        "ranking": ranking.basis,
    }
    name_generation(layout, store, unfinished, manifest.model_copy(update=changed), folds=False)


def _linked(
    layout: IndexLayout, store: Store, manifest: Manifest, names: Iterable[str]
) -> tuple[int, GenerationLayout]:
    """Number and unfinished folder of the next generation, with files of the current one."""
    number, unfinished = next_generation(layout, store)
    unfinished.root.mkdir()
    for name in names:
        link_file(layout.generation(manifest.generation).path(name), unfinished.path(name))
    return number, unfinished


def next_generation(layout: IndexLayout, store: Store) -> tuple[int, GenerationLayout]:
    """Number and unfinished folder of the next generation; the folder is not there yet."""
    layout.generations.mkdir(exist_ok=True)
    current = store.current()
    used = [*layout.generation_folders().values(), current.generation if current else 0]
    number = max(used) + 1
    return number, layout.unfinished(number)


def name_generation(
    layout: IndexLayout,
    store: Store,
    unfinished: GenerationLayout,
    manifest: Manifest,
    *,
    folds: bool,
) -> None:
    """Write the manifest, rename the folder and name it current; sweep what no longer is."""
    told = manifest.dump()
    _, sha256 = write_file(unfinished.path(unfinished.MANIFEST), told)
    tensors = [read_checked(unfinished, manifest, name) for name in manifest.fitted]
    sync_folder(unfinished.root)
    unfinished.root.rename(layout.generation(manifest.generation).root)
    sync_folder(layout.generations)
    current = Current(manifest.edition, manifest.generation, sha256)
    store.publish(current, [told, *tensors], folds=folds)
    store.sweep_editions()
    sweep_generations(layout, manifest.generation)


def now() -> str:
    """The time for a manifest."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _manifest(edition: int, number: int, derived: Derived) -> Manifest:
    recipe = derived.recipe
    return Manifest(
        format=FORMAT,
        catalens=version("catalens"),
        edition=edition,
        generation=number,
        created=now(),
        items=derived.items,
        dimension=derived.dimension,
        fusion=recipe.fusion,
        missing=recipe.missing,
        weights_from=recipe.weights_from,
        device=recipe.device,
        spaces=derived.spaces,
        index=derived.index,
        catalog=recipe.catalog,
        behaviour=recipe.behaviour if recipe.space_filled_by(BEHAVIOUR) else None,
        files=derived.files,
        ranking=None if recipe.ranking is None else recipe.ranking.basis,
    )


def sweep_generations(layout: IndexLayout, current: int) -> None:
    """Remove the generations that are no longer named, but for those that a reader holds: these go
    when a later writer finds them left."""
    keep = layout.generation(current).root
    for path in layout.generation_folders():
        if path != keep:
            with unheld(path / GenerationLayout.MANIFEST) as free:
                if free:
                    shutil.rmtree(path, ignore_errors=True)
