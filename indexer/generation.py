"""An immutable set of derived files: opened, checked, searched."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from copy import copy
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .durable import sha256_file
from .errors import CorruptIndexError
from .faiss_index import FaissIndex
from .fusion import Fusion, load_fusion
from .heads import AlignedReach, load_heads
from .ids import Ids
from .layout import GenerationLayout, IndexLayout
from .lock import ReaderHold
from .manifest import FileEntry, Manifest, PointEntry, ReachedSpace, corrupt
from .plan import Plan
from .progress import Progress
from .row_codecs import FLOAT16, Int8, RowCodec
from .rows import Rows
from .searcher import OperatingPoint, Searcher
from .snapshot import Current


class Generation:
    """A generation opened for reading.

    At open, the manifest's hash is compared with the store's, every file's size with the
    manifest, and every small file and FAISS's file with its hash, before FAISS sees it. Rows,
    the large file, are checked block by block at their first use, and whole by `verify`.

    Until it is closed, or its process ends, no writer removes its folder.
    """

    def __init__(
        self, layout: GenerationLayout, manifest: Manifest, hold: ReaderHold, *, gpu: bool
    ) -> None:
        self._hold = hold
        self.manifest = manifest
        self.layout = layout
        self.fusion = read_fusion(layout, manifest)
        self.heads = read_heads(layout, manifest)
        rows = read_checked(layout, manifest, layout.ROW_NUMBERS)
        self.row_numbers: NDArray[np.uint32] = np.frombuffer(rows, dtype="<u4")
        check_hash(layout, manifest, layout.IDS)
        self.ids = Ids(layout.path(layout.IDS))
        mask = read_checked(layout, manifest, layout.MASK)
        self.states: NDArray[np.uint8] = np.frombuffer(mask, dtype=np.uint8).reshape(
            -1, len(manifest.spaces)
        )
        entry = manifest.index
        self.point = _operating(entry.default())
        self.against = _operating(entry.default(against=True))
        self.plan = Plan(
            entry.kind,
            entry.factory,
            entry.dimension,
            entry.lists,
            entry.code_bytes,
            0,
            entry.profile,
            entry.rows,
        )
        index = FaissIndex.deserialize(
            self.plan, read_checked(layout, manifest, layout.INDEX), gpu=gpu
        )
        mapped = _map_rows(layout, manifest)
        self.searcher = Searcher(index, mapped, self.plan, entry.exact_rows)
        self.searcher.threads = entry.threads
        # Positions and rows are the same numbers until a compaction leaves gaps.
        self._identity = bool(
            np.array_equal(self.row_numbers, np.arange(len(mapped), dtype=np.uint32))
        )

    def popularity(self) -> NDArray[np.float32] | None:
        """How popular the item at each position is, float32 (n,); None where nothing is known."""
        if self.layout.POPULARITY not in self.manifest.files:
            return None
        data = read_checked(self.layout, self.manifest, self.layout.POPULARITY)
        return np.frombuffer(data, dtype="<f4")

    @classmethod
    def open(cls, layout: IndexLayout, current: Current, *, gpu: bool = False) -> Generation:
        """Open the generation that the store names.

        Raises:
            CorruptIndexError: a file is missing, cut, or not what was written.
        """
        folder = layout.generation(current.generation)
        path = folder.path(folder.MANIFEST)
        try:
            hold = ReaderHold(path)
        except FileNotFoundError as error:
            raise corrupt(f"generation {folder.root}", f"the file {path.name}", "none") from error
        return cls(folder, load_manifest(folder, current), hold, gpu=gpu)

    def held_again(self) -> Generation:
        """The same, opened once more at next to no cost: each of the two is closed for itself."""
        again = copy(self)
        again._hold = ReaderHold(self.layout.path(self.layout.MANIFEST))
        return again

    def close(self) -> None:
        """Let go of the folder; a writer may remove it. What is mapped stays readable."""
        self._hold.release()

    def __len__(self) -> int:
        return len(self.row_numbers)

    def point_for(self, recall: float | None, *, against: bool) -> OperatingPoint | None:
        """The cheapest point that was measured to have this recall, None where none was: then an
        exact scan comes as near as the rows allow (`rows_recall`). Without a recall, the default
        point.

        Args:
            recall: above 0, at most 1.
            against: whether it is for queries that are against a space.
        """
        if recall is None:
            return self.against if against else self.point
        entry = self.manifest.index.cheapest(recall, against=against)
        return None if entry is None else _operating(entry)

    def position_of(self, row: int) -> int | None:
        """Position of a row in this generation; None when it is not in it."""
        if self._identity:
            return row if row < len(self) else None
        found = int(np.searchsorted(self.row_numbers, row))
        here = found < len(self) and int(self.row_numbers[found]) == row
        return found if here else None


def _map_rows(folder: GenerationLayout, manifest: Manifest) -> Rows:
    """The rows of a generation, checked by size alone."""
    name = folder.ROWS
    codec: RowCodec = FLOAT16
    if manifest.index.rows == "int8":
        name = folder.ROWS_INT8
        steps = read_checked(folder, manifest, folder.ROW_STEPS)
        codec = Int8(np.frombuffer(steps, dtype="<f4"))
    check_size(folder, manifest, name)
    check_hash(folder, manifest, folder.ROW_CHECKSUMS)
    return Rows(folder.path(name), folder.path(folder.ROW_CHECKSUMS), manifest.dimension, codec)


def _operating(entry: PointEntry) -> OperatingPoint:
    return OperatingPoint(entry.nprobe, entry.k_factor)


def load_manifest(folder: GenerationLayout, current: Current) -> Manifest:
    """Read and check the manifest of a generation."""
    path = folder.path(folder.MANIFEST)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise corrupt(f"generation {folder.root}", f"the file {path.name}", str(error)) from error
    return Manifest.load(data, current.manifest_sha256)


def read_fusion(folder: GenerationLayout, manifest: Manifest) -> Fusion:
    """Read and check the fusion of a generation."""
    return fusion_of(manifest, read_checked(folder, manifest, folder.FUSION))


def fusion_of(manifest: Manifest, data: bytes) -> Fusion:
    """The fusion of a generation, of the bytes that `dump_fusion` made."""
    return load_fusion(
        data,
        manifest.fusion,
        [space.spec for space in manifest.spaces],
        manifest.weights,
        {space.spec.name: space.modalities for space in manifest.spaces},
    )


def read_heads(folder: GenerationLayout, manifest: Manifest) -> dict[str, dict[str, AlignedReach]]:
    """Read and check the alignment heads of a generation."""
    return aligned_heads(read_checked(folder, manifest, folder.HEADS), manifest.spaces)


def aligned_heads(
    data: bytes, spaces: Sequence[ReachedSpace]
) -> dict[str, dict[str, AlignedReach]]:
    """The heads into each of these spaces, of the bytes that `dump_heads` made.

    Raises:
        CorruptIndexError: a head is missing, or not the one that a space names.
    """
    heads = load_heads(
        data, {s.spec.name: {m: h.fingerprint for m, h in s.heads.items()} for s in spaces}
    )
    return {
        space.spec.name: {
            modality: AlignedReach(
                entry.source, heads[space.spec.name][modality], entry.trust, entry.strength
            )
            for modality, entry in space.heads.items()
        }
        for space in spaces
    }


def check_size(folder: GenerationLayout, manifest: Manifest, name: str) -> Path:
    """Compare a file's size with the manifest; return its path."""
    return _check_bytes(folder.path(name), manifest.files[name])


