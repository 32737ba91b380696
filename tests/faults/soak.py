"""Run by `test_soak`: four processes search while one adds, updates, deletes and compacts.

    python -m tests.faults.soak FOLDER SECONDS

Each batch's state is known from its number, so a reader compares all that it finds with the state
of the batch that it has opened. Prints a line of JSON with what each process did.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from catalens import Query, Retriever, Writer, rebuild_index
from indexer import IndexLayout, build_index, verify_index

from .forked import log_to, preload, result_of, results_of, said
from .stages import MANY, Plan, mix
from .stock import D, State, check, row, rows, state_of

READERS = 4
# Items whose metadata alone changes, in every batch.
_LABELLED: State = dict.fromkeys(range(10_000, 10_010), 0)
_COMPACTED_EVERY, _REBUILT_EVERY = 4, 25


def labelled(batch: int) -> list[dict[str, Any]]:
    """Rows whose label is the number of the batch, twice."""
    return [{**row(n, 0), "label": batch, "labels": [batch, -batch]} for n in _LABELLED]


class Known:
    """The state after each batch."""

    def __init__(self) -> None:
        self._states = [MANY]

    def __getitem__(self, batch: int) -> State:
        while len(self._states) <= batch:
            self._states.append(mix(Plan(), self._states[-1], len(self._states)))
        return {**self._states[batch], **_LABELLED}


def build(index: Path) -> None:
    """Batch 0."""
    build_index([*rows(MANY), *labelled(0)], index, vector="v", device="cpu", profile="fast")


def write(index: Path, log: Path, end: float) -> dict[str, int]:
    """Batch after batch, each of which is logged when it is durable."""
    say, state, batch, done = log_to(log), MANY, 0, {"batches": 0, "compactions": 0}
    writer = Writer.open(index, device="cpu")
    while time.monotonic() < end:
        batch += 1
        state = mix(writer, state, batch)
        writer.update(labelled(batch))
        writer.commit()
        say(f"done {batch}")
        done["batches"] += 1
        if batch % _COMPACTED_EVERY == 0:
            writer.compact()
            done["compactions"] += 1
        if batch % _REBUILT_EVERY == 0:
            writer.close()
            rebuild_index(index)
            writer = Writer.open(index, device="cpu")
    writer.close()
    return done


def search(index: Path, log: Path, end: float, seed: int) -> dict[str, int]:
    """Search, refresh and open anew; any difference from what is known raises."""
    rng, known, done = np.random.default_rng(seed), Known(), {"searches": 0, "moves": 0}
    shop = Retriever.open(index, device="cpu")
    while time.monotonic() < end:
        committed = len(said(log))
        if rng.random() < 0.2:
            shop.close()
            shop = Retriever.open(index, device="cpu")
        else:
            done["moves"] += shop.refresh()
        batch = label_of(shop)
        assert batch >= committed, (batch, committed)
        state = known[batch]
        for _ in range(3):  # the writer goes on meanwhile
            assert state_of(shop) == state, batch
            assert label_of(shop) == batch
            look(shop, state, batch, rng)
            done["searches"] += 5
    shop.close()
    return done


def label_of(shop: Retriever) -> int:
    """The batch that a reader has opened, of which all labels must be."""
    hits = shop.search(Query(vector=np.ones(D)), len(_LABELLED) + 1, where="label >= 0")
    labels = {hit.metadata["label"] for hit in hits}
    assert len(hits) == len(_LABELLED) and len(labels) == 1, hits
    (label,) = labels
    assert all(hit.metadata["labels"] == [label, -label] for hit in hits), hits
    return int(label)


def look(shop: Retriever, state: State, batch: int, rng: np.random.Generator) -> None:
    """Searches as users make them: by codes, under a filter, by an item."""
    query = rng.standard_normal(D).astype(np.float32)
    query /= np.linalg.norm(query)
    wanted = [n for n, version in state.items() if version == batch and n not in _LABELLED]
    for where in (None, f"version = {batch} and n < 10000"):
        hits = shop.search(Query(vector=query), 10, where=where)
        assert len(hits) == 10 if where is None or batch else hits
        for hit in hits:
            n, version = check(hit, query)
            assert state[n] == version
            assert where is None or n in wanted
    liked = int(rng.choice(list(state)))
    hits = shop.search(Query(like=f"item-{liked}"), 5)
    assert len(hits) == 5
    assert all(state[hit.metadata["n"]] == hit.metadata["version"] for hit in hits)


def look_over(index: Path) -> list[str]:
    """What is wrong at the end, when nobody reads any more."""
    with Writer.open(index, device="cpu") as writer:
        writer.compact()
    left = [path.name for path in IndexLayout(index).generations.iterdir()]
    return [*verify_index(index).problems, *left[1:]]


def main() -> None:
    """Run as the command line says."""
    folder, seconds = Path(sys.argv[1]), float(sys.argv[2])
    preload()
    index, log = folder / "index", folder / "log"
    result_of(build, index)
    end = time.monotonic() + seconds
    works = [(write, (index, log, end))]
    works += [(search, (index, log, end, seed)) for seed in range(READERS)]
    writer, *readers = results_of(works, timeout=seconds + 60)
    told = {"writer": writer, "readers": readers, "problems": result_of(look_over, index)}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
