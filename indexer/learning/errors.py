"""Errors of learning from a catalog's own pairs.

CatalensError
└── LearningError
    ├── AlignmentError
    │   ├── NoPairsError         nothing to learn from, or nothing to hold out
    │   ├── TooFewPairsError     too few pairs to tell whether anything was learned
    │   └── WeakAlignmentError   what was learned does not beat chance on pairs held out
    ├── OneSpaceError            a single space has nothing to be fused with
    └── JudgementsError          judgements do not read, or name no item of the index
"""

from __future__ import annotations

from encoders.errors import CatalensError


class LearningError(CatalensError):
    """A catalog cannot be learned from."""


class OneSpaceError(LearningError):
    """The index has a single space."""


class JudgementsError(LearningError):
    """Judgements do not read, or name no item of the index."""


class AlignmentError(LearningError):
    """Two spaces cannot be aligned by this catalog."""


class NoPairsError(AlignmentError):
    """No two items have both modalities, or all that have are near-duplicates of a few."""


class TooFewPairsError(AlignmentError):
    """There are pairs, too few to tell whether anything was learned from them."""


class WeakAlignmentError(AlignmentError):
    """On pairs that were held out the head finds little more than chance does."""
