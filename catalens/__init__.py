"""Multimodal catalog retrieval: one index of fused vectors from text, pictures and sound."""

from encoders import Limits
from encoders.errors import CatalensError
from indexer import (
    BehaviourSummary,
    BuildSummary,
    CommitSummary,
    CompactSummary,
    Progress,
    Writer,
    build_index,
    export_index,
    import_index,
    learn_alignment,
    learn_behaviour,
    learn_fusion,
    rebuild_index,
    register_modality,
    repair_index,
)
from retriever import Hit, Query, Retriever, SpaceMatch

from .tuning import tune_index

__all__ = [
    "BehaviourSummary",
    "BuildSummary",
    "CatalensError",
    "CommitSummary",
    "CompactSummary",
    "Hit",
    "Limits",
    "Progress",
    "Query",
    "Retriever",
    "SpaceMatch",
    "Writer",
    "build_index",
    "export_index",
    "import_index",
    "learn_alignment",
    "learn_behaviour",
    "learn_fusion",
    "rebuild_index",
    "register_modality",
    "repair_index",
    "tune_index",
]
