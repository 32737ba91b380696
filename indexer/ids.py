"""The items' ids by position, mapped from disk: hits that show nothing else need no record."""

from __future__ import annotations

from collections.abc import Iterable
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .durable import HashedFile

Positions = NDArray[np.int64]


def write_ids(path: Path, ids: Iterable[str]) -> tuple[int, str]:
    """Write ids in order of position; return size and SHA-256.

    The file is the ids' UTF-8 one after the other, zeros up to a multiple of 8, then where each
    ends (u64, little-endian), then how many there are (u64): so that it is written in one pass.
    """
    ends, end = [], 0
    with HashedFile(path) as file:
        for one in ids:
            data = one.encode()
            file.write(data)
            end += len(data)
            ends.append(end)
        file.write(bytes(-end % 8))
        file.write(np.array([*ends, len(ends)], dtype="<u8").tobytes())
        return file.close()


class Ids:
    """Ids of a generation, from a file whose hash was checked."""

    def __init__(self, path: Path) -> None:
        # A few bytes of a map, or a number of a memoryview, are read in half the time that an array
        # takes.
        with path.open("rb") as file:
            self._text = mmap(file.fileno(), 0, access=ACCESS_READ)
        mapped: Any = np.frombuffer(self._text, dtype="<u8").astype("=u8", copy=False)
        numbers = memoryview(mapped)
        self._ends = numbers[len(numbers) - 1 - numbers[-1] : -1]

    def __len__(self) -> int:
        return len(self._ends)

    def take(self, positions: Positions) -> list[str]:
        """Ids at int64 positions (m,)."""
        text, ends = self._text, self._ends
        return [text[ends[p - 1] if p else 0 : ends[p]].decode() for p in positions.tolist()]
