"""What is done to an index while faults strike: each stage with the states that it may leave."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from catalens import Query, Retriever, Writer, rebuild_index, tune_index
from indexer import IndexLayout, build_index, verify_index
from tests.catalogs import build_toy

from .stock import State, read, rows, state_of

Say = Callable[[str], None]

OLD: State = dict.fromkeys(range(60), 0)
# Enough for an index of codes, which is folded rather than trained anew.
MANY: State = dict.fromkeys(range(1_050), 0)
_BATCHES = 3
_BATCH = 10


@dataclass(frozen=True)
class Stage:
    """`states[0]` is what `prepare` makes, `states[b]` what there is when step b is done. `run`
    says "begin b" before it, and "done b" when its last call has returned."""

    name: str
    prepare: Callable[[Path], None]
    run: Callable[[Path, Say], None]
    states: tuple[State | None, ...]

    def outcome(self, index: Path, said: list[str]) -> int:
        """Which step the index is at: the last that was done, or the one begun after it; raises
        AssertionError where it is neither, or damaged."""
        done = max((int(line.split()[1]) for line in said if line.startswith("done")), default=0)
        begun = max((int(line.split()[1]) for line in said if line.startswith("begin")), default=0)
        found = read(index)
        assert found in (self.states[done], self.states[begun]), (done, begun, found)
        if found is not None:
            problems = verify_index(index).problems
            assert problems == [], problems
        return begun if found == self.states[begun] else done

    def go_on(self, index: Path) -> None:
        """The next writer works, and leaves nothing of what was before."""
        if read(index) is None:
            build_vectors(index, OLD)
        before = read(index)
        assert before
        first = min(before)
        with Writer.open(index, device="cpu") as writer:
            writer.delete([f"item-{first}"])
            writer.commit()
            writer.compact()
        del before[first]
        assert read(index) == before
        assert verify_index(index).problems == []
        folders = [path.name for path in IndexLayout(index).generations.iterdir()]
        assert len(folders) == 1, folders


def build_vectors(index: Path, state: State) -> None:
    """An index of ready-made vectors; of codes where there is enough to train them on."""
    build_index(rows(state), index, vector="v", device="cpu", profile="fast")


def _text(state: State) -> list[dict[str, object]]:
    return [
        {"id": f"item-{n}", "text": f"word number{n}", "n": n, "version": version}
        for n, version in state.items()
    ]


def _nothing(index: Path) -> None:
    pass


def _old(index: Path) -> None:
    build_vectors(index, OLD)


def _old_text(index: Path) -> None:
    build_toy(index, _text(OLD))


def _changed(state: State) -> Callable[[Path], None]:
    """An index with rows to fold in and to drop."""

    def prepare(index: Path) -> None:
        build_vectors(index, state)
        with Writer.open(index, device="cpu") as writer:
            mix(writer, state, 1)

    return prepare


def _unswept(index: Path) -> None:
    """Generations that nobody holds any more, finished and not."""
    build_vectors(index, OLD)
    generations = IndexLayout(index).generations
    for name in ("000007", "000008.unfinished"):
        shutil.copytree(generations / "000001", generations / name)


def mix(writer: Any, before: State, batch: int) -> State:
    """Some items added, updated and deleted: what there is then."""
    after = dict(before)
    first = 2_000 + _BATCH * batch
    added = dict.fromkeys(range(first, first + _BATCH), batch)
    held = sorted(before)
    updated = dict.fromkeys(held[-_BATCH:], batch)
    deleted = held[:_BATCH]
    writer.add(rows(added))
    writer.update(rows(updated))
    writer.delete([f"item-{n}" for n in deleted])
    for n in deleted:
        del after[n]
    return {**after, **updated, **added}


class Plan:
    """Collects states from changes without a writer."""

    def add(self, *_: object) -> None: ...
    def update(self, *_: object) -> None: ...
    def delete(self, *_: object) -> None: ...


def _mixed(before: State, batches: int) -> tuple[State, ...]:
    states = [before]
    for batch in range(1, batches + 1):
        states.append(mix(Plan(), states[-1], batch))
    return tuple(states)


def _writes(change: Callable[[Any, State, int], State], before: State) -> Callable[..., None]:
    def run(index: Path, say: Say) -> None:
        state = before
        with Writer.open(index, device="cpu") as writer:
            for batch in range(1, _BATCHES + 1):
                say(f"begin {batch}")
                state = change(writer, state, batch)
                writer.commit()
                say(f"done {batch}")

    return run


def _add(writer: Any, before: State, batch: int) -> State:
    first = 2_000 + _BATCH * batch
    added = dict.fromkeys(range(first, first + _BATCH), batch)
    writer.add(rows(added))
    return {**before, **added}


def _update(writer: Any, before: State, batch: int) -> State:
    updated = dict.fromkeys(range(5 * batch, 5 * batch + _BATCH), batch)
    writer.update(rows(updated))
    return {**before, **updated}


def _delete(writer: Any, before: State, batch: int) -> State:
    held = sorted(before)
    writer.delete([f"item-{n}" for n in held[::9]])
    return {n: before[n] for n in held if n not in held[::9]}


def _states(change: Callable[[Any, State, int], State]) -> tuple[State, ...]:
    states = [OLD]
    for batch in range(1, _BATCHES + 1):
        states.append(change(Plan(), states[-1], batch))
    return tuple(states)


def _once(work: Callable[[Path], object]) -> Callable[[Path, Say], None]:
    def run(index: Path, say: Say) -> None:
        say("begin 1")
        work(index)
        say("done 1")

    return run


def _compacts(index: Path) -> None:
    with Writer.open(index, device="cpu") as writer:
        writer.compact()


def _opens(index: Path) -> None:
    Writer.open(index, device="cpu").close()


def _commits_and_compacts(index: Path, say: Say) -> None:
    """A reader of the same process moves on after each commit and each compaction."""
    state = OLD
    with Retriever.open(index, device="cpu") as shop, Writer.open(index, device="cpu") as writer:
        for batch in range(1, _BATCHES + 1):
            say(f"begin {batch}")
            state = mix(writer, state, batch)
            writer.commit()
            say(f"done {batch}")
            assert shop.refresh()
            assert state_of(shop) == state
            if batch > 1:
                writer.compact()
                assert shop.refresh()
                shop.search(Query(like="item-50"), 3)
                assert state_of(shop) == state


_NEW: State = dict.fromkeys(range(20, 120), 4)
_TEXT: State = dict.fromkeys(range(200), 0)
_ONE = _mixed(OLD, 1)[1]
_ONE_OF_MANY = _mixed(MANY, 1)[1]

STAGES = {
    stage.name: stage
    for stage in (
        Stage("build", _nothing, _once(lambda i: build_vectors(i, OLD)), (None, OLD)),
        Stage("build again", _old, _once(lambda i: build_vectors(i, _NEW)), (OLD, _NEW)),
        Stage("encode", _old_text, _once(lambda i: build_toy(i, _text(_TEXT))), (OLD, _TEXT)),
        Stage("add", _old, _writes(_add, OLD), _states(_add)),
        Stage("update", _old, _writes(_update, OLD), _states(_update)),
        Stage("delete", _old, _writes(_delete, OLD), _states(_delete)),
        Stage("commit", _old, _writes(mix, OLD), _mixed(OLD, _BATCHES)),
        Stage("compact", _changed(OLD), _once(_compacts), (_ONE, _ONE)),
        Stage("fold", _changed(MANY), _once(_compacts), (_ONE_OF_MANY, _ONE_OF_MANY)),
        Stage(
            "rebuild",
            _changed(OLD),
            _once(lambda i: rebuild_index(i, profile="exact")),
            (_ONE, _ONE),
        ),
        Stage("tune", _old, _once(lambda i: tune_index(i, target=0.9)), (OLD, OLD)),
        Stage("refresh", _old, _commits_and_compacts, _mixed(OLD, _BATCHES)),
        Stage("sweep", _unswept, _once(_opens), (OLD, OLD)),
    )
}
