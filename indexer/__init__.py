"""Catalog dump in, published index out."""

from .build import BuildSummary, build_index
from .catalog import read_ids
from .commit_summary import CommitSummary
from .compaction import CompactSummary
from .errors import PolicyError
from .export import ExportSummary, export_index
from .faiss_index import wants_gpu
from .generation import Generation, load_manifest
from .importing import ImportSummary, import_index
from .layout import IndexLayout
from .learn import (
    AlignmentSummary,
    FusionSummary,
    LearnedHead,
    learn_alignment,
    learn_fusion,
)
from .learn_behaviour import BehaviourSummary, learn_behaviour
from .learning.weights import WeightReport
from .live import Chosen, Live
from .manifest import IndexEntry, Manifest, PointEntry, SpaceEntry
from .modalities import register_modality
from .opening import open_latest
from .progress import Progress
from .rebuild import RebuildSummary, rebuild_index
from .repair import RepairSummary, repair_index
from .retry import RetrySummary
from .searcher import Selection
from .snapshot import Snapshot
from .spaces import kind_of_input
from .store import Store
from .tune import FusedQueries, TuneReport, tune_generation
from .verify import VerifyReport, verify_index
from .writer import Writer

__all__ = [
    "AlignmentSummary",
    "BehaviourSummary",
    "BuildSummary",
    "Chosen",
    "CommitSummary",
    "CompactSummary",
    "ExportSummary",
    "FusedQueries",
    "FusionSummary",
    "Generation",
    "ImportSummary",
    "IndexEntry",
    "IndexLayout",
    "LearnedHead",
    "Live",
    "Manifest",
    "PointEntry",
    "PolicyError",
    "Progress",
    "RebuildSummary",
    "RepairSummary",
    "RetrySummary",
    "Selection",
    "Snapshot",
    "SpaceEntry",
    "Store",
    "TuneReport",
    "VerifyReport",
    "WeightReport",
    "Writer",
    "build_index",
    "export_index",
    "import_index",
    "kind_of_input",
    "learn_alignment",
    "learn_behaviour",
    "learn_fusion",
    "load_manifest",
    "open_latest",
    "read_ids",
    "rebuild_index",
    "register_modality",
    "repair_index",
    "tune_generation",
    "verify_index",
    "wants_gpu",
]
