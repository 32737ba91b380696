"""What one commit of a writer changes: all of it in one transaction of the store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from .blocks import Blocks
from .encode import Encoded, chunks
from .environment import WriteTransaction
from .fusion import Fusion
from .postings import Posted, merge
from .recipe import Recipe
from .snapshot import NONE_UNCOMPACTED, Inputs, Record, Snapshot, Uncompacted, read_current, row_key
from .store import drop_lost_inputs, put_current, put_embeddings, put_item, put_rejects

_FUSED_TOGETHER = 2048


@dataclass
class Changes:
    """What a writer was told since its last commit.

    `items` has for each id what the item is to be, None where it is to be gone. What embeddings
    the items need is in `embeddings`, or in the store.
    """

    items: dict[str, Encoded | None] = field(default_factory=dict)
    embeddings: dict[bytes, NDArray[np.float32]] = field(default_factory=dict)
    rejects: list[Mapping[str, Any]] = field(default_factory=list)

    def take(
        self, items: Mapping[str, Encoded | None], rejects: Iterable[Mapping[str, Any]] = ()
    ) -> None:
        """Add what a call was told, in the place of what an earlier one said of the same items."""
        kept = (r for r in self.rejects if r["modality"] is None or r["id"] not in items)
        self.rejects = [*kept, *rejects]
        self.items.update(items)

    def __bool__(self) -> bool:
        return bool(self.items or self.rejects)


@dataclass
class Applied:
    """How many items a commit added, updated (by content, or in their metadata alone), left as
    they were and deleted; how many there are now, and what `compact` would fold in."""

    added: int = 0
    updated: int = 0
    metadata_only: int = 0
    unchanged: int = 0
    deleted: int = 0
    items: int = 0
    uncompacted: Uncompacted = NONE_UNCOMPACTED


def apply(
    transaction: WriteTransaction, changes: Changes, recipe: Recipe, fusion: Fusion
) -> Applied:
    """Write changes into the edition that is current, and count them as one commit.

    New content gets a new row, fused as the generation was; where the metadata alone has changed,
    the row keeps its number.
    """
    current = read_current(transaction)
    assert current is not None  # a writer opens an index that has been built
    snapshot = Snapshot(transaction, current)
    put_embeddings(transaction, changes.embeddings)
    edit = _Edit(transaction, snapshot)
    for item_id, wanted in changes.items.items():
        edit.settle(item_id, wanted)
    merge(transaction, current.edition, edit.posted, edit.gone)
    # An item that is given anew has lost what it lost this time, and nothing else.
    drop_lost_inputs(transaction, current.edition, changes.items)
    put_rejects(transaction, current.edition, changes.rejects)
    _fuse(transaction, snapshot, edit.new, recipe, fusion)
    put_current(transaction, replace(current, commits=current.commits + 1, next_row=edit.next_row))
    edit.applied.items = snapshot.count()
    edit.applied.uncompacted = snapshot.uncompacted()
    return edit.applied


class _Known(NamedTuple):
    """An item as it is in the store."""

    row: int
    record: Record
    inputs: Inputs


class _Edit:
    """The rows of one commit; postings are gathered, to be merged at its end."""

    def __init__(self, transaction: WriteTransaction, snapshot: Snapshot) -> None:
        self._transaction = transaction
        self._snapshot = snapshot
        self._edition = snapshot.edition
        self.next_row = snapshot.next_row
        self.posted = Posted()
        self.gone = Posted()
        self.new: list[tuple[int, Inputs]] = []
        self.applied = Applied()

    def settle(self, item_id: str, wanted: Encoded | None) -> None:
        """Make one item what it is to be."""
        row = self._snapshot.row_of(item_id)
        if row is None:
            if wanted is not None:  # else it was added and deleted since the last commit
                self._add(wanted)
                self.applied.added += 1
            return
        (record,), (inputs,) = self._snapshot.records([row]), self._snapshot.inputs([row])
        known = _Known(row, record, inputs)
        if wanted is None:
            self._remove(known)
            self.applied.deleted += 1
        elif (inputs.hashes, inputs.mask) != (wanted.inputs.hashes, wanted.inputs.mask):
            self._remove(known)
            self._add(wanted)
            self.applied.updated += 1
        elif self._rewrite(known, wanted):
            self.applied.metadata_only += 1
        else:
            self.applied.unchanged += 1

    def _add(self, item: Encoded) -> None:
        self._put(self.next_row, item)
        self.new.append((self.next_row, item.inputs))
        self.next_row += 1

    def _rewrite(self, known: _Known, wanted: Encoded) -> bool:
        """Write what is not content anew under the same row; whether anything was other."""
        before = orjson.dumps([known.record.metadata, known.inputs.sources])
        # Compared as bytes: in Python 1 equals 1.0 and true.
        if before == orjson.dumps([wanted.metadata, wanted.inputs.sources]):
            return False
        self.gone.add(known.row, known.record.metadata)
        self._put(known.row, wanted)
        return True

    def _put(self, row: int, item: Encoded) -> None:
        record = Record(item.id, item.metadata)
        put_item(self._transaction, self._edition, row, record, item.inputs)
        self.posted.add(row, item.metadata)

    def _remove(self, known: _Known) -> None:
        key, edition = row_key(known.row), self._edition
        self._transaction.delete(f"ids.{edition}", known.record.id.encode())
        self._transaction.delete(f"records.{edition}", key)
        self._transaction.delete(f"inputs.{edition}", key)
        if self._transaction.get(f"fresh.{edition}", key) is None:
            self._transaction.put(f"tombstones.{edition}", key, b"")
        else:
            self._transaction.delete(f"fresh.{edition}", key)
        self.gone.add(known.row, known.record.metadata)


def _fuse(
    transaction: WriteTransaction,
    snapshot: Snapshot,
    items: list[tuple[int, Inputs]],
    recipe: Recipe,
    fusion: Fusion,
) -> None:
    """Write the vectors of new rows, made as those of the generation were, so that readers open
    them as they are."""
    blocks = Blocks(snapshot, recipe)
    for chunk in chunks(items, _FUSED_TOGETHER):
        parts, states = blocks.take(fusion.transforms, chunk)
        vectors = fusion.fuse_items(parts).astype("<f2")
        for (row, _), vector, state in zip(chunk, vectors, states, strict=True):
            value = vector.tobytes() + state.tobytes()
            transaction.put(f"fresh.{snapshot.edition}", row_key(row), value)
