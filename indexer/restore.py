"""Damaged files of a generation, made again to the bit where that can be."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from .derivation import Derivation
from .derive import Deriver, entry_of
from .durable import link_file, sync_folder, write_file
from .layout import GenerationLayout
from .manifest import FileEntry, Manifest
from .progress import Progress
from .publish import now
from .rows import Rows
from .snapshot import Snapshot, row_of_key


class Restored(NamedTuple):
    """The manifest of a generation that was restored, but for its number, and whether its index is
    another than it was, trained anew."""

    manifest: Manifest
    trained: bool


class Restorer:
    """Makes files of a generation again from the store and from those that are sound."""

    def __init__(
        self,
        old: GenerationLayout,
        snapshot: Snapshot,
        derivation: Derivation,
        fitted: Mapping[str, bytes],
        damaged: frozenset[str],
        progress: Progress,
    ) -> None:
        """
        Args:
            old: the generation that the snapshot names.
            snapshot: its edition.
            derivation: how it was made.
            fitted: the files `Manifest.fitted`.
            damaged: names of files that are missing or other than they were written.
            progress: told of every stage.
        """
        self._old = old
        self._manifest, _, self._fusion = derivation
        self._fitted = fitted
        self._damaged = damaged
        self._int8 = self._manifest.index.rows == "int8"
        self._dead = len(snapshot.dead())
        fresh = frozenset(map(row_of_key, snapshot.view.keys(f"fresh.{snapshot.edition}")))
        recipe = replace(derivation.recipe, learned=derivation.fusion)
        self._deriver = Deriver(snapshot, recipe, progress, without=fresh)

    def write(self, folder: GenerationLayout, *, gpu: bool) -> Restored | None:
        """Write all files but the manifest into a fresh folder, synced: sound ones are linked. None
        where one other than the index does not become what it was; then the folder is removed.

        Raises:
            CorruptIndexError: the store lacks what a file is made of.
        """
        if folder.root.exists():
            shutil.rmtree(folder.root)
        folder.root.mkdir(parents=True)
        try:
            restored = self._write(folder, gpu=gpu)
        except BaseException:
            shutil.rmtree(folder.root, ignore_errors=True)
            raise
        if restored is None:
            shutil.rmtree(folder.root)
        else:
            sync_folder(folder.root)
        return restored

    def _write(self, folder: GenerationLayout, *, gpu: bool) -> Restored | None:
        index_too = folder.INDEX in self._damaged
        others = self._damaged - {folder.MANIFEST, folder.INDEX, *self._manifest.fitted}
        if (others or (index_too and self._int8)) and self._dead:
            return None  # what the store knew of dead rows is gone
        made: dict[str, FileEntry] = {}
        for name in self._damaged & {*self._manifest.fitted}:
            made[name] = entry_of(write_file(folder.path(name), self._fitted[name]))
        if others or (index_too and self._int8):
            files, _ = self._deriver.write_rows(folder, self._fusion)
            made |= files
        if not index_too:
            if others and self._int8:
                self._deriver.round_rows(folder, self._rows(folder), made)
            return self._taken(folder, made, self._manifest)
        if not made.keys() & {folder.ROWS}:
            for name in (folder.ROWS, folder.ROW_CHECKSUMS):
                link_file(self._old.path(name), folder.path(name))
        rows = self._rows(folder)
        plan, index = self._deriver.build_index(rows, self._fusion, gpu=gpu)
        entry = entry_of(write_file(folder.path(folder.INDEX), index.serialize()))
        kept = self._deriver.round_rows(folder, rows, made) if self._int8 else rows
        if entry == self._manifest.files[folder.INDEX]:
            return self._taken(folder, made, self._manifest)
        files = {**self._manifest.files, folder.INDEX: entry}
        measured = self._deriver.measure(plan, index, self._fusion, rows, kept)
        changed = {"files": files, "index": measured, "created": now()}
        return self._taken(folder, made, self._manifest.model_copy(update=changed))

    def _rows(self, folder: GenerationLayout) -> Rows:
        paths = folder.path(folder.ROWS), folder.path(folder.ROW_CHECKSUMS)
        return Rows(*paths, self._fusion.dimension)

    def _taken(
        self, folder: GenerationLayout, made: Mapping[str, FileEntry], manifest: Manifest
    ) -> Restored | None:
        """The folder with the sound files of the old one; None where one that was damaged is not
        what it was."""
        for name, entry in self._manifest.files.items():
            if name not in self._damaged:
                folder.path(name).unlink(missing_ok=True)
                link_file(self._old.path(name), folder.path(name))
            elif name != folder.INDEX and made[name] != entry:
                return None
        return Restored(manifest, manifest is not self._manifest)
