"""What a batch may hold: each id once, there already or not as the call asks, vectors that fit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from .changes import Changes
from .encode import chunks
from .errors import DuplicateIdError, ExistingIdError, UnknownIdError, VectorDimensionError
from .items import Item, Reject
from .store import Store

Rule = Callable[[str, str, bool], None]
"""Refuses an id, given where it stands and whether there is an item of that id."""

# Ids looked up at once.
_CHECKED_TOGETHER = 512


class Admission:
    """Checks the rows and ids of a writer's calls before anything is encoded."""

    def __init__(
        self, store: Store, edition: int, changes: Changes, dimensions: Mapping[str, int]
    ) -> None:
        """
        Args:
            store, edition: what is committed.
            changes: what is to be.
            dimensions: of the ready-made vectors of each modality that has them.
        """
        self._store = store
        self._edition = edition
        self._changes = changes
        self._dimensions = dimensions

    def rows(self, entries: Iterable[Item | Reject], rule: Rule | None) -> Iterator[Item | Reject]:
        """Entries of a catalog as they came, each item checked.

        Raises:
            DuplicateIdError: an id is there twice.
            VectorDimensionError: a ready-made vector of another dimension than the index's.
            WriteError: as the rule says.
        """
        seen: set[str] = set()
        for some in chunks(entries, _CHECKED_TOGETHER):
            items = [entry for entry in some if isinstance(entry, Item)]
            for item, there in zip(items, self._known([i.id for i in items]), strict=True):
                where = f"row {item.line}, "
                _check_once(item.id, where, seen)
                if rule is not None:
                    rule(item.id, where, there)
                self._check_dimensions(item)
            yield from some

    def ids(self, ids: Sequence[str], rule: Rule) -> None:
        """Check ids that come without items.

        Raises:
            DuplicateIdError: an id is there twice.
            WriteError: as the rule says.
        """
        seen: set[str] = set()
        for some in chunks(ids, _CHECKED_TOGETHER):
            for one, there in zip(some, self._known(some), strict=True):
                _check_once(one, "", seen)
                rule(one, "", there)

    def _known(self, ids: Sequence[str]) -> list[bool]:
        """Which of these items there are, or will be after the commit."""
        with self._store.view() as view:
            found = view.get_many(f"ids.{self._edition}", [one.encode() for one in ids])
        changed = self._changes.items
        return [
            changed[one] is not None if one in changed else key is not None
            for one, key in zip(ids, found, strict=True)
        ]

    def _check_dimensions(self, item: Item) -> None:
        for modality, inputs in item.inputs.items():
            expected = self._dimensions.get(modality)
            for given in inputs if expected is not None else ():
                got = len(given.content or b"") // 4
                if got != expected:
                    raise VectorDimensionError(
                        f"row {item.line}, item {item.id!r}, {modality}",
                        expected=f"{expected} values, as the index has",
                        got=f"{got}",
                        remedy="Use the model that made the catalog's vectors, or build again.",
                    )


def must_be_new(one: str, where: str, there: bool) -> None:
    """The rule of an addition."""
    if there:
        raise ExistingIdError(
            f"{where}item {one!r}",
            expected="an id that the index has not",
            got="one that is there already",
            remedy="Use `update`, or `update` with `upsert` for items old and new.",
        )


def must_be_there(one: str, where: str, there: bool) -> None:
    """The rule of an update or deletion."""
    if not there:
        raise UnknownIdError(
            f"{where}item {one!r}",
            expected="an id of the index",
            got="one that it has not",
            remedy="Check the id; to add items use `add`, or `update` with `upsert`.",
        )


def _check_once(one: str, where: str, seen: set[str]) -> None:
    if one in seen:
        raise DuplicateIdError(
            f"{where}item {one!r}",
            expected="each id once in a batch",
            got="this one twice",
            remedy="Keep one of them.",
        )
    seen.add(one)
