"""What is kept of a training for people: JSON of every trial, and the learning curve drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

METRICS = "metrics.json"
CURVES = "curves.png"
_BLUE, _ORANGE, _GREY = "#2456a6", "#d9822b", "#9aa0a6"


def write_run(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Write both files into a new folder; of a private training no curve is kept."""
    folder.mkdir(parents=True)
    options = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
    (folder / METRICS).write_bytes(orjson.dumps(metrics, option=options))
    if "curves" in metrics:
        draw(folder / CURVES, metrics["curves"], metrics["cross_validation"]["fused"])


def draw(path: Path, curves: Mapping[str, Sequence[float]], fused: float) -> None:
    """Loss and NDCG@10 of each epoch, and the NDCG@10 of the fused score."""
    # The figure alone, without pyplot: a library must not choose the caller's backend.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    ndcg = figure.subplots()
    ndcg.plot(curves["ndcg"], color=_BLUE, label="NDCG@10, queries not learned from")
    ndcg.axhline(fused, color=_GREY, linestyle="--", label="NDCG@10, fused score")
    ndcg.set_xlabel("epoch")
    ndcg.set_ylabel("NDCG@10")
    loss = ndcg.twinx()
    epochs = range(1, len(curves["loss"]) + 1)
    loss.plot(epochs, curves["loss"], color=_ORANGE, label="loss, queries learned from")
    loss.set_ylabel("loss")
    lines = [*ndcg.get_lines(), *loss.get_lines()]
    ndcg.legend(lines, [str(line.get_label()) for line in lines], loc="center right", fontsize=8)
    figure.savefig(path, dpi=120, metadata={"Software": None})
