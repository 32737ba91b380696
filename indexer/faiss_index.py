"""The one module that imports faiss: how an index is trained, kept and asked.

Codes only choose candidates; scores come from the rows, which FAISS reads where they are mapped
from disk: an exact index is nothing but those, and holds no vectors of its own.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from encoders import usable_cores
from encoders.errors import DeviceError

from .errors import CorruptIndexError, FactoryError
from .gpu import IndexFacts, SearchFacts, gpu_refusal
from .plan import Plan
from .row_codecs import Stored

Floats = NDArray[np.float32]
Positions = NDArray[np.int64]

_SEED = 1234
# Its number in FAISS's IndexIVFFastScan::implem.
_FAST_SCAN_BY_QUERY = 11
_PARAMETERS_KEPT = 256
# 64 codes side by side are scanned a fifteenth faster than FAISS's 32.
_CODES_PER_BLOCK = 64


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


def gpu_count() -> int:
    """GPUs that the installed FAISS can use; 0 with faiss-cpu."""
    faiss = _faiss()
    return int(faiss.get_num_gpus()) if hasattr(faiss, "get_num_gpus") else 0


def wants_gpu(device: str) -> bool:
    """Whether FAISS should work on a GPU: one is asked for, or `auto` finds one.

    It takes the first, whatever number is asked for.

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
    """A FAISS index over positions 0 .. n-1, by inner product.

    With `gpu` it is trained, filled and searched on a GPU, as far as `gpu_refusal` lets it; all
    else, and what is saved, is on the CPU.
    """

    def __init__(self, plan: Plan, index: Any, *, gpu: bool) -> None:
        self._plan = plan
        self._is_exact = plan.kind == "exact"
        self._cpu = index
        _scan_by_query(index)
        self._facts = facts_of(index)
        self._gpu = _to_gpu(index) if gpu and gpu_refusal(self._facts) is None else None
        # Whether the GPU has learned or was given what the CPU has not.
        self._gpu_is_ahead = False
        self._unfiltered: dict[tuple[int, int, float], Any] = {}
        # Set by `map_rows`.
        self._rows: Any = None
        self._refined: Any = None
        self.threads = 0
        """For batches; 0 for as many as there are cores."""

    @classmethod
    def train(cls, plan: Plan, sample: Floats, *, gpu: bool) -> FaissIndex:
        """Train on `sample`, float32 (m, D) in row-major order. Seeded: the same sample gives
        the same index.

        Raises:
            FactoryError: FAISS does not know the plan's factory string, or cannot train it.
        """
        faiss = _faiss()

        try:
            index = faiss.index_factory(plan.dimension, plan.factory, faiss.METRIC_INNER_PRODUCT)
            ivf = faiss.try_extract_index_ivf(index)
            if ivf is not None:
                ivf.cp.spherical = True
                ivf.cp.seed = _SEED
                # FAISS warns of fewer points than it likes; the recall that is measured after the
                # training says whether they were enough.
                ivf.cp.min_points_per_centroid = 1
                if hasattr(ivf, "pq"):
                    ivf.pq.cp.min_points_per_centroid = 1
            trained = cls(plan, index, gpu=gpu)
            if not index.is_trained:
                trained._train(sample)
            if plan.kind == "custom":
                trained._try_filter(sample[:1])
        except (RuntimeError, AssertionError) as error:
            raise FactoryError(
                f"FAISS index {plan.factory!r}",
                expected=f"a factory string for {plan.dimension} dimensions and inner product",
                got=str(error).strip().splitlines()[-1],
                remedy="See FAISS's page on index factories, or leave it out.",
            ) from error
        return trained

    def _try_filter(self, query: Floats) -> None:
        """Search under a filter that lets nothing pass: what FAISS cannot filter is refused when it
        is made, not when a user filters."""
        nothing = Bits(np.zeros(1, np.uint8), np.zeros(-(-self.lists // 8), np.uint8), 0)
        self.search(query, 1, nprobe=1, bits=nothing)

    def _train(self, sample: Floats) -> None:
        if self._gpu is not None:
            self._gpu.cp = self._cpu.cp  # FAISS clones all but these
            self._gpu_is_ahead = True
        self._active.train(self._padded(sample))

    @property
    def _active(self) -> Any:
        return self._cpu if self._gpu is None else self._gpu

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU has it; searches that no GPU can do go to the CPU all the same."""
        return self._gpu is not None

    def add(self, vectors: Floats) -> None:
        """Append float32 (m, D) at the next positions."""
        self._gpu_is_ahead = self.on_gpu
        self._active.add(self._padded(vectors))

    def forget(self) -> None:
        """Let go of all vectors, and keep what was trained."""
        self._on_cpu().reset()

    def without_lists(self) -> FaissIndex | None:
        """An empty index of the same 4-bit codes that scans them all; None where codes are others,
        or mean nothing without their list. It knows no filters."""
        faiss = _faiss()
        ivf = self._ivf
        lists = None if ivf is None else faiss.downcast_index(ivf)
        if not isinstance(lists, faiss.IndexIVFPQFastScan) or lists.by_residual:
            return None
        product = lists.pq
        codes = faiss.IndexPQFastScan(
            lists.d, product.M, product.nbits, faiss.METRIC_INNER_PRODUCT, _CODES_PER_BLOCK
        )
        codes.pq = product  # a copy
        codes.is_trained = True
        return FaissIndex(Plan.custom(0, lists.d, f"PQ{product.M}x4fs"), codes, gpu=False)

    def copy(self) -> FaissIndex:
        """The same codes in an index of their own; it has no rows mapped."""
        return FaissIndex(self._plan, _faiss().clone_index(self._on_cpu()), gpu=False)

    def quantization_error(self, vectors: Floats) -> float:
        """The part of their squared length that float32 (m, D) lose in the codes of an index of
        lists with a product quantizer. (Not by `sa_decode`: of an index that was read from a file
        it follows a null pointer.)"""
        padded = self._padded(vectors)
        ivf = _faiss().downcast_index(_faiss().try_extract_index_ivf(self._on_cpu()))
        coded = padded
        if ivf.by_residual:
            nearest = ivf.quantizer.search(padded, 1)[1][:, 0]
            coded = padded - ivf.quantizer.reconstruct_batch(nearest)
        lost = coded - ivf.pq.decode(ivf.pq.compute_codes(coded))
        return float(np.vdot(lost, lost) / np.vdot(padded, padded))

    def map_rows(self, stored: Stored, steps: Floats | None = None) -> None:
        """Take scores from these rows, float16 (n, D) or, with steps (D,), their uint8 codes, where
        they are: nothing is copied, and the caller keeps them alive. An exact index has no
        others."""
        faiss = _faiss()

        if stored.shape[1] != self._cpu.d:
            return  # padded for a GPU: whoever searches scores himself
        kinds = faiss.ScalarQuantizer
        kind = kinds.QT_fp16 if steps is None else kinds.QT_8bit
        rows = faiss.IndexScalarQuantizer(stored.shape[1], kind, faiss.METRIC_INNER_PRODUCT)
        if steps is not None:
            # FAISS decodes `least + (code + 0.5) / 255 * range`: this is `step * (code - 128)`.
            grid = np.concatenate([np.float32(-128.5) * steps, np.float32(255) * steps])
            faiss.copy_array_to_vector(grid, rows.sq.trained)
            rows.is_trained = True
        # The owner, a handle that keeps memory alive, is that of the empty vector: none.
        rows.codes = faiss.MaybeOwnedVectorUInt8.create_view(
            faiss.swig_ptr(stored.view(np.uint8).reshape(-1)), stored.nbytes, rows.codes.owner
        )
        rows.ntotal = len(stored)
        self._rows = rows
        if not self._is_exact and self._gpu is None:
            self._refined = faiss.IndexRefine(self._cpu, rows)

    @property
    def scores_rows(self) -> bool:
        """Whether `search_rows` and `scan_rows` can be asked."""
        return self._refined is not None or self._is_exact

    def _padded(self, vectors: Floats) -> Floats:
        missing = int(self._cpu.d) - vectors.shape[1]
        return vectors if missing == 0 else np.pad(vectors, ((0, 0), (0, missing)))

    def __len__(self) -> int:
        return int(self._active.ntotal)

    def serialize(self) -> bytes:
        """The index as the bytes of FAISS's CPU file format."""
        return bytes(_faiss().serialize_index(self._on_cpu()).tobytes())

    def _on_cpu(self) -> Any:
        """The index on the CPU; what a GPU learned and was given is fetched first."""
        if self._gpu_is_ahead:
            self._cpu = _faiss().index_gpu_to_cpu(self._gpu)
            self._gpu_is_ahead = False
        return self._cpu

    @classmethod
    def deserialize(cls, plan: Plan, data: bytes, *, gpu: bool) -> FaissIndex:
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
        return cls(plan, index, gpu=gpu)

    def search(
        self, queries: Floats, k: int, *, nprobe: int, bits: Bits | None = None
    ) -> tuple[Floats, Positions]:
        """The k best codes for each query.

        Args:
            queries: float32 (m, D).
            nprobe: lists to scan, where there are lists.
            bits: which positions may be returned; None for all. Then `nprobe` counts lists that
                hold any of them.

        Returns:
            approximate scores float32 (m, k) in descending order and positions int64 (m, k),
            -1 where fewer were found.
        """
        search = SearchFacts(k, nprobe, filtered=bits is not None)
        refused = self._gpu is None or gpu_refusal(self._facts, search) is not None
        index = self._on_cpu() if refused else self._gpu
        return self._search(index, self._padded(queries), k, self._parameters(nprobe, k, 0.0, bits))

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
        candidates = max(candidates, k)
        parameters = self._parameters(nprobe, candidates, (candidates + 0.5) / k, bits)
        return self._search(self._refined, queries, k, parameters)

    def scan_rows(
        self, queries: Floats, k: int, bits: Bits | None = None
    ) -> tuple[Floats, Positions]:
        """The k best of all rows, or of those that may be returned: as `search`, exact."""
        faiss = _faiss()
        if bits is None:
            return self._search(self._rows, queries, k, None)
        parameters = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bits.positions))
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
    def _ivf(self) -> Any:
        """The part that has lists, if there is one; it lives as long as `_cpu`."""
        return None if self._is_exact else _faiss().try_extract_index_ivf(self._cpu)

    @property
    def code_bytes(self) -> int:
        """Bytes of one code; 0 where the index does not say."""
        ivf = self._ivf
        return int(getattr(self._cpu if ivf is None else ivf, "code_size", 0))

    @property
    def lists(self) -> int:
        """Number of lists; 1 where there are none."""
        ivf = self._ivf
        return 1 if ivf is None else int(ivf.nlist)

    @cached_property
    def list_of_position(self) -> NDArray[np.int32]:
        """The list that holds each position, int32 (n,)."""
        faiss = _faiss()
        found = np.zeros(len(self), dtype=np.int32)
        inverted = faiss.try_extract_index_ivf(self._on_cpu()).invlists
        for number in range(self.lists):
            size = inverted.list_size(number)
            if size:
                found[faiss.rev_swig_ptr(inverted.get_ids(number), size)] = number
        return found

    def _parameters(self, nprobe: int, candidates: int, k_factor: float, bits: Bits | None) -> Any:
        """Parameters for the index that is searched; with a `k_factor` they are for rescoring."""
        key = (nprobe, candidates, k_factor)
        if bits is None and key in self._unfiltered:
            return self._unfiltered[key]
        faiss = _faiss()
        parameters = _parameters_of(self._cpu, nprobe, candidates, bits)
        if k_factor:
            parameters = faiss.IndexRefineSearchParameters(
                k_factor=k_factor, base_index_params=parameters
            )
        if bits is None:
            if len(self._unfiltered) >= _PARAMETERS_KEPT:
                self._unfiltered.clear()  # whoever asks chooses k
            self._unfiltered[key] = parameters
        return parameters


def _parameters_of(index: Any, nprobe: int, candidates: int, bits: Bits | None) -> Any:
    """Parameters of the class of this index, nested where indexes are: those of another class
    FAISS ignores without a word, the selector too.

    Selectors keep a pointer to the bits, not a reference: the caller keeps them alive.
    """
    faiss = _faiss()
    if isinstance(index, faiss.IndexPreTransform):
        inner = faiss.downcast_index(index.index)
        return faiss.SearchParametersPreTransform(
            index_params=_parameters_of(inner, nprobe, candidates, bits)
        )
    if isinstance(index, faiss.IndexRefine):
        inner = faiss.downcast_index(index.base_index)
        return faiss.IndexRefineSearchParameters(
            k_factor=index.k_factor,
            base_index_params=_parameters_of(inner, nprobe, candidates, bits),
        )
    selector = None if bits is None else faiss.IDSelectorBitmap(bits.positions)
    if isinstance(index, faiss.IndexIVF):
        if bits is None:
            return faiss.SearchParametersIVF(nprobe=nprobe)
        # Only lists that hold an allowed row; what is nested must be passed here, to be kept alive.
        lists = faiss.IDSelectorBitmap(bits.lists)
        coarse = (
            faiss.SearchParametersHNSW(sel=lists, efSearch=nprobe)
            if isinstance(faiss.downcast_index(index.quantizer), faiss.IndexHNSW)
            else faiss.SearchParameters(sel=lists)
        )
        return faiss.SearchParametersIVF(sel=selector, nprobe=nprobe, quantizer_params=coarse)
    if isinstance(index, faiss.IndexHNSW):
        return faiss.SearchParametersHNSW(sel=selector, efSearch=candidates)
    # A flat fast scan refuses parameters, those that say nothing too.
    return None if selector is None else faiss.SearchParameters(sel=selector)


def _scan_by_query(index: Any) -> None:
    """Have the fast-scan codes of lists scanned query by query with a reservoir, not list by list:
    a sixth less time for a single query, a twentieth in a batch (measured with 40 to 80
    candidates). Fast scan without lists knows no such way."""
    ivf = _faiss().try_extract_index_ivf(index)
    if ivf is not None:
        inner = _faiss().downcast_index(ivf)
        if hasattr(inner, "implem"):
            inner.implem = _FAST_SCAN_BY_QUERY


def facts_of(index: Any) -> IndexFacts:
    """What decides whether an index of FAISS can be on a GPU."""
    faiss = _faiss()
    kinds = faiss.ScalarQuantizer
    scalars = {getattr(kinds, name): name for name in dir(kinds) if name.startswith("QT_")}
    product, scalar = getattr(index, "pq", None), getattr(index, "sq", None)
    lists = isinstance(index, faiss.IndexIVF)
    return IndexFacts(
        type(index).__name__,
        index.d,
        type(faiss.downcast_index(index.quantizer)).__name__ if lists else "",
        0 if product is None else product.M,
        0 if product is None else product.nbits,
        getattr(index, "by_residual", True),
        "" if scalar is None else scalars[scalar.qtype],
    )


def _to_gpu(index: Any) -> Any:
    faiss = _faiss()
    options = faiss.GpuClonerOptions()
    # Look-up tables of more than 48 sub-quantizers do not fit a GPU's shared memory in float32.
    options.useFloat16 = True
    options.use_cuvs = False
    try:
        return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index, options)
    except RuntimeError as error:
        raise DeviceError(
            "FAISS on a GPU",
            expected=f"a GPU that takes an index of {index.ntotal:,} codes",
            got=str(error).strip().splitlines()[-1],
            remedy="Use --device cpu: the index is the same.",
        ) from error
