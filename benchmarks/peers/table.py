"""The contestants as one markdown table: each at the recalls that matter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .summary import fastest, quickest

RECALLS = (0.95, 0.975, 0.99)
_HEADS = ("p50 of one at 0.95, ms", "bytes per vector", "vectors to index, s", "peak MB")


def markdown(figures: Mapping[str, Any]) -> str:
    """A row for each contestant, the fastest at 0.95 first; a dash where it has not the recall."""
    contestants = figures["contestants"]
    heads = [f"q/s at {recall:g}" for recall in RECALLS]
    lines = [
        f"| | {' | '.join([*heads, *_HEADS])} |",
        "|---|" + "---:|" * (len(heads) + len(_HEADS)),
    ]
    for name in sorted(contestants, key=lambda name: -_speed(contestants[name])):
        lines.append(_row(name, contestants[name]))
    lines.append("")
    lines += [f"Not measured: {name}, {why}." for name, why in figures["not_run"].items()]
    lines.append("**Bold**: no other setting of anyone has as much recall and more speed.")
    return "\n".join(lines)


def _speed(one: Mapping[str, Any]) -> float:
    best = fastest(one["points"], RECALLS[0])
    return best["batch_speed_to_anchor"] if best else 0.0


def _row(name: str, one: Mapping[str, Any]) -> str:
    cells = [name]
    for recall in RECALLS:
        best = fastest(one["points"], recall)
        mark = "**" if best and best["unbeaten_in_speed"] else ""
        cells.append(f"{mark}{best['batch_per_second_levelled']:,.0f}{mark}" if best else "-")
    single = quickest(one["points"], RECALLS[0])
    cells.append(f"{single['single_p50_ms_levelled']:.2f}" if single else "-")
    cells.append(f"{one['bytes_per_vector']:,.0f}")
    cells.append(f"{one['build_s_of_index']:,.0f}")
    cells.append(f"{one['peak_memory_mb']:,.0f}")
    return f"| {' | '.join(cells)} |"
