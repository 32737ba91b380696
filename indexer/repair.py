"""Derived files made again from what the store holds, where they are damaged or missing."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic

from .derivation import Derivation, kept_file
from .durable import translated_os_errors
from .environment import WriteTransaction
from .errors import CorruptIndexError, RefitNeededError
from .faiss_index import wants_gpu
from .fusion import ConcatFusion
from .generation import aligned_heads, damaged_files, read_whole
from .heads import Reaches, dump_heads
from .layout import GenerationLayout, IndexLayout
from .lock import writer_lock
from .manifest import Manifest
from .progress import Progress, Silent
from .publish import name_generation, next_generation, publish
from .rebuild import index_layout
from .recipe import UNLEARNED, Recipe
from .restore import Restorer
from .snapshot import Snapshot
from .store import Store, put_current, put_kept
from .store_damage import StoreDamage, current_of, mend
from .verify import page_problems


@dataclass(frozen=True)
class RepairSummary:
    """What a repair found and did; nothing was damaged where `damaged` is empty.

    `restored` names the files that are again what they were, to the bit, and parts of the store
    that were derived again; `changed` says what is not what it was, and so may rank otherwise;
    `lost` what cannot be derived, with what to do.
    """

    path: Path
    items: int
    damaged: tuple[str, ...]
    restored: tuple[str, ...]
    changed: tuple[str, ...]
    lost: tuple[str, ...]
    seconds: float


def repair_index(
    path: str | Path, *, refit: bool = False, progress: Progress | None = None
) -> RepairSummary:
    """Derive again what of an index is damaged or missing. Nothing is encoded.

    Files of the generation are made again of the store's records and embeddings and of the
    manifest, fusion and heads that it keeps; what the store keeps, of the files; secondary indexes,
    of the records. What is made becomes current in one commit: readers go on, and move on at their
    next `refresh`. Whatever stops it leaves the index as it was, or nearer to sound.

    Records and embeddings can be derived from nothing: which are damaged is told in `lost`.

    Args:
        path: the index folder.
        refit: whether spaces may be fitted anew where the fusion or the heads are damaged in the
            store and in the generation. Items then rank otherwise; what was learned is gone.
        progress: told of every stage; None tells nobody.

    Raises:
        RefitNeededError: this is so, and `refit` was not given; nothing was changed.
        CorruptIndexError: pages of the store are damaged, or the manifest is everywhere; nothing
            was changed.
        NotAnIndexError, IndexLockedError, StoreError: the index itself.
    """
    started, progress = monotonic(), progress or Silent()
    layout = index_layout(path)
    with translated_os_errors(f"index {layout.root}"), writer_lock(layout.lock):
        _check_pages(layout, progress)
        store = Store.open(layout)
        try:
            repair = _Repair(layout, store, progress)
            repair.run(refit=refit)
            with store.snapshot() as snapshot:
                items = snapshot.count()
        finally:
            store.close()
    return RepairSummary(
        path=layout.root,
        items=items,
        damaged=tuple(repair.damaged),
        restored=tuple(repair.restored),
        changed=tuple(repair.changed),
        lost=tuple(repair.lost),
        seconds=monotonic() - started,
    )


def _check_pages(layout: IndexLayout, progress: Progress) -> None:
    problems = page_problems(layout, progress)
    if problems:
        raise CorruptIndexError(
            f"store {layout.store_data}",
            expected="sound pages, to derive the rest from",
            got=f"{len(problems)} problems, the first: {problems[0]}",
            remedy="Restore it from a backup, or build the catalog into another folder.",
        )


@dataclass
class _Kept:
    """The manifest and its `fitted` files, from the store or from the generation; which of
    them the store lacks."""

    manifest: Manifest
    told: bytes
    fitted: dict[str, bytes]
    not_in_store: list[str] = field(default_factory=list)

    @classmethod
    def find(cls, snapshot: Snapshot, folder: GenerationLayout) -> _Kept:
        sha256 = snapshot.current.manifest_sha256
        stored = kept_file(snapshot.view, sha256)
        told = stored or read_whole(folder.path(folder.MANIFEST), sha256)
        if told is None:
            raise CorruptIndexError(
                "manifest",
                expected=f"SHA-256 {sha256[:16]}... in the store or in {folder.root}",
                got="none, or other bytes, in both",
                remedy="Build the index again from the catalog; nothing is encoded again.",
            )
        found = cls(Manifest.load(told, sha256), told, {})
        found.not_in_store += [folder.MANIFEST] if stored is None else []
        for name in found.manifest.fitted:
            wanted = found.manifest.files[name].sha256
            stored = kept_file(snapshot.view, wanted)
            data = stored or read_whole(folder.path(name), wanted) or _no_heads(wanted)
            found.not_in_store += [name] if stored is None else []
            if data is not None:
                found.fitted[name] = data
        return found

    @property
    def lost(self) -> list[str]:
        """What of it is nowhere."""
        return [name for name in self.manifest.fitted if name not in self.fitted]


def _no_heads(sha256: str) -> bytes | None:
    """The file of an index without heads, if it is that which has this hash."""
    data = dump_heads({})
    return data if hashlib.sha256(data).hexdigest() == sha256 else None


class _Repair:
    def __init__(self, layout: IndexLayout, store: Store, progress: Progress) -> None:
        self._layout = layout
        self._store = store
        self._progress = progress
        self.damaged: list[str] = []
        self.restored: list[str] = []
        self.changed: list[str] = []
        self.lost: list[str] = []

    def run(self, *, refit: bool) -> None:
        renamed = self._name_again()
        with self._store.snapshot() as snapshot:
            folder = self._layout.generation(snapshot.current.generation)
            kept = _Kept.find(snapshot, folder)
            self._progress.start("check files", len(kept.manifest.files))
            files = damaged_files(folder, kept.manifest, snapshot.current, self._progress)
            self._progress.finish()
            self._progress.start("check records", None)
            damage = StoreDamage.find(snapshot, kept.manifest)
            self._progress.finish()
        self.damaged += [*damage.found(), *files.values()]
        self.damaged += [f"store: it lacks {name}" for name in kept.not_in_store]
        self.lost += damage.lost()
        if kept.lost and not refit:
            raise _refit_needed(kept)
        self._mend_store(kept, damage)
        if kept.lost:
            self._refit(kept)
        elif files or damage.beside or renamed:
            self._derive(kept, frozenset(files), fold=damage.beside)

    def _name_again(self) -> bool:
        """Have the store name what is current where it cannot be read; whether that was so. How
        often it was committed to is not known: another generation tells readers of the change."""
        try:
            self._store.current()
            return False
        except CorruptIndexError as error:
            with self._store.view() as view:
                current = current_of(view)
            if current is None:
                raise CorruptIndexError(
                    f"store {self._layout.store_data}",
                    expected="the name of what is current, or the manifest of it",
                    got="neither, or other bytes",
                    remedy="Restore it from a backup, or build the catalog into another folder.",
                ) from error
            self.damaged.append(str(error))
        self._store.write(lambda transaction: put_current(transaction, current))
        self.restored.append("the name of what is current, in the store")
        return True

    def _mend_store(self, kept: _Kept, damage: StoreDamage) -> None:
        if not damage.is_mendable and not kept.not_in_store:
            return
        with self._store.snapshot() as snapshot:
            current = snapshot.current

        def work(transaction: WriteTransaction) -> None:
            if damage.is_mendable:
                mend(transaction, Snapshot(transaction, current), damage)
            if not kept.lost:
                put_kept(transaction, [kept.told, *kept.fitted.values()])

        self._store.write(work)
        if damage.indexes and damage.is_mendable:
            self.restored.append("ids and postings of the store")
        if not kept.lost:
            self.restored += [f"{name} in the store" for name in kept.not_in_store]

    def _derive(self, kept: _Kept, files: frozenset[str], *, fold: bool) -> None:
        try:
            derivation = Derivation.of(kept.manifest, kept.fitted)
            if fold or not self._restore(kept, derivation, files):
                self._publish(replace(derivation.recipe, learned=derivation.fusion))
                self.changed.append(
                    "the generation was derived anew of all items, with the spaces as they were "
                    "fitted: its index was trained and its points measured anew"
                )
        except CorruptIndexError as error:
            # Of what it is made is damaged too, which `lost` tells of, unless it is that alone.
            if not self.lost:
                raise
            self.lost.append(f"the generation stays as it is until then: {error}")

    def _restore(self, kept: _Kept, derivation: Derivation, files: frozenset[str]) -> bool:
        number, unfinished = next_generation(self._layout, self._store)
        with self._store.snapshot() as snapshot:
            old = self._layout.generation(snapshot.current.generation)
            restorer = Restorer(old, snapshot, derivation, kept.fitted, files, self._progress)
            restored = restorer.write(unfinished, gpu=wants_gpu(derivation.recipe.device))
        if restored is None:
            return False
        manifest = restored.manifest.model_copy(update={"generation": number})
        name_generation(self._layout, self._store, unfinished, manifest, folds=False)
        trained = {GenerationLayout.INDEX} if restored.trained else set()
        self.restored += sorted(files - trained)
        if restored.trained:
            self.changed.append(
                f"{GenerationLayout.INDEX} was trained anew, and its points measured anew; points "
                "that `catalens tune` had found are gone"
            )
        return True

    def _refit(self, kept: _Kept) -> None:
        """Derive a generation by what is left of the recipe."""
        manifest, fusion = kept.manifest, kept.manifest.fusion
        if fusion not in UNLEARNED:
            self.changed.append(f"the learned fusion {fusion} is lost: run `catalens learn fusion`")
            manifest = manifest.model_copy(update={"fusion": ConcatFusion.kind})
        heads = kept.fitted.get(GenerationLayout.HEADS)
        if heads is None:
            self.changed.append("the alignment heads are lost: run `catalens learn alignment`")
            reaches: Reaches = {space.spec.name: {} for space in manifest.spaces}
        else:
            reaches = aligned_heads(heads, manifest.spaces)
        if manifest.ranking is not None:
            self.changed.append("the re-ranking heads are gone: run `catalens learn head`")
        self._publish(Recipe.of(manifest, None, reaches))
        self.changed.append(
            "means and components of the spaces were fitted anew, the index was trained and its "
            "points measured anew: items rank otherwise"
        )

    def _publish(self, recipe: Recipe) -> None:
        edition = self._edition()
        gpu = wants_gpu(recipe.device)
        publish(self._layout, self._store, edition, recipe, gpu=gpu, progress=self._progress)

    def _edition(self) -> int:
        with self._store.snapshot() as snapshot:
            return snapshot.edition


def _refit_needed(kept: _Kept) -> RefitNeededError:
    return RefitNeededError(
        " and ".join(kept.lost),
        expected="the bytes that were written, in the store or in the generation",
        got="none, or other ones, in both",
        remedy="Restore the index from a backup; or run `catalens repair INDEX --refit`: it fits "
        "spaces anew, so that items rank otherwise, and drops what was learned.",
    )
