"""Learning from a catalog's own pairs. Importing it imports no torch."""

from __future__ import annotations

from .align import Alignment, AlignmentReport, align
from .errors import AlignmentError, NoPairsError, TooFewPairsError, WeakAlignmentError
from .groups import folds, groups_of
from .ridge import Ridge

__all__ = [
    "Alignment",
    "AlignmentError",
    "AlignmentReport",
    "NoPairsError",
    "Ridge",
    "TooFewPairsError",
    "WeakAlignmentError",
    "align",
    "folds",
    "groups_of",
]
