"""Media that could not be used, tried again: what works now joins its item."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from encoders.errors import MediaError

from .encode import Encoded, EncodedBatch
from .items import Input, Item, Reject
from .media_paths import resolve_media
from .modalities import modality_named
from .snapshot import Inputs, Record, Snapshot


@dataclass(frozen=True)
class RetrySummary:
    """What came of trying again: `tried` inputs, of which `mended` joined their items and `failed`
    stay among the rejects, with the reason of today; `without_item` are inputs of rows that are no
    items, which were not tried: what else such a row said is not known."""

    tried: int
    mended: int
    failed: int
    without_item: int


class _Lost(NamedTuple):
    """An item with the inputs it lost: those to try, and those that came from no file."""

    record: Record
    inputs: Inputs
    tried: list[Reject]
    others: list[Reject]


@dataclass
class Retry:
    """The lost inputs of the items of a snapshot, by id."""

    without_item: int = 0
    lost: dict[str, _Lost] = field(default_factory=dict)

    @classmethod
    def of(cls, snapshot: Snapshot, passed_over: Mapping[str, object]) -> Retry:
        """All that a snapshot has, but for items that are to change anyway."""
        found = cls()
        for values in snapshot.rejects():
            reject = Reject.from_dict(values)
            if reject.id is None or reject.modality is None or reject.id in passed_over:
                continue
            if reject.id not in found.lost:
                row = snapshot.row_of(reject.id)
                if row is None:
                    found.without_item += _is_of_file(reject)
                    continue
                (record,), (inputs,) = snapshot.records([row]), snapshot.inputs([row])
                found.lost[reject.id] = _Lost(record, inputs, [], [])
            lost = found.lost[reject.id]
            (lost.tried if _is_of_file(reject) else lost.others).append(reject)
        found.lost = {one: lost for one, lost in found.lost.items() if lost.tried}
        return found

    @property
    def tried(self) -> int:
        """How many inputs are tried."""
        return sum(len(lost.tried) for lost in self.lost.values())

    def items(self, root: Path) -> Iterator[Item]:
        """The items, with nothing but the inputs that are tried, from below this folder."""
        for one, lost in self.lost.items():
            inputs: dict[str, list[Input]] = {}
            rejects: list[Reject] = []
            for reject in lost.tried:
                assert reject.modality is not None and reject.source is not None
                try:
                    path = resolve_media(root, reject.source)
                except MediaError as error:
                    rejects.append(
                        Reject.from_error(
                            error,
                            line=reject.line,
                            id=one,
                            modality=reject.modality,
                            source=reject.source,
                        )
                    )
                else:
                    given = Input(None, path, reject.source)
                    inputs.setdefault(reject.modality, []).append(given)
            # Of the dump that they came from; what is added to an item keeps telling it.
            line = lost.tried[0].line or 0
            made = {modality: tuple(some) for modality, some in inputs.items()}
            yield Item(line, one, made, lost.record.metadata, tuple(rejects))

    def joined(self, batch: EncodedBatch) -> tuple[dict[str, Encoded], list[Reject]]:
        """The items of a batch as they are to be, and what they still lack. An item of which
        nothing works is no row that is lost: it stays what it is."""
        encoded = {one.id: one for one in batch.items}
        rejects = [reject for reject in batch.rejects if reject.modality is not None]
        ids = {*encoded, *(reject.id for reject in rejects if reject.id is not None)}
        items = {}
        for one in sorted(ids):
            lost = self.lost[one]
            inputs = _joined(lost.inputs, encoded[one].inputs) if one in encoded else lost.inputs
            items[one] = Encoded(one, lost.record.metadata, inputs)
            rejects += lost.others
        return items, rejects


def _joined(known: Inputs, new: Inputs) -> Inputs:
    """Inputs with others behind them, but for those that are there: an update may have brought
    them since."""
    hashes = {modality: list(some) for modality, some in known.hashes.items()}
    sources = {modality: list(some) for modality, some in known.sources.items()}
    for modality, digests in new.hashes.items():
        there = set(zip(hashes.get(modality, ()), sources.get(modality, ()), strict=True))
        for digest, source in zip(digests, new.sources[modality], strict=True):
            if (digest, source) not in there:
                hashes.setdefault(modality, []).append(digest)
                sources.setdefault(modality, []).append(source)
    return Inputs(hashes, sources, known.mask | new.mask)


def _is_of_file(reject: Reject) -> bool:
    known = modality_named(reject.modality or "")
    return reject.source is not None and known is not None and known.is_of_files
