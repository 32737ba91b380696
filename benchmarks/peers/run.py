"""The whole benchmark: install, build one after the other, go round, sum up."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..harness import Options, Result, say
from .contestants import ANCHOR, ANCHOR_SETTING, CONTESTANTS, Contestant
from .data import QUERIES, ROWS, VECTORS, write_given, write_wordnet
from .environments import interpreter
from .errors import PeerFailedError
from .peer import Peer, Work
from .rounds import Anchor, Point, play
from .scoring import Oracle
from .summary import Pace, describe, describe_build, mark_unbeaten
from .targets import judge

K = 10
ROUNDS = 5


@dataclass(frozen=True)
class Choice:
    """What this benchmark's own options give."""

    vectors: Path | None = None
    only: Sequence[str] = ()
    rounds: int = ROUNDS


def measure(options: Options, choice: Choice) -> Result:
    """Measure all contestants, or those that were chosen.

    Raises:
        PeerFailedError: not one of them could be built.
    """
    with tempfile.TemporaryDirectory(prefix="catalens-peers-") as folder:
        work = _prepare(Path(folder), options.items, choice.vectors)
        say("exact answers in float64")
        vectors, queries = np.load(work.vectors, mmap_mode="r"), np.load(work.queries)
        oracle = Oracle.of(vectors, queries, K)
        with ExitStack() as stack:
            chosen = [one for one in CONTESTANTS if not choice.only or one.name in choice.only]
            peers, built, not_run = build_all(chosen, work, stack)
            anchor = _anchor(peers)
            points = play(peers, anchor, oracle, rounds=choice.rounds)
        contestants = sum_up(points, built, oracle)
    figures = {
        "items": len(vectors),
        "dimension": vectors.shape[1],
        "anchor": {"name": anchor.peer.contestant.name, "setting": dict(anchor.setting)},
        "contestants": contestants,
        "not_run": not_run,
    }
    settings = {
        "dataset": str(choice.vectors) if choice.vectors else "wordnet glosses",
        "queries": len(queries),
        "k": K,
        "rounds": choice.rounds,
        "threads": 1,
        "cores": 1,
    }
    return Result("peers", settings, figures, judge(contestants))


def _prepare(folder: Path, items: int | None, given: Path | None) -> Work:
    if given is None:
        write_wordnet(folder, items)
    else:
        write_given(given, folder, items)
    rows = folder / ROWS
    return Work(folder, folder / VECTORS, folder / QUERIES, rows if rows.is_file() else None, K)


def build_all(
    chosen: Sequence[Contestant], work: Work, stack: ExitStack
) -> tuple[list[Peer], dict[str, dict[str, Any]], dict[str, str]]:
    """Peers that were built, what each says of its build, and why others were not.

    Their processes end with the stack.
    """
    pythons: dict[str, Path] = {}
    not_run: dict[str, str] = {}
    for contestant in chosen:
        try:
            pythons[contestant.name] = interpreter(contestant)
        except PeerFailedError as error:
            not_run[contestant.name] = f"not installed: {error.got}"
            say(f"{contestant.name} {not_run[contestant.name]}")
    peers, built = [], {}
    for number, contestant in enumerate(chosen):
        if contestant.name not in pythons:
            continue
        say(f"building {number + 1} of {len(chosen)}: {contestant.name}")
        peer = Peer(contestant, pythons[contestant.name], work)
        stack.callback(peer.close)
        try:
            built[contestant.name] = peer.build()
        except PeerFailedError as error:
            not_run[contestant.name] = f"not built: {error.got}"
            say(f"{contestant.name} {not_run[contestant.name]}")
            continue
        say(f"  in {built[contestant.name]['seconds']:.1f} s")
        peers.append(peer)
    if not peers:
        raise PeerFailedError(
            "the peers",
            expected="one that can be built",
            got="; ".join(f"{name} {why}" for name, why in not_run.items()) or "none chosen",
            remedy="Look at the reasons above.",
        )
    return peers, built, not_run


def _anchor(peers: Sequence[Peer]) -> Anchor:
    """ScaNN where it runs, or else the last that does."""
    for peer in peers:
        if peer.contestant.name == ANCHOR:
            return Anchor(peer, ANCHOR_SETTING)
    return Anchor(peers[-1], peers[-1].contestant.grid[-1])


def sum_up(
    points: Sequence[Point], built: Mapping[str, dict[str, Any]], oracle: Oracle
) -> dict[str, dict[str, Any]]:
    """Every contestant's build, points and settings that failed."""
    contestants: dict[str, dict[str, Any]] = {}
    pace = Pace.of(points)
    for name, facts in built.items():
        own = [point for point in points if point.peer.contestant.name == name]
        contestants[name] = {
            "built_with": dict(own[0].peer.contestant.build),
            **describe_build(facts, len(oracle.vectors)),
            "points": [
                describe(point, len(oracle.queries), pace) for point in own if point.failure is None
            ],
            "failed": [
                {"setting": dict(point.setting), "reason": point.failure}
                for point in own
                if point.failure is not None
            ],
        }
    mark_unbeaten(contestants)
    return contestants
