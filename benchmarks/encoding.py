"""Inputs encoded per second by a build, against the bare model calls on the same inputs.

Rates of a build are of its stage `encode`, which reads, hashes, decodes, encodes and commits; a
fresh folder each time, so that nothing is found in the embedding cache. It is held against

- *bare calls*: read and `prepare` all inputs on all cores, then `encode` all on all cores. No
  hashing, no store, nothing held back for anything: what the cores can do at best;
- the libraries' own documented way, which is what a user would write.

*Model only* says what decoding costs: the model on inputs decoded before the clock ran. No
build reaches it by more than model / (model + decoding), in seconds of a core; for sound, whose
model is the last step of decoding, it is the bare calls from memory.

All run in one process, warm, by turns, with as many threads as there are cores. So do the default
encoders and torch with the same weights, in `eager`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

from catalens import build_index
from encoders import Encoder, Limits, encode_all, load_encoder, load_preset

from . import eager
from .corpus import SEED
from .encoding_inputs import Inputs, all_inputs, prepare_all
from .harness import (
    Options,
    Result,
    StageTimer,
    Target,
    command,
    cores,
    interleave_whole,
    median,
    pinned_environment,
    rounded,
    say,
    timed,
)

ROUNDS = 3
RATIO = 0.9
# One of each modality: prepared pictures are all of one size.
AGAINST_TORCH = ("glosses", "clip art")

# A process that does nothing but build: what a user waits for, imports and models included.
_CHILD = """
import json, sys, catalens
given = json.load(sys.stdin)
catalens.build_index(given.pop("rows"), given.pop("out"), device="cpu", **given)
"""


class Builds:
    """Builds of one catalog, each into a fresh folder; keeps what each took as a whole."""

    def __init__(self, inputs: Inputs, folder: Path) -> None:
        self._inputs = inputs
        self._folder = folder
        self._rows = inputs.rows()
        self.whole: list[float] = []

    def run(self) -> float:
        """Build once; the seconds of its stage `encode`."""
        timer = StageTimer()
        summary = build_index(
            self._rows, self._fresh(), device="cpu", progress=timer, **self._arguments()
        )
        encoded = sum(summary.encoded.values())
        if encoded != len(self._inputs.values):
            # Equal files are encoded once: the rates would not be of the same work.
            say(f"  {encoded} of {len(self._inputs.values)} inputs were encoded by the build")
        self.whole.append(summary.seconds)
        return timer.seconds["encode"]

    def run_process(self) -> float:
        """Build once in a new process; its seconds from start to end."""
        import orjson

        given = {"rows": self._rows, "out": str(self._fresh()), **self._arguments()}
        start = monotonic()
        subprocess.run(
            [sys.executable, "-c", _CHILD],
            input=orjson.dumps(given, default=str),
            env=pinned_environment(cores()),
            check=True,
        )
        return monotonic() - start

    def _arguments(self) -> dict[str, Any]:
        return {self._inputs.modality: self._inputs.column, "media_root": self._inputs.media_root}

    def _fresh(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self._folder))


def default_encoder(modality: str) -> Encoder:
    """What the default preset encodes items of a modality with."""
    space = next(space for space in load_preset("local").spaces if space.item == modality)
    return load_encoder(space.encoders[modality], "cpu", Limits())


def model_only(encoder: Encoder, inputs: Inputs) -> Callable[[], Any]:
    """The model on prepared inputs; for sound, whose model is part of `prepare`, that too."""
    contents = list(inputs.contents())
    if inputs.modality == "audio":
        return lambda: encode_all(encoder, "audio", prepare_all(encoder, "audio", contents))
    prepared = prepare_all(encoder, inputs.modality, contents)
    return lambda: encode_all(encoder, inputs.modality, prepared)


def bare_calls(encoder: Encoder, inputs: Inputs) -> Callable[[], Any]:
    """Read and prepare everything, then encode everything, each step on all cores."""
    return lambda: encode_all(
        encoder, inputs.modality, prepare_all(encoder, inputs.modality, inputs.values)
    )


def measure(inputs: Inputs, rounds: int) -> tuple[dict[str, Any], list[Target]]:
    """One catalog: the build and all baselines, by turns."""
    count = len(inputs.values)
    say(f"{inputs.name}: {count:,} inputs, {rounds} rounds")
    encoder = default_encoder(inputs.modality)
    with tempfile.TemporaryDirectory(prefix="catalens-bench-") as temporary:
        builds = Builds(inputs, Path(temporary))
        baselines = {
            "model only": model_only(encoder, inputs),
            "bare calls": bare_calls(encoder, inputs),
            **{name: load(inputs.values) for name, load in inputs.library_loops.items()},
        }
        contestants = {"build": builds.run, **{n: timed(run) for n, run in baselines.items()}}
        for call in contestants.values():
            call()
        builds.whole.clear()
        seconds = interleave_whole(contestants, rounds=rounds)
        process = median([builds.run_process() for _ in range(3)])
    rates = {name: median([count / s for s in took]) for name, took in seconds.items()}
    # Each round's ratio is of neighbours in time, which a median of rates is not.
    ratios = {
        name: median([bare / ours for ours, bare in zip(seconds["build"], took, strict=True)])
        for name, took in seconds.items()
        if name != "build"
    }
    figures = {
        "inputs": count,
        "per_second": rates,
        "build_to": ratios,
        "per_second_of_whole_build": rounded(count / median(builds.whole)),
        "per_second_of_new_process": rounded(count / process),
    }
    targets = [
        Target(
            f"{inputs.name}: rate of a build's encoding to {name}",
            f">= {RATIO:g}x",
            f"{ratio:.2f}x ({rates['build']:,.0f}/s against {rates[name]:,.0f}/s)",
            ratio >= RATIO,
        )
        for name, ratio in ratios.items()
        if name != "model only"
    ]
    return figures, targets


def run(options: Options) -> Result:
    """Measure all catalogs."""
    figures, targets = {}, []
    for inputs in all_inputs(options.items):
        figures[inputs.name], judged = measure(inputs, ROUNDS)
        targets += judged
        if inputs.name in AGAINST_TORCH:
            encoder = default_encoder(inputs.modality)
            figures[inputs.name]["to_torch"], judged = eager.compare(encoder, inputs, ROUNDS)
            targets += judged
    settings = {"preset": "local", "rounds": ROUNDS, "threads": cores(), "seed": SEED}
    return Result("encoding", settings, figures, targets)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, write results, draw."""
    return command("encoding", __doc__, run, threads=cores(), arguments=arguments)


if __name__ == "__main__":
    sys.exit(main())
