"""Query in, explained hits out."""

from .evaluation import Topic, evaluate_index, read_topics, sweep_index
from .head.learn import HeadOptions, HeadSummary, learn_head
from .hit import HeadMatch, Hit, SpaceMatch
from .query import Part, Query
from .query_file import read_queries
from .retriever import Retriever

__all__ = [
    "HeadMatch",
    "HeadOptions",
    "HeadSummary",
    "Hit",
    "Part",
    "Query",
    "Retriever",
    "SpaceMatch",
    "Topic",
    "evaluate_index",
    "learn_head",
    "read_queries",
    "read_topics",
    "sweep_index",
]
