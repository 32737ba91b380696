"""An index with one space of one encoder kind, and how fast that encodes."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from catalens import build_index
from encoders import Encoder, encode_all, load_encoder
from indexer.fitting import wanted_by
from indexer.rebuild import opened_for_writing

from .datasets import cache_folder
from .harness import StageTimer, interleave_whole, median, rounded, say

_ROUNDS = 3


def built(
    rows: Sequence[Mapping[str, Any]],
    told: Mapping[str, Any],
    modality: str,
    media_root: Path,
    embeddings: Path | None = None,
) -> tuple[Path, dict[str, Any]]:
    """An index whose only space this kind fills, and what fitting it took.

    Embeddings, and what was learned, are those of an earlier run where nothing has changed, or of
    another index.
    """
    space = {"name": "one", "item": modality, "encoders": {modality: dict(told)}}
    version = hashlib.sha256(repr((sorted(told.items()), rows)).encode()).hexdigest()[:12]
    folder = cache_folder() / "bench-kinds" / f"{modality}-{version}"
    if embeddings is not None and not folder.exists():
        (folder / "store").mkdir(parents=True)
        shutil.copyfile(embeddings / "store" / "data.mdb", folder / "store" / "data.mdb")
    timer = StageTimer()
    columns: dict[str, Any] = {modality: modality}
    build_index(
        rows,
        folder,
        **columns,
        media_root=media_root,
        preset={"name": "one", "spaces": [space]},
        device="cpu",
        profile="exact",
        progress=timer,
    )
    seconds = folder.with_suffix(".json")
    trained = [took for stage, took in timer.seconds.items() if stage.startswith("train")]
    if trained:
        seconds.write_text(json.dumps({"train_s": rounded(sum(trained), 3)}), "utf-8")
    return folder, json.loads(seconds.read_text("utf-8")) if seconds.is_file() else {}


def encoder_of(index: Path) -> Encoder:
    """The encoder of an index's only space, with what it learned."""
    with opened_for_writing(index) as opened:
        (space,) = opened.recipe.spaces
        spec, modality = space.spec.encoders[space.spec.item], space.spec.item
        fitted = wanted_by(space.spec)
        state = opened.snapshot.state(space.fingerprints[modality]) if fitted else None
    return load_encoder(spec, "cpu", state=state)


def rates(
    encoders: Mapping[str, Encoder], modality: str, inputs: Iterable[bytes]
) -> dict[str, Any]:
    """Dimension and inputs per second of each, `prepare` included, by turns."""
    asked = list(inputs)
    contestants: dict[str, Callable[[], float]] = {
        name: partial(_encode, encoder, modality, asked) for name, encoder in encoders.items()
    }
    for encoder in encoders.values():
        _encode(encoder, modality, asked[:16])
    found = {}
    for name, taken in interleave_whole(contestants, rounds=_ROUNDS).items():
        found[name] = {
            "dimension": encoders[name].dimension,
            "per_second": rounded(len(asked) / median(taken), 3),
        }
        say(f"  {name}: {found[name]}")
    return found


def _encode(encoder: Encoder, modality: str, asked: Sequence[bytes]) -> float:
    started = perf_counter()
    encode_all(encoder, modality, [encoder.prepare(modality, one) for one in asked])
    return perf_counter() - started
