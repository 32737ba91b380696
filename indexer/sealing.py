"""How damage of the store shows, without LMDB's help: checksums of values, the file's header.

LMDB trusts its file. A value that is not what was written is found by its checksum, when it is
read. The two meta pages are checked here at each opening, the pages that lead to a value when a
view first comes by them (`pages`). A writer's transactions trust the pages that they change:
`verify` looks at all of them (`Environment.page_problems`, about 100 MB a second).
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from .errors import CorruptIndexError

_REMEDY = "Restore it from a backup, or build the index again from the catalog."
_REMEDY_OF_VALUES = (
    "Run `catalens repair`: it derives again what can be, and says what has to be built again."
)

# LMDB's meta page on a 64-bit machine: page number, flags; magic, version, address, map size;
# two trees, that of free pages and the main one; last page, transaction.
_META = struct.Struct("<Q2xH4xIIQQ48s48sQQ")
_TREE = struct.Struct("<IHHQQQQQ")
_META_MAGIC = 0xBEEFC0DE
_META_FLAG = 8
_DATA_VERSION = 1
# Each says of a tree's keys what LMDB's own are (integers), and what ours are (bytes).
_FREE_FLAGS = 8
_MAIN_FLAGS = 0
_DEEPEST = 32
_LARGEST_MAP = 1 << 47
_NO_PAGE = (1 << 64) - 1
_PAGE_SIZE_OFFSET = 16 + 24
# A meta page may be read while another process writes it.
_READS = 3


class Tree(NamedTuple):
    """One of LMDB's trees, as a meta page or the main tree tells of it."""

    page_size: int
    flags: int
    depth: int
    branch_pages: int
    leaf_pages: int
    overflow_pages: int
    entries: int
    root: int

    @classmethod
    def read(cls, data: bytes) -> Tree:
        """That of its 48 bytes."""
        return cls(*_TREE.unpack(data))

    def is_sound(self, flags: int, last_page: int) -> bool:
        if self.flags != flags:
            return False
        pages = self.branch_pages + self.leaf_pages + self.overflow_pages
        if self.root == _NO_PAGE:
            return self.depth == pages == self.entries == 0
        return (
            1 < self.root <= last_page
            and 0 < self.depth <= _DEEPEST
            and 0 < self.leaf_pages <= pages < last_page
            and self.entries > 0
        )


class Meta(NamedTuple):
    """A meta page: the trees of one transaction."""

    number: int
    page_flags: int
    magic: int
    version: int
    address: int
    map_size: int
    free: bytes
    main: bytes
    last_page: int
    transaction: int

    @classmethod
    def read(cls, descriptor: int) -> list[Meta]:
        """Both, of a file that was checked; each as some transaction wrote it."""
        (page_size,) = struct.unpack("<I", os.pread(descriptor, 4, _PAGE_SIZE_OFFSET))
        read, before = b"", None
        while read != before:  # another process may be writing one
            read, before = (
                b"".join(os.pread(descriptor, _META.size, at) for at in (0, page_size)),
                read,
            )
        return [cls(*_META.unpack_from(read, at)) for at in (0, _META.size)]

    def is_sound(self, number: int, page_size: int) -> bool:
        free, main = Tree.read(self.free), Tree.read(self.main)
        return (
            (self.number, self.page_flags, self.address) == (number, _META_FLAG, 0)
            and self.version == _DATA_VERSION
            and free.page_size == page_size
            and self.last_page > 0
            and (self.last_page + 1) * page_size <= self.map_size < _LARGEST_MAP
            # Transactions write the two pages in turn.
            and (self.transaction % 2 == number or self.transaction == 0)
            and free.is_sound(_FREE_FLAGS, self.last_page)
            and main.is_sound(_MAIN_FLAGS, self.last_page)
        )


