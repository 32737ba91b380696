"""What FAISS can do on a GPU: decided here alone, without FAISS and without a GPU.

The limits are those of FAISS 1.15's own kernels (faiss/gpu of its source, and "Faiss on the GPU" of
its wiki). NVIDIA's cuVS has others and is not asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

SUBQUANTIZERS = (1, 2, 3, 4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 96)
"""Numbers of bytes a code may have, in ascending order."""
_MOST = 2048
"""Neither hits nor lists of a search may be more: both are selected in a GPU's registers."""
_FLAT = ("IndexFlat", "IndexFlatIP", "IndexFlatL2")
_SCALARS = (
    *("QT_8bit", "QT_8bit_uniform", "QT_8bit_direct", "QT_6bit"),
    *("QT_4bit", "QT_4bit_uniform", "QT_fp16"),
)
# Two float32 a dimension must fit 48 KiB of shared memory.
_TRAINED_SCALARS, _TRAINED_SCALARS_BELOW = ("QT_8bit", "QT_4bit"), 6144


@dataclass(frozen=True)
class IndexFacts:
    """What decides whether an index can be on a GPU.

    `kind` and `coarse` are FAISS's classes of the index and of what chooses its lists. Of the codes
    of an `IndexIVFPQ` there are `subquantizers` of `bits` each, of the residuals or not; `scalar`
    is FAISS's name for those of an `IndexIVFScalarQuantizer`.
    """

    kind: str
    dimension: int
    coarse: str = ""
    subquantizers: int = 0
    bits: int = 0
    by_residual: bool = True
    scalar: str = ""


@dataclass(frozen=True)
class SearchFacts:
    """What decides whether a GPU can do a search: hits, lists, and whether rows are left out."""

    k: int
    nprobe: int
    filtered: bool


def gpu_refusal(index: IndexFacts, search: SearchFacts | None = None) -> str | None:
    """Why an index, or a search of it, must stay on the CPU; None where a GPU can have it."""
    refusal = _index_refusal(index)
    return _search_refusal(search) if refusal is None and search is not None else refusal


def _index_refusal(index: IndexFacts) -> str | None:
    match index.kind:
        case "IndexIVFFlat":
            refusal = None
        case "IndexIVFPQ":
            refusal = _product_refusal(index)
        case "IndexIVFScalarQuantizer":
            refusal = _scalar_refusal(index)
        case _:
            # Fast scan, RaBitQ and graphs have no GPU version. A transform has one, around an
            # index that has; nothing we choose is one.
            return f"{index.kind} is on no GPU"
    if index.coarse not in _FLAT:
        return f"lists are chosen by {index.coarse}, on a GPU by a flat index alone"
    return refusal


def _product_refusal(index: IndexFacts) -> str | None:
    if index.bits != 8:
        return f"codes are of {index.bits} bits, on a GPU of 8"
    if index.subquantizers not in SUBQUANTIZERS:
        return f"{index.subquantizers} sub-quantizers are none of {SUBQUANTIZERS}"
    if index.dimension % index.subquantizers:
        return f"{index.dimension} dimensions are not {index.subquantizers} equal parts"
    if not index.by_residual:
        return "codes are not of residuals"
    return None


def _scalar_refusal(index: IndexFacts) -> str | None:
    if index.scalar not in _SCALARS:
        return f"scalar codes are {index.scalar}, on a GPU one of {_SCALARS}"
    if index.scalar in _TRAINED_SCALARS and index.dimension >= _TRAINED_SCALARS_BELOW:
        return f"{index.dimension} dimensions of {index.scalar} do not fit a GPU's shared memory"
    return None


def _search_refusal(search: SearchFacts) -> str | None:
    if search.filtered:
        return "a GPU ignores filters"
    if max(search.k, search.nprobe) > _MOST:
        return f"k {search.k} or nprobe {search.nprobe} is above {_MOST}"
    return None
