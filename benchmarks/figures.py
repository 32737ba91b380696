"""Pictures of results, drawn from their JSON alone: `python -m benchmarks figures`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib

from .harness import Result
from .peers.pictures import peers_pictures

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

OURS, RIVAL, ACCENTS = "#2456a6", "#9aa0a6", ("#2456a6", "#5b8fd9", "#a9c6ee", "#d9822b", "#9aa0a6")
_STYLE: Any = {
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e6e9",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "legend.frameon": False,
}


def draw(result: Result, folder: Path) -> list[Path]:
    """Draw a result's pictures into `folder`, where it has any; return their paths."""
    drawn: list[Path] = []
    if result.benchmark not in _DRAWERS:
        return drawn
    with plt.rc_context(_STYLE):
        for name, figure in _DRAWERS[result.benchmark](result.figures).items():
            path = folder / f"{name}.png"
            # Without the library's version in it, the same figures give the same file.
            figure.savefig(path, dpi=150, bbox_inches="tight", metadata={"Software": None})
            plt.close(figure)
            drawn.append(path)
    return drawn


def _recall(figures: Mapping[str, Any]) -> dict[str, Figure]:
    return {"recall": _curves(figures), "latency": _latencies(figures)}


def _curves(figures: Mapping[str, Any]) -> Figure:
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True)
    for axes, name in zip(panels, ("text", "vector"), strict=True):
        one = figures[name]
        curve = one["curve"]
        axes.plot(
            [point["p50_ms"] for point in curve],
            [point["recall_at_10"] for point in curve],
            "o-",
            color=OURS,
            markersize=4,
            label="Catalens, more lists scanned",
        )
        for point in curve:
            if point["nprobe"] == one["nprobe"]:
                where = (point["p50_ms"], point["recall_at_10"])
                axes.plot(*where, "o", color="#d9822b", markersize=9, label="chosen by the build")
        axes.plot(one["exact"]["p50_ms"], 1.0, "s", color=RIVAL, label="exact search (IndexFlatIP)")
        axes.axhline(0.95, color="#c0392b", linewidth=1, linestyle="--", label="target: 0.95")
        axes.set_xscale("log")
        axes.set(title=f"{name} index, {one['items']:,} items", xlabel="p50 of a query, ms")
    panels[0].set_ylabel("recall@10")
    panels[1].legend(loc="lower right", fontsize=8)
    figure.tight_layout()
    return figure


def _latencies(figures: Mapping[str, Any]) -> Figure:
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.0), sharey=True)
    for axes, name in zip(panels, ("text", "vector"), strict=True):
        _cumulative(axes, "Catalens", figures[name]["catalens"], OURS)
        _cumulative(axes, "exact search", figures[name]["exact"], RIVAL)
        axes.set_xscale("log")
        axes.set(title=f"{name} index", xlabel="latency of a query, ms")
        axes.legend(loc="center", fontsize=8)
    panels[0].set_ylabel("queries answered by then, %")
    figure.tight_layout()
    return figure


def _cumulative(axes: Axes, label: str, summary: Mapping[str, Any], colour: str) -> None:
    shares = [int(q) for q in summary["percentiles_ms"]]
    axes.plot(list(summary["percentiles_ms"].values()), shares, color=colour, label=label)


def _filters(figures: Mapping[str, Any]) -> dict[str, Figure]:
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.4))
    colours = (OURS, *ACCENTS[3:])
    told = {"ratio": "p50 with a filter to p50 without", "recall_at_10": "recall@10"}
    for axes, (name, label), bound in zip(panels, told.items(), (3.0, 0.95), strict=True):
        for (kind, shares), colour in zip(figures["kinds"].items(), colours, strict=True):
            axes.plot(
                [100 * float(share) for share in shares],
                [one[name] for one in shares.values()],
                "o-",
                color=colour,
                markersize=4,
                label=kind,
            )
        axes.axhline(bound, color="#c0392b", linewidth=1, linestyle="--", label=f"target: {bound}")
        axes.set_xscale("log")
        axes.set(title=label, xlabel="items that the filter lets pass, %")
    panels[0].set_ylim(bottom=0)
    panels[1].legend(loc="center left", fontsize=8)
    figure.tight_layout()
    return {"filters": figure}


def _overhead(figures: Mapping[str, Any]) -> dict[str, Figure]:
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.0))
    _cumulative(left, "Retriever.search, hits with metadata", figures["catalens"], OURS)
    _cumulative(left, "the bare FAISS call in it", figures["bare FAISS"], RIVAL)
    left.set(xlabel="latency of a query, ms", ylabel="queries answered by then, %", xlim=(0, None))
    left.set_title("Whole search against its FAISS call")
    left.legend(loc="lower right", fontsize=8)
    steps = figures["step_p50_ms"]
    bars = right.barh(list(steps), list(steps.values()), color=OURS)
    right.bar_label(bars, fmt="%.3f", padding=3, fontsize=8)
    right.invert_yaxis()
    right.set(title="Steps of a search", xlabel="p50, ms")
    right.margins(x=0.15)
    right.tick_params(axis="y", labelsize=8)
    figure.tight_layout()
    return {"overhead": figure}