def check_header(path: Path, walk: Callable[[Path], Sequence[str]]) -> None:
    """Check the two meta pages of an LMDB file and its size, before anything maps it.

    A transaction may free the very pages that it appended, and LMDB writes no free page: so a file
    may end before its last page, but not before the last one in use. A writer fills it up after
    the commit (`Environment`), and may be killed in between.

    Args:
        path: the file.
        walk: says what is wrong with the pages in use, without mapping them; asked of a file that
            ends early.

    Raises:
        CorruptIndexError: the file is no LMDB file, lacks pages that are in use, or a field of a
            meta page is out of its range.
    """
    flaw = _flaw(path, walk)
    for _ in range(_READS - 1):
        if flaw is None:
            return
        time.sleep(0.001)
        flaw = _flaw(path, walk)
    if flaw is not None:
        raise flaw


def _flaw(path: Path, walk: Callable[[Path], Sequence[str]]) -> CorruptIndexError | None:
    with path.open("rb") as file:
        first = file.read(4096)
        if len(first) < 4096:
            return _cut(path, 4096 * 2, len(first))
        page_size = struct.unpack_from("<I", first, _PAGE_SIZE_OFFSET)[0]
        if page_size not in (4096, 8192, 16384, 32768, 65536):
            return _foreign(path)
        file.seek(page_size)
        second = file.read(_META.size)
        size = file.seek(0, os.SEEK_END)
    if len(second) < _META.size:
        return _cut(path, page_size * 2, size)
    metas = [Meta(*_META.unpack_from(page)) for page in (first, second)]
    if any(meta.magic != _META_MAGIC for meta in metas):
        return _foreign(path)
    if abs(metas[0].transaction - metas[1].transaction) > 1 or not all(
        meta.is_sound(number, page_size) for number, meta in enumerate(metas)
    ):
        return CorruptIndexError(
            f"store {path}",
            expected="two meta pages whose fields are in range",
            got=f"{metas[0]} and {metas[1]}",
            remedy=_REMEDY,
        )
    last_page = max(metas, key=lambda meta: meta.transaction).last_page
    if size < (last_page + 1) * page_size and walk(path):
        return _cut(path, (last_page + 1) * page_size, size)
    return None


def _cut(path: Path, expected: int, got: int) -> CorruptIndexError:
    return CorruptIndexError(
        f"store {path}",
        expected=f"at least {expected:,} bytes",
        got=f"{got:,}: the file was cut",
        remedy=_REMEDY,
    )


def _foreign(path: Path) -> CorruptIndexError:
    return CorruptIndexError(
        f"store {path}",
        expected="an LMDB file with two valid meta pages",
        got="other bytes",
        remedy=_REMEDY,
    )


# The CRC-32 of anything followed by its own CRC-32.
_RESIDUE = 0x2144DF1C


def seal(key: bytes, value: bytes) -> bytes:
    """Append a CRC-32 over key and value, so that flipped bits and swapped values show."""
    return value + crc32(value, crc32(key)).to_bytes(4, "little")


def is_sound(key: bytes, sealed: bytes) -> bool:
    """Whether a sealed value is what was written under its key."""
    return crc32(sealed, crc32(key)) == _RESIDUE


def unseal(database: str, sealed: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    """Check and strip the checksums of keys and their sealed values.

    Raises:
        CorruptIndexError: a value is not what was written under its key.
    """
    values = []
    for key, value in sealed:
        if not is_sound(key, value):
            raise CorruptIndexError(
                f"store, database {database!r}",
                expected=f"the checksum written with key {key[:64]!r}",
                got="another: bits have flipped on disk",
                remedy=_REMEDY_OF_VALUES,
            )
        values.append(value[:-4])
    return values


@contextmanager
def decoding(database: str) -> Iterator[None]:
    """Translate what decoders raise on bytes that are not theirs.

    A checksum covers key and value, not the database: a page pointer that has flipped may lead
    to another database, whose values are whole and make no sense.

    Raises:
        CorruptIndexError: a decoder inside raised.
    """
    try:
        yield
    except (ValueError, IndexError, KeyError, TypeError, struct.error) as error:
        raise CorruptIndexError(
            f"store, database {database!r}",
            expected="bytes that decode",
            got=f"others ({type(error).__name__}: {error})",
            remedy=_REMEDY_OF_VALUES,
        ) from error
