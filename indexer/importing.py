"""An index from what an export wrote; nothing is encoded."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np
import orjson

from encoders import EncoderError, EncoderPool, State

from .catalog_errors import RejectedRowError
from .durable import translated_os_errors
from .encode import chunks
from .errors import ImportFileError, OutputFolderError
from .faiss_index import wants_gpu
from .fitting import wanted_by
from .layout import IndexLayout
from .lock import writer_lock
from .output_folder import check_output_folder
from .progress import Progress, Silent
from .publish import publish
from .recipe import Recipe
from .row_parser import item_id
from .snapshot import EMBEDDINGS, Inputs, Record, embedding_key
from .store import Batch, Store
from .stored import Floats, StoredInput, StoredItem
from .values import json_value

if TYPE_CHECKING:
    from .parquet_items import ItemsReader  # pyarrow takes a while to load

_COMMITTED_TOGETHER = 1024
_MODALITY = re.compile(
    r"[a-z][a-z0-9_-]{0,31}|behaviour:liked|vector:[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"
)
# Unit vectors in float32 are as long as this, or a model in half precision made them.
_UNIT = 1e-2


@dataclass(frozen=True)
class ImportSummary:
    """What an import made."""

    path: Path
    items: int
    inputs: int
    fusion: str
    index: str
    recall: dict[str, float]
    seconds: float


def import_index(
    file: str | Path,
    out: str | Path,
    *,
    device: str = "auto",
    progress: Progress | None = None,
) -> ImportSummary:
    """Make an index of what `export_index` wrote: the same ids, metadata, inputs and embeddings,
    with the fusion and heads that the index had. Its FAISS index is trained, and its recall
    measured, anew.

    The file is not trusted: each value is checked before it is stored, and what cannot be is
    refused as a whole.

    Args:
        file: the Parquet file.
        out: the index folder; new or empty.
        device: where items that are added later are encoded: `auto`, `cpu`, `cuda` or `mps`.
        progress: told of every stage; None tells nobody.

    Raises:
        ImportFileError: the file is foreign, damaged, or holds what no index would.
        UnsupportedFormatError: a newer Catalens wrote it.
        OutputFolderError: there is an index, or something else, in the folder.
        StoreError: no space, no permission.
    """
    from .parquet_items import ItemsReader

    started, progress = monotonic(), progress or Silent()
    gpu = wants_gpu(device)
    reader = ItemsReader(Path(file))
    try:
        recipe = reader.described.recipe(device)
        fits = _fits(recipe, reader.described.states, device)
    except (ValueError, EncoderError) as error:
        raise reader.refusal("a description of spaces that fit together", str(error)) from error
    layout = IndexLayout(Path(out))
    with translated_os_errors(f"index {layout.root}"):
        check_output_folder(layout)
        layout.generations.mkdir(parents=True, exist_ok=True)
        with writer_lock(layout.lock), _new_store(layout) as store:
            for fit in fits:
                store.save_fit(*fit)
            filler = _Filler(store, recipe, reader)
            progress.start("import", reader.rows)
            for done in filler.run():
                progress.advance(done)
            progress.finish()
            derived = publish(layout, store, filler.edition, recipe, gpu=gpu, progress=progress)
    return ImportSummary(
        path=layout.root,
        items=derived.items,
        inputs=filler.inputs,
        fusion=derived.recipe.fusion,
        index=derived.index.factory,
        recall=derived.index.recall,
        seconds=monotonic() - started,
    )


@contextmanager
def _new_store(layout: IndexLayout) -> Iterator[Store]:
    """The store of an index that there is not yet; removed when the block fails, unless a build
    that did not finish had left it."""
    was_there = layout.has_store
    store = Store.create(layout)
    try:
        if store.current() is not None:
            raise OutputFolderError(
                "output folder",
                expected="a new or empty folder",
                got=f"the index {layout.root}",
                remedy="Choose another --out, or remove what is there.",
            )
        yield store
    except BaseException:
        store.close()
        if not was_there:
            for folder in (layout.store, layout.generations):
                shutil.rmtree(folder, ignore_errors=True)
        raise
    store.close()


def _fits(
    recipe: Recipe, states: Mapping[str, bytes], device: str
) -> list[tuple[bytes, str, bytes]]:
    """The encoders that were fitted on the catalog: key, fingerprint and state.

    Raises:
        EncoderError, ValueError: a state is not there, or not the one that the spaces name.
    """
    pool = EncoderPool(device)
    found = []
    for space in recipe.spaces:
        for modality, wanted in wanted_by(space.spec).items():
            fingerprint = space.fingerprints[modality]
            state = states.get(fingerprint, b"")
            encoder = pool.get(wanted.spec, State.load(state))
            if encoder.fingerprint(wanted.modality) != fingerprint:
                raise ValueError(f"the encoder of space {space.name!r} is not the one it names")
            found.append((wanted.key, fingerprint, state))
    return found


class _Filler:
    """Checks stored items and commits them as a new edition, in the order of the file."""

    def __init__(self, store: Store, recipe: Recipe, reader: ItemsReader) -> None:
        self._store = store
        self._recipe = recipe
        self._reader = reader
        assert recipe.learned is not None
        transforms = recipe.learned.transforms
        self._dimensions = {
            (space.name, modality): len(transforms[space.name].means[modality])
            for space in recipe.spaces
            for modality in space.fingerprints
        }
        self.edition = store.begin_edition()
        self.items = 0
        self.inputs = 0

    def run(self) -> Iterator[int]:
        """Take all items; yields how many, step by step."""
        spaces = [space.name for space in self._recipe.spaces]
        for some in chunks(self._reader.items(spaces), _COMMITTED_TOGETHER):
            batch = Batch()
            for item in some:
                batch.items.append((self.items, self._record(item), self._made_of(item)))
                self._take_embeddings(item, batch.embeddings)
                self.items += 1
            self._check_against_store(batch)
            self._store.commit(self.edition, batch)
            yield len(some)
        if not self.items:
            raise self._refusal("at least one item", "none")

    def _record(self, item: StoredItem) -> Record:
        try:
            metadata = orjson.loads(item.metadata or b"")
            if not isinstance(metadata, dict):
                raise self._refusal("a JSON object as metadata", type(metadata).__name__)
            return Record(item_id(item.id), json_value(metadata, "metadata"))
        except (RejectedRowError, orjson.JSONDecodeError) as error:
            raise self._refusal("an id, and metadata as JSON", str(error)) from error

    def _made_of(self, item: StoredItem) -> Inputs:
        hashes: dict[str, list[str]] = {}
        sources: dict[str, list[str | None]] = {}
        for given in item.inputs:
            if not _MODALITY.fullmatch(given.modality or ""):
                raise self._refusal("a modality", repr(given.modality))
            hashes.setdefault(given.modality, []).append(given.sha256)
            sources.setdefault(given.modality, []).append(given.source)
        mask = 0
        for space in self._recipe.spaces:
            filled = any(
                given.modality == space.spec.item and given.embeddings.get(space.name) is not None
                for given in item.inputs
            )
            mask |= filled << space.bit
        if not any(space.spec.item in hashes for space in self._recipe.spaces):
            raise self._refusal("an input that fills a space", f"those of {list(hashes)}")
        self.inputs += len(item.inputs)
        return Inputs(hashes, sources, mask)

    def _take_embeddings(self, item: StoredItem, found: dict[bytes, Floats]) -> None:
        for given in item.inputs:
            filled = [s.name for s in self._recipe.spaces if s.spec.item == given.modality]
            # Of several, one is enough: a silent video has no sound.
            if filled and all(given.embeddings.get(name) is None for name in filled):
                raise self._refusal(
                    f"an embedding in space {filled[0]!r} of each {given.modality}", "none"
                )
            for space in self._recipe.spaces:
                vector = given.embeddings.get(space.name)
                if vector is None:
                    continue
                self._check_vector(vector, space.name, given)
                key = embedding_key(space.fingerprints[given.modality], given.sha256)
                self._check_same(found.setdefault(key, vector), vector)

    def _check_vector(self, vector: Floats, space: str, given: StoredInput) -> None:
        expected = self._dimensions.get((space, given.modality))
        if len(vector) != expected:
            raise self._refusal(
                f"{expected or 'no'} values in space {space!r} of a {given.modality}",
                f"{len(vector)}",
            )
        length = float(np.linalg.norm(vector))
        if not abs(length - 1) <= _UNIT:  # NaN compares false
            raise self._refusal(f"a vector of length 1 in space {space!r}", f"length {length:g}")

    def _check_against_store(self, batch: Batch) -> None:
        """No id twice, and no two embeddings of one input: the later would change an item that was
        taken before."""
        ids = [record.id for _, record, _ in batch.items]
        keys = list(batch.embeddings)
        with self._store.view() as view:
            there = view.get_many(f"ids.{self.edition}", [one.encode() for one in ids])
            stored = view.get_many(EMBEDDINGS, keys)
        seen: set[str] = set()
        for one, known in zip(ids, there, strict=True):
            if known is not None or one in seen:
                raise self._refusal("each id once", f"{one!r} twice")
            seen.add(one)
        for key, value in zip(keys, stored, strict=True):
            if value is not None:
                self._check_same(np.frombuffer(value, dtype="<f4"), batch.embeddings[key])

    def _check_same(self, known: Floats, vector: Floats) -> None:
        if known.tobytes() != vector.tobytes():
            raise self._refusal("one embedding of one input by one encoder", "two that differ")

    def _refusal(self, expected: str, got: str) -> ImportFileError:
        return self._reader.refusal(f"{expected} (about row {self.items + 1:,})", got)