def _encoding(figures: Mapping[str, Any]) -> dict[str, Figure]:
    figure, panels = plt.subplots(2, 2, figsize=(9, 4.6))
    for axes, (name, one) in zip(panels.flat, figures.items(), strict=True):
        rates = one["per_second"]
        colours = [OURS if rival == "build" else RIVAL for rival in rates]
        bars = axes.barh(list(rates), list(rates.values()), color=colours)
        axes.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=8)
        axes.invert_yaxis()
        axes.margins(x=0.18)
        axes.set(title=f"{name}, inputs per second")
        axes.tick_params(axis="y", labelsize=8)
    figure.tight_layout()
    return {"encoding": figure}


def _opening(figures: Mapping[str, Any]) -> dict[str, Figure]:
    figure, axes = plt.subplots(figsize=(7.5, 1.9))
    kinds = ("cached", "not cached")
    left = [0.0, 0.0]
    for phase, colour in zip(("interpreter", "import", "open", "query"), ACCENTS, strict=False):
        widths = [figures[kind][f"{phase}_s"] for kind in kinds]
        axes.barh([f"index {kind}" for kind in kinds], widths, left=left, color=colour, label=phase)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.axvline(1.0, color="#c0392b", linewidth=1, linestyle="--", label="target: 1 s")
    axes.invert_yaxis()
    axes.set(
        title=f"Process start to first answer, {figures['items']:,} items, median", xlabel="seconds"
    )
    axes.legend(ncols=5, loc="upper center", bbox_to_anchor=(0.5, -0.35), fontsize=8)
    return {"opening": figure}


def _fusion(figures: Mapping[str, Any]) -> dict[str, Figure]:
    figure, axes = plt.subplots(figsize=(7.5, 3.6))
    for name, qualities in figures["ndcg_at_10"].items():
        shares = [100 * float(share) for share in qualities]
        alone = "alone" in name
        axes.plot(
            shares,
            list(qualities.values()),
            "--" if alone else "o-",
            color=RIVAL if alone else None,
            markersize=4,
            label=name,
        )
    axes.set(
        title="Title to its items, held out",
        xlabel="items lacking picture or text, %",
        ylabel="NDCG@10",
    )
    axes.legend(bbox_to_anchor=(1.02, 1), loc="upper left", fontsize=8)
    figure.tight_layout()
    return {"fusion": figure}


def _scale(figures: Mapping[str, Any]) -> dict[str, Figure]:
    figure, panels = plt.subplots(1, 3, figsize=(10, 3))
    sizes = figures["sizes"]
    numbers = [int(n) for n in sizes]
    for axes, (title, values) in zip(
        panels,
        {
            f"p50 of a query, ms (n to the {figures['exponent']:.2f})": [
                one["p50_ms"] for one in sizes.values()
            ],
            "Build, seconds": [one["build"]["seconds"] for one in sizes.values()],
            "Peak memory of a build, MB": [
                one["build"]["peak_anonymous_bytes"] / 1e6 for one in sizes.values()
            ],
        }.items(),
        strict=True,
    ):
        axes.loglog(numbers, values, "o-", color=OURS)
        axes.set(title=title, xlabel="vectors")
        shown = values[::2]  # all would stand upon each other
        axes.set_yticks(shown, [f"{value:.3g}" for value in shown])
        axes.minorticks_off()
    figure.tight_layout()
    return {"scale": figure}


def _writing(figures: Mapping[str, Any]) -> dict[str, Figure]:
    figure, axes = plt.subplots(figsize=(5, 3))
    for (name, shares), marker in zip(figures["search"].items(), "os", strict=True):
        percent = [100 * float(share) for share in shares]
        axes.plot(percent, [one["ratio"] for one in shares.values()], f"{marker}-", label=name)
    axes.axhline(1.5, color=RIVAL, linestyle=":")
    axes.set(title="p50 of a search, to that without", xlabel="rows not compacted, %", ylim=0.9)
    axes.legend()
    figure.tight_layout()
    return {"writing": figure}


def _movielens(figures: Mapping[str, Any]) -> dict[str, Figure]:
    figure, axes = plt.subplots(figsize=(7.5, 3.2))
    rows = figures["ndcg_at_10"]
    ours = ("content alone", "behaviour alone", "fused")
    bars = axes.barh(
        [f"Catalens, {name}" if name in ours else name for name in rows],
        [row["mean"] for row in rows.values()],
        color=[OURS if name in ours else RIVAL for name in rows],
    )
    axes.bar_label(bars, fmt="%.3f", padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.set(title="Films to users, NDCG@10", xlim=(0, 0.25))
    axes.tick_params(axis="y", labelsize=8)
    figure.tight_layout()
    return {"movielens": figure}


_DRAWERS: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Figure]]] = {
    "recall": _recall,
    "filters": _filters,
    "overhead": _overhead,
    "encoding": _encoding,
    "opening": _opening,
    "fusion": _fusion,
    "kinds": lambda figures: {},  # tables say it
    "movielens": _movielens,
    "scale": _scale,
    "peers": peers_pictures,
    "writing": _writing,
    "gpu": lambda figures: {},  # a handful of numbers
    "head": lambda figures: {},
}
