"""Catalog dump in, published index out."""

from .build import BuildSummary, build_index
from .faiss_index import wants_gpu
from .generation import Generation, load_manifest
from .layout import IndexLayout
from .manifest import Manifest, SpaceEntry
from .opening import open_latest
from .progress import Progress
from .searcher import Selection
from .spaces import kind_of_input
from .store import Snapshot, Store
from .verify import VerifyReport, verify_index

__all__ = [
    "BuildSummary",
    "Generation",
    "IndexLayout",
    "Manifest",
    "Progress",
    "Selection",
    "Snapshot",
    "SpaceEntry",
    "Store",
    "VerifyReport",
    "build_index",
    "kind_of_input",
    "load_manifest",
    "open_latest",
    "verify_index",
    "wants_gpu",
]
