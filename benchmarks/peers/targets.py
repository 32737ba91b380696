"""What Catalens promises beside its peers, and how it came out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..harness import Target
from .contestants import OURS, OURS_PLAIN
from .summary import fastest, quickest

SCANN, HNSWLIB = "ScaNN", "hnswlib"
SPEED_UPS: Mapping[str, Mapping[float, float]] = {
    SCANN: {0.95: 1.2, 0.975: 1.4, 0.99: 1.2},
    HNSWLIB: {0.95: 1.8, 0.975: 1.8, 0.99: 1.8},
}
BYTES = 0.55
SINGLE_RECALL, SINGLE_TIME = 0.95, 1.3
EXPLAINED_MS = 0.15
"""What metadata and explanation of the hits may add to a single search."""
FOUND = 0.85
"""How fast the setting that was found for a recall must be, beside the best that was tried."""
BUILD_TIMES: Mapping[str, float] = {SCANN: 1.0, HNSWLIB: 0.3}

Contestants = Mapping[str, Mapping[str, Any]]


def judge(contestants: Contestants) -> list[Target]:
    """Every target; one that lacks a side of its comparison is missed and says so."""
    return [
        *(
            _batch(contestants, rival, recall, times)
            for rival, levels in SPEED_UPS.items()
            for recall, times in levels.items()
        ),
        *(_bytes(contestants, rival) for rival in (SCANN, HNSWLIB)),
        *(_found(contestants, recall) for recall in SPEED_UPS[SCANN]),
        _single(contestants, OURS_PLAIN, 0.0),
        _single(contestants, OURS, EXPLAINED_MS),
        *(_build(contestants, rival, times) for rival, times in BUILD_TIMES.items()),
    ]


def _batch(contestants: Contestants, rival: str, recall: float, times: float) -> Target:
    name = f"batch queries per second at recall >= {recall:g}, against {rival}"
    target = f">= {times:g}x"
    sides = ([OURS, OURS_PLAIN], [rival])
    ours, theirs = (fastest(_points(contestants, side), recall) for side in sides)
    if ours is None or theirs is None:
        return _without(name, target, OURS if ours is None else rival, f"reaches {recall:g}")
    ratio = ours["batch_speed_to_anchor"] / theirs["batch_speed_to_anchor"]
    plain = ", explain=False" if ours["setting"].get("explain") is False else ""
    measured = f"{ratio:.2f}x ({_fast(ours)}{plain}; {_fast(theirs)})"
    return Target(name, target, measured, ratio >= times)


def _fast(point: Mapping[str, Any]) -> str:
    return f"{point['batch_per_second_levelled']:,.0f} at {point['recall_at_10']:.3f}"


def _points(contestants: Contestants, names: Sequence[str]) -> list[Mapping[str, Any]]:
    return [point for name in names if name in contestants for point in contestants[name]["points"]]


def _found(contestants: Contestants, recall: float) -> Target:
    """Whether what users get who ask for a recall is near the best of all settings that were
    tried."""
    name = f"batch queries per second of search(recall={recall:g}), against our best at that recall"
    target = f">= {FOUND:g}x, recall >= {recall:g}"
    points = _points(contestants, [OURS_PLAIN])
    found = next((one for one in points if one["setting"].get("recall") == recall), None)
    best = fastest(points, recall)
    if found is None or best is None:
        return _without(name, target, OURS_PLAIN, f"reaches {recall:g}")
    ratio = found["batch_speed_to_anchor"] / best["batch_speed_to_anchor"]
    measured = f"{ratio:.2f}x ({_fast(found)}; {_fast(best)})"
    return Target(name, target, measured, ratio >= FOUND and found["recall_at_10"] >= recall)


def _single(contestants: Contestants, who: str, extra_ms: float) -> Target:
    name = f"{who}: p50 of a single search at recall >= {SINGLE_RECALL:g}, against {SCANN}"
    target = f"<= {SINGLE_TIME:g}x" + (f" + {extra_ms:g} ms" if extra_ms else "")
    ours, theirs = (quickest(_points(contestants, [side]), SINGLE_RECALL) for side in (who, SCANN))
    if ours is None or theirs is None:
        missing = who if ours is None else SCANN
        return _without(name, target, missing, f"reaches {SINGLE_RECALL:g}")
    ratio = ours["single_time_to_anchor"] / theirs["single_time_to_anchor"]
    p50s = [f"{one['single_p50_ms_levelled']:.3f} ms" for one in (ours, theirs)]
    measured = f"{ratio:.2f}x ({', '.join(p50s)})"
    allowed = SINGLE_TIME + extra_ms / theirs["single_p50_ms_levelled"]
    return Target(name, target, measured, ratio <= allowed)


def _bytes(contestants: Contestants, rival: str) -> Target:
    name = f"bytes per vector that a search needs, against {rival}"
    target = f"<= {BYTES:g}x"
    missing = [one for one in (OURS, rival) if one not in contestants]
    if missing:
        return _without(name, target, missing[0], "was measured")
    ours, theirs = (float(contestants[one]["bytes_per_vector"]) for one in (OURS, rival))
    besides = contestants[OURS]["bytes_per_vector_besides"]
    measured = (
        f"{ours / theirs:.2f}x ({ours:,.0f}, {theirs:,.0f}; "
        f"the store of metadata and embeddings, {besides:,.0f}, not counted)"
    )
    return Target(name, target, measured, ours <= BYTES * theirs)


def _build(contestants: Contestants, rival: str, times: float) -> Target:
    name = f"seconds from ready vectors to an index, rows and recall gate included, against {rival}"
    target = f"<= {times:g}x"
    missing = [one for one in (OURS, rival) if one not in contestants]
    if missing:
        return _without(name, target, missing[0], "was measured")
    ours, theirs = (contestants[one] for one in (OURS, rival))
    ratio = ours["build_s_of_index"] / theirs["build_s_of_index"]
    measured = (
        f"{ratio:.2f}x ({ours['build_s_of_index']:.1f} s, {theirs['build_s_of_index']:.1f} s; "
        f"with reading and storing items and metadata, {ours['build_s']:.1f} s)"
    )
    return Target(name, target, measured, ratio <= times)


def _without(name: str, target: str, missing: str, verb: str) -> Target:
    return Target(name, target, f"{missing}: nothing of it {verb}", False)
