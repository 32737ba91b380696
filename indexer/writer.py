"""The write side of an index: items added, updated and deleted, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import Any

from encoders import EncoderPool, Limits, usable_cores

from .admission import Admission, Rule, must_be_new, must_be_there
from .catalog import Catalog, open_catalog, resolved_root
from .catalog_errors import InvalidColumnsError
from .changes import Applied, Changes, apply
from .columns import Columns
from .commit_summary import CommitSummary
from .compaction import CompactSummary, compact
from .derivation import Derivation
from .durable import translated_os_errors
from .encode import QUERY_TOWER_SAMPLE, Counts, Encoded, ItemEncoder
from .errors import WriterClosedError
from .items import Reject
from .layout import IndexLayout
from .lock import writer_lock
from .modalities import BEHAVIOUR, VECTOR
from .progress import Progress, Silent
from .publish import sweep_generations
from .rebuild import index_layout
from .retry import Retry, RetrySummary
from .row_parser import item_id
from .spaces import Reach, checked_encoder, kind_of_input
from .store import Store

# What has been encoded is saved before the commit when it took so long, or is so much: a call that
# is interrupted encodes no more than that again.
_UNSAVED_SECONDS = 4.0
_UNSAVED_EMBEDDINGS = 50_000
_REJECTS_SHOWN = 10


class Writer:
    """An index opened for changes; one at a time, by a lock that dies with its process.

    What `add`, `update` and `delete` were told becomes visible together, and is durable, when
    `commit` returns; readers see it when they open the index next, or at `Retriever.refresh`. A
    call that fails leaves nothing of itself to commit. Leaving a `with` block commits, unless by
    an error: then what was not committed is discarded.
    """

    def __init__(
        self,
        layout: IndexLayout,
        store: Store,
        derivation: Derivation,
        edition: int,
        *,
        device: str,
        limits: Limits,
        strict: bool,
        progress: Progress,
    ) -> None:
        self._layout = layout
        self._store = store
        self._edition = edition
        self._limits = limits
        self._strict = strict
        self._progress = progress
        self._pool = EncoderPool(device, limits)
        self._derive_as(derivation)
        self._held = ExitStack()
        self._begin()

    def _derive_as(self, derivation: Derivation) -> None:
        """Encode and fuse for this generation from now on."""
        self._derivation = derivation
        self._reaches: list[Reach] | None = None
        self._dimensions = {
            space.spec.item: len(derivation.fusion.transforms[space.name].means[space.spec.item])
            for space in derivation.recipe.spaces
            if space.spec.item.startswith(f"{VECTOR}:")
        }

    def _begin(self) -> None:
        """Nothing to commit."""
        self._changes = Changes()
        self._counts = Counts()
        self._shown: list[Reject] = []
        self._started = self._saved = monotonic()

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        device: str = "auto",
        limits: Limits | None = None,
        strict: bool = False,
        progress: Progress | None = None,
    ) -> Writer:
        """Open an index for changes. Encoders are loaded at the first `add` or `update`.

        Args:
            path: the folder that `build_index` made.
            device: where items are encoded: `auto`, `cpu`, `cuda` or `mps`.
            limits: bounds on pixels, bytes and seconds of media.
            strict: whether the first row or input that cannot be used fails the call; without,
                it is left out, counted and kept among the rejects.
            progress: told of every stage; None tells nobody.

        Raises:
            NotAnIndexError: the folder is no index.
            IndexLockedError: another writer is at work; the message names its process.
            CorruptIndexError: a file is not what was written.
        """
        layout = index_layout(path)
        with ExitStack() as held, translated_os_errors(f"index {layout.root}"):
            held.enter_context(writer_lock(layout.lock))
            store = Store.open(layout)
            held.callback(store.close)
            # No view is held between calls: the store could not use pages again.
            with store.snapshot() as snapshot:
                derivation = Derivation.read(snapshot)
            store.clear_dead_readers()
            sweep_generations(layout, snapshot.current.generation)
            writer = cls(
                layout,
                store,
                derivation,
                snapshot.edition,
                device=device,
                limits=limits or Limits(),
                strict=strict,
                progress=progress or Silent(),
            )
            writer._held = held.pop_all()
        return writer

    def close(self) -> None:
        """Let go of the index; what was not committed is discarded. Closing twice does nothing."""
        self._begin()
        self._held.close()
        self._is_closed = True

    _is_closed = False

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None and not self._is_closed and self._changes:
                self.commit()
        finally:
            self.close()

    def add(
        self,
        catalog: str | Path | Iterable[Mapping[str, Any]],
        *,
        id: str | None = None,
        text: str | Sequence[str] | None = None,
        image: str | Sequence[str] | None = None,
        audio: str | Sequence[str] | None = None,
        video: str | Sequence[str] | None = None,
        inputs: Mapping[str, str | Sequence[str]] | None = None,
        vector: str | Mapping[str, str] | None = None,
        media_root: str | Path | None = None,
    ) -> None:
        """Add items that are not there yet.

        Args:
            catalog: a dump or an iterable of mappings, as `build_index` takes them.
            id, text, image, audio, video, inputs, vector: columns; None for those that the index
                was built with.
            media_root: folder that media paths start from and may not leave; None takes the dump's
                own folder, or the current one for an iterable.

        Raises:
            ExistingIdError: an item is there already.
            DuplicateIdError: an id is there twice.
            VectorDimensionError: a ready-made vector of another dimension than the index's.
            CatalogError: the catalog cannot be read, is empty, or, if strict, has a bad row.
            FingerprintMismatchError: an encoder here is not the one the index was built with.
        """
        named = {"id": id, "text": text, "image": image, "audio": audio, "vector": vector}
        named |= {"video": video, **(inputs or {})}
        self._take(catalog, named, media_root, must_be_new)

    def update(
        self,
        catalog: str | Path | Iterable[Mapping[str, Any]],
        *,
        upsert: bool = False,
        id: str | None = None,
        text: str | Sequence[str] | None = None,
        image: str | Sequence[str] | None = None,
        audio: str | Sequence[str] | None = None,
        video: str | Sequence[str] | None = None,
        inputs: Mapping[str, str | Sequence[str]] | None = None,
        vector: str | Mapping[str, str] | None = None,
        media_root: str | Path | None = None,
    ) -> None:
        """Put whole rows in the place of what is there: an item is what its row says now. Only
        inputs whose content has changed are encoded; changed metadata alone encodes nothing.

        Arguments and errors are those of `add`, but:

        Args:
            upsert: whether items that are not there are added.

        Raises:
            UnknownIdError: an item is not there, and this is no upsert.
        """
        named = {"id": id, "text": text, "image": image, "audio": audio, "vector": vector}
        named |= {"video": video, **(inputs or {})}
        self._take(catalog, named, media_root, None if upsert else must_be_there)

    def delete(self, ids: Iterable[str | int]) -> None:
        """Delete items.

        Raises:
            UnknownIdError: an item is not there.
            DuplicateIdError: an id is there twice.
        """
        self._check_open()
        named = [item_id(one) for one in ([ids] if isinstance(ids, str) else ids)]
        self._admission().ids(named, must_be_there)
        self._changes.take(dict.fromkeys(named))

    def retry(self, *, media_root: str | Path | None = None) -> RetrySummary:
        """Try rejected pictures and sounds again, from where the catalog said they are. What works
        now is added behind the other inputs of its item; what does not stays among the rejects,
        with the reason of today. Items that were changed since the last commit are passed over.

        Args:
            media_root: folder that media paths start from and may not leave; None takes the one
                that the index was built with.

        Raises:
            UnreadableCatalogError: the media root is no folder.
            RejectedRowError: this writer is strict, and one cannot be used yet.
            FingerprintMismatchError: an encoder here is not the one the index was built with.
        """
        self._check_open()
        root = resolved_root(Path(media_root or self._derivation.manifest.catalog.media_root))
        with self._store.snapshot() as snapshot:
            retry = Retry.of(snapshot, self._changes.items)
        if not retry.tried:
            return RetrySummary(0, 0, 0, retry.without_item)
        encoder = self._encoder()
        changed: dict[str, Encoded | None] = {}
        rejects: list[Reject] = []
        self._progress.start("encode", len(retry.lost))
        for batch in encoder.run(retry.items(root), workers=max(2, usable_cores())):
            items, lost = retry.joined(batch)
            changed.update(items)
            rejects += lost
            self._save()
            self._progress.advance(batch.seen)
        self._progress.finish()
        encoder.counts.rejected_rows = 0  # they are items, whatever they still lack
        self._keep(changed, rejects, encoder.counts)
        failed = encoder.counts.rejected_inputs
        return RetrySummary(retry.tried, retry.tried - failed, failed, retry.without_item)

    def commit(self) -> CommitSummary:
        """Make everything since the last commit visible, all of it in one durable step.

        When it fails, as on a full disk, nothing of it is visible and it can be tried again.

        Raises:
            StoreError: no space, no permission, or a map that cannot grow.
        """
        self._check_open()
        applied, counts = self._apply(), self._counts
        fresh, dead = applied.uncompacted
        summary = CommitSummary(
            path=self._layout.root,
            added=applied.added,
            updated=applied.updated,
            metadata_only=applied.metadata_only,
            unchanged=applied.unchanged,
            deleted=applied.deleted,
            items=applied.items,
            fresh=fresh,
            dead=dead,
            compact_due=applied.uncompacted.is_due(self._derivation.manifest.items),
            inputs=counts.inputs,
            encoded={m: counts.encoded.get(m, 0) for m in counts.inputs},
            rejected_rows=counts.rejected_rows,
            rejected_inputs=counts.rejected_inputs,
            seconds=monotonic() - self._started,
            rejects=tuple(self._shown),
        )
        self._begin()
        return summary

    def compact(self, *, keep_embeddings: bool = False) -> CompactSummary:
        """Derive a generation of all that was committed: rows that are searched beside the one
        that there is are folded in, dead ones dropped. Readers go on, and move on at their next
        `refresh`. Whatever stops it leaves the index as it was.

        Args:
            keep_embeddings: whether embeddings that no item names any more stay in the store: of
                items that were deleted or have other content now, of encoders that the index uses
                no more, of a build that did not finish. Such an input is encoded again when it
                comes back; without them the store uses their room for what is new. While there
                is something to commit they stay anyway, as it may need them.

        Raises:
            EmptyIndexError: no item is left.
            StoreError: no space, no permission.
        """
        self._check_open()
        summary, derivation = compact(
            self._layout,
            self._store,
            self._derivation,
            self._progress,
            keep_embeddings=keep_embeddings or bool(self._changes),
        )
        self._derive_as(derivation)
        return summary

    def _apply(self) -> Applied:
        changes, derivation = self._changes, self._derivation
        if not changes:
            with self._store.snapshot() as snapshot:
                return Applied(items=snapshot.count(), uncompacted=snapshot.uncompacted())
        return self._store.write(
            lambda transaction: apply(transaction, changes, derivation.recipe, derivation.fusion)
        )

    def _take(
        self,
        source: str | Path | Iterable[Mapping[str, Any]],
        named: dict[str, Any],
        media_root: str | Path | None,
        rule: Rule | None,
    ) -> None:
        """Encode the rows of a catalog; only when all were, they are kept for the commit."""
        self._check_open()
        catalog = self._catalog(source, named, media_root)
        encoder = self._encoder()
        items: dict[str, Encoded | None] = {}
        rejects: list[Reject] = []
        self._progress.start("encode", catalog.rows)
        checked = self._admission().rows(catalog.items(), rule)
        for batch in encoder.run(checked, workers=max(2, usable_cores())):
            items.update({one.id: one for one in batch.items})
            rejects += batch.rejects
            self._save()
            self._progress.advance(batch.seen)
        self._progress.finish()
        self._keep(items, rejects, encoder.counts)

    def _keep(
        self, items: Mapping[str, Encoded | None], rejects: Sequence[Reject], counts: Counts
    ) -> None:
        """Keep what a call made for the commit."""
        self._changes.take(items, [reject.to_dict() for reject in rejects])
        self._shown = [*self._shown, *rejects][:_REJECTS_SHOWN]
        self._counts.add(counts)

    def _admission(self) -> Admission:
        return Admission(self._store, self._edition, self._changes, self._dimensions)

    def _catalog(
        self, source: Any, named: dict[str, Any], media_root: str | Path | None
    ) -> Catalog:
        given = {name: value for name, value in named.items() if value is not None}
        if isinstance(source, str | Path) and Path(source).is_dir() and not given:
            return open_catalog(source, media_root=media_root)
        known: dict[str, Any] = self._derivation.manifest.catalog.columns
        columns = Columns.named(**{**known, **given})
        for name in columns.vector if "vector" in given else ():
            if f"{VECTOR}:{name}" not in self._dimensions:
                raise InvalidColumnsError(
                    f"vector space {name!r}",
                    expected=f"one of the index's, {list(self._dimensions)}",
                    got="none of that name",
                    remedy="Build the index again to add a space.",
                )
        remembered = {**known, **dict.fromkeys(given.keys() - {"id"})}
        optional = Columns.named(**remembered).of_inputs
        return open_catalog(source, columns, media_root, optional=optional)

    def _encoder(self) -> ItemEncoder:
        recipe = self._derivation.recipe
        with self._store.snapshot() as snapshot:
            items = snapshot.count()
            if self._reaches is None:
                self._reaches = [
                    Reach(
                        space.name,
                        m,
                        checked_encoder(self._pool, space.spec, m, known, snapshot),
                        known,
                    )
                    for space in recipe.spaces
                    for m, known in space.fingerprints.items()
                    if kind_of_input(m) != BEHAVIOUR  # looked up, not encoded
                ]
        return ItemEncoder(
            self._store,
            recipe.spaces,
            self._reaches,
            self._limits,
            strict=self._strict,
            impute=recipe.missing == "impute",
            sampled=max(0, QUERY_TOWER_SAMPLE - items),
            unsaved=self._changes.embeddings,
        )

    def _save(self) -> None:
        """Save what was encoded, when it would be much to lose."""
        unsaved = self._changes.embeddings
        late = monotonic() - self._saved > _UNSAVED_SECONDS
        if unsaved and (late or len(unsaved) > _UNSAVED_EMBEDDINGS):
            self._store.save_embeddings(unsaved)
            unsaved.clear()
            self._saved = monotonic()

    def _check_open(self) -> None:
        if self._is_closed:
            raise WriterClosedError(
                "writer", expected="an open one", got="closed", remedy="Open the index again."
            )
