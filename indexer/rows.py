"""The fused vectors of a generation, as exact as they are kept, mapped from disk.

Rows are checked in blocks, at the first use of each, so that opening an index reads none of
them and a flipped bit is still found before it can change an answer.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .durable import HashedFile
from .errors import CorruptIndexError
from .row_codecs import FLOAT16, RowCodec, Stored

Floats = NDArray[np.float32]
Positions = NDArray[np.int64]

# 16 rows of 768 dimensions are 24 KiB: a few pages, and a checksum costs about 10 microseconds.
ROWS_PER_BLOCK = 16


class RowWriter:
    """Writes rows in order, with a CRC-32 for each block of `ROWS_PER_BLOCK`."""

    def __init__(
        self, rows: Path, checksums: Path, dimension: int, codec: RowCodec = FLOAT16
    ) -> None:
        self._rows = HashedFile(rows)
        self._checksums = HashedFile(checksums)
        self._codec = codec
        self._pending: Stored = np.empty((0, dimension), dtype=codec.dtype)

    def write(self, vectors: Floats) -> None:
        """Append (n, dimension) float32 rows."""
        self._pending = np.concatenate([self._pending, self._codec.encode(vectors)])
        whole = len(self._pending) // ROWS_PER_BLOCK * ROWS_PER_BLOCK
        self._flush(self._pending[:whole])
        self._pending = self._pending[whole:]

    def _flush(self, stored: Stored) -> None:
        for start in range(0, len(stored), ROWS_PER_BLOCK):
            block = np.ascontiguousarray(stored[start : start + ROWS_PER_BLOCK]).tobytes()
            self._rows.write(block)
            self._checksums.write(zlib.crc32(block).to_bytes(4, "little"))

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(self, *_: object) -> None:
        with self._rows, self._checksums:
            pass

    def close(self) -> tuple[tuple[int, str], tuple[int, str]]:
        """Write the rest; return (size, SHA-256) of the rows and of the checksums."""
        self._flush(self._pending)
        return self._rows.close(), self._checksums.close()


class Rows:
    """Rows (n, dimension) of a generation, read as float32."""

    def __init__(
        self, rows: Path, checksums: Path, dimension: int, codec: RowCodec = FLOAT16
    ) -> None:
        self._path = rows
        self._codec = codec
        # An ndarray over the map: indexing a memmap object costs three times as much.
        mapped = np.memmap(rows, dtype=codec.dtype, mode="r").reshape(-1, dimension)
        self._stored: Stored = mapped.view(np.ndarray)
        self._checksums = np.fromfile(checksums, dtype="<u4")
        self._checked = np.zeros(len(self._checksums), dtype=bool)
        self._swept = 0
        self._sweeping = threading.Lock()

    def __len__(self) -> int:
        return len(self._stored)

    @property
    def stored(self) -> Stored:
        """All rows as they are on disk: float16 or uint8 (n, dimension), mapped, not checked."""
        return self._stored

    @property
    def steps(self) -> Floats | None:
        """What a code of each dimension counts, float32 (dimension,); None with float16 rows."""
        return self._codec.steps

    @property
    def dimension(self) -> int:
        """Values of one row."""
        return int(self._stored.shape[1])

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.dimension * self._stored.itemsize

    @property
    def is_checked(self) -> bool:
        """Whether every block was checked since the rows were opened, and is sound."""
        return self._swept == len(self._checked)

    def check(self, blocks: int | None = None) -> bool:
        """Check some more blocks, from the front on, or all that are left; return `is_checked`.

        Damage stops it and raises nothing: only who asks for a damaged row is told.
        """
        if self.is_checked:
            return True
        with self._sweeping:  # two threads at once would both step over the block they checked
            end = len(self._checked) if blocks is None else self._swept + blocks
            while self._swept < min(end, len(self._checked)) and self._is_sound(self._swept):
                self._swept += 1
        return self.is_checked

    def take(self, positions: Positions) -> Floats:
        """Rows at int64 positions (m,), as float32 (m, dimension).

        Raises:
            CorruptIndexError: a block's checksum does not match.
        """
        if not self.is_checked:
            blocks = positions // ROWS_PER_BLOCK
            if not self._checked.take(blocks).all():
                self._check_all(np.unique(blocks[~self._checked[blocks]]))
        return self._codec.decode(self._stored.take(positions, axis=0))

    def chunks(self, size: int = 4096) -> Iterator[tuple[int, Floats]]:
        """All rows in order, `size` at a time, each with its first position."""
        for start in range(0, len(self), size):
            yield start, self.take(np.arange(start, min(start + size, len(self))))

    def _check_all(self, blocks: Positions) -> None:
        """Check these, and as many from the front on: a busy index is soon checked whole, and
        then read without asking. Damage that nobody asked for stops that, and costs no query."""
        for block in blocks.tolist():
            if not self._is_sound(block):
                start = block * ROWS_PER_BLOCK
                raise CorruptIndexError(
                    f"rows {self._path}",
                    expected=f"the checksum of the {ROWS_PER_BLOCK} rows from {start}",
                    got="another: bits have flipped on disk",
                    remedy="Build the index again from the catalog; nothing is encoded again.",
                )
        self.check(len(blocks))

    def _is_sound(self, block: int) -> bool:
        if not self._checked[block]:
            start = block * ROWS_PER_BLOCK
            data = self._stored[start : start + ROWS_PER_BLOCK]
            self._checked[block] = zlib.crc32(data.tobytes()) == self._checksums[block]
        return bool(self._checked[block])
