"""Another generation from what the store holds: other weights, fusion or policy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic

from .derivation import Derivation
from .derive import Derived
from .durable import translated_os_errors
from .errors import (
    DefaultWeightError,
    FusionError,
    NotAnIndexError,
    PoolingError,
    UnknownSpaceError,
)
from .faiss_index import wants_gpu
from .fusion import FUSIONS
from .layout import IndexLayout
from .lock import writer_lock
from .missing import check_policy
from .progress import Progress, Silent
from .publish import publish
from .recipe import UNLEARNED, Recipe
from .snapshot import Snapshot
from .store import Store


@dataclass(frozen=True)
class RebuildSummary:
    """What a rebuild made."""

    path: Path
    items: int
    fusion: str
    missing: str
    weights: dict[str, float]
    imputed: dict[str, int]
    recall: dict[str, float]
    seconds: float
    notes: tuple[str, ...] = ()
    """What could not be kept, for people to read."""


@dataclass(frozen=True)
class Opened:
    """An index under the writer's lock: its store, what is current, and the recipe of that."""

    layout: IndexLayout
    store: Store
    snapshot: Snapshot
    recipe: Recipe

    def publish(self, recipe: Recipe, progress: Progress) -> Derived:
        """Derive and publish a generation of the same edition by another recipe."""
        return publish(
            self.layout,
            self.store,
            self.snapshot.edition,
            recipe,
            gpu=wants_gpu(recipe.device),
            progress=progress,
        )


@contextmanager
def opened_for_writing(path: str | Path) -> Iterator[Opened]:
    """An index for a writer that encodes nothing.

    Raises:
        NotAnIndexError: the folder is no index.
        IndexLockedError: another process is writing to it.
        CorruptIndexError: a file is not what was written.
    """
    layout = index_layout(path)
    with translated_os_errors(f"index {layout.root}"), writer_lock(layout.lock):
        store = Store.open(layout)
        try:
            with store.snapshot() as snapshot:
                yield Opened(layout, store, snapshot, Derivation.read(snapshot).recipe)
        finally:
            store.close()


def index_layout(path: str | Path) -> IndexLayout:
    """The files of an index.

    Raises:
        NotAnIndexError: there is none.
    """
    layout = IndexLayout(Path(path))
    if not layout.has_store:
        raise NotAnIndexError(
            f"index {layout.root}",
            expected="a folder made by `catalens build`",
            got="a folder without an index" if layout.root.is_dir() else "no such folder",
            remedy="Check the path, or run `catalens build CATALOG --out INDEX` first.",
        )
    return layout


def rebuild_index(
    path: str | Path,
    *,
    fusion: str | None = None,
    missing: str | None = None,
    weights: Mapping[str, float] | None = None,
    pool: Mapping[str, str] | None = None,
    profile: str | None = None,
    factory: str | None = None,
    rows: str | None = None,
    progress: Progress | None = None,
) -> RebuildSummary:
    """Derive the index anew from what its store holds; nothing is encoded.

    Args:
        path: the index folder.
        fusion: `concat`, `mean`, or the learned fusion that the index has; None keeps it.
        missing: `neutral`, `impute`, `renormalise` or `drop`; None keeps it.
        weights: default weights of spaces, above 0; those not named are kept.
        pool: `mean` or `max-similarity` per space; those not named are kept. A later build takes
            the preset's.
        profile: of the index: `auto`, `exact`, `fast`, `memory` or `gpu` (see `indexer/plan.py`).
        factory: FAISS's own name for an index, instead of a profile. None for both keeps what is.
        rows: type of the rows that give the scores: `float16`, or `int8`, which halves the largest
            file and costs a little recall (`rows_recall` of `inspect`); None takes that of a
            profile or factory that is given, else keeps what is.
        progress: told of every stage; None tells nobody.

    Raises:
        FusionError: no such fusion, or one that was not learned here.
        PolicyError: no such policy, or one that the fusion cannot follow.
        PoolingError: no such pooling.
        ProfileError: no such profile.
        RowTypeError: no such type of rows.
        FactoryError: FAISS makes no index of that name.
        UnknownSpaceError: a weight or pooling for a space that the index has not.
        DefaultWeightError: a weight that is no positive number.
        NotAnIndexError, IndexLockedError, CorruptIndexError, StoreError: the index itself.
    """
    started = monotonic()
    with opened_for_writing(path) as index:
        recipe = index.recipe
        if fusion is not None:
            recipe = _with_fusion(recipe, fusion)
        if missing is not None:
            recipe = replace(recipe, missing=check_policy(missing))
        if weights:
            _check_weights(recipe, weights)
            recipe = recipe.with_weights(weights, "given")
        if pool:
            recipe = _with_pooling(recipe, pool)
        recipe = recipe.with_index(profile, factory, rows)
        derived = index.publish(recipe, progress or Silent())
    return RebuildSummary(
        path=index.layout.root,
        items=derived.items,
        fusion=derived.recipe.fusion,
        missing=derived.recipe.missing,
        weights={space.spec.name: space.spec.weight for space in derived.spaces},
        imputed={space.spec.name: space.imputed for space in derived.spaces},
        recall=derived.index.recall,
        seconds=monotonic() - started,
        notes=derived.notes,
    )


def _with_fusion(recipe: Recipe, fusion: str) -> Recipe:
    if fusion == recipe.fusion:
        return recipe
    if fusion in UNLEARNED:
        return replace(recipe, fusion=fusion, learned=None)
    raise unbuildable(fusion)


def unbuildable(fusion: str) -> FusionError:
    """The error for a fusion that is unknown, or that has to be learned first."""
    return FusionError(
        "fusion",
        expected=f"{' or '.join(UNLEARNED)}, or the one that the index has learned",
        got=repr(fusion),
        remedy=f"Learn it: catalens learn fusion INDEX --fusion {fusion}."
        if fusion in FUSIONS
        else f"There are {', '.join(FUSIONS)}.",
    )


def _check_weights(recipe: Recipe, weights: Mapping[str, float]) -> None:
    _check_spaces(recipe, weights)
    for name, weight in weights.items():
        if not 0 < weight <= 1000:  # NaN compares false
            raise DefaultWeightError(
                f"default weight of space {name!r}",
                expected="a number above 0, at most 1000",
                got=repr(weight),
                remedy="A query may bring any weight, 0 and negative ones too.",
            )


def _with_pooling(recipe: Recipe, pool: Mapping[str, str]) -> Recipe:
    _check_spaces(recipe, pool)
    for name, kind in pool.items():
        if kind not in ("mean", "max-similarity"):
            raise PoolingError(
                f"pooling of space {name!r}",
                expected="mean or max-similarity",
                got=repr(kind),
                remedy="See `catalens rebuild --help`.",
            )
    spaces = tuple(
        replace(space, spec=space.spec.model_copy(update={"pool": pool[space.name]}))
        if space.name in pool
        else space
        for space in recipe.spaces
    )
    return replace(recipe, spaces=spaces)


def _check_spaces(recipe: Recipe, named: Mapping[str, object]) -> None:
    names = [space.name for space in recipe.spaces]
    for name in named:
        if name not in names:
            raise UnknownSpaceError(
                "space",
                expected=f"one of {', '.join(names)}",
                got=repr(name),
                remedy="See `catalens inspect INDEX` for its spaces.",
            )
