"""Training by contrast: one loss, one optimiser, and one loop that can be killed and goes on.

Torch is imported inside functions: naming what is here takes none.
"""

from __future__ import annotations

from .contrast import shared_cross_entropy
from .loop import Plan, Task, Trained, train
from .steps import Steps, threads_for

__all__ = [
    "Plan",
    "Steps",
    "Task",
    "Trained",
    "shared_cross_entropy",
    "threads_for",
    "train",
]
