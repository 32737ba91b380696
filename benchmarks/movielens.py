"""Films to users by what they rated: MovieLens-100k, one split, everybody in one run.

All learn from the same histories and are asked for the same held-out likes (see
`movielens_data`); NDCG@10 is ir-measures'. Catalens has an ordinary catalog of title and genres,
built by the preset `local`, and learns behaviour from the histories as interactions.

A second part holds 20 % of the films out of training entirely and ranks these alone, by the mean of
three draws.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ir_measures
import numpy as np
from ir_measures import nDCG
from numpy.typing import NDArray

from catalens import (
    HeadOptions,
    Retriever,
    build_index,
    learn_behaviour,
    learn_head_from_interactions,
)

from .corpus import bars
from .datasets import cache_folder, movielens
from .harness import Options, Result, Target, command, cores, rounded, say
from .movielens_baselines import APART, OURS_TO_RUN, Scores, Training, run_apart
from .movielens_data import Case, Rating, as_rows, read_catalog, read_ratings, split
from .peers.errors import PeerFailedError

Doubles = NDArray[np.float64]

K = 10
COLD_PART = 0.2
COLD_DRAWS = 3
LEARNED: Mapping[str, Any] = {"neutral": 2.0, "liked": 4.0}
"""What ratings mean: 2 says nothing, 4 and 5 are likes, 1 is a dislike."""
CONTENT, BEHAVIOUR, FUSED = "content alone", "behaviour alone", "fused"
HEADED = "fused + head"
HEAD_FACTOR = 1.15
HEAD_OPTIONS = HeadOptions(model="mlp", loss="listwise", trials=1, depth=150, force=True)
WEIGHTS: Mapping[str, dict[str, float] | None] = {
    CONTENT: {"behaviour": 0.0},
    BEHAVIOUR: {"minilm": 0.0},
    FUSED: None,
}
"""The weights that our own contestants ask with; None for those that were learned."""
GENRES = "popularity by genre"


def ndcg(cases: Sequence[Case], ranked: Sequence[Sequence[str]]) -> Doubles:
    """NDCG@10 of each user's ranking of item ids, float64 (m,)."""
    qrels = {case.user: dict.fromkeys(case.relevant, 1) for case in cases}
    run = {
        case.user: {item: float(K - place) for place, item in enumerate(items[:K])}
        for case, items in zip(cases, ranked, strict=True)
    }
    found = {one.query_id: one.value for one in ir_measures.iter_calc([nDCG @ K], qrels, run)}
    return np.array([found.get(case.user, 0.0) for case in cases])


def ranked_by(
    scores: Doubles,
    cases: Sequence[Case],
    ids: Sequence[str],
    candidates: NDArray[np.bool_] | None = None,
) -> list[list[str]]:
    """The ten best items outside of each user's history, by scores (users, items); of equal ones
    the first."""
    places = {item: place for place, item in enumerate(ids)}
    found = []
    for row, case in zip(scores.astype(np.float64), cases, strict=True):
        row = row.copy()
        row[[places[item] for item, _, _ in case.history]] = -np.inf
        if candidates is not None:
            row[~candidates] = -np.inf
        order = np.argsort(-row, kind="stable")[:K]
        found.append([ids[place] for place in order.tolist() if row[place] > -np.inf])
    return found


def features_of(films: Sequence[Mapping[str, Any]]) -> Doubles:
    """Genres and decades as 0/1, (items, features): what LightFM is told of films."""
    told = [
        {*film["genres"].split(", "), f"{film['year'] // 10 * 10}s" if "year" in film else "?"}
        for film in films
    ]
    names = sorted(set().union(*told))
    return np.array([[float(name in one) for name in names] for one in told])


def genre_popularity(training: Training, genres: Doubles) -> Scores:
    """How many liked a film of its genres, on average over these."""
    likes = training.positive.sum(axis=0)
    touched = likes > 0
    of_genre = (genres[touched].T @ likes[touched]) / np.maximum(genres[touched].sum(axis=0), 1)
    scores = genres @ of_genre / np.maximum(genres.sum(axis=1), 1)
    yield "", np.tile(scores, (len(training.positive), 1))


def catalog_index(films: Sequence[Mapping[str, Any]]) -> Path:
    """The films as an index, built where it is not there yet."""
    out = cache_folder() / "movielens.idx"
    with bars() as shown:
        build_index(list(films), out, text=["title", "genres"], device="cpu", progress=shown)
    return out


