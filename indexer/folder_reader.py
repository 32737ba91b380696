"""Items out of a folder: files that differ in the suffix alone are one item."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import orjson

from encoders.errors import MediaError

from .catalog_errors import RejectedRowError
from .columns import Columns
from .items import Input, Item, Reject
from .media_paths import resolve_media
from .modalities import modalities, modality_of_suffix
from .readers import MAX_ROW_BYTES, unreadable
from .row_parser import item_id, no_input
from .values import json_key, json_value, shown

_METADATA_SUFFIX = ".json"


def folder_columns() -> Columns:
    """What a folder offers, said in the words of a table."""
    offered = {name: (name,) for name, one in modalities().items() if one.suffixes}
    return Columns.named(id="id", vector=None, **offered)


class FolderReader:
    """Every file below a folder, grouped by its path without the last suffix.

    `animals/cat.png`, `animals/cat.txt` and `animals/cat.ogg` are the item `animals/cat`, with
    the metadata `{"folder": "animals", "name": "cat"}` and what an object in `animals/cat.json`
    adds to it. Folders and files come in the order of their names; an item's `line` counts items.
    Hidden files and other suffixes are passed over; links to folders are not followed, links to
    files only inside the root. One directory's names are held in memory at a time.

    Args:
        root: the folder, resolved.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def items(self) -> Iterator[Item | Reject]:
        """Read from the start.

        Raises:
            UnreadableCatalogError: a folder may not be listed.
        """
        for line, (stem, files) in enumerate(self._groups(), start=1):
            yield self._item(line, stem, files)

    def count(self) -> int:
        """Return the number of items and rejects, by listing every folder."""
        return sum(1 for _ in self._groups())

    def _groups(self) -> Iterator[tuple[str, list[str]]]:
        """Yield relative path without suffix, and relative paths of the files."""
        pending = [PurePosixPath()]
        while pending:
            folder = pending.pop()
            folders, groups = self._list(folder)
            yield from groups
            pending += [folder / name for name in reversed(folders)]

    def _list(self, folder: PurePosixPath) -> tuple[list[str], list[tuple[str, list[str]]]]:
        folders: list[str] = []
        groups: dict[str, list[str]] = {}
        try:
            with os.scandir(self._root / folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
            for entry in entries:
                path = folder / entry.name
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.name)
                elif path.suffix.lower() == _METADATA_SUFFIX or modality_of_suffix(path.suffix):
                    groups.setdefault(str(path.with_suffix("")), []).append(str(path))
        except OSError as error:
            raise unreadable(self._root / folder, error) from error
        return folders, sorted(groups.items())

    def _item(self, line: int, stem: str, files: list[str]) -> Item | Reject:
        identity = None
        inputs: dict[str, tuple[Input, ...]] = {}
        rejects: list[Reject] = []
        try:
            identity = item_id(stem)
            path = PurePosixPath(stem)
            folder = "" if path.parent == PurePosixPath() else str(path.parent)
            metadata = {"folder": folder, "name": path.name}
            for file in files:
                modality = modality_of_suffix(PurePosixPath(file).suffix)
                if modality is None:
                    metadata |= self._metadata(file)
                    continue
                try:
                    found = Input(None, resolve_media(self._root, file), file)
                except MediaError as error:
                    rejects.append(
                        Reject.from_error(
                            error, line=line, id=identity, modality=modality, source=file
                        )
                    )
                else:
                    inputs[modality] = (*inputs.get(modality, ()), found)
            if not inputs:
                raise no_input(rejects)
        except RejectedRowError as error:
            # The name may hold bytes that are no UTF-8, which Python reads as lone surrogates.
            source = stem.encode("utf-8", "backslashreplace").decode()
            return Reject.from_error(error, line=line, id=identity, source=source)
        return Item(line, identity, inputs, metadata, tuple(rejects))

    def _metadata(self, file: str) -> dict[str, Any]:
        try:
            with resolve_media(self._root, file).open("rb") as stream:
                values = orjson.loads(stream.read(MAX_ROW_BYTES))
        except (MediaError, OSError, orjson.JSONDecodeError) as error:
            raise _bad_sidecar(file, str(error)) from None
        if not isinstance(values, dict):
            raise _bad_sidecar(file, shown(values))
        return {
            json_key(key): json_value(value, key)
            for key, value in values.items()
            if value is not None
        }


def _bad_sidecar(file: str, got: str) -> RejectedRowError:
    return RejectedRowError(
        f"metadata {file}",
        expected="a JSON object in UTF-8",
        got=got,
        remedy="Correct the file or take it out of the folder.",
    )
