"""What users' behaviour adds to an index: item vectors and popularity by id, and histories by user.

An item's vectors lie among the embeddings, under the SHA-256 of its id in the place of that of an
input, and its record names them as it names inputs: so the space is filled, searched, compacted
and checked as any other. They are kept across builds, as embeddings are.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import orjson
from numpy.typing import NDArray

from .environment import ReadTransaction, WriteTransaction
from .interactions import Interactions
from .modalities import BEHAVIOUR, LIKED
from .sealing import decoding
from .snapshot import (
    EMBEDDINGS,
    HISTORIES,
    POPULARITY,
    Inputs,
    Snapshot,
    embedding_key,
    row_key,
)

_POPULARITY = struct.Struct("<f")

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class ItemVectors:
    """Unit vectors (n, d) of the items of these ids, and how popular each is, float32 (n,)."""

    ids: Sequence[str]
    items: Floats
    liked: Floats
    popularity: Floats

    def fingerprints(self) -> dict[str, str]:
        """What names the vectors in the store, by modality: 32 hex digits of their bytes."""
        found = {}
        for modality, vectors in ((BEHAVIOUR, self.items), (LIKED, self.liked)):
            digest = hashlib.sha256(modality.encode())
            digest.update("\0".join(self.ids).encode())
            digest.update(np.ascontiguousarray(vectors, dtype="<f4").data)
            found[modality] = digest.hexdigest()[:32]
        return found


def digest_of(item_id: str) -> str:
    """What stands for the behaviour towards an item: SHA-256 of its id, in hex."""
    return hashlib.sha256(item_id.encode()).hexdigest()


def touched(inputs: Inputs, item_id: str, bit: int) -> Inputs:
    """An item's inputs with its item vectors among them, and the space's bit in the mask."""
    digest = [digest_of(item_id)]
    hashes = {**inputs.hashes, BEHAVIOUR: digest, LIKED: digest}
    sources: dict[str, list[str | None]] = {**inputs.sources, BEHAVIOUR: [None], LIKED: [None]}
    return Inputs(hashes, sources, inputs.mask | 1 << bit)


def _untouched(inputs: Inputs) -> Inputs:
    """An item's inputs without item vectors; the mask as it is."""
    hashes = {m: v for m, v in inputs.hashes.items() if m not in (BEHAVIOUR, LIKED)}
    sources = {m: v for m, v in inputs.sources.items() if m not in (BEHAVIOUR, LIKED)}
    return Inputs(hashes, sources, inputs.mask)


def keep_vectors(
    bit: int, vectors: ItemVectors, fingerprints: Mapping[str, str], histories: Interactions | None
) -> Callable[[WriteTransaction, Snapshot], None]:
    """Work for one transaction: item vectors and, if given, histories into the store; popularity
    and histories take the place of those that were there.

    The bit must be one that the current generation does not use: what that one is made of stays,
    until the next is named and `forget_vectors` is done.
    """
    chosen = set(vectors.ids)

    def work(transaction: WriteTransaction, snapshot: Snapshot) -> None:
        for name in (POPULARITY, HISTORIES):
            transaction.drop(name)
        for number, item_id in enumerate(vectors.ids):
            digest = digest_of(item_id)
            for modality, rows in ((BEHAVIOUR, vectors.items), (LIKED, vectors.liked)):
                key = embedding_key(fingerprints[modality], digest)
                transaction.put(EMBEDDINGS, key, rows[number].astype("<f4").tobytes())
            value = _POPULARITY.pack(float(vectors.popularity[number]))
            transaction.put(POPULARITY, item_id.encode(), value)
        for row, inputs, item_id in _items(snapshot):
            if item_id in chosen:
                _put(transaction, snapshot, row, touched(inputs, item_id, bit))
        if histories is not None:
            _put_histories(transaction, histories)

    return work


def _items(snapshot: Snapshot) -> Iterable[tuple[int, Inputs, str]]:
    """All items: row, inputs and id; read whole, since they are written to while read."""
    ids = [record.id for _, record in snapshot.scan_records()]
    inputs = list(snapshot.scan_inputs())
    return [(row, one, item_id) for (row, one), item_id in zip(inputs, ids, strict=True)]


def _put_histories(transaction: WriteTransaction, interactions: Interactions) -> None:
    for user, history in zip(interactions.user_ids, interactions.histories(), strict=True):
        value = [
            [interactions.item_ids[item] for item in history.items.tolist()],
            history.values.tolist(),
            history.times.tolist(),
        ]
        transaction.put(HISTORIES, user.encode(), orjson.dumps(value))


def forget_vectors(
    transaction: WriteTransaction,
    snapshot: Snapshot,
    bit: int,
    bits: int,
    fingerprints: Iterable[str],
) -> None:
    """Remove item vectors that no generation names any more.

    Args:
        transaction: to write in.
        snapshot: the same state.
        bit: that of the space of item vectors.
        bits: a mask of all spaces there are.
        fingerprints: of the vectors that are not used any more.
    """
    for fingerprint in fingerprints:
        low = bytes.fromhex(fingerprint)
        keys = [key for key, _ in transaction.scan(EMBEDDINGS, low, low + b"\xff" * 33)]
        for key in keys:
            transaction.delete(EMBEDDINGS, key)
    for row, inputs, _ in _items(snapshot):
        changed = inputs._replace(mask=inputs.mask & bits)
        if not inputs.mask >> bit & 1:
            changed = _untouched(changed)
        if changed != inputs:
            _put(transaction, snapshot, row, changed)


def _put(transaction: WriteTransaction, snapshot: Snapshot, row: int, inputs: Inputs) -> None:
    transaction.put(f"inputs.{snapshot.edition}", row_key(row), orjson.dumps([*inputs]))


def popularity_of(view: ReadTransaction, ids: Sequence[str]) -> Floats | None:
    """How popular each of these items is, float32 (n,), 0 where nobody touched it; None where
    nothing is known of any item."""
    if not view.count(POPULARITY):
        return None
    found = view.get_many(POPULARITY, [one.encode() for one in ids])
    with decoding(POPULARITY):
        values = [0.0 if value is None else _POPULARITY.unpack(value)[0] for value in found]
    return np.array(values, dtype=np.float32)


def history_of(snapshot: Snapshot, user: str) -> list[tuple[str, float, float]] | None:
    """What a user did as (item, value, time), in order of time; None where the store has nothing
    of that user."""
    try:
        value = snapshot.view.get(HISTORIES, user.encode()) if user else None
    except UnicodeEncodeError:
        value = None
    if value is None:
        return None
    with decoding(HISTORIES):
        items, values, times = orjson.loads(value)
        return list(zip(items, values, times, strict=True))