def learned_index(base: Path, name: str, cases: Sequence[Case]) -> Path:
    """A copy of an index that has learned from the histories of cases."""
    out = base.with_name(name)
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(base, out, ignore=shutil.ignore_patterns("lock.mdb"))
    summary = learn_behaviour(out, as_rows(cases), **LEARNED)
    say(f"  learned in {summary.seconds:.1f} s: {summary.chosen}, explained {summary.explained}")
    return out


def recommended(
    index: Path, histories: Sequence[Sequence[Rating]], k: int, **wish: Any
) -> list[list[str]]:
    """The ids that an index recommends for each history."""
    with Retriever.open(index, device="cpu") as retriever:
        found = retriever.recommend_many(histories, k, explain=False, **wish)
    return [[hit.id for hit in hits] for hits in found]


def run_all(
    contestants: Mapping[str, Iterable[tuple[str, Doubles]]],
    cases: Sequence[Case],
    ids: Sequence[str],
    candidates: NDArray[np.bool_] | None = None,
    judged: NDArray[np.bool_] | None = None,
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """The best setting of each contestant, with the NDCG@10 of each user that is judged; and why
    others did not run."""
    rows: dict[str, dict[str, Any]] = {}
    not_run: dict[str, str] = {}
    for name, tried in contestants.items():
        try:
            for setting, scores in tried:
                each = ndcg(cases, ranked_by(scores, cases, ids, candidates))
                each = each if judged is None else each[judged]
                if name not in rows or each.mean() > rows[name]["each"].mean():
                    rows[name] = {"setting": setting, "each": each}
        except PeerFailedError as error:
            not_run[name] = error.got
            say(f"  {name} did not run: {error.got}")
            continue
        say(f"  {name}: {rows[name]['each'].mean():.4f} ({rows[name]['setting']})")
    return rows, not_run


def warm(
    films: Sequence[Mapping[str, Any]], cases: Sequence[Case], base: Path
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Everybody on all films."""
    ids = [str(film["id"]) for film in films]
    places = {item: place for place, item in enumerate(ids)}
    training = Training.of(cases, places, features_of(films))
    contestants: dict[str, Iterable[tuple[str, Doubles]]] = {
        name: run(training) for name, run in OURS_TO_RUN.items()
    }
    contestants |= {one.name: run_apart(one, training) for one in APART}
    rows, not_run = run_all(contestants, cases, ids)
    histories = [case.history for case in cases]
    index = learned_index(base, "movielens-learned.idx", cases)
    for name, weights in WEIGHTS.items():
        each = ndcg(cases, recommended(index, histories, K, weights=weights))
        rows[name] = {"setting": "chosen on histories alone", "each": each}
        say(f"  {name}: {each.mean():.4f}")
    rows[HEADED] = with_head(index, cases)
    say(f"  {HEADED}: {rows[HEADED]['each'].mean():.4f}")
    return rows, not_run


def with_head(index: Path, cases: Sequence[Case]) -> dict[str, Any]:
    """What the index recommends once it has learned to re-rank, from histories alone as well: of
    these it asks for what users liked last in them."""
    summary = learn_head_from_interactions(
        index, as_rows(cases), options=HEAD_OPTIONS, device="cpu"
    )
    say(f"  head: {summary.fused:.4f} to {summary.learned:.4f} on users that it held out itself")
    each = ndcg(cases, recommended(index, [case.history for case in cases], K))
    return {"setting": f"chosen on histories alone: {summary.settings.told()}", "each": each}


def cold(
    films: Sequence[Mapping[str, Any]], cases: Sequence[Case], base: Path
) -> dict[str, dict[str, Any]]:
    """Everybody on films that nobody in training has touched; means over the draws."""
    found: dict[str, list[float]] = {}
    users = []
    for draw in range(COLD_DRAWS):
        say(f"  draw {draw + 1} of {COLD_DRAWS}")
        scores, count = _cold_scores(films, cases, draw, base)
        users.append(count)
        for name, value in scores.items():
            found.setdefault(name, []).append(value)
    return {
        name: {"ndcg_at_10": rounded(float(np.mean(values))), "draws": values, "users": users}
        for name, values in found.items()
    }


def _cold_scores(
    films: Sequence[Mapping[str, Any]], cases: Sequence[Case], draw: int, base: Path
) -> tuple[dict[str, float], int]:
    """NDCG@10 of everybody on one draw, and of how many users: those who liked one of the films
    that are held out after their cut. What anybody did to these films is known to nobody."""
    ids = [str(film["id"]) for film in films]
    chosen = np.random.default_rng(draw).permutation(len(ids))[: int(len(ids) * COLD_PART)]
    held = {ids[place] for place in chosen.tolist()}
    asked = [replace(c, relevant=tuple(i for i in c.relevant if i in held)) for c in cases]
    judged = np.array([bool(case.relevant) for case in asked])
    known = [replace(c, history=tuple(r for r in c.history if r[0] not in held)) for c in asked]
    places = {item: place for place, item in enumerate(ids)}
    training = Training.of(known, places, features_of(films))
    names = sorted({genre for film in films for genre in film["genres"].split(", ")})
    genres = np.array([[float(g in f["genres"].split(", ")) for g in names] for f in films])
    contestants: dict[str, Iterable[tuple[str, Doubles]]] = {
        GENRES: genre_popularity(training, genres),
        "LightFM": run_apart(APART[0], training),
    }
    rows, _ = run_all(contestants, asked, ids, np.array([i in held for i in ids]), judged)
    scores = {name: float(row["each"].mean()) for name, row in rows.items()}
    index = learned_index(base, "movielens-cold.idx", known)
    for name, weights in WEIGHTS.items():
        lists = recommended(index, [c.history for c in known], len(films), weights=weights)
        wanted = [
            [item for item in items if item in held - {r[0] for r in case.history}]
            for items, case in zip(lists, asked, strict=True)
        ]
        scores[name] = float(ndcg(asked, wanted)[judged].mean())
        say(f"  {name}: {scores[name]:.4f}")
    return scores, int(judged.sum())


def targets_of(rows: Mapping[str, float], cold_rows: Mapping[str, float]) -> list[Target]:
    """What was promised, and what came of it."""
    als, ours = rows["implicit ALS"], rows[FUSED]
    others = {n: value for n, value in cold_rows.items() if n not in (FUSED, BEHAVIOUR)}
    best = max(others, key=lambda name: others[name])
    peers = {n: value for n, value in rows.items() if n not in (*WEIGHTS, HEADED)}
    rival = max(peers, key=lambda name: peers[name])
    headed, wanted = rows[HEADED], HEAD_FACTOR * peers[rival]
    return [
        Target("fused, NDCG@10", f">= implicit ALS ({als:.3f})", f"{ours:.3f}", ours >= als),
        Target(
            "fused + head, NDCG@10",
            f">= {HEAD_FACTOR} x {rival} ({peers[rival]:.3f}), {wanted:.3f}",
            f"{headed:.3f}",
            headed >= wanted,
        ),
        Target(
            "fused on films that nobody touched, NDCG@10",
            f"> {best} ({others[best]:.3f})",
            f"{cold_rows[FUSED]:.3f}",
            cold_rows[FUSED] > others[best],
        ),
    ]


def measure(options: Options) -> Result:
    """Measure all; `--items` takes so many users."""
    folder = movielens()
    films, cases = read_catalog(folder), split(read_ratings(folder))
    if options.items is not None:
        cases = cases[: options.items]
    say("index of the films")
    base = catalog_index(films)
    say(f"all films, {len(cases)} users")
    rows, not_run = warm(films, cases, base)
    say("films that nobody touched")
    cold_rows = cold(films, cases, base)
    figures = {
        "users": len(cases),
        "ndcg_at_10": {
            name: {
                "mean": rounded(float(row["each"].mean())),
                "standard_error": rounded(float(row["each"].std() / len(cases) ** 0.5), 2),
                "setting": row["setting"],
            }
            for name, row in rows.items()
        },
        "not_run": not_run,
        "cold": cold_rows,
    }
    means = {name: float(row["each"].mean()) for name, row in rows.items()}
    settings = {"dataset": "MovieLens-100k", "k": K, "cold_draws": COLD_DRAWS, **LEARNED}
    return Result(
        "movielens",
        settings,
        figures,
        targets_of(means, {name: row["ndcg_at_10"] for name, row in cold_rows.items()}),
    )


if __name__ == "__main__":
    sys.exit(command("movielens", __doc__, measure, threads=cores()))
