"""Every file of an index, named once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from .durable import translated_os_errors

FORMAT = 1
"""Version of the whole format, as the store and every manifest state it; see FORMAT.md."""
_GENERATION = re.compile(r"([0-9]{6,})(\.unfinished)?")


@dataclass(frozen=True)
class GenerationLayout:
    """Files of one generation; all but the manifest are named and hashed in the manifest."""

    root: Path

    MANIFEST = "manifest.json"
    INDEX = "index.faiss"
    ROWS = "rows.f16"
    ROWS_INT8 = "rows.i8"
    ROW_STEPS = "row_steps.f32"
    ROW_CHECKSUMS = "rows.crc32"
    ROW_NUMBERS = "row_numbers.u32"
    IDS = "ids.bin"
    MASK = "mask.u8"
    FUSION = "fusion.safetensors"
    HEADS = "heads.safetensors"
    RANKING = "ranking.json"
    RANKING_WEIGHTS = "ranking.safetensors"
    POPULARITY = "popularity.f32"

    FITTED = (FUSION, HEADS)
    """What records and embeddings alone do not give: kept in the store too, with the manifest."""

    def path(self, name: str) -> Path:
        return self.root / name


@dataclass(frozen=True)
class IndexLayout:
    """An index folder: the store (truth) and the generations (derived from it)."""

    root: Path

    @property
    def store(self) -> Path:
        return self.root / "store"

    @property
    def store_data(self) -> Path:
        """LMDB's own name for its file; its presence is what makes a folder an index."""
        return self.store / "data.mdb"

    @property
    def has_store(self) -> bool:
        """Whether the folder is an index, or was to be one.

        Raises:
            StoreUnavailableError: it may not be looked into.
        """
        with translated_os_errors(f"index {self.root}"):
            return self.store_data.is_file()

    @property
    def generations(self) -> Path:
        return self.root / "generations"

    @property
    def fitting(self) -> Path:
        """Checkpoints of encoders that are being fitted; there only then, or after a stop."""
        return self.root / "fitting"

    @property
    def lock(self) -> Path:
        return self.root / "writer.lock"

    @property
    def runs(self) -> Path:
        """What trainings leave for people to read; nothing in an index depends on it."""
        return self.root / "runs"

    def generation(self, number: int) -> GenerationLayout:
        return GenerationLayout(self.generations / f"{number:06d}")

    def generation_folders(self) -> dict[Path, int]:
        """Folders of generations, finished or not, with their numbers; nothing else counts."""
        found = {}
        for path in self.generations.iterdir() if self.generations.is_dir() else ():
            match = _GENERATION.fullmatch(path.name)
            if match and path.is_dir() and not path.is_symlink():
                found[path] = int(match[1])
        return found

    def unfinished(self, number: int) -> GenerationLayout:
        """Where a generation is written before it is renamed into place."""
        return GenerationLayout(self.generations / f"{number:06d}.unfinished")
