"""Re-ranking heads beside a generation: files of which this room knows what they depend on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from .fusion import dump_fusion
from .generation import read_checked
from .layout import GenerationLayout
from .manifest import Manifest
from .modalities import BEHAVIOUR

if TYPE_CHECKING:
    from .recipe import Recipe, Space

DROPPED = (
    "the re-ranking head was dropped: the spaces, their encoders or alignment heads, the fusion or "
    "the policy for what is missing have changed; run `catalens learn head` again"
)


@dataclass(frozen=True)
class RankingFiles:
    """What `retriever.head` writes: JSON and safetensors. `basis` is that of the generation whose
    candidates were learned from."""

    basis: str
    description: bytes
    weights: bytes


def ranking_files(folder: GenerationLayout, ranking: RankingFiles) -> dict[str, bytes]:
    """The content of each of its files, by name."""
    return {folder.RANKING: ranking.description, folder.RANKING_WEIGHTS: ranking.weights}


def basis_of(recipe: Recipe) -> str:
    """SHA-256 of what decides which similarities are told of an item: a head that was learned on
    one basis knows nothing of another. Weights and strengths are not among it, which leave features
    what they are; nor are means and components, or what item vectors were learned from: these are
    learned anew whenever there is more to learn from."""
    spaces = [
        {
            "name": space.name,
            "pool": space.spec.pool,
            "reached": _reached(space),
        }
        for space in recipe.spaces
    ]
    learned = None
    if recipe.learned is not None:
        learned = hashlib.sha256(dump_fusion(recipe.learned)).hexdigest()
    told = {
        "spaces": spaces,
        "fusion": recipe.fusion,
        "learned": learned,
        "missing": recipe.missing,
    }
    return hashlib.sha256(orjson.dumps(told)).hexdigest()


def _reached(space: Space) -> dict[str, str]:
    """What tells the encoder, or the head, by which each modality reaches a space."""
    if space.spec.item == BEHAVIOUR:
        return {}
    found = {modality: reach.head.fingerprint() for modality, reach in space.heads.items()}
    return dict(sorted({**found, **space.fingerprints}.items()))


def read_ranking(folder: GenerationLayout, manifest: Manifest) -> RankingFiles | None:
    """The heads of a generation, compared with their hashes; None where it has none.

    Raises:
        CorruptIndexError: missing, cut, or other bytes than were written.
    """
    if manifest.ranking is None:
        return None
    return RankingFiles(
        manifest.ranking,
        read_checked(folder, manifest, folder.RANKING),
        read_checked(folder, manifest, folder.RANKING_WEIGHTS),
    )
