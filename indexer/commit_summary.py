"""What a commit of a writer did, for people and programs to read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .items import Reject


@dataclass(frozen=True)
class CommitSummary:
    """What a commit did.

    `updated` counts items whose content changed, `metadata_only` those whose metadata alone did.
    `inputs` counts the inputs of all rows given, per modality, and `encoded` those that went
    through a model: what did not change is not encoded again. `items` is how many there are now,
    `fresh` how many of them are searched beside the generation, `dead` how many rows of it are
    passed over.
    """

    path: Path
    added: int
    updated: int
    metadata_only: int
    unchanged: int
    deleted: int
    items: int
    fresh: int
    dead: int
    compact_due: bool
    inputs: dict[str, int]
    encoded: dict[str, int]
    rejected_rows: int
    rejected_inputs: int
    seconds: float
    rejects: tuple[Reject, ...] = ()
    """The first ten; `catalens inspect --rejects` prints all."""
