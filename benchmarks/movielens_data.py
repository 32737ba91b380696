"""MovieLens-100k as a catalog and interactions, and the one split that all are judged by.

A positive is a rating of 4 or more. Of each user with 5 or more, the last 20 % by time (rounded
down, at least one) are held out; the cut is the time of the first of these. The history is
everything that the user rated before the cut, candidates are all items outside of it, and nothing
that the user did from the cut on is used.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

POSITIVE = 4.0
LEAST_POSITIVE = 5
PART_HELD_OUT = 0.2

Rating = tuple[str, float, float]
"""Item, value and time."""


@dataclass(frozen=True)
class Case:
    """A user's history, oldest first, and the items that the user liked after it."""

    user: str
    history: tuple[Rating, ...]
    relevant: tuple[str, ...]


def convert_movielens(unpacked: Path, dump: Path) -> dict[str, int]:
    """Films with title (and year in it, as MovieLens has them), genres and year; ratings."""
    folder = unpacked / "recbole" / "dataset_example" / "ml-100k"
    films = list(_table(folder / "ml-100k.item"))
    with (dump / "catalog.jsonl").open("w", encoding="utf-8") as stream:
        for film in films:
            year = film["release_year"]
            row: dict[str, object] = {"id": film["item_id"]}
            row["title"] = f"{film['movie_title']} ({year})" if year else film["movie_title"]
            row["genres"] = film["class"].replace(" ", ", ")
            if year.isdigit():
                row["year"] = int(year)
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
    ratings = 0
    with (dump / "interactions.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["user", "item", "value", "time"])
        for rating in _table(folder / "ml-100k.inter"):
            writer.writerow(rating[name] for name in ("user_id", "item_id", "rating", "timestamp"))
            ratings += 1
    return {"items": len(films), "ratings": ratings}


def _table(path: Path) -> Iterable[dict[str, str]]:
    """Rows of a table of RecBole's, whose heads are NAME:TYPE."""
    with path.open(encoding="utf-8") as stream:
        names = [head.partition(":")[0] for head in next(stream).rstrip("\n").split("\t")]
        for line in stream:
            yield dict(zip(names, line.rstrip("\n").split("\t"), strict=True))


def read_catalog(folder: Path) -> list[dict[str, object]]:
    """The films, in order."""
    lines = (folder / "catalog.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def read_ratings(folder: Path) -> dict[str, list[Rating]]:
    """What each user rated, oldest first; ties as in the file."""
    found: dict[str, list[Rating]] = {}
    with (folder / "interactions.csv").open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            rating = (row["item"], float(row["value"]), float(row["time"]))
            found.setdefault(row["user"], []).append(rating)
    for ratings in found.values():
        ratings.sort(key=lambda rating: rating[2])
    return found


def split(ratings: Mapping[str, Sequence[Rating]]) -> list[Case]:
    """Split users by the protocol; of histories, it makes the cut before theirs."""
    cases = []
    for user, rated in ratings.items():
        positive = [rating for rating in rated if rating[1] >= POSITIVE]
        if len(positive) < LEAST_POSITIVE:
            continue
        held = positive[-max(1, int(len(positive) * PART_HELD_OUT)) :]
        cut = held[0][2]
        history = tuple(rating for rating in rated if rating[2] < cut)
        cases.append(Case(user, history, tuple(rating[0] for rating in held)))
    return cases


def as_rows(cases: Iterable[Case]) -> list[dict[str, object]]:
    """Histories as interactions, and nothing of what is held out."""
    return [
        {"user": case.user, "item": item, "value": value, "time": time}
        for case in cases
        for item, value, time in case.history
    ]
