"""Catalog dump in, published index out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from time import monotonic
from typing import Any

from encoders import EncoderPool, Limits, Preset, SpaceSpec, load_preset, usable_cores

from .blocks import BlockSource
from .catalog import Catalog, open_catalog
from .catalog_errors import EmptyCatalogError
from .columns import Columns
from .derivation import Derivation
from .durable import translated_os_errors
from .encode import Counts, ItemEncoder
from .errors import (
    CorruptIndexError,
    NotAnIndexError,
    UnsupportedFormatError,
)
from .faiss_index import wants_gpu
from .fill import EditionFiller
from .fitting import Fits, check_encoders
from .items import Item, Reject
from .layout import IndexLayout
from .lock import writer_lock
from .manifest import CatalogEntry
from .missing import Policy, check_policy
from .output_folder import check_output_folder
from .plan import check_profile
from .progress import Progress, Silent
from .publish import publish
from .rebuild import unbuildable
from .recipe import UNLEARNED, Recipe, Space
from .row_codecs import check_row_type
from .sampling import held
from .snapshot import Current, Snapshot
from .spaces import Reach, peek, reaches, specs_for
from .store import Store


@dataclass(frozen=True)
class BuildSummary:
    """What a build did.

    `inputs` counts the inputs of all items per modality and `encoded` those that went through a
    model now; the others were known, from an earlier build or an item with the same input.
    `coverage` counts items per space.
    """

    path: Path
    items: int
    inputs: dict[str, int]
    encoded: dict[str, int]
    rejected_rows: int
    rejected_inputs: int
    coverage: dict[str, int]
    index: str
    seconds: float
    rejects: tuple[Reject, ...] = field(default=())
    """The first ten; `catalens inspect --rejects` prints all."""
    notes: tuple[str, ...] = field(default=())
    """What an earlier build had learned and this one could not keep."""


def build_index(
    catalog: str | Path | Iterable[Mapping[str, Any]],
    out: str | Path,
    *,
    id: str = "id",
    text: str | Sequence[str] | None = None,
    image: str | Sequence[str] | None = None,
    audio: str | Sequence[str] | None = None,
    video: str | Sequence[str] | None = None,
    inputs: Mapping[str, str | Sequence[str]] | None = None,
    vector: str | Mapping[str, str] | None = None,
    preset: str | Path | Mapping[str, Any] = "local",
    media_root: str | Path | None = None,
    device: str = "auto",
    limits: Limits | None = None,
    strict: bool = False,
    fusion: str | None = None,
    missing: str | None = None,
    profile: str | None = None,
    factory: str | None = None,
    rows: str | None = None,
    refit: bool = False,
    progress: Progress | None = None,
) -> BuildSummary:
    """Build an index from a catalog, or build an existing one again.

    What was encoded before is not encoded again, so an interrupted build goes on where it
    was, and building again after small changes is quick. Readers see the old index until the
    new one is whole, and the new one from when they open it next.

    Args:
        catalog: a path to JSON lines, CSV, TSV, Parquet or a folder of files; or an iterable of
            mappings.
        out: the index folder; made if it is not there.
        id: column of the item's id.
        text: columns that make the item's text; None looks for text, title, name, description.
        image: columns of pictures; None looks for image, picture, photo.
        audio: columns of sounds; None looks for audio, sound, clip.
        video: columns of videos; None looks for video, movie.
        inputs: columns by modality, for modalities that were registered (`register_modality`).
        vector: a column of ready-made vectors, or a mapping from space name to column.
        preset: `local`, `clip`, a JSON file, or a mapping of the same form.
        media_root: folder that media paths start from and may not leave; None takes the
            dump's own folder, or the current one for an iterable.
        device: `auto` (cuda, then mps, then cpu), or one of them.
        limits: bounds on pixels, bytes and seconds of media.
        strict: stop at the first row or input that cannot be used.
        fusion: `concat` or `mean`; None keeps what an existing index has, learned or not, and is
            `concat` for a new one.
        missing: what becomes of a modality that an item lacks: `neutral`, `impute`, `renormalise`
            or `drop`; None keeps what an existing index has, and is `neutral` for a new one.
        profile: of the index: `auto`, `exact`, `fast`, `memory` or `gpu` (see `indexer/plan.py`);
            None keeps what an existing index has, and is `auto` for a new one.
        factory: FAISS's own name for an index, such as `HNSW32`, instead of a profile.
        rows: type of the rows that give the scores: `float16`, or `int8`, which halves the largest
            file and costs a little recall (`rows_recall` of `inspect`); None takes that of a
            profile or factory that is given (int8 for `memory`, else float16), else keeps what an
            existing index has, and is `float16` for a new one.
        refit: fit anew the encoders that learn from the catalog, such as `tfidf`, and encode with
            them all that they encode; else an index keeps those that it has.
        progress: told of every stage; None tells nobody.

    Returns:
        what was done.

    Raises:
        CatalogError: the catalog cannot be read, is empty, or, if strict, has a bad row.
        EncoderError: preset, weights or device; or nothing to learn from, for an encoder that is
            fitted on the catalog.
        FusionError: no such fusion, or one that has to be learned first.
        PolicyError: no such policy for missing modalities, or not with this fusion.
        ProfileError: no such profile.
        RowTypeError: no such type of rows.
        FactoryError: FAISS makes no index of that name.
        IndexLockedError: another process is building this index.
        OutputFolderError: `out` holds something else than an index.
        StoreError: no space, no permission.
    """
    policy = None if missing is None else check_policy(missing)
    if profile is not None:
        check_profile(profile)
    if rows is not None:
        check_row_type(rows)
    if fusion is not None and fusion not in UNLEARNED:
        raise unbuildable(fusion)
    columns = Columns.named(
        id=id, text=text, image=image, audio=audio, vector=vector, video=video, **(inputs or {})
    )
    chosen = load_preset(preset)
    opened = open_catalog(catalog, columns=columns, media_root=_path(media_root))
    limits = limits or Limits()
    layout = IndexLayout(Path(out))
    with translated_os_errors(f"index {layout.root}"):
        check_output_folder(layout)
        layout.root.mkdir(parents=True, exist_ok=True)
        layout.generations.mkdir(exist_ok=True)
        with writer_lock(layout.lock):
            build = _Build(opened, layout, limits, device, progress or Silent())
            return build.run(
                chosen, _Choices(fusion, policy, profile, factory, rows, strict, refit)
            )


@dataclass(frozen=True)
class _Choices:
    fusion: str | None
    missing: Policy | None
    profile: str | None
    factory: str | None
    rows: str | None
    strict: bool
    refit: bool


class _Build:
    """One run of `build_index`, under the writer's lock."""

    def __init__(
        self,
        catalog: Catalog,
        layout: IndexLayout,
        limits: Limits,
        device: str,
        progress: Progress,
    ) -> None:
        self._catalog = catalog
        self._layout = layout
        self._limits = limits
        self._device = device
        self._gpu = wants_gpu(device)
        self._progress = progress
        self._started = monotonic()

    def run(self, preset: Preset, choices: _Choices) -> BuildSummary:
        items = self._catalog.items()
        dimensions, first = peek(self._catalog.columns, items)
        specs = specs_for(preset, self._catalog.columns, dimensions)
        pool = EncoderPool(self._device, self._limits)
        check_encoders(specs, pool)
        store = Store.create(self._layout)
        try:
            before, notes = self._before(store)
            fits = Fits(store, self._layout.fitting, pool, self._progress)
            if missing := fits.missing(specs, refit=choices.refit):
                first, sampled = self._sampled(first, items)
                fits.fit(missing, sampled)
            specs, left_out = fits.fillable(specs)
            notes += left_out
            ways = reaches(specs, fits.load)
            recipe = self._recipe(specs, ways, choices, before)
            if before is not None:
                recipe, dropped = recipe.with_behaviour_of(before)
                notes += dropped
            edition = store.begin_edition()
            encoder = ItemEncoder(
                store,
                recipe.spaces,
                ways,
                self._limits,
                strict=choices.strict,
                impute=recipe.missing == "impute",
            )
            filler = EditionFiller(store, edition, encoder)
            self._fill(filler, chain(first, items))
            if filler.items == 0:
                raise self._nothing(store, edition)
            if before is not None:
                # Which spaces there are shows when all items have been read.
                with Snapshot(store.view(), Current(edition, 0, "")) as snapshot:
                    recipe = BlockSource(snapshot, recipe).recipe
                recipe, dropped = recipe.carried_from(before, choices.fusion)
                notes += dropped
            summary = self._publish(store, edition, recipe, encoder.counts, notes)
            fits.sweep({one for space in recipe.spaces for one in space.fingerprints.values()})
            return summary
        finally:
            store.close()

    def _sampled(
        self, first: list[Item | Reject], rest: Iterator[Item | Reject]
    ) -> tuple[list[Item | Reject], Iterable[Item | Reject]]:
        """What has been read of the catalog now, and what encoders are fitted on: all of it, or of
        what can be read once, the first of it."""
        if self._catalog.can_be_read_again:
            return first, self._catalog.items()
        read = [*first, *held(rest)]
        return read, read

    def _recipe(
        self,
        specs: list[SpaceSpec],
        ways: list[Reach],
        choices: _Choices,
        before: Recipe | None,
    ) -> Recipe:
        """What to derive, but for what was learned before."""
        return Recipe(
            spaces=tuple(
                Space(
                    spec=spec,
                    bit=bit,
                    fingerprints={w.modality: w.fingerprint for w in ways if w.space == spec.name},
                    heads={},
                )
                for bit, spec in enumerate(specs)
            ),
            fusion=choices.fusion or "concat",
            learned=None,
            missing=choices.missing or (before.missing if before else "neutral"),
            weights_from="preset",
            catalog=self._catalog_entry(),
            device=self._device,
            profile=before.profile if before else "auto",
            factory=before.factory if before else None,
            rows=before.rows if before else "float16",
        ).with_index(choices.profile, choices.factory, choices.rows)

    def _before(self, store: Store) -> tuple[Recipe | None, list[str]]:
        """The recipe of what is current, None where nothing is or it cannot be read: a build is how
        a damaged index is mended."""
        try:
            with store.snapshot() as snapshot:
                return Derivation.read(snapshot).recipe, []
        except NotAnIndexError:
            return None, []
        except (CorruptIndexError, UnsupportedFormatError) as error:
            return None, [f"what the index had learned, if anything, could not be read: {error}"]

    def _fill(self, filler: EditionFiller, items: Iterator[Item | Reject]) -> None:
        self._progress.start("encode", self._catalog.rows)
        for done in filler.run(items, workers=max(2, usable_cores())):
            self._progress.advance(done)
        self._progress.finish()

    def _nothing(self, store: Store, edition: int) -> EmptyCatalogError:
        with Snapshot(store.view(), Current(edition, 0, "")) as unfinished:
            first = next(unfinished.rejects(), None)
        reason = f"; the first: {first['reason']}" if first else ""
        return EmptyCatalogError(
            f"catalog {self._catalog.name}",
            expected="at least one row that can be indexed",
            got=f"none{reason}",
            remedy="Check the column mapping and the media root.",
        )

    def _publish(
        self, store: Store, edition: int, recipe: Recipe, counts: Counts, notes: list[str]
    ) -> BuildSummary:
        derived = publish(
            self._layout, store, edition, recipe, gpu=self._gpu, progress=self._progress
        )
        with store.snapshot() as snapshot:
            rejects = tuple(Reject.from_dict(r) for r in islice(snapshot.rejects(), 10))
        return BuildSummary(
            path=self._layout.root,
            items=derived.items,
            inputs=counts.inputs,
            encoded={m: counts.encoded.get(m, 0) for m in counts.inputs},
            rejected_rows=counts.rejected_rows,
            rejected_inputs=counts.rejected_inputs,
            coverage={space.spec.name: space.coverage for space in derived.spaces},
            index=derived.index.factory,
            seconds=monotonic() - self._started,
            rejects=rejects,
            notes=(*notes, *derived.notes),
        )

    def _catalog_entry(self) -> CatalogEntry:
        return CatalogEntry(
            name=self._catalog.name,
            media_root=str(self._catalog.media_root),
            columns=self._catalog.columns.told(),
        )


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given)
