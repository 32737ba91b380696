"""Encoders fitted on the catalog: which are needed, how they come about, where they are kept.

The store keeps the state of each under the fingerprint that the encoder has with it, and under what
was fitted (kind, options, modality) the fingerprint. So a build that was interrupted goes on with
the same encoder, a later one encodes nothing again, and readers find the state by the fingerprint
that the manifest names.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import orjson

from encoders import (
    Encoder,
    EncoderPool,
    EncoderSpec,
    FitTask,
    Limits,
    SpaceSpec,
    State,
    check_encoder,
    fit_encoder,
    fitted_class,
    known_kinds,
    unwrapped,
    wrapped_by,
)

from .errors import CorruptIndexError
from .items import Item, Reject
from .progress import Progress
from .sampling import Sampler
from .snapshot import read_fit, read_state
from .spaces import kind_of_input
from .store import Store


class Wanted(NamedTuple):
    """An encoder to fit, or one that wraps such an encoder, and the modality it is for."""

    spec: EncoderSpec
    modality: str

    @property
    def source(self) -> Wanted:
        """What learns: itself, or the encoder that it wraps."""
        wrapped = wrapped_by(self.spec)
        return self if wrapped is None else Wanted(*wrapped).source

    @property
    def key(self) -> bytes:
        """What tells it from any other, 16 bytes: kind, revision, options and modality."""
        if wrapped := wrapped_by(self.spec):
            told: list[object] = [self.spec.model_dump(mode="json"), Wanted(*wrapped).key.hex()]
        else:
            fitted = fitted_class(self.spec)
            assert fitted is not None
            model = fitted.options_model.model_validate(self.spec.options)
            options = model.model_dump(mode="json")
            told = [self.spec.kind, fitted.revision, options, self.modality]
        text = orjson.dumps(told, option=orjson.OPT_SORT_KEYS)
        return hashlib.sha256(text).digest()[:16]


def wanted_by(spec: SpaceSpec) -> dict[str, Wanted]:
    """What has to be fitted before a modality reaches a space, by modality. Kinds that are not
    registered here are left out: they are missed when they are first needed."""
    kinds = known_kinds()
    return {
        modality: Wanted(encoder, kind_of_input(modality))
        for modality, encoder in spec.encoders.items()
        if encoder.kind in kinds and fitted_class(encoder) is not None
    }


def check_encoders(specs: Iterable[SpaceSpec], pool: EncoderPool) -> None:
    """Load the encoders that are ready, and check what is said of the others: what is wrong with a
    preset shows before anything is read or written.

    Raises:
        EncoderError: a kind, its options, its weights or the device.
    """
    for spec in specs:
        for modality, encoder in spec.encoders.items():
            check_encoder(encoder, kind_of_input(modality))
            if fitted_class(encoder) is None:
                pool.get(encoder)


class Fits:
    """The fitted encoders of an index, under the writer's lock.

    Args:
        store: where they are kept.
        folder: for checkpoints; there while a fit is at work, or was interrupted.
        pool: loads them; its device and limits are those of the fits.
        progress: told of every fit.
    """

    def __init__(self, store: Store, folder: Path, pool: EncoderPool, progress: Progress) -> None:
        self._store = store
        self._folder = folder
        self._pool = pool
        self._progress = progress

    def missing(self, specs: Iterable[SpaceSpec], *, refit: bool) -> list[Wanted]:
        """What these spaces need and the store has not; all they need, where it is to be fitted
        anew."""
        needed = [wanted for spec in specs for wanted in wanted_by(spec).values()]
        unique = {one.key: one for wanted in needed for one in (wanted.source, wanted)}
        return [w for w in unique.values() if refit or self.state(w) is None]

    def state(self, wanted: Wanted) -> State | None:
        """What was learned; None where nothing was, or it is damaged: it is fitted again then."""
        try:
            with self._store.view() as view:
                fingerprint = read_fit(view, wanted.key)
                return None if fingerprint is None else read_state(view, fingerprint)
        except CorruptIndexError:
            return None

    def fit(self, missing: Sequence[Wanted], entries: Iterable[Item | Reject]) -> None:
        """Fit encoders on a sample of a catalog and keep what they learn.

        One that is wrapped learns from the inputs of its own modality, and where there are none,
        from the pieces of those that it is wrapped for. Where there are none either, it is passed
        over.

        Raises:
            EncoderError: nothing can be learned, or a kind or its options are not to be had.
        """
        samplers = [Sampler(w.modality, _sample_size(w)) for w in missing]
        self._progress.start("sample", None)
        for entry in entries:
            if isinstance(entry, Item):
                for sampler in samplers:
                    sampler.take(entry)
            self._progress.advance(1)
        self._progress.finish()
        samples = {
            wanted.key: sampler.sample(self._pool.limits)
            for wanted, sampler in zip(missing, samplers, strict=True)
        }
        for wanted in missing:
            if wanted.source == wanted:
                self._fit(wanted, [one for one in missing if one.source == wanted], samples)
        for wanted in missing:
            state = self.state(wanted.source)
            if state is not None:
                self._keep(wanted, state)

    def _fit(
        self, wanted: Wanted, through: Sequence[Wanted], samples: Mapping[bytes, Sequence[bytes]]
    ) -> None:
        sample: Sequence[bytes] = ()
        for one in sorted(through, key=lambda one: one != wanted):
            if not len(sample):
                sample = _pieces(one, samples[one.key], self._pool.limits)
        if not len(sample):
            return
        folder = self._folder / wanted.key.hex()
        folder.mkdir(parents=True, exist_ok=True)
        task = FitTask(folder, self._progress, self._pool.device, self._pool.limits)
        self._keep(wanted, fit_encoder(wanted.spec, wanted.modality, sample, task))
        shutil.rmtree(self._folder)

    def _keep(self, wanted: Wanted, state: State) -> None:
        encoder = self._pool.get(wanted.spec, state)
        fingerprint = encoder.fingerprint(wanted.modality)
        self._store.save_fit(wanted.key, fingerprint, state.dump())

    def fillable(self, specs: Sequence[SpaceSpec]) -> tuple[list[SpaceSpec], list[str]]:
        """The spaces all of whose encoders are there, and why others are left out."""
        kept, notes = [], []
        for spec in specs:
            for wanted in wanted_by(spec).values():
                if self.state(wanted) is None:
                    notes.append(
                        f"space {spec.name} was left out: there is no {wanted.modality} in the "
                        f"catalog to fit its encoder {wanted.spec.kind} on"
                    )
                    break
            else:
                kept.append(spec)
        return kept, notes

    def load(self, spec: EncoderSpec, modality: str) -> Encoder:
        """The encoder of a spec, with what it learned where it had to."""
        if fitted_class(spec) is None:
            return self._pool.get(spec)
        return self._pool.get(spec, self.state(Wanted(spec, modality)))

    def sweep(self, named: Collection[str]) -> None:
        """Drop states that neither these fingerprints nor a fit name, and old checkpoints."""
        self._store.sweep_states(named)
        shutil.rmtree(self._folder, ignore_errors=True)


def _pieces(wanted: Wanted, sample: Sequence[bytes], limits: Limits) -> Sequence[bytes]:
    """Inputs as the encoder that learns is given them."""
    wrapped = wrapped_by(wanted.spec)
    if wrapped is None or not len(sample):
        return sample
    pieces = unwrapped(wanted.spec, sample, limits)[: _sample_size(wanted)]
    return _pieces(Wanted(*wrapped), pieces, limits)


def _sample_size(wanted: Wanted) -> int:
    fitted = fitted_class(wanted.spec)
    assert fitted is not None
    return fitted.sample
