"""Embeddings that no item names any more: a cache while they may be wanted again, then a burden."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .encode import chunks
from .environment import WriteTransaction
from .manifest import Manifest
from .snapshot import EMBEDDINGS, FINGERPRINT_BYTES, Snapshot
from .store import Store

_HASH = np.dtype("S32")
_TOGETHER = 16_384


class NamedInputs:
    """The content hashes of all inputs that the items of a snapshot have; 32 bytes for each."""

    def __init__(self, snapshot: Snapshot) -> None:
        found = [np.empty(0, dtype=_HASH)]
        for some in chunks(snapshot.scan_inputs(), _TOGETHER):
            digests = (h for _, inputs in some for hashes in inputs.hashes.values() for h in hashes)
            # A dtype of bytes ignores zeros at the end, on both sides alike.
            found.append(np.frombuffer(bytes.fromhex("".join(digests)), dtype=_HASH))
        self._hashes = np.unique(np.concatenate(found))

    def of(self, keys: Sequence[bytes]) -> NDArray[np.bool_]:
        """Which keys of embeddings are of one of them, bool (n,)."""
        hashes = np.frombuffer(b"".join(key[FINGERPRINT_BYTES:] for key in keys), dtype=_HASH)
        places = np.searchsorted(self._hashes, hashes)
        named = places < len(self._hashes)
        named[named] = self._hashes[places[named]] == hashes[named]
        return named


def drop_unnamed(store: Store, manifest: Manifest) -> int:
    """Drop the embeddings of inputs that no item has, and of encoders that no space has, under the
    writer's lock; return how many they were. It may stop anywhere."""
    known = {bytes.fromhex(f) for space in manifest.spaces for f in space.fingerprints.values()}
    unnamed: list[bytes] = []
    with store.snapshot() as snapshot:
        named = NamedInputs(snapshot)
        for keys in chunks(snapshot.view.keys(EMBEDDINGS), _TOGETHER):
            for key, is_named in zip(keys, named.of(keys).tolist(), strict=True):
                if not is_named or key[:FINGERPRINT_BYTES] not in known:
                    unnamed.append(key)
    for some in chunks(unnamed, _TOGETHER):

        def drop(transaction: WriteTransaction, some: Sequence[bytes] = some) -> None:
            for key in some:
                transaction.delete(EMBEDDINGS, key)

        store.write(drop)
    return len(unnamed)
