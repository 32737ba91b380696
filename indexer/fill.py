"""Encoded items into a new edition, batch by batch, each in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .catalog_errors import RejectedRowError
from .encode import ItemEncoder, Loaded
from .items import Item, Reject
from .snapshot import Record
from .store import Batch, Store


class EditionFiller:
    """Fills one edition, which no reader looks at yet; rows are numbered in catalog order."""

    def __init__(self, store: Store, edition: int, encoder: ItemEncoder) -> None:
        self._store = store
        self._edition = edition
        self._encoder = encoder
        self.items = 0
        """Items so far."""

    def run(self, items: Iterable[Item | Reject], workers: int) -> Iterator[int]:
        """Encode and commit everything; yields the number of rows dealt with, step by step."""
        for batch in self._encoder.run(items, workers, self._unique):
            rows = enumerate(batch.items, start=self.items)
            self._store.commit(
                self._edition,
                Batch(
                    [(n, Record(one.id, one.metadata), one.inputs) for n, one in rows],
                    dict(self._encoder.unsaved),
                    [reject.to_dict() for reject in batch.rejects],
                ),
            )
            self._encoder.unsaved.clear()
            self.items += len(batch.items)
            yield batch.seen

    def _unique(self, entries: list[Loaded | Reject]) -> list[Loaded | Reject]:
        """Turn items whose id was seen before, here or in an earlier batch, into rejects."""
        seen: set[str] = set()
        found: list[Loaded | Reject] = []
        with self._store.view() as view:
            for entry in entries:
                if isinstance(entry, Loaded):
                    item = entry.item
                    if item.id in seen or view.get(f"ids.{self._edition}", item.id.encode()):
                        found.append(_again(item))
                        continue
                    seen.add(item.id)
                found.append(entry)
        return found


def _again(item: Item) -> Reject:
    error = RejectedRowError(
        f"row {item.line}",
        expected="an id that no earlier row has",
        got=f"{item.id!r} again",
        remedy="Remove one of the rows, or map --id to a column of unique values.",
    )
    return Reject.from_error(error, line=item.line, id=item.id)
