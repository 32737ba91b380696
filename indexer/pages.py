"""Pages of LMDB's trees, checked before LMDB follows them.

LMDB trusts its pages: a bit that flips in a header, a pointer or a key can end a reader's process,
or hide keys from it. Values carry checksums; here is what they hang on. A view checks each page
that leads to a key when it first comes by: that the page is what it says, that its nodes fill it
and lie in order, and within the keys that its parent gives it, and that it has no other parent. A
page takes about 15 microseconds, a key in pages that are known about 2, and to open a store of any
size reads no more of it than its root.

What this cannot see, since it is right in itself, is a pointer that has become that to an older
copy of the same page; `verify` walks all pages and finds it.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_left, bisect_right
from itertools import pairwise
from mmap import mmap
from typing import NamedTuple, NoReturn

from .errors import CorruptIndexError
from .sealing import Meta, Tree

_HEADER = struct.Struct("<Q2xHHH")
_EXTENT = struct.Struct("<Q2xHI")
_NODE = struct.Struct("<HHHH")
_BRANCH, _LEAF, _OVERFLOW = 1, 2, 4
# Of a node: its data is on pages of its own; its data is the root of a database.
_BIG, _DATABASE = 1, 2
# Low bits of what is known of a leaf: the number of its keys. The page above it is in the others.
_KEYS_BITS = 16
_MAIN_OWNER = 1
_GREATEST = b"\xff" * 512


class _Root(NamedTuple):
    tree: Tree
    owner: int
    """Stands for the page above the root: no page has this number."""


class _Branch(NamedTuple):
    owner: int
    keys: list[bytes]
    """From which key on each child but the first is asked."""
    children: tuple[int, ...]


class Pages:
    """The pages of one snapshot: nobody writes to them while it is the latest, or a view has it."""

    def __init__(self, path: str, descriptor: int, meta: Meta) -> None:
        self._path = path
        self._descriptor = descriptor
        self._last = meta.last_page
        self._main = _Root(Tree.read(meta.main), _MAIN_OWNER)
        self._size = Tree.read(meta.free).page_size
        self._branches: dict[int, _Branch] = {}
        # A page that is not asked for takes no memory.
        self._leaves = memoryview(mmap(-1, 8 * (self._last + 1))).cast("Q")
        self._roots: dict[str, _Root] = {}
        self._read_names()

    @classmethod
    def of(cls, path: str, descriptor: int, snapshot: int) -> Pages | None:
        """Those of a snapshot, by its number; None where the file has moved on."""
        for meta in Meta.read(descriptor):
            if meta.transaction == snapshot:
                return cls(path, descriptor, meta)
        return None

    def check(self, database: str, key: bytes) -> None:
        """Check the pages that lead to a key.

        Raises:
            CorruptIndexError: one is damaged.
        """
        self._descend(self._roots[database], key)

    def check_around(self, database: str, key: bytes) -> None:
        """Check the pages that lead to a key that is not there, and to its neighbours."""
        root = self._roots[database]
        low, high, _ = self._descend(root, key)
        if low:
            self._descend(root, low, before=True)
        if high is not None:
            self._descend(root, high)

    def check_last(self, database: str) -> None:
        """Check the pages that lead to the last key."""
        self._descend(self._roots[database], _GREATEST)

    def check_range(self, database: str, low: bytes, high: bytes | None, count: int) -> None:
        """Check the pages of so many keys from `low` on, up to that of `high`, and that before."""
        root = self._roots[database]
        start, _, _ = self._descend(root, low)
        if start:
            self._descend(root, start, before=True)
        key: bytes | None = low
        # The first page may begin before `low`: so many keys more.
        first = True
        while key is not None and count >= 0:
            _, after, keys = self._descend(root, key)
            count -= 0 if first else keys
            first = False
            # The page that `high` is on has to be known as well.
            key = None if high is not None and key >= high else after

    def _descend(
        self, root: _Root, key: bytes, *, before: bool = False
    ) -> tuple[bytes, bytes | None, int]:
        """Go to the leaf of a key, or of those just before it; return the keys that it may have,
        from and up to, and how many it has."""
        tree, owner = root
        low: bytes = b""
        high: bytes | None = None
        if tree.depth == 0:
            return low, high, 0
        page, find = tree.root, bisect_left if before else bisect_right
        for _ in range(tree.depth - 1):
            branch = self._branches.get(page)
            if branch is None:
                branch = self._branches[page] = self._read_branch(page, owner, low, high)
            elif branch.owner != owner:
                self._damaged(page, "one page that leads to it", "two")
            keys = branch.keys
            slot = find(keys, key)
            if slot:
                low = keys[slot - 1]
            if slot < len(keys):
                high = keys[slot]
            owner, page = page, branch.children[slot]
        known = self._leaves[page]
        if not known:
            known = self._read_leaf(page, owner, low, high, tree)
        elif known >> _KEYS_BITS != owner:
            self._damaged(page, "one page that leads to it", "two")
        return low, high, known & ((1 << _KEYS_BITS) - 1)

    def _read_branch(self, page: int, owner: int, low: bytes, high: bytes | None) -> _Branch:
        data, pointers = self._opened(page, _BRANCH)
        keys, children, used = [], [], 0
        for pointer in pointers:
            first, second, third, length = _NODE.unpack_from(data, pointer)
            children.append(first | second << 16 | third << 32)
            keys.append(data[pointer + 8 : pointer + 8 + length])
            used += 8 + length + (length & 1)
        self._fills(page, data, used)
        del keys[0]  # LMDB does not look at it
        self._in_order(page, keys, low, high)
        if not all(1 < child <= self._last for child in children) or len(set(children)) < len(
            children
        ):
            self._damaged(page, "different pages of the file", str(children))
        return _Branch(owner, keys, tuple(children))

    def _read_leaf(self, page: int, owner: int, low: bytes, high: bytes | None, tree: Tree) -> int:
        data, pointers = self._opened(page, _LEAF)
        kind = _DATABASE if tree is self._main.tree else 0
        keys, used = [], 0
        for pointer in pointers:
            first, second, flags, length = _NODE.unpack_from(data, pointer)
            size = first | second << 16
            if flags == _BIG and kind == 0:
                self._check_extent(page, data[pointer + 8 + length :][:8], size)
                size = 8
            elif flags != kind:
                self._damaged(page, f"nodes of kind {kind}", str(flags))
            keys.append(data[pointer + 8 : pointer + 8 + length])
            used += 8 + length + size + (length + size & 1)
        self._fills(page, data, used)
        self._in_order(page, keys, low, high)
        if tree.depth == 1 and len(keys) != tree.entries:
            self._damaged(page, f"{tree.entries} keys", str(len(keys)))
        known = self._leaves[page] = owner << _KEYS_BITS | len(keys)
        return known

    def _opened(self, page: int, kind: int) -> tuple[bytes, tuple[int, ...]]:
        """A page of this kind, and where its nodes begin."""
        data = os.pread(self._descriptor, self._size, page * self._size)
        if len(data) < self._size:
            self._damaged(page, f"{self._size} bytes", str(len(data)))
        number, flags, lower, upper = _HEADER.unpack_from(data)
        if (number, flags) != (page, kind):
            self._damaged(page, f"number {page} and flags {kind}", f"{number} and {flags}")
        if not _HEADER.size < lower <= upper <= self._size or lower & 1:
            self._damaged(page, "nodes within it", f"bounds {lower} and {upper}")
        pointers = struct.unpack_from(f"<{lower - _HEADER.size >> 1}H", data, _HEADER.size)
        if min(pointers) < upper or max(pointers) > self._size - _NODE.size:
            self._damaged(page, "pointers within it", f"{min(pointers)} to {max(pointers)}")
        return data, pointers

    def _fills(self, page: int, data: bytes, used: int) -> None:
        room = self._size - _HEADER.unpack_from(data)[3]
        if used != room:
            self._damaged(page, f"nodes of {room} bytes", str(used))

    def _in_order(self, page: int, keys: list[bytes], low: bytes, high: bytes | None) -> None:
        ascend = all(one < other for one, other in pairwise(keys))
        if not ascend or (keys and (keys[0] < low or (high is not None and keys[-1] >= high))):
            self._damaged(page, "keys in order, as its parent has them", "others")

    def _check_extent(self, page: int, pointer: bytes, size: int) -> None:
        """The pages of a value that has its own, by what the leaf `page` says of it."""
        first, needs = int.from_bytes(pointer, "little"), _HEADER.size + size
        header = b""
        if first <= self._last:
            header = os.pread(self._descriptor, _EXTENT.size, first * self._size)
        if len(header) == _EXTENT.size:
            number, flags, pages = _EXTENT.unpack(header)
            # A value that was written over by a shorter one keeps its pages.
            within = needs <= pages * self._size and first + pages - 1 <= self._last
            if (number, flags) == (first, _OVERFLOW) and within:
                return
        self._damaged(page, f"{size} bytes on pages of their own", f"page {first}")

    def _read_names(self) -> None:
        """Read all of the main tree: the roots of the databases."""
        key: bytes | None = b""
        while key is not None:
            _, after, _ = self._descend(self._main, key)
            key = after
        for page in [self._main.tree.root] if self._main.tree.depth == 1 else self._main_leaves():
            data, pointers = self._opened(page, _LEAF)
            for pointer in pointers:
                length = _NODE.unpack_from(data, pointer)[3]
                name = data[pointer + 8 : pointer + 8 + length]
                tree = Tree.read(data[pointer + 8 + length :][:48])
                if not tree.is_sound(0, self._last) or tree.page_size:
                    self._damaged(page, f"the root of database {name!r}", str(tree))
                # Above all pages: an owner for each root.
                owner = self._last + 1 + len(self._roots)
                self._roots[name.decode(errors="replace")] = _Root(tree, owner)

    def _main_leaves(self) -> list[int]:
        children = [child for branch in self._branches.values() for child in branch.children]
        return [child for child in children if child not in self._branches]

    def _damaged(self, page: int, expected: str, got: str) -> NoReturn:
        raise CorruptIndexError(
            f"store {self._path}, page {page}",
            expected=expected,
            got=f"{got}: bits have flipped on disk",
            remedy="Run `catalens verify`; restore it from a backup, or build the index again.",
        )
