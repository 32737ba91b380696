"""Every setting of every peer in each round, one at a time, the anchor right before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic

import numpy as np

from ..harness import say
from .contestants import Setting
from .errors import PeerFailedError
from .peer import Peer
from .scoring import Oracle

_BATCH_S, _SINGLE_S = 0.2, 0.4
_ANCHOR_S = 0.1
_STRIDE = 307


@dataclass(frozen=True)
class Turn:
    """One measurement, with the anchor's of the moment before: seconds."""

    batch: float
    batch_cpu: float
    singles: Sequence[float]
    single_recall: float
    anchor_batch: float
    anchor_single: float


@dataclass
class Point:
    """A setting of a peer, and what each round said."""

    peer: Peer
    setting: Setting
    turns: list[Turn] = field(default_factory=list)
    recall: float = 1.0
    """The lowest of any round: an index that answers the same has but one."""
    failure: str | None = None


@dataclass(frozen=True)
class Anchor:
    """What all others are compared with at their own moment."""

    peer: Peer
    setting: Setting


def play(
    peers: Sequence[Peer],
    anchor: Anchor,
    oracle: Oracle,
    *,
    rounds: int,
    tell: Callable[[str], None] = say,
) -> list[Point]:
    """Go round so many times, and once before to warm up; points in the order of peers and grids.

    A setting that fails is asked no more and says why; the rest goes on.

    Raises:
        PeerFailedError: the anchor failed.
    """
    points = [Point(peer, setting) for peer in peers for setting in peer.contestant.grid]
    # Neighbours in the order are settings of different peers.
    places = {id(p): peers.index(p.peer) for p in points}
    ordered = sorted(points, key=lambda p: (p.peer.contestant.grid.index(p.setting), places[id(p)]))
    started, done, wanted = monotonic(), 0, (rounds + 1) * len(points)
    for turn in range(-1, rounds):
        shift = (turn + 1) * len(ordered) // (rounds + 1)
        for place, point in enumerate(ordered[shift:] + ordered[:shift]):
            if place % 10 == 0:
                left = "" if done == 0 else _left((monotonic() - started) / done * (wanted - done))
                name = "warm-up" if turn < 0 else f"round {turn + 1} of {rounds}"
                tell(f"{name}: {place + 1} of {len(points)}, {point.peer.contestant.name}{left}")
            done += 1
            if point.failure is not None:
                continue
            measured = _take_turn(point, anchor, oracle, turn)
            if measured is None:
                tell(f"{point.peer.contestant.name} {point.setting}: {point.failure}")
            elif turn >= 0:
                point.turns.append(measured)
    return points


def _left(seconds: float) -> str:
    return f", about {seconds / 60:.0f} min left" if seconds > 90 else f", {seconds:.0f} s left"


def _take_turn(point: Point, anchor: Anchor, oracle: Oracle, turn: int) -> Turn | None:
    """Measure the anchor, then the point; None, and why in the point, if the point fails."""
    # Single calls start elsewhere in each round: slow peers do not get through all queries in one.
    first = max(turn, 0) * _STRIDE % len(oracle.queries)
    before = anchor.peer.measure(anchor.setting, first=first, batch_s=_ANCHOR_S, single_s=_ANCHOR_S)
    try:
        now = point.peer.measure(point.setting, first=first, batch_s=_BATCH_S, single_s=_SINGLE_S)
    except PeerFailedError as error:
        point.failure = error.got
        return None
    point.recall = min(point.recall, oracle.recall(now["ids"]))
    return Turn(
        batch=float(np.median(now["batch_s"])),
        batch_cpu=now["batch_cpu_s"],
        singles=now["single_s"],
        single_recall=oracle.recall(now["single_ids"], now["single_numbers"]),
        anchor_batch=float(np.median(before["batch_s"])),
        anchor_single=float(np.median(before["single_s"])),
    )
