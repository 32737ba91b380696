"""Results as one markdown table, ready for the README."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .harness import Result

BENCHMARKS = (
    "recall",
    "filters",
    "overhead",
    "encoding",
    "opening",
    "fusion",
    "head",
    "movielens",
    "kinds",
    "scale",
    "writing",
)
"""In the order they run and are shown."""


def load_results(folder: Path) -> list[Result]:
    """The results that are there, in order."""
    paths = (folder / f"{name}.json" for name in BENCHMARKS)
    return [Result.read(path) for path in paths if path.is_file()]


def markdown(results: Iterable[Result]) -> str:
    """What was promised and what was measured, a row for each target, and where."""
    lines = ["| benchmark | what | target | measured | met |", "|---|---|---|---|---|"]
    places: dict[str, list[str]] = {}
    for result in results:
        for target in result.targets:
            cells = (result.benchmark, target.name, target.target, target.measured)
            lines.append(
                f"| {' | '.join(map(_cell, cells))} | {'yes' if target.met else '**no**'} |"
            )
        places.setdefault(_place(result), []).append(result.benchmark)
    lines.append("")
    lines += [f"{', '.join(names)}: {place}." for place, names in places.items()]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _place(result: Result) -> str:
    machine = result.machine
    libraries = machine["libraries"]
    faiss = libraries.get("faiss-gpu") or libraries.get("faiss-cpu")
    return (
        f"measured {result.date[:10]} on {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['ram_gib']} GiB, Python {machine['python']}, FAISS {faiss}"
    )
