"""Who is measured, how each is built, and the settings it is searched with: all of it data.

About as many settings for each, spread over the recalls that matter. Graphs have the degree that
their makers' own benchmarks use; the numbers of lists and leaves are the best of those tried.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Setting = Mapping[str, Any]


@dataclass(frozen=True)
class Contestant:
    """One index of one library.

    `environment` names the folder of its virtual environment, into which `requirements` go;
    contestants of one library share it. Without one it runs where the benchmark runs.
    """

    name: str
    adapter: str
    build: Setting
    grid: Sequence[Setting]
    environment: str | None = None
    requirements: tuple[str, ...] = ()


OURS = "Catalens"
"""Hits with metadata and explanation."""
OURS_PLAIN = "Catalens, ids and scores"
"""Hits as the others give them: `explain=False`."""
OURS_SMALL = "Catalens, ids and scores, int8 rows"
ENGINE = "FAISS IVF512,PQ96x4fs,Refine(SQfp16)"
"""What Catalens stands on, without Catalens."""
ANCHOR = "ScaNN"
ANCHOR_SETTING: Setting = {"search": 40, "reorder": 30}
"""Measured just before every other measurement, so that each has a ratio of its own moment."""

_NUMPY = "numpy>=2.1,<3"
_GRAPH_EFS: Sequence[Setting] = [{"ef": ef} for ef in (10, 15, 20, 30, 40, 60, 80, 120, 160, 240)]
_LISTS: Sequence[Setting] = [
    {"nprobe": nprobe, "k_factor": k_factor}
    for nprobe, k_factor in (
        (20, 4),
        (20, 8),
        (40, 4),
        (40, 8),
        (61, 4),
        (61, 8),
        (80, 8),
        (102, 8),
        (140, 8),
        (200, 16),
    )
]
# Arguments of `search` by their names; `nprobe` and `k_factor` stand in for what was tuned.
_OUR_RECALLS: Sequence[Setting] = [{}, *({"recall": recall} for recall in (0.95, 0.975, 0.99))]
_OUR_POINTS: Sequence[Setting] = [
    {"nprobe": nprobe, "k_factor": k_factor}
    for nprobe, k_factor in (
        (32, 6),
        (36, 6),
        (44, 6),
        (60, 8),
        (66, 8),
        (102, 8),
        (120, 10),
        (134, 12),
    )
]
_TRAINING: Setting = {"train_rows": 32_768, "spherical": True}

CONTESTANTS: Sequence[Contestant] = (
    Contestant("FAISS Flat", "faiss", {"factory": "Flat"}, [{}]),
    Contestant(ENGINE, "faiss", {"factory": "IVF512,PQ96x4fs,Refine(SQfp16)", **_TRAINING}, _LISTS),
    Contestant(
        "FAISS IVF512,PQ192x4fs,RFlat",
        "faiss",
        {"factory": "IVF512,PQ192x4fs,RFlat", **_TRAINING},
        _LISTS,
    ),
    Contestant(OURS, "catalens", {}, [*_OUR_RECALLS, *_OUR_POINTS[1::2]]),
    Contestant(
        OURS_PLAIN,
        "catalens",
        {},
        [{"explain": False, **point} for point in (*_OUR_RECALLS, *_OUR_POINTS)],
    ),
    Contestant(
        OURS_SMALL,
        "catalens",
        {"rows": "int8"},
        [{"explain": False, **point} for point in ({}, {"recall": 0.95}, *_OUR_POINTS)],
    ),
    Contestant(
        "ScaNN",
        "scann",
        {"leaves": 350},
        [
            {"search": search, "reorder": reorder}
            for search, reorder in (
                (10, 30),
                (20, 20),
                (20, 30),
                (30, 30),
                (40, 20),
                (40, 30),
                (60, 30),
                (80, 30),
                (80, 60),
                (120, 60),
            )
        ],
        "scann",
        ("scann>=1.4,<2", _NUMPY),
    ),
    Contestant(
        "hnswlib",
        "hnswlib",
        {"m": 16, "ef_construction": 200},
        _GRAPH_EFS,
        "hnswlib",
        ("hnswlib>=0.8,<0.9", _NUMPY),
    ),
    Contestant(
        "FAISS HNSW", "faiss", {"factory": "HNSW16,Flat", "ef_construction": 200}, _GRAPH_EFS
    ),
    Contestant(
        "usearch f32",
        "usearch",
        {"dtype": "f32", "connectivity": 16, "expansion_add": 128},
        _GRAPH_EFS,
        "usearch",
        ("usearch>=2.20,<3", _NUMPY),
    ),
    Contestant(
        "usearch f16",
        "usearch",
        {"dtype": "f16", "connectivity": 16, "expansion_add": 128},
        _GRAPH_EFS,
        "usearch",
        ("usearch>=2.20,<3", _NUMPY),
    ),
    Contestant(
        "Qdrant Edge",
        "qdrant",
        {"m": 16, "ef_construct": 100},
        _GRAPH_EFS,
        "qdrant-edge",
        ("qdrant-edge-py>=0.9,<1", _NUMPY),
    ),
    Contestant(
        "Milvus Lite HNSW",
        "milvus",
        {"m": 16, "ef_construction": 200},
        _GRAPH_EFS,
        "milvus-lite",
        ("milvus-lite>=3.2,<4", "pymilvus>=3,<4", _NUMPY),
    ),
    Contestant(
        "LanceDB IVF_PQ",
        "lancedb",
        {"partitions": 340, "sub_vectors": 96},
        [
            {"nprobes": nprobes, "refine": refine}
            for nprobes, refine in (
                (10, 3),
                (20, 1),
                (20, 3),
                (40, 3),
                (40, 8),
                (60, 3),
                (80, 3),
                (120, 5),
            )
        ],
        "lancedb",
        ("lancedb>=0.40,<0.41", "pyarrow>=18,<27", _NUMPY),
    ),
)
