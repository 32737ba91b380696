"""Query in, explained hits out."""

from .clicks import JoinSummary, join_clicks
from .evaluation import Topic, evaluate_index, read_topics, sweep_index
from .head.histories import learn_head_from_interactions
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
    "JoinSummary",
    "Part",
    "Query",
    "Retriever",
    "SpaceMatch",
    "Topic",
    "evaluate_index",
    "join_clicks",
    "learn_head",
    "learn_head_from_interactions",
    "read_queries",
    "read_topics",
    "sweep_index",
]
