"""Query in, explained hits out."""

from .hit import Hit, SpaceMatch
from .query import Part, Query
from .query_file import read_queries
from .retriever import Retriever

__all__ = ["Hit", "Part", "Query", "Retriever", "SpaceMatch", "read_queries"]
