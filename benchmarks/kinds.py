"""Encoder kinds side by side: dimension, rate, and how well each finds what it should.

python -m benchmarks.kinds          all parts
python -m benchmarks.kinds text     one of them; what is kept of the others stays

Each kind is the only space of an index of its own, built and asked as a user's would be. Kinds that
are fitted are fitted on the catalog that they are judged on: on its texts, pictures or sounds,
never on the queries or on what is relevant to them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from . import kinds_audio, kinds_image, kinds_text
from .harness import Options, Result, Target, command, cores

Part = Callable[[int | None], tuple[dict[str, Any], list[Target]]]


class _Measured(NamedTuple):
    figures: dict[str, Any]
    targets: list[Target]


PARTS: dict[str, Part] = {
    "text": kinds_text.measure,
    "image": kinds_image.measure,
    "audio": kinds_audio.measure,
}
"""Each measures kinds of one modality, on so many items or all, and returns figures and targets."""


def run(options: Options, chosen: Sequence[str] = ()) -> Result:
    """Measure the parts chosen, or all, beside what is kept of the others."""
    kept = options.out / "kinds.json"
    parts: dict[str, Any] = {}
    if chosen and kept.is_file():
        parts = dict(Result.read(kept).figures)
    for name, measure in PARTS.items():
        if not chosen or name in chosen:
            measured = _Measured(*measure(options.items))
            parts[name] = {
                **measured.figures,
                "targets": [asdict(target) for target in measured.targets],
            }
    targets = [Target(**one) for name in PARTS if name in parts for one in parts[name]["targets"]]
    return Result("kinds", {"threads": cores()}, parts, targets)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and write results."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    chosen = [name for name in given if name in PARTS]
    rest = [one for one in given if one not in PARTS]
    return command(
        "kinds", __doc__, lambda options: run(options, chosen), threads=cores(), arguments=rest
    )


if __name__ == "__main__":
    sys.exit(main())
