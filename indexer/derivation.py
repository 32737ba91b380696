"""How a generation was made. What embeddings alone do not give is kept in the store as well.

These are the manifest, the fusion and the heads: all else in a generation is derived from them and
from records and embeddings. They are named by the same transaction that names the generation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from .environment import ReadTransaction
from .fusion import Fusion
from .generation import aligned_heads, fusion_of
from .layout import GenerationLayout
from .manifest import Manifest, corrupt
from .ranking import RankingFiles
from .recipe import Recipe
from .snapshot import DERIVATION, Snapshot


class Derivation(NamedTuple):
    """How a generation was made, and with which fusion."""

    manifest: Manifest
    recipe: Recipe
    fusion: Fusion

    @classmethod
    def read(cls, snapshot: Snapshot) -> Derivation:
        """That of the generation that a snapshot names; its files are not asked.

        Raises:
            CorruptIndexError: the store lacks it, or has other bytes than were written.
        """
        view, sha256 = snapshot.view, snapshot.current.manifest_sha256
        manifest = Manifest.load(_kept(view, "manifest", sha256), sha256)
        return cls.of(
            manifest,
            {name: _kept(view, name, manifest.files[name].sha256) for name in manifest.fitted},
        )

    @classmethod
    def of(cls, manifest: Manifest, files: Mapping[str, bytes]) -> Derivation:
        """That which the files `Manifest.fitted` tell, as they were written.

        Raises:
            CorruptIndexError: they do not fit together.
        """
        layout = GenerationLayout
        fusion = fusion_of(manifest, files[layout.FUSION])
        recipe = Recipe.of(manifest, fusion, aligned_heads(files[layout.HEADS], manifest.spaces))
        if manifest.ranking is not None:
            told = files[layout.RANKING], files[layout.RANKING_WEIGHTS]
            recipe = replace(recipe, ranking=RankingFiles(manifest.ranking, *told))
        return cls(manifest, recipe, fusion)


def kept_file(view: ReadTransaction, sha256: str) -> bytes | None:
    """A file of the generation as the store keeps it, by its hash; None where it is damaged or not
    there."""
    key = bytes.fromhex(sha256)
    if key not in view.sound(DERIVATION, [key]):
        return None
    data = view.get(DERIVATION, key)
    return data if data is not None and hashlib.sha256(data).digest() == key else None


def _kept(view: ReadTransaction, what: str, sha256: str) -> bytes:
    data = kept_file(view, sha256)
    if data is None:
        raise corrupt(f"store, {what}", f"SHA-256 {sha256[:16]}...", "none, or other bytes")
    return data
