"""What all benchmarks share: pinned threads, interleaved timing, machine facts, results.

A ratio means something on a shared machine only if both sides met the same neighbours, so
contestants take turns call by call. Only the call is timed; answers are scored afterwards.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter, perf_counter_ns
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from encoders.errors import CatalensError

RESULTS = Path(__file__).parent / "results"
"""Where measured results are kept; they belong to the repository."""
TRIALS = Path("build/benchmarks")
"""Where results of runs on fewer items go, so that they never replace the kept ones."""

# The thread counts that BLAS, OpenMP and tokenizers read when they are imported.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_PACKAGES = (
    "catalens",
    "numpy",
    "faiss-cpu",
    "faiss-gpu",
    "lmdb",
    "openvino",
    "torch",
    "torchaudio",
    "sentence-transformers",
    "pillow",
    "soundfile",
)
_LOAD_AT_START = os.getloadavg()[0]
_PERCENTILES = (1, *range(5, 100, 5), 99)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Target:
    """One promise and how it came out."""

    name: str
    target: str
    measured: str
    met: bool


@dataclass(frozen=True)
class Result:
    """One benchmark's result, as its JSON file holds it."""

    benchmark: str
    settings: Mapping[str, Any]
    figures: Mapping[str, Any]
    targets: Sequence[Target]
    machine: Mapping[str, Any] = field(default_factory=lambda: machine())
    date: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def write(self, folder: Path) -> Path:
        """Write `folder/BENCHMARK.json`, whole or not at all, and return its path."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.benchmark}.json"
        unfinished = path.with_suffix(".json.new")
        options = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
        unfinished.write_bytes(orjson.dumps(asdict(self), option=options))
        unfinished.replace(path)
        return path

    @classmethod
    def read(cls, path: Path) -> Result:
        """Read what `write` wrote."""
        values = orjson.loads(path.read_bytes())
        targets = [Target(**target) for target in values.pop("targets")]
        return cls(targets=targets, **values)


@dataclass(frozen=True)
class Timings:
    """Seconds of every call: float64 with shape (rounds, calls); answers of the last round."""

    seconds: Floats
    answers: Sequence[Any] = ()

    def percentile(self, q: float) -> float:
        """The q-th percentile of a round in milliseconds, the median over rounds."""
        return float(np.median(np.percentile(self.seconds, q, axis=1)) * 1e3)

    @property
    def p50(self) -> float:
        return self.percentile(50)

    @property
    def per_second(self) -> float:
        """Calls per second of a round, one after the other; the median over rounds."""
        return float(np.median(1 / self.seconds.mean(axis=1)))

    def summary(self) -> dict[str, Any]:
        """What results keep of them."""
        return {
            "p50_ms": rounded(self.p50),
            "p90_ms": rounded(self.percentile(90)),
            "p99_ms": rounded(self.percentile(99)),
            "per_second": rounded(self.per_second),
            "p50_ms_of_each_round": [rounded(float(p)) for p in np.median(self.seconds, 1) * 1e3],
            "percentiles_ms": {str(q): rounded(self.percentile(q)) for q in _PERCENTILES},
        }


class StageTimer:
    """Progress that notes how long each stage took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._stage = ""
        self._started = 0.0

    def start(self, stage: str, total: int | None) -> None:
        self._stage, self._started = stage, perf_counter_ns() / 1e9

    def advance(self, steps: int) -> None:
        """Steps do not matter."""

    def finish(self) -> None:
        self.seconds[self._stage] = perf_counter_ns() / 1e9 - self._started


