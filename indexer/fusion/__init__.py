"""Fusion: the blocks of an item, or of a query, to the one vector."""

from .attention import LEAST_LOG_GATE, MOST_LOG_GATE, AttentionFusion
from .base import FusedQuery, Fusion, Match, QueryPart, Terms
from .concat import BLOCK_ALIGNMENT, ConcatFusion
from .files import FUSIONS, dump_fusion, is_centred, load_fusion
from .mean import MeanFusion
from .neural import NeuralFusion
from .perceptron import Perceptron
from .transform import SpaceTransform, leading_axes, unit, unit_rows

__all__ = [
    "BLOCK_ALIGNMENT",
    "FUSIONS",
    "LEAST_LOG_GATE",
    "MOST_LOG_GATE",
    "AttentionFusion",
    "ConcatFusion",
    "FusedQuery",
    "Fusion",
    "Match",
    "MeanFusion",
    "NeuralFusion",
    "Perceptron",
    "QueryPart",
    "SpaceTransform",
    "Terms",
    "dump_fusion",
    "is_centred",
    "leading_axes",
    "load_fusion",
    "unit",
    "unit_rows",
]
