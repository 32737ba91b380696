"""How well an index answers queries that people have judged, and by which weights it would best."""

from .evaluate import EvaluationReport, Setting, evaluate_index
from .statistics import Difference, Estimate
from .sweep import SweepReport, sweep_index
from .topics import Topic, read_topics

__all__ = [
    "Difference",
    "Estimate",
    "EvaluationReport",
    "Setting",
    "SweepReport",
    "Topic",
    "evaluate_index",
    "read_topics",
    "sweep_index",
]