def _check_bytes(path: Path, entry: FileEntry) -> Path:
    if not path.is_file():
        raise corrupt(f"file {path}", f"{entry.bytes:,} bytes", "no such file")
    size = path.stat().st_size
    if size != entry.bytes:
        raise corrupt(f"file {path}", f"{entry.bytes:,} bytes", f"{size:,}")
    return path


def check_hash(folder: GenerationLayout, manifest: Manifest, name: str) -> None:
    """Compare a whole file with its hash in the manifest."""
    _check_entry(folder.path(name), manifest.files[name])


def _check_entry(path: Path, entry: FileEntry) -> None:
    _check_bytes(path, entry)
    got = sha256_file(path)
    if got != entry.sha256:
        raise corrupt(f"file {path}", f"SHA-256 {entry.sha256[:16]}...", f"{got[:16]}...")


def damaged_files(
    folder: GenerationLayout, manifest: Manifest, current: Current, progress: Progress
) -> dict[str, str]:
    """What is wrong with each file of a generation that is missing or not what was written, by its
    name; every file is read."""
    found = {}
    path, sha256 = folder.path(folder.MANIFEST), current.manifest_sha256
    try:
        got = sha256_file(path)
        if got != sha256:
            wrong = corrupt(f"file {path}", f"SHA-256 {sha256[:16]}...", f"{got[:16]}...")
            found[folder.MANIFEST] = str(wrong)
    except OSError as error:
        found[folder.MANIFEST] = str(error)
    for name, entry in manifest.files.items():
        try:
            _check_entry(folder.path(name), entry)
        except (CorruptIndexError, OSError) as error:
            found[name] = str(error)
        progress.advance(1)
    return found


def read_whole(path: Path, sha256: str) -> bytes | None:
    """The bytes of a file; None where it is not there, or not what has this hash."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    return data if hashlib.sha256(data).hexdigest() == sha256 else None


def read_checked(folder: GenerationLayout, manifest: Manifest, name: str) -> bytes:
    """Read a whole file, after comparing it with its hash.

    Raises:
        CorruptIndexError: missing, cut, or other bytes than were written.
    """
    path, entry = check_size(folder, manifest, name), manifest.files[name]
    data = path.read_bytes()
    got = hashlib.sha256(data).hexdigest()
    if got != entry.sha256:
        raise corrupt(f"file {path}", f"SHA-256 {entry.sha256[:16]}...", f"{got[:16]}...")
    return data
