"""Items in, records and embeddings out: decoding in threads while the model works.

What was encoded before, in this build or any earlier one, is found by (encoder fingerprint,
SHA-256 of the input) and not encoded again.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from encoders import Encoder, Limits, SpaceSpec, encode_all
from encoders.errors import MediaError

from .catalog_errors import RejectedRowError
from .items import Input, Item, Reject
from .spaces import Reach, kind_of_input
from .store import FINGERPRINT_BYTES, Batch, Inputs, Record, Store, embedding_key

# Items per commit: what an interrupted build encodes again at most, and a step of the progress
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
    """What a build did, for its summary."""

    items: int = 0
    inputs: dict[str, int] = field(default_factory=dict)
    encoded: dict[str, int] = field(default_factory=dict)
    rejected_rows: int = 0
    rejected_inputs: int = 0


@dataclass
class _Task:
    encoder: Encoder
    modality: str
    prepared: Any


@dataclass
class _Loaded:
    """An item with its inputs read, hashed and, where not known yet, decoded."""

    item: Item
    hashes: dict[str, list[tuple[str, str | None]]]
    tasks: dict[bytes, _Task]
    rejects: list[Reject]


class ItemEncoder:
    """Encodes the items of one edition and commits them batch by batch."""

    def __init__(
        self,
        store: Store,
        edition: int,
        specs: list[SpaceSpec],
        reaches: list[Reach],
        limits: Limits,
        *,
        strict: bool,
        impute: bool = False,
    ) -> None:
        self._store = store
        self._edition = edition
        self._specs = specs
        self._fill = {s.name: s.item for s in specs}
        self._reaches = reaches
        self._limits = limits
        self._strict = strict
        self._impute = impute
        self.counts = Counts()

    def run(self, items: Iterable[Item | Reject], workers: int) -> Iterator[int]:
        """Encode and commit everything; yields the number of rows dealt with, step by step."""
        loaded = _ahead(self._load_chunk, _chunks(items, _CHUNK_ITEMS), workers)
        flat = (entry for chunk in loaded for entry in chunk)
        size = _FIRST_BATCH
        while entries := list(islice(flat, size)):
            started = time.monotonic()
            self._commit(entries)
            yield len(entries)
            fitting = size * _BATCH_SECONDS / max(time.monotonic() - started, 1e-3)
            size = int(min(max(fitting, size / 2, _FIRST_BATCH), size * 2, _MAX_BATCH))

    def _load_chunk(self, chunk: list[Item | Reject]) -> list[_Loaded | Reject]:
        return [entry if isinstance(entry, Reject) else self._load(entry) for entry in chunk]

    def _load(self, item: Item) -> _Loaded:
        loaded = _Loaded(item, {}, {}, list(item.rejects))
        for modality, inputs in item.inputs.items():
            for given in inputs:
                try:
                    content = given.read(self._limits)
                    digest = hashlib.sha256(content).hexdigest()
                    loaded.tasks.update(self._tasks(item, modality, content, digest))
                except MediaError as error:
                    loaded.rejects.append(_lost(item, modality, given, error))
                else:
                    loaded.hashes.setdefault(modality, []).append((digest, given.source))
        return loaded

    def _tasks(
        self, item: Item, modality: str, content: bytes, digest: str
    ) -> Iterator[tuple[bytes, _Task]]:
        """What must be encoded for an input; inputs that are known are not even decoded."""
        kind = kind_of_input(modality)
        wanted = {
            embedding_key(reach.fingerprint, digest): reach.encoder
            for reach in self._reaches
            if reach.modality == modality and self._is_wanted(reach, item)
        }
        for key in self._store.missing_embeddings(wanted):
            yield key, _Task(wanted[key], kind, wanted[key].prepare(kind, content))

    def _is_wanted(self, reach: Reach, item: Item) -> bool:
        """Whether an item's inputs go through this encoder: what fills the space does; the other
        towers of a shared space are for queries, but for what is measured and what is imputed."""
        fill = self._fill[reach.space]
        return (
            fill == reach.modality
            or item.line <= QUERY_TOWER_SAMPLE
            or (self._impute and not item.inputs.get(fill))
        )

    def _commit(self, entries: list[_Loaded | Reject]) -> None:
        batch = Batch()
        with self._store.view() as view:
            fresh = self._unique(entries, view)
        tasks: dict[bytes, _Task] = {}
        for entry in fresh:
            if isinstance(entry, _Loaded):
                tasks.update(entry.tasks)
        # A picture that many items share may have been committed since this one was decoded.
        tasks = {key: tasks[key] for key in self._store.missing_embeddings(tasks)}
        batch.embeddings.update(_encode(tasks))
        self._count_encoded(tasks)
        for entry in fresh:
            if isinstance(entry, Reject):
                self._reject(batch, entry)
            else:
                self._add(batch, entry)
        self._store.commit(self._edition, batch)

    def _unique(self, entries: list[_Loaded | Reject], view: Any) -> list[_Loaded | Reject]:
        """Turn items whose id was seen before, here or in an earlier batch, into rejects."""
        seen: set[str] = set()
        found: list[_Loaded | Reject] = []
        for entry in entries:
            if isinstance(entry, _Loaded):
                item = entry.item
                if item.id in seen or view.get(f"ids.{self._edition}", item.id.encode()):
                    error = RejectedRowError(
                        f"row {item.line}",
                        expected="an id that no earlier row has",
                        got=f"{item.id!r} again",
                        remedy="Remove one of the rows, or map --id to a column of unique values.",
                    )
                    found.append(Reject.from_error(error, line=item.line, id=item.id))
                    continue
                seen.add(item.id)
            found.append(entry)
        return found

    def _add(self, batch: Batch, loaded: _Loaded) -> None:
        for reject in loaded.rejects:
            self._reject(batch, reject)
        mask = 0
        for number, spec in enumerate(self._specs):
            mask |= bool(loaded.hashes.get(spec.item)) << number
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
        row = self.counts.items
        self.counts.items += 1
        inputs = Inputs(
            {m: [digest for digest, _ in found] for m, found in loaded.hashes.items()},
            {m: [source for _, source in found] for m, found in loaded.hashes.items()},
            mask,
        )
        batch.items.append((row, Record(item.id, item.metadata), inputs))
        for modality, found in inputs.hashes.items():
            kind = kind_of_input(modality)
            self.counts.inputs[kind] = self.counts.inputs.get(kind, 0) + len(found)

    def _count_encoded(self, tasks: dict[bytes, _Task]) -> None:
        """Count each input once, however many spaces it was encoded for."""
        contents = {(task.modality, key[FINGERPRINT_BYTES:]) for key, task in tasks.items()}
        for modality, _ in contents:
            self.counts.encoded[modality] = self.counts.encoded.get(modality, 0) + 1

    def _reject(self, batch: Batch, reject: Reject) -> None:
        if self._strict:
            raise RejectedRowError(
                f"row {reject.line}",
                expected="every row and input usable, as --strict asks",
                got=reject.reason,
                remedy="Mend it, or build without --strict.",
            )
        if reject.modality is None:
            self.counts.rejected_rows += 1
        else:
            self.counts.rejected_inputs += 1
        batch.rejects.append(reject.to_dict())


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


def _chunks(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
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
