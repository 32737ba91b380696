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

if TYPE_CHECKING:
    from .recipe import Recipe

DROPPED = (
    "the re-ranking head was dropped: the spaces, their weights, heads or encoders, the fusion or "
    "the policy have changed; run `catalens learn head` again"
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
    """SHA-256 of all that decides how an item scores and which similarities are told of it: a head
    that was learned on one basis knows nothing of another. Means and components are not among it:
    they are fitted anew whenever items are."""
    spaces = [
        {
            "name": space.name,
            "weight": space.spec.weight,
            "pool": space.spec.pool,
            "fingerprints": dict(sorted(space.fingerprints.items())),
            "heads": {
                modality: [reach.source, reach.head.fingerprint(), reach.trust, reach.strength]
                for modality, reach in sorted(space.heads.items())
            },
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
