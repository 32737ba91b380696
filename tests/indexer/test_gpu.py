"""What goes to a GPU: each fact from FAISS's own source, its cloner asked where it is installed,
and, where there is a GPU, an index that is made on it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from catalens import Query, Retriever, build_index
from encoders.errors import DeviceError
from indexer import Selection
from indexer.faiss_index import FaissIndex, facts_of, gpu_count
from indexer.gpu import SUBQUANTIZERS, IndexFacts, SearchFacts, gpu_refusal
from indexer.plan import Plan
from tests.catalogs import clustered, vector_rows

PRODUCT = IndexFacts("IndexIVFPQ", 96, "IndexFlat", subquantizers=24, bits=8)
SCALAR = IndexFacts("IndexIVFScalarQuantizer", 96, "IndexFlat", scalar="QT_8bit")
PLAIN = SearchFacts(10, 64, filtered=False)
HAS_GPU_CODE = hasattr(faiss, "GpuIndexIVFPQ")


@pytest.mark.parametrize(
    "index",
    [
        PRODUCT,
        # What a file of an inner-product index is read as.
        replace(PRODUCT, coarse="IndexFlatIP"),
        # GpuIndexIVFPQConfig::useMMCodeDistance: any number of dimensions a sub-quantizer.
        replace(PRODUCT, dimension=24 * 7),
        # GpuCloner.cpp: the other two IVF indexes that it clones.
        replace(PRODUCT, kind="IndexIVFFlat", subquantizers=0, bits=0, by_residual=False),
        SCALAR,
        replace(SCALAR, scalar="QT_fp16", dimension=10_000),
        *(replace(PRODUCT, subquantizers=m, dimension=4 * m) for m in SUBQUANTIZERS),
    ],
    ids=str,
)
def test_what_a_gpu_can_have(index: IndexFacts) -> None:
    assert gpu_refusal(index) is None
    assert gpu_refusal(index, PLAIN) is None


@pytest.mark.parametrize(
    ("index", "why"),
    [
        # GpuCloner.cpp: "This index type is not implemented on GPU."
        (replace(PRODUCT, kind="IndexIVFPQFastScan", bits=4), "IndexIVFPQFastScan"),
        (replace(PRODUCT, kind="IndexIVFRaBitQ"), "IndexIVFRaBitQ"),
        (IndexFacts("IndexHNSWFlat", 96), "IndexHNSWFlat"),
        # An IndexIVFPQ to the cloner, which would drop its second codes.
        (replace(PRODUCT, kind="IndexIVFPQR"), "IndexIVFPQR"),
        # Ours: an exact index has no codes, and no transform was measured.
        (IndexFacts("IndexScalarQuantizer", 96, scalar="QT_fp16"), "IndexScalarQuantizer"),
        (IndexFacts("IndexPreTransform", 96), "IndexPreTransform"),
        # GpuIndexIVF::copyFrom clones the coarse quantizer too.
        (replace(PRODUCT, coarse="IndexHNSWFlat"), "IndexHNSWFlat"),
        (replace(SCALAR, coarse="MultiIndexQuantizer"), "MultiIndexQuantizer"),
        # GpuIndexIVFPQ::verifyPQSettings_: "Bits per code must be 8", and the two below.
        (replace(PRODUCT, bits=4), "of 4 bits"),
        (replace(PRODUCT, bits=10), "of 10 bits"),
        (replace(PRODUCT, subquantizers=6), "6 sub-quantizers"),
        (replace(PRODUCT, subquantizers=128, dimension=512), "128 sub-quantizers"),
        (replace(PRODUCT, dimension=100), "100 dimensions are not 24"),
        # GpuIndexIVFPQ::copyFrom: "only by_residual = true is supported".
        (replace(PRODUCT, by_residual=False), "residuals"),
        # GpuScalarQuantizer.cuh: isSQSupported.
        (replace(SCALAR, scalar="QT_bf16"), "QT_bf16"),
        (replace(SCALAR, scalar="QT_8bit_direct_signed"), "QT_8bit_direct_signed"),
        # GpuIndexIVFScalarQuantizer::verifySQSettings_: 48 KiB, 8 bytes a dimension.
        (replace(SCALAR, dimension=6144), "6144 dimensions"),
    ],
)
def test_what_stays_on_the_cpu(index: IndexFacts, why: str) -> None:
    assert why in str(gpu_refusal(index))
    assert gpu_refusal(index, PLAIN) == gpu_refusal(index)


@pytest.mark.parametrize(
    ("search", "why"),
    [
        # GPU_MAX_SELECTION_K and getMaxKSelection: 2048 for both.
        (SearchFacts(2048, 2048, filtered=False), None),
        (SearchFacts(2049, 1, filtered=False), "k 2049"),
        (SearchFacts(1, 2049, filtered=False), "nprobe 2049"),
        # GpuIndexIVF::searchImpl_ reads nprobe of the parameters, and no selector.
        (SearchFacts(10, 1, filtered=True), "filters"),
    ],
)
def test_which_searches_a_gpu_does(search: SearchFacts, why: str | None) -> None:
    refusal = gpu_refusal(PRODUCT, search)
    assert refusal is None if why is None else why in str(refusal)


@pytest.mark.parametrize("n", [1_000, 100_000, 10_000_000, 100_000_000])
@pytest.mark.parametrize(
    ("dimension", "starts"),
    [
        (4, [0]),
        (20, [0, 8]),
        (384, [0]),
        (640, [0, 384]),
        (768, [0, 384, 512]),
        (1000, [0, 12, 500]),
        (1664, [0, 384]),
        (4096, [0]),
        (4444, [0, 404, 1404]),
    ],
)
def test_the_profile_gpu_is_for_gpus(n: int, dimension: int, starts: list[int]) -> None:
    plan = Plan.choose(n, dimension, starts, "gpu", gpu=False)
    index = faiss.index_factory(plan.dimension, plan.factory, faiss.METRIC_INNER_PRODUCT)
    assert gpu_refusal(facts_of(index)) is None
    assert plan.dimension >= dimension
    assert Plan.choose(10**8, dimension, starts, "auto", gpu=True).factory.endswith("x8np")


def trained(factory: str, x: np.ndarray) -> FaissIndex:
    return FaissIndex.train(Plan.custom(len(x), x.shape[1], factory), x, gpu=False)


@pytest.mark.parametrize(
    ("factory", "facts"),
    [
        ("IVF8,PQ8x8np", IndexFacts("IndexIVFPQ", 32, "IndexFlat", 8, 8)),
        ("IVF8,PQ4x6", IndexFacts("IndexIVFPQ", 32, "IndexFlat", 4, 6)),
        ("IVF8_HNSW8,PQ8x8", IndexFacts("IndexIVFPQ", 32, "IndexHNSWFlat", 8, 8)),
        ("IVF8,PQ8x4fs", IndexFacts("IndexIVFPQFastScan", 32, "IndexFlat", 8, 4, False)),
        ("IVF8,SQ8", IndexFacts("IndexIVFScalarQuantizer", 32, "IndexFlat", scalar="QT_8bit")),
        ("OPQ4,IVF8,PQ4x8", IndexFacts("IndexPreTransform", 32)),
        ("SQfp16", IndexFacts("IndexScalarQuantizer", 32, scalar="QT_fp16")),
        ("HNSW8", IndexFacts("IndexHNSWFlat", 32)),
    ],
)
def test_facts_are_those_of_the_index(factory: str, facts: IndexFacts) -> None:
    index = faiss.index_factory(32, factory, faiss.METRIC_INNER_PRODUCT)
    assert facts_of(index) == facts
    read = facts_of(faiss.deserialize_index(faiss.serialize_index(index)))
    assert replace(read, coarse=facts.coarse) == facts  # an IndexFlat is read as an IndexFlatIP
    assert gpu_refusal(read) == gpu_refusal(facts)


@pytest.mark.skipif(not HAS_GPU_CODE, reason="faiss-cpu has no cloner")
@pytest.mark.skipif(gpu_count() > 0, reason="with a GPU it would clone")
@pytest.mark.parametrize(
    "factory",
    [
        *("IVF8,PQ8x8np", "IVF8,Flat", "IVF8,SQ8", "IVF8,SQfp16"),
        *("IVF8,PQ8x4fs", "IVF8,PQ8x4fsr", "IVF8,RaBitQ", "HNSW8", "IVF8,SQbf16"),
    ],
)
def test_faiss_clones_the_same_kinds(factory: str) -> None:
    # Without a device it says which kinds it has not, and of the others that there is no device.
    index = faiss.index_factory(32, factory, faiss.METRIC_INNER_PRODUCT)
    resources: Any = faiss.StandardGpuResources()
    with pytest.raises(RuntimeError) as caught:
        faiss.index_cpu_to_gpu(resources, 0, index)
    refused = gpu_refusal(facts_of(index)) is not None
    assert ("not implemented on GPU" in str(caught.value)) == (refused and "bf16" not in factory)


@pytest.mark.skipif(not HAS_GPU_CODE, reason="faiss-cpu asks no GPU")
@pytest.mark.skipif(gpu_count() > 0, reason="nothing is wrong with a GPU")
def test_what_the_gpu_does_not_take_is_told() -> None:
    x = clustered(1_000, 32)
    plan = Plan.choose(len(x), 32, [0], "gpu", gpu=True)
    with pytest.raises(DeviceError, match=r"--device cpu"):
        FaissIndex.train(plan, x, gpu=True)


@pytest.mark.parametrize("factory", ["SQfp16", "HNSW8", "IVF16,PQ8x4fs", "IVF16_HNSW8,PQ8x8np"])
def test_what_no_gpu_can_have_is_made_on_the_cpu(factory: str) -> None:
    x = clustered(1_000, 32)
    plan = Plan.custom(len(x), 32, factory)
    index = FaissIndex.train(plan, x, gpu=True)
    index.add(x)
    same = trained(factory, x)
    same.add(x)
    assert not index.on_gpu
    assert np.array_equal(index.search(x[:5], 3, nprobe=4)[1], same.search(x[:5], 3, nprobe=4)[1])


def share_found(best: np.ndarray, found: np.ndarray) -> float:
    return float(np.mean([np.isin(b, f).mean() for b, f in zip(best, found, strict=True)]))


@pytest.mark.skipif(gpu_count() == 0, reason="there is no GPU")
@pytest.mark.parametrize("dimension", [64, 100])
def test_made_on_a_gpu_it_answers_as_on_the_cpu(dimension: int) -> None:
    x, queries = clustered(20_000, dimension), clustered(20_200, dimension)[20_000:]
    plan = Plan.choose(len(x), dimension, [0], "gpu", gpu=True)
    on_gpu, on_cpu = (FaissIndex.train(plan, x, gpu=gpu) for gpu in (True, False))
    assert on_gpu.on_gpu and not on_cpu.on_gpu
    for index in (on_gpu, on_cpu):
        for start in range(0, len(x), 7_000):
            index.add(x[start : start + 7_000])
    assert len(on_gpu) == len(on_cpu) == len(x)
    saved = on_gpu.serialize()
    reopened = FaissIndex.deserialize(plan, saved, gpu=False)
    again = FaissIndex.deserialize(plan, saved, gpu=True)
    best = np.argsort(-(queries @ x.T), axis=1)[:, :10]

    for nprobe in (1, 8, plan.lists):
        # Codes choose 40 candidates; rows would put the best of them first.
        found = [index.search(queries, 40, nprobe=nprobe)[1] for index in (on_cpu, on_gpu)]
        found += [index.search(queries, 40, nprobe=nprobe)[1] for index in (reopened, again)]
        recalls = [share_found(best, one) for one in found]
        assert max(recalls) - min(recalls) <= 0.01, recalls
    allowed = np.arange(len(x)) % 7 == 0
    filtered = on_gpu.search(queries, 20, nprobe=8, bits=Selection(allowed).bits(on_gpu))[1]
    assert (filtered >= 0).all() and allowed[filtered].all()
    assert on_gpu.lists == plan.lists and on_gpu.code_bytes == plan.code_bytes
    assert np.array_equal(on_gpu.list_of_position, reopened.list_of_position)


@pytest.mark.skipif(gpu_count() == 0, reason="there is no GPU")
def test_a_catalog_indexed_on_a_gpu_is_asked_anywhere(tmp_path: Path) -> None:
    x, queries = clustered(20_000, 64), clustered(20_200, 64)[20_000:]
    best = np.argsort(-(queries @ x.T), axis=1)[:, :10]
    recalls = {}
    for built in ("cpu", "cuda"):
        out = tmp_path / built
        build_index(list(vector_rows(x)), out, vector="v", device=built, profile="gpu")
        for asked in ("cpu", "cuda"):
            with Retriever.open(out, device=asked) as shop:
                hits = shop.search_many([Query(vector=q) for q in queries], 10)
            found = np.array([[int(hit.id[1:]) for hit in one] for one in hits])
            recalls[built, asked] = share_found(best, found)
    # Each build chooses its own operating point; either is aimed at .97.
    assert min(recalls.values()) > 0.93, recalls
    for built in ("cpu", "cuda"):
        assert abs(recalls[built, "cpu"] - recalls[built, "cuda"]) <= 0.01, recalls
