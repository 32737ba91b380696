"""A bounded sample of a catalog's inputs, for encoders that are fitted on it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from heapq import heappop, heappush
from itertools import count
from typing import overload

from encoders import Limits

from .items import Input, Item, Reject
from .spaces import kind_of_input

# Inputs that the catalog itself holds (texts, vectors) are kept in memory; files are read when
# they are asked for.
MAX_BYTES = 256 << 20
# Entries of a catalog that can be read once are kept until they are encoded, so few at most.
_MAX_HELD_ENTRIES = 50_000


class Sampler:
    """Draws inputs of one modality: those whose ids have the smallest hashes.

    So every input is as likely as any other, and the sample is the same in whatever order rows
    come and however often the catalog is read.
    """

    def __init__(self, modality: str, size: int, max_bytes: int = MAX_BYTES) -> None:
        self.modality = modality
        self._size = size
        self._max_bytes = max_bytes
        self._bytes = 0
        self._heap: list[tuple[int, int, Input]] = []
        self._numbers = count()

    def take(self, item: Item) -> None:
        """Let the inputs of an item in, where they belong to the sample so far."""
        for modality, inputs in item.inputs.items():
            if kind_of_input(modality) == self.modality:
                for number, one in enumerate(inputs):
                    self._take(_draw(item.id, number), one)

    def _take(self, drawn: int, one: Input) -> None:
        heappush(self._heap, (-drawn, next(self._numbers), one))
        self._bytes += _held(one)
        # One stays, however large: an encoder may be fitted on a single input.
        while len(self._heap) > self._size or (
            self._bytes > self._max_bytes and len(self._heap) > 1
        ):
            self._bytes -= _held(heappop(self._heap)[2])

    def sample(self, limits: Limits) -> Sample:
        """What was drawn, in the order of the hashes."""
        ordered = sorted(self._heap, key=lambda entry: (-entry[0], entry[1]))
        return Sample([one for _, _, one in ordered], limits)


class Sample(Sequence[bytes]):
    """Inputs, each read when it is asked for, which raises `MediaError` where it cannot be."""

    def __init__(self, inputs: list[Input], limits: Limits) -> None:
        self._inputs = inputs
        self._limits = limits

    def __len__(self) -> int:
        return len(self._inputs)

    @overload
    def __getitem__(self, where: int) -> bytes: ...
    @overload
    def __getitem__(self, where: slice) -> Sample: ...
    def __getitem__(self, where: int | slice) -> bytes | Sample:
        if isinstance(where, slice):
            return Sample(self._inputs[where], self._limits)
        return self._inputs[where].read(self._limits)


def held(entries: Iterator[Item | Reject]) -> Iterable[Item | Reject]:
    """The first entries of what can be read once, as many as memory is for."""
    size = 0
    for number, entry in enumerate(entries, start=1):
        yield entry
        if isinstance(entry, Item):
            size += sum(_held(one) for inputs in entry.inputs.values() for one in inputs)
        if number == _MAX_HELD_ENTRIES or size > MAX_BYTES:
            return


def _draw(item_id: str, number: int) -> int:
    digest = hashlib.blake2b(f"{number}:{item_id}".encode(), digest_size=8)
    return int.from_bytes(digest.digest(), "big")


def _held(one: Input) -> int:
    return len(one.content or b"")