def interleave(
    contestants: Mapping[str, Callable[[int], Any]],
    calls: int,
    *,
    rounds: int = 3,
    keep: Callable[[Any], Any] = lambda answer: None,
) -> dict[str, Timings]:
    """Time `calls` calls of each contestant in each round, taking turns call by call.

    Every contestant is called with the numbers 0 .. calls-1. Who goes first changes at every
    step, and within a step no two have the same number, so that none finds in the caches what
    another has just read. A first round warms up and is not counted.

    Args:
        keep: applied, untimed, to each answer of the last round; what is kept is in `answers`.
    """
    names = list(contestants)
    offsets = [number * calls // len(names) for number in range(len(names))]
    seconds = {name: np.zeros((rounds, calls)) for name in names}
    answers: dict[str, list[Any]] = {name: [None] * calls for name in names}
    for turn in range(-1, rounds):
        gc.collect()
        for step in range(calls):
            for place in range(len(names)):
                who = (step + place) % len(names)
                name, number = names[who], (step + offsets[who]) % calls
                call = contestants[name]
                start = perf_counter_ns()
                answer = call(number)
                elapsed = perf_counter_ns() - start
                if turn >= 0:
                    seconds[name][turn, number] = elapsed / 1e9
                if turn == rounds - 1:
                    answers[name][number] = keep(answer)
    return {name: Timings(seconds[name], answers[name]) for name in names}


def timed(work: Callable[[], Any]) -> Callable[[], float]:
    """`work` as a call that returns the seconds it took."""

    def run() -> float:
        start = perf_counter()
        work()
        return perf_counter() - start

    return run


def interleave_whole(
    contestants: Mapping[str, Callable[[], float]], *, rounds: int
) -> dict[str, list[float]]:
    """Seconds that long calls say they took, taking turns; who goes first changes by round."""
    names = list(contestants)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        for place in range(len(names)):
            name = names[(turn + place) % len(names)]
            gc.collect()
            seconds[name].append(contestants[name]())
    return seconds


def tie_aware_recall(found: Sequence[Floats], kth_best: Floats, k: int) -> float:
    """Share of the k best that were found, ties allowed.

    Args:
        found: for each query, the exact similarities of the distinct items found.
        kth_best: for each query, its exact k-th best similarity, (m,).
    """
    good = sum(
        min(k, int(np.count_nonzero(similarities >= bound - 1e-6)))
        for similarities, bound in zip(found, kth_best, strict=True)
    )
    return good / (k * len(kth_best))


def rounded(value: float, digits: int = 4) -> float:
    """To `digits` significant digits: more would be noise in a kept file."""
    return float(f"{value:.{digits}g}")


def median(values: Sequence[float]) -> float:
    """The median, rounded."""
    return rounded(statistics.median(values))


def machine() -> dict[str, Any]:
    """The machine and the libraries that a result was measured with."""
    import psutil

    return {
        "cpu": _cpu_model(),
        "cores": cores(),
        "ram_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_at_start": rounded(_LOAD_AT_START, 3),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "libraries": _versions(),
    }


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else "unknown"


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def pinned_environment(threads: int) -> dict[str, str]:
    """The environment of a process with so many threads in each numeric library."""
    return {
        **os.environ,
        **dict.fromkeys(_THREAD_VARIABLES, str(threads)),
        "TOKENIZERS_PARALLELISM": "false",
        # Threads that wait by spinning take the cores from whoever else is there, and from us.
        "OMP_WAIT_POLICY": "PASSIVE",
    }


def pin_threads(threads: int) -> None:
    """Start this process over with pinned threads, unless they are pinned already.

    The libraries read these variables when they are loaded, and this module has loaded numpy.
    """
    wanted = pinned_environment(threads)
    if wanted != dict(os.environ):
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], wanted)


@dataclass(frozen=True)
class Options:
    """What every benchmark's command line gives."""

    items: int | None
    out: Path
    plots: bool


def parse_options(name: str, doc: str | None, arguments: Sequence[str] | None) -> Options:
    """Read `[--items N] [--out DIR] [--json-only]`."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_options(parser)
    given = parser.parse_args(arguments)
    return options_from(given)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that every benchmark takes."""
    parser.add_argument("--items", type=int, metavar="N", help="a trial on about N items")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where results go")
    parser.add_argument("--json-only", action="store_true", help="draw no pictures")


def options_from(given: argparse.Namespace) -> Options:
    """What was given; trials do not write over the results that are kept."""
    default = RESULTS if given.items is None else TRIALS
    return Options(given.items, given.out or default, not given.json_only)


def command(
    name: str,
    doc: str | None,
    measure: Callable[[Options], Result],
    *,
    threads: int,
    arguments: Sequence[str] | None = None,
) -> int:
    """A benchmark's command line: run, write results, draw, say how the targets came out."""
    options = parse_options(name, doc, arguments)
    pin_threads(threads)
    try:
        result = measure(options)
    except CatalensError as error:
        say(f"error: {error}")
        return error.exit_code
    path = result.write(options.out)
    if options.plots:
        from .figures import draw

        for picture in draw(result, options.out):
            say(f"drew {picture}")
    for target in result.targets:
        verdict = "met" if target.met else "MISSED"
        say(f"{verdict:>6}  {target.name}: {target.measured} (target: {target.target})")
    say(f"wrote {path}")
    return 0


def say(line: str) -> None:
    """Tell whoever waits; standard output is for tables."""
    print(line, file=sys.stderr, flush=True)
