"""Re-ranking heads as they lie beside a generation: JSON that says what they are, and tensors.

An index has at most one head for each task: `search`, learned from judged queries, and
`recommend`, learned from what users did.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from indexer.errors import CorruptIndexError, UnsupportedFormatError
from indexer.ranking import RankingFiles

from .errors import HeadMismatchError
from .features import FeatureSpec
from .model import HeadModel

FORMAT = 1
MOST_DEPTH = 10_000
Task = Literal["search", "recommend"]
_Part = Annotated[float, Field(ge=0, le=1)]


class Strict(BaseModel):
    """A value that is written down: no field but those named here, and none that changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Privacy(Strict):
    """That a head was trained with (epsilon, delta) differential privacy; of one `unit`."""

    epsilon: Annotated[float, Field(gt=0)]
    delta: Annotated[float, Field(gt=0, lt=1)]
    unit: Literal["query", "user"]


class HeadEntry(Strict):
    """What a head is, and what it was worth on queries held out."""

    created: str
    features: FeatureSpec
    names: list[str]
    """Those that `features` had when it was learned: another version may have others."""
    depth: Annotated[int, Field(ge=1, le=MOST_DEPTH)]
    """So many candidates are re-ranked."""
    model: Literal["linear", "mlp"]
    loss: Literal["pointwise", "pairwise", "listwise"]
    queries: Annotated[int, Field(ge=1)]
    held_out: Annotated[int, Field(ge=1)]
    fused: _Part
    """NDCG@10 by the fused score, on queries held out; `learned` by the head."""
    learned: _Part
    p: _Part
    forced: bool
    privacy: Privacy | None = None


class _Description(Strict):
    format: int
    basis: str
    heads: Annotated[dict[Task, HeadEntry], Field(min_length=1)]


@dataclass(frozen=True)
class RankingHead:
    """A head that was learned: what it is, and its weights."""

    entry: HeadEntry
    model: HeadModel


def dump_ranking(basis: str, heads: Mapping[Task, RankingHead]) -> RankingFiles:
    """The files of some heads."""
    description = _Description(
        format=FORMAT, basis=basis, heads={task: one.entry for task, one in heads.items()}
    )
    tensors = {
        f"{task}/{name}": np.ascontiguousarray(tensor)
        for task, head in heads.items()
        for name, tensor in head.model.tensors().items()
    }
    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    return RankingFiles(
        basis,
        orjson.dumps(description.model_dump(mode="json"), option=options),
        bytes(save_tensors(tensors)),
    )


def load_ranking(files: RankingFiles | None, spaces: Iterable[str]) -> dict[Task, RankingHead]:
    """The heads of an index, checked; none where it has none.

    Args:
        files: see `indexer.ranking.read_ranking`.
        spaces: those of the index.

    Raises:
        CorruptIndexError: the files are not what was written.
        UnsupportedFormatError: a newer format.
        HeadMismatchError: a head that was learned for another index, or from other features.
    """
    if files is None:
        return {}
    description = _description(files.description)
    if description.basis != files.basis:
        raise _mismatch("what this index scores by", "what another scored by")
    try:
        tensors = load_tensors(files.weights)
    except Exception as error:
        raise _corrupt("the tensors of each head, as safetensors", str(error)) from error
    known = list(spaces)
    heads: dict[Task, RankingHead] = {}
    for task, entry in description.heads.items():
        if entry.features.spaces != known:
            raise _mismatch(f"the spaces {known}", f"{entry.features.spaces}")
        if entry.names != entry.features.names:
            raise _mismatch(
                f"{len(entry.features.names)} features as this version reads them",
                f"{len(entry.names)} of another",
            )
        prefix = f"{task}/"
        own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        model = HeadModel.from_tensors(own)
        if len(model.mean) != len(entry.names):
            raise _mismatch(f"weights for {len(entry.names)} features", f"for {len(model.mean)}")
        heads[task] = RankingHead(entry, model)
    return heads


def _description(data: bytes) -> _Description:
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise _corrupt("JSON", str(error)) from error
    if isinstance(value, dict) and value.get("format", FORMAT) != FORMAT:
        raise UnsupportedFormatError(
            "re-ranking head",
            expected=f"format {FORMAT}",
            got=f"format {value.get('format')!r}"[:40],
            remedy="Upgrade Catalens to the version that wrote it, or learn the head again.",
        )
    try:
        return _Description.model_validate(value)
    except ValidationError as error:
        raise _corrupt("the fields of format 1", str(error.errors()[0])) from error


def _corrupt(expected: str, got: str) -> CorruptIndexError:
    return CorruptIndexError(
        "re-ranking head",
        expected=expected,
        got=got,
        remedy="Learn it again: catalens learn head INDEX.",
    )


def _mismatch(expected: str, got: str) -> HeadMismatchError:
    return HeadMismatchError(
        "re-ranking head",
        expected=expected,
        got=got,
        remedy="Learn one for this index: catalens learn head INDEX --judgements FILE.",
    )
