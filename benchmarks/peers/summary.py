"""What measurements amount to: medians, ratios to the anchor, points that none beats."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..harness import median, rounded
from .rounds import Point


@dataclass(frozen=True)
class Pace:
    """The anchor's medians over the whole run: seconds of a batch and of a single call."""

    batch: float
    single: float

    @classmethod
    def of(cls, points: Sequence[Point]) -> Pace:
        """From what was measured before every turn."""
        turns = [turn for point in points for turn in point.turns]
        return cls(
            float(np.median([turn.anchor_batch for turn in turns])),
            float(np.median([turn.anchor_single for turn in turns])),
        )


def describe(point: Point, queries: int, pace: Pace) -> dict[str, Any]:
    """A point as results keep it.

    `levelled` figures are the median ratio to the anchor times the anchor's median: what the
    peer would have shown with the neighbours that the anchor had on the whole.
    """
    turns = point.turns
    batch_ratios = [turn.anchor_batch / turn.batch for turn in turns]
    single_ratios = [float(np.median(turn.singles)) / turn.anchor_single for turn in turns]
    pooled = np.concatenate([turn.singles for turn in turns])
    # Of all rounds together: a slow peer gets through a part of the queries in each.
    asked = [len(turn.singles) for turn in turns]
    single_recall = float(np.average([turn.single_recall for turn in turns], weights=asked))
    speed, time = statistics.median(batch_ratios), statistics.median(single_ratios)
    return {
        "setting": dict(point.setting),
        "recall_at_10": rounded(point.recall),
        "recall_at_10_of_single_calls": rounded(single_recall),
        "batch_per_second_levelled": rounded(speed * queries / pace.batch),
        "batch_per_second": median([queries / turn.batch for turn in turns]),
        "batch_per_cpu_second": median([queries / turn.batch_cpu for turn in turns]),
        "batch_speed_to_anchor": rounded(speed),
        "batch_speed_to_anchor_of_each_round": [rounded(ratio, 3) for ratio in batch_ratios],
        "single_p50_ms_levelled": rounded(1e3 * time * pace.single),
        "single_p50_ms": rounded(1e3 * float(np.median(pooled))),
        "single_p99_ms": rounded(1e3 * float(np.percentile(pooled, 99))),
        "single_calls": len(pooled),
        "single_time_to_anchor": rounded(time),
        "single_time_to_anchor_of_each_round": [rounded(ratio, 3) for ratio in single_ratios],
    }


def describe_build(built: dict[str, Any], items: int) -> dict[str, Any]:
    """A built index as results keep it."""
    sizes = built["sizes"]
    return {
        "version": built["version"],
        "threads": built["threads"],
        "build_s": rounded(built["seconds"]),
        "build_cpu_s": rounded(built["cpu_seconds"]),
        "build_s_of_index": rounded(built["indexing_seconds"]),
        "tune_s": rounded(built["tuning_seconds"]),
        "memory_before_mb": rounded(built["memory_before"] / 1e6),
        "peak_memory_mb": rounded(built["peak_memory"] / 1e6),
        "bytes_per_vector": rounded((sizes["index"] + sizes["vectors"]) / items),
        "bytes_per_vector_of_index": rounded(sizes["index"] / items),
        "bytes_per_vector_of_vectors": rounded(sizes["vectors"] / items),
        "bytes_per_vector_besides": rounded(sizes["besides"] / items),
        "bytes_measured_in": sizes["where"],
    }


def mark_unbeaten(contestants: dict[str, dict[str, Any]]) -> None:
    """Mark points that no other equals or beats in both recall and speed, or recall and bytes."""
    points = [
        (point, one["bytes_per_vector"]) for one in contestants.values() for point in one["points"]
    ]
    recalls = [point["recall_at_10"] for point, _ in points]
    fast = unbeaten(recalls, [point["batch_speed_to_anchor"] for point, _ in points])
    small = unbeaten(recalls, [-size for _, size in points])
    for (point, _), is_fast, is_small in zip(points, fast, small, strict=True):
        point["unbeaten_in_speed"], point["unbeaten_in_bytes"] = is_fast, is_small


def unbeaten(first: Sequence[float], second: Sequence[float]) -> list[bool]:
    """The Pareto front, more of either being better; of equal points all are on it or none."""
    pairs = list(zip(first, second, strict=True))
    return [not any(a >= x and b >= y and (a, b) != (x, y) for a, b in pairs) for x, y in pairs]


def fastest(points: Sequence[Mapping[str, Any]], recall: float) -> Mapping[str, Any] | None:
    """The point with the fastest batch at this recall or better."""
    good = [point for point in points if point["recall_at_10"] >= recall]
    return max(good, key=lambda point: float(point["batch_speed_to_anchor"]), default=None)


def quickest(points: Sequence[Mapping[str, Any]], recall: float) -> Mapping[str, Any] | None:
    """The point with the quickest single call at this recall or better."""
    good = [
        point
        for point in points
        if min(point["recall_at_10"], point["recall_at_10_of_single_calls"]) >= recall
    ]
    return min(good, key=lambda point: float(point["single_time_to_anchor"]), default=None)
