"""Items in, embeddings and hashes out: decoding in threads while the model works.

What was encoded before, now or by any earlier build or writer, is found by (encoder fingerprint,
SHA-256 of the input) and not encoded again.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from encoders import Encoder, Limits, encode_all
from encoders.errors import AbsentTrackError, MediaError

from .behaviour import digest_of, touched
from .catalog_errors import RejectedRowError
from .items import Input, Item, Reject
from .modalities import BEHAVIOUR
from .recipe import Space
from .snapshot import FINGERPRINT_BYTES, Inputs, embedding_key
from .spaces import Reach, kind_of_input
from .store import Store

T = TypeVar("T")

# Items per batch: what an interrupted build encodes again at most, and a step of the progress
# bar. Sized to take about `_BATCH_SECONDS`, which large texts and small machines need small.
_FIRST_BATCH = 64
_MAX_BATCH = 2048
_BATCH_SECONDS = 4.0
_CHUNK_ITEMS = 8
# Pictures decoded ahead of the model: enough to keep it busy, bounded in memory.
_CHUNKS_AHEAD = 16
# Inputs from the start of the catalog that are also encoded by the towers that queries use, to
# know the mean of each tower; see `SpaceTransform`.
QUERY_TOWER_SAMPLE = 512


@dataclass
class Counts:
    """What was done with the rows of a catalog, for a summary."""

    inputs: dict[str, int] = field(default_factory=dict)
    encoded: dict[str, int] = field(default_factory=dict)
    rejected_rows: int = 0
    rejected_inputs: int = 0

    def add(self, other: Counts) -> None:
        """Count what another counted as well."""
        for mine, others in ((self.inputs, other.inputs), (self.encoded, other.encoded)):
            for modality, count in others.items():
                mine[modality] = mine.get(modality, 0) + count
        self.rejected_rows += other.rejected_rows
        self.rejected_inputs += other.rejected_inputs


class Encoded(NamedTuple):
    """An item all of whose inputs have embeddings, stored or not saved yet."""

    id: str
    metadata: dict[str, Any]
    inputs: Inputs


@dataclass
class EncodedBatch:
    """Some rows of a catalog, encoded: `seen` of them, those rejected included."""

    seen: int
    items: list[Encoded] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)


@dataclass
class _Task:
    encoder: Encoder
    modality: str
    prepared: Any


@dataclass
class Loaded:
    """An item with its inputs read, hashed and, where not known yet, decoded."""

    item: Item
    hashes: dict[str, list[tuple[str, str | None]]]
    tasks: dict[bytes, _Task]
    rejects: list[Reject]
    absent: set[bytes] = field(default_factory=set)
    """Keys of embeddings that there are none of: of the sound of a silent video."""


class ItemEncoder:
    """Encodes items batch by batch.

    Args:
        store: asked which embeddings are there.
        spaces: of the index; their bits make an item's mask.
        reaches: the ways into them.
        limits: bounds on media.
        strict: whether the first bad row or input is an error.
        impute: whether other ways into a space are wanted where an item lacks its own.
        sampled: so many rows from the start also go through the towers that queries use.
        unsaved: embeddings that were encoded and are not in the store yet; whoever saves them
            takes them out.
    """

    def __init__(
        self,
        store: Store,
        spaces: Sequence[Space],
        reaches: Sequence[Reach],
        limits: Limits,
        *,
        strict: bool,
        impute: bool = False,
        sampled: int = QUERY_TOWER_SAMPLE,
        unsaved: dict[bytes, NDArray[np.float32]] | None = None,
    ) -> None:
        self._store = store
        self._spaces = spaces
        self._fill = {space.name: space.spec.item for space in spaces}
        self._behaviour: str | None = None
        for space in spaces:
            if space.spec.item == BEHAVIOUR:
                self._behaviour, self._touched_bit = space.fingerprints[BEHAVIOUR], space.bit
        self._reaches = reaches
        self._limits = limits
        self._strict = strict
        self._impute = impute
        self._sampled = sampled
        self.unsaved = {} if unsaved is None else unsaved
        self.counts = Counts()

    def run(
        self,
        items: Iterable[Item | Reject],
        workers: int,
        admit: Callable[[list[Loaded | Reject]], list[Loaded | Reject]] | None = None,
    ) -> Iterator[EncodedBatch]:
        """Encode everything, a batch at a time, sized by the time that the last one took, with
        what was done with it.

        Args:
            items: rows of a catalog.
            workers: threads that read and decode.
            admit: told of each batch before it is encoded; returns what is to be.
        """
        loaded = _ahead(self._load_chunk, chunks(items, _CHUNK_ITEMS), workers)
        flat = (entry for chunk in loaded for entry in chunk)
        size = _FIRST_BATCH
        while entries := list(islice(flat, size)):
            started = time.monotonic()
            yield self._batch(len(entries), admit(entries) if admit else entries)
            fitting = size * _BATCH_SECONDS / max(time.monotonic() - started, 1e-3)
            size = int(min(max(fitting, size / 2, _FIRST_BATCH), size * 4, _MAX_BATCH))

    def _load_chunk(self, chunk: list[Item | Reject]) -> list[Loaded | Reject]:
        return [entry if isinstance(entry, Reject) else self._load(entry) for entry in chunk]

    def _load(self, item: Item) -> Loaded:
        loaded = Loaded(item, {}, {}, list(item.rejects))
        for modality, inputs in item.inputs.items():
            for given in inputs:
                try:
                    content = given.read(self._limits)
                    digest = hashlib.sha256(content).hexdigest()
                    self._add_tasks(loaded, modality, content, digest)
                except MediaError as error:
                    loaded.rejects.append(_lost(item, modality, given, error))
                else:
                    loaded.hashes.setdefault(modality, []).append((digest, given.source))
        return loaded

    def _add_tasks(self, loaded: Loaded, modality: str, content: bytes, digest: str) -> None:
        """What must be encoded for an input; inputs that are known are not even decoded.

        Raises:
            MediaError: it is bad, or no encoder finds anything in it.
        """
        kind = kind_of_input(modality)
        wanted = {
            embedding_key(reach.fingerprint, digest): reach.encoder
            for reach in self._reaches
            if reach.modality == modality and self._is_wanted(reach, loaded.item)
        }
        tasks: dict[bytes, _Task] = {}
        absent: dict[bytes, AbsentTrackError] = {}
        for key in self._store.missing_embeddings(wanted):
            try:
                tasks[key] = _Task(wanted[key], kind, wanted[key].prepare(kind, content))
            except AbsentTrackError as error:
                absent[key] = error
        if absent and len(absent) == len(wanted):
            raise next(iter(absent.values()))
        loaded.tasks.update(tasks)
        loaded.absent.update(absent)

    def _is_wanted(self, reach: Reach, item: Item) -> bool:
        """Whether an item's inputs go through this encoder: what fills the space does; the other
        towers of a shared space are for queries, but for what is measured and what is imputed."""
        fill = self._fill[reach.space]
        return (
            fill == reach.modality
            or item.line <= self._sampled
            or (self._impute and not item.inputs.get(fill))
        )

    def _batch(self, seen: int, entries: list[Loaded | Reject]) -> EncodedBatch:
        batch = EncodedBatch(seen)
        tasks: dict[bytes, _Task] = {}
        for entry in entries:
            if isinstance(entry, Loaded):
                tasks.update(entry.tasks)
        # A picture that many items share may have been encoded since this one was decoded.
        tasks = {
            key: tasks[key]
            for key in self._store.missing_embeddings(tasks)
            if key not in self.unsaved
        }
        self.unsaved.update(_encode(tasks))
        self._count_encoded(tasks)
        known = self._touched([entry.item.id for entry in entries if isinstance(entry, Loaded)])
        for entry in entries:
            if isinstance(entry, Reject):
                self._reject(batch, entry)
            else:
                self._add(batch, entry, known)
        return batch

    def _touched(self, ids: list[str]) -> set[str]:
        """Of which of these items there are item vectors."""
        if self._behaviour is None:
            return set()
        keys = {embedding_key(self._behaviour, digest_of(one)): one for one in ids}
        return set(ids) - {keys[key] for key in self._store.missing_embeddings(keys)}

    def _add(self, batch: EncodedBatch, loaded: Loaded, known: set[str]) -> None:
        for reject in loaded.rejects:
            self._reject(batch, reject)
        mask = 0
        for space in self._spaces:
            mask |= self._is_filled(loaded, space) << space.bit
        item = loaded.item
        if not mask:
            error = RejectedRowError(
                f"row {item.line}",
                expected="at least one usable input",
                got="none that could be read",
                remedy="See the rejects of its inputs.",
            )
            self._reject(batch, Reject.from_error(error, line=item.line, id=item.id))
            return
        inputs = Inputs(
            {m: [digest for digest, _ in found] for m, found in loaded.hashes.items()},
            {m: [source for _, source in found] for m, found in loaded.hashes.items()},
            mask,
        )
        if item.id in known:
            inputs = touched(inputs, item.id, self._touched_bit)
        batch.items.append(Encoded(item.id, item.metadata, inputs))
        for modality, found in loaded.hashes.items():
            kind = kind_of_input(modality)
            self.counts.inputs[kind] = self.counts.inputs.get(kind, 0) + len(found)

    def _is_filled(self, loaded: Loaded, space: Space) -> bool:
        return any(
            embedding_key(space.fingerprints[space.spec.item], digest) not in loaded.absent
            for digest, _ in loaded.hashes.get(space.spec.item, ())
        )

    def _count_encoded(self, tasks: dict[bytes, _Task]) -> None:
        """Count each input once, however many spaces it was encoded for."""
        contents = {(task.modality, key[FINGERPRINT_BYTES:]) for key, task in tasks.items()}
        for modality, _ in contents:
            self.counts.encoded[modality] = self.counts.encoded.get(modality, 0) + 1

    def _reject(self, batch: EncodedBatch, reject: Reject) -> None:
        if self._strict:
            raise RejectedRowError(
                f"row {reject.line}",
                expected="every row and input usable, as --strict asks",
                got=reject.reason,
                remedy="Mend it, or leave out --strict.",
            )
        if reject.modality is None:
            self.counts.rejected_rows += 1
        else:
            self.counts.rejected_inputs += 1
        batch.rejects.append(reject)


def _lost(item: Item, modality: str, given: Input, error: MediaError) -> Reject:
    return Reject.from_error(
        error, line=item.line, id=item.id, modality=modality, source=given.source
    )


def _encode(tasks: dict[bytes, _Task]) -> Iterator[tuple[bytes, Any]]:
    """Encode tasks, those of one encoder and modality together."""
    groups: dict[tuple[int, str], list[bytes]] = {}
    for key, task in tasks.items():
        groups.setdefault((id(task.encoder), task.modality), []).append(key)
    for (_, modality), keys in groups.items():
        encoder = tasks[keys[0]].encoder
        vectors = encode_all(encoder, modality, [tasks[key].prepared for key in keys])
        yield from zip(keys, vectors, strict=True)


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Cut into lists of so many; the last may be shorter."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _ahead(work: Any, chunks: Iterable[Any], workers: int) -> Iterator[Any]:
    """Map `work` over chunks in threads, in order, a bounded number of chunks ahead."""
    with ThreadPoolExecutor(workers, thread_name_prefix="catalens-decode") as pool:
        running: deque[Future[Any]] = deque()
        try:
            for chunk in chunks:
                running.append(pool.submit(work, chunk))
                if len(running) > _CHUNKS_AHEAD * workers:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for future in running:
                future.cancel()
