"""Two pictures of the result: recall against speed, recall against size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .contestants import OURS, OURS_PLAIN, OURS_SMALL

_OUR_COLOURS = {OURS: "#2456a6", OURS_PLAIN: "#5b8fd9", OURS_SMALL: "#9cc0ef"}
_FRONT = "#d9822b"
_MARKERS = "sDv^<>PXhpd8"
_SHOWN_FROM = 0.8

Point = Mapping[str, Any]


def peers_pictures(figures: Mapping[str, Any]) -> dict[str, Figure]:
    """`peers-speed` and `peers-size`, for `benchmarks.figures`."""
    items = figures["items"]
    return {
        "peers-speed": _picture(
            figures["contestants"],
            lambda one, point: float(point["batch_per_second_levelled"]),
            "unbeaten_in_speed",
            f"{items:,} vectors, one core: recall against speed",
            "queries per second, in a batch (right is better)",
        ),
        "peers-size": _picture(
            figures["contestants"],
            lambda one, point: float(one["bytes_per_vector"]),
            "unbeaten_in_bytes",
            f"{items:,} vectors: recall against size",
            "bytes per vector that a search needs (left is better)",
        ),
    }


def _picture(
    contestants: Mapping[str, Mapping[str, Any]],
    across: Callable[[Mapping[str, Any], Point], float],
    front: str,
    title: str,
    label: str,
) -> Figure:
    figure, axes = plt.subplots(figsize=(9, 4.6))
    colours = plt.get_cmap("tab20").colors  # type: ignore[attr-defined]
    others = [name for name in contestants if name not in _OUR_COLOURS]
    styles = {
        name: (colours[n % len(colours)], _MARKERS[n % len(_MARKERS)])
        for n, name in enumerate(others)
    }
    styles |= {name: (colour, "o") for name, colour in _OUR_COLOURS.items()}
    unbeaten = []
    for name, one in contestants.items():
        points = sorted(one["points"], key=lambda point: float(point["recall_at_10"]))
        _line(axes, name, [(across(one, p), p["recall_at_10"]) for p in points], *styles[name])
        unbeaten += [(across(one, p), p["recall_at_10"]) for p in points if p[front]]
    axes.plot(
        *zip(*unbeaten, strict=True),
        "o",
        markersize=11,
        fillstyle="none",
        color=_FRONT,
        label="beaten by none in both",
        zorder=5,
    )
    axes.set_xscale("log")
    axes.set_ylim(_SHOWN_FROM, 1.005)
    axes.set(title=title, xlabel=label, ylabel="recall@10")
    axes.legend(bbox_to_anchor=(1.02, 1), loc="upper left", fontsize=8)
    figure.tight_layout()
    return figure


def _line(
    axes: Axes, name: str, where: list[tuple[float, float]], colour: Any, marker: str
) -> None:
    ours = name in _OUR_COLOURS
    axes.plot(
        [x for x, _ in where],
        [y for _, y in where],
        marker=marker,
        markersize=6 if ours else 4,
        linewidth=2.4 if ours else 1.2,
        color=colour,
        label=name,
        zorder=4 if ours else 3,
    )
