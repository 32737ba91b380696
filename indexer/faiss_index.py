"""The one module that imports faiss: what index a catalog gets, and how it is asked.

Small catalogs get an exact index. From `EXACT_BELOW` rows on it is IVF-PQ: spherical k-means
lists, 4-bit product codes of four dimensions each, scanned in registers ("fast scan", Andre et
al. 2015, arXiv:1704.07355); on a GPU 8-bit codes, which is what FAISS's GPU indexes have. Codes
only choose candidates; scores come from the rows, which FAISS reads where they are mapped from
disk: an exact index is nothing but those, and holds no vectors of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from encoders import usable_cores
from encoders.errors import DeviceError

from .errors import CorruptIndexError
from .fusion import BLOCK_ALIGNMENT

Floats = NDArray[np.float32]
Halves = NDArray[np.float16]
Positions = NDArray[np.int64]

EXACT_BELOW = 5_000
_TRAIN_PER_LIST = 64
_MIN_TRAIN = 32_768
_SEED = 1234
# FAISS's GPU IVF-PQ knows these numbers of sub-quantizers only, and at most this k and nprobe.
_GPU_SUBQUANTIZERS = (1, 2, 3, 4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 96)
GPU_MAX_K = 2048


class Bits(NamedTuple):
    """What a filter allows, one bit each, the lowest first: positions, and the lists of the index
    that hold any of them; `lists_held` is how many lists those are."""

    positions: NDArray[np.uint8]
    lists: NDArray[np.uint8]
    lists_held: int


def _faiss() -> Any:
    """FAISS, untyped: its stubs do not know what its Python layer adds."""
    import faiss

    return faiss


@dataclass(frozen=True)
class Plan:
    """The index that a catalog gets.

    `factory` is FAISS's own name for it and `dimension` what it is made for: vectors that are
    shorter are padded with zeros. `lists` is 1 for an exact index, which is one list that is always
    scanned whole. `code_bytes` is the size of one code.
    """

    kind: str
    factory: str
    dimension: int
    lists: int
    code_bytes: int
    train_rows: int

    @classmethod
    def choose(cls, n: int, dimension: int, starts: Sequence[int], *, gpu: bool) -> Plan:
        """Choose by size: exact below `EXACT_BELOW` rows, IVF-PQ from there on.

        Args:
            n: rows.
            dimension: of the fused vectors.
            starts: where the blocks of the spaces start in them.
            gpu: whether the index must be one that FAISS can clone to a GPU.
        """
        if n < EXACT_BELOW:
            return cls("exact", "SQfp16", dimension, 1, 2 * dimension, 0)
        # About 1.5 sqrt(n) lists, a power of two: coarse search and list scan cost the same.
        lists = 1 << round(np.log2(1.5 * np.sqrt(n)))
        train = min(n, max(_MIN_TRAIN, _TRAIN_PER_LIST * lists))
        if gpu:
            m, width = _gpu_code(dimension, starts)
            return cls("ivf-pq", f"IVF{lists},PQ{m}x8np", m * width, lists, m, train)
        m = dimension // BLOCK_ALIGNMENT
        return cls("ivf-pq", f"IVF{lists},PQ{m}x4fs", dimension, lists, -(-m // 2), train)


def _gpu_code(dimension: int, starts: Sequence[int]) -> tuple[int, int]:
    """Number and width of sub-vectors: as narrow as a GPU can have, none across two spaces."""
    aligned = math.gcd(*starts) or dimension
    width = BLOCK_ALIGNMENT
    while width <= aligned:
        if aligned % width == 0:
            for m in _GPU_SUBQUANTIZERS:
                if m * width >= dimension:
                    return m, width
        width *= 2
    # So many dimensions, so oddly cut: wide sub-vectors that straddle, which rescoring mends.
    return _GPU_SUBQUANTIZERS[-1], -(-dimension // _GPU_SUBQUANTIZERS[-1])


def gpu_count() -> int:
    """GPUs that the installed FAISS can use; 0 with faiss-cpu."""
    faiss = _faiss()
    return int(faiss.get_num_gpus()) if hasattr(faiss, "get_num_gpus") else 0


def wants_gpu(device: str) -> bool:
    """Whether FAISS should work on a GPU: one is asked for, or `auto` finds one.

    Raises:
        DeviceError: `cuda` is asked for and FAISS sees no GPU.
    """
    if device.startswith("cuda") and gpu_count() == 0:
        raise DeviceError(
            f"device {device!r}",
            expected="a GPU that FAISS can use",
            got="none",
            remedy="Install the extra `gpu` instead of `cpu`, or use --device cpu.",
        )
    return device.startswith("cuda") or (device == "auto" and gpu_count() > 0)


class FaissIndex:
    """A FAISS index over positions 0 .. n-1, by inner product."""

    def __init__(self, index: Any, *, gpu: bool) -> None:
        self._cpu = index
        self._gpu = _to_gpu(index) if gpu and _has_lists(index) else None
        self._unfiltered: dict[tuple[int, float], Any] = {}
        # Set by `map_rows`.
        self._rows: Any = None
        self._refined: Any = None
        self.threads = 0
        """For batches; 0 for as many as there are cores."""

    @classmethod
    def train(cls, plan: Plan, sample: Floats, *, gpu: bool) -> FaissIndex:
        """Train on `sample`, float32 (m, D) in row-major order. Seeded: the same sample gives
        the same index."""
        faiss = _faiss()

        index = faiss.index_factory(plan.dimension, plan.factory, faiss.METRIC_INNER_PRODUCT)
        if plan.kind == "ivf-pq":
            index.cp.spherical = True
            index.cp.seed = _SEED
            # FAISS warns of fewer points than it likes; the recall that is measured after the
            # training says whether they were enough.
            index.cp.min_points_per_centroid = 1
            index.pq.cp.min_points_per_centroid = 1
        trained = cls(index, gpu=gpu)
        if not index.is_trained:
            trained._active.train(trained._padded(sample))
        return trained

    @property
    def _active(self) -> Any:
        return self._cpu if self._gpu is None else self._gpu

    def add(self, vectors: Floats) -> None:
        """Append float32 (m, D) at the next positions."""
        self._active.add(self._padded(vectors))

    def map_rows(self, halves: Halves) -> None:
        """Take scores from these rows, float16 (n, D), where they are: nothing is copied, and the
        caller keeps them alive. An exact index has no others."""
        faiss = _faiss()

        if halves.shape[1] != self._cpu.d:
            return  # padded for a GPU: whoever searches scores for himself
        rows = faiss.IndexScalarQuantizer(
            halves.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
        )
        # The owner, a handle that keeps memory alive, is that of the empty vector: none.
        rows.codes = faiss.MaybeOwnedVectorUInt8.create_view(
            faiss.swig_ptr(halves.view(np.uint8).reshape(-1)), halves.nbytes, rows.codes.owner
        )
        rows.ntotal = len(halves)
        self._rows = rows
        if _has_lists(self._cpu) and self._gpu is None:
            self._refined = faiss.IndexRefine(self._cpu, rows)

    @property
    def scores_rows(self) -> bool:
        """Whether `search_rows` and `scan_rows` can be asked."""
        return self._refined is not None or not _has_lists(self._cpu)

    def _padded(self, vectors: Floats) -> Floats:
        missing = int(self._cpu.d) - vectors.shape[1]
        return vectors if missing == 0 else np.pad(vectors, ((0, 0), (0, missing)))

    def __len__(self) -> int:
        return int(self._active.ntotal)

    def serialize(self) -> bytes:
        """The index as the bytes of FAISS's CPU file format."""
        return bytes(_faiss().serialize_index(self._on_cpu()).tobytes())

    def _on_cpu(self) -> Any:
        """The index on the CPU; what was added on a GPU is fetched first."""
        if self._gpu is not None and self._cpu.ntotal != self._gpu.ntotal:
            self._cpu = _faiss().index_gpu_to_cpu(self._gpu)
        return self._cpu

    @classmethod
    def deserialize(cls, data: bytes, *, gpu: bool) -> FaissIndex:
        """Read what `serialize` gave. FAISS can crash on mangled bytes: check a hash before.

        Raises:
            CorruptIndexError: FAISS cannot read it.
        """
        faiss = _faiss()

        try:
            index = faiss.deserialize_index(np.frombuffer(data, dtype=np.uint8))
        except RuntimeError as error:
            raise CorruptIndexError(
                "FAISS file",
                expected="an index that this FAISS can read",
                got=str(error).splitlines()[-1],
                remedy="Build the index again from the catalog; nothing is encoded again.",
            ) from error
        return cls(index, gpu=gpu)

    def search(
        self, queries: Floats, k: int, *, nprobe: int, bits: Bits | None = None
    ) -> tuple[Floats, Positions]:
        """The k best codes for each query.

        Args:
            queries: float32 (m, D).
            nprobe: lists to scan; ignored by an exact index.
            bits: which positions may be returned; None for all. Then `nprobe` counts lists that
                hold any of them.

        Returns:
            approximate scores float32 (m, k) in descending order and positions int64 (m, k),
            -1 where fewer were found.
        """
        index = self._active
        if self._gpu is not None and (bits is not None or max(k, nprobe) > GPU_MAX_K):
            index = self._on_cpu()  # GPU indexes ignore selectors and bound k and nprobe
        return self._search(index, self._padded(queries), k, self._parameters(nprobe, 0.0, bits))

    def search_rows(
        self,
        queries: Floats,
        k: int,
        *,
        candidates: int,
        nprobe: int,
        bits: Bits | None = None,
    ) -> tuple[Floats, Positions]:
        """The k best rows among the candidates that codes choose: `search`, with exact scores."""
        # FAISS multiplies and cuts off: half a candidate more makes up for rounding.
        parameters = self._parameters(nprobe, (max(candidates, k) + 0.5) / k, bits)
        return self._search(self._refined, queries, k, parameters)

    def scan_rows(
        self, queries: Floats, k: int, bits: Bits | None = None
    ) -> tuple[Floats, Positions]:
        """The k best of all rows, or of those that may be returned: as `search`, exact."""
        faiss = _faiss()
        selector = None if bits is None else faiss.IDSelectorBitmap(bits.positions)
        parameters = faiss.SearchParameters(sel=selector)
        return self._search(self._rows, queries, k, parameters)

    def _search(
        self, index: Any, queries: Floats, k: int, parameters: Any
    ) -> tuple[Floats, Positions]:
        faiss = _faiss()
        # Threads cost a single query more than they bring.
        threads = 1 if len(queries) < 8 else self.threads or usable_cores()
        if faiss.omp_get_max_threads() != threads:
            faiss.omp_set_num_threads(threads)
        scores, positions = index.search(queries, k, params=parameters)
        return scores, positions

    @property
    def lists(self) -> int:
        """Number of lists; 1 for an exact index."""
        return int(getattr(self._cpu, "nlist", 1))

    @cached_property
    def list_of_position(self) -> NDArray[np.int32]:
        """The list that holds each position, int32 (n,)."""
        faiss = _faiss()
        found = np.zeros(len(self), dtype=np.int32)
        inverted = self._on_cpu().invlists
        for number in range(self.lists):
            size = inverted.list_size(number)
            if size:
                found[faiss.rev_swig_ptr(inverted.get_ids(number), size)] = number
        return found

    def _parameters(self, nprobe: int, k_factor: float, bits: Bits | None = None) -> Any:
        """Parameters of the class of the index that is searched, nested where indexes are: those of
        another class FAISS ignores without a word. With a `k_factor` they are for rescoring."""
        faiss = _faiss()
        known = self._unfiltered.get((nprobe, k_factor)) if bits is None else None
        if known is not None:
            return known
        parameters: Any = faiss.SearchParametersIVF(nprobe=nprobe)
        if bits is not None:
            # Selectors keep a pointer to the bits, not a reference: the caller keeps them alive.
            parameters = faiss.SearchParametersIVF(
                nprobe=nprobe,
                sel=faiss.IDSelectorBitmap(bits.positions),
                quantizer_params=faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bits.lists)),
            )
        if k_factor:
            parameters = faiss.IndexRefineSearchParameters(
                k_factor=k_factor, base_index_params=parameters
            )
        if bits is None:
            self._unfiltered[nprobe, k_factor] = parameters
        return parameters


def _has_lists(index: Any) -> bool:
    """Whether an index is IVF, and not the exact one."""
    return hasattr(index, "nlist")


def _to_gpu(index: Any) -> Any:
    faiss = _faiss()
    options = faiss.GpuClonerOptions()
    # Look-up tables of more than 56 sub-quantizers do not fit a GPU's shared memory in float32.
    options.useFloat16 = True
    return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index, options)
