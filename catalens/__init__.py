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
)
from retriever import (
    HeadMatch,
    HeadOptions,
    Hit,
    Query,
    Retriever,
    SpaceMatch,
    evaluate_index,
    join_clicks,
    learn_head,
    learn_head_from_interactions,
    read_topics,
    sweep_index,
)

from .tuning import tune_index

__all__ = [
    "BehaviourSummary",
    "BuildSummary",
    "CatalensError",
    "CommitSummary",
    "CompactSummary",
    "HeadMatch",
    "HeadOptions",
    "Hit",
    "Limits",
    "Progress",
    "Query",
    "Retriever",
    "SpaceMatch",
    "Writer",
    "build_index",
    "evaluate_index",
    "export_index",
    "import_index",
    "join_clicks",
    "learn_alignment",
    "learn_behaviour",
    "learn_fusion",
    "learn_head",
    "learn_head_from_interactions",
    "read_topics",
    "rebuild_index",
    "sweep_index",
    "tune_index",
]
