"""What a generation is made of, written down and checked when read."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from encoders import SpaceSpec

from .errors import CorruptIndexError, UnsupportedFormatError
from .layout import FORMAT, GenerationLayout
from .missing import Policy
from .plan import Profile
from .row_codecs import RowType


class Strict(BaseModel):
    """A value that is written down: no field but those named here, and none that changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FileEntry(Strict):
    """Size in bytes and SHA-256 of one derived file."""

    bytes: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class HeadEntry(Strict):
    """An alignment head by which a modality reaches a space; see `heads.AlignedReach`."""

    source: str
    fingerprint: str
    trust: float
    strength: float


class ReachedSpace(Strict):
    """A space, and what reaches it."""

    spec: SpaceSpec
    fingerprints: dict[str, str]
    """Fingerprint of the encoder of each modality that reaches the space."""
    heads: dict[str, HeadEntry]
    """Modalities that reach it through a head."""

    @property
    def modalities(self) -> tuple[str, ...]:
        """All that reach the space."""
        return (*self.fingerprints, *self.heads)


class SpaceEntry(ReachedSpace):
    """A space as it was built."""

    dimension: int
    """Length of its block."""
    coverage: int
    """Items that have a block."""
    imputed: int
    """Items whose block is imputed."""
    bit: int
    """Its bit in a record's mask."""


class PointEntry(Strict):
    """An operating point, and what was measured at it; see `searcher.OperatingPoint`."""

    nprobe: int
    k_factor: int
    recall: Annotated[dict[str, float], Field(min_length=1)]
    """recall@10 against an exact scan of float16 rows, ties allowed, for each condition."""
    p50_ms: float
    p99_ms: float
    """Milliseconds of a single query for 10 hits, on one thread, without a filter."""
    queries_per_second: float
    """In a batch, on `IndexEntry.threads`."""

    @property
    def worst(self) -> float:
        """The lowest recall of all conditions."""
        return min(self.recall.values())


class IndexEntry(Strict):
    """The FAISS index and the points it can be searched at."""

    kind: str
    profile: Profile
    factory: str
    dimension: int
    lists: int
    code_bytes: int
    target: float
    """The worst recall that queries get which ask for none, where any point reaches it."""
    points: Annotated[list[PointEntry], Field(min_length=1)]
    """Each finds more than the one before, and takes longer."""
    against: list[PointEntry]
    """The same for queries that are against a space; empty where those take `points`."""
    exact_rows: int
    """Up to so many rows that a filter allows are scanned without codes."""
    threads: int
    """For batches; 0 for as many as there are cores."""
    rows: RowType = "float16"
    rows_recall: float = 1.0
    """recall@10 of an exact scan of the rows, under the worst condition: below 1 where they were
    rounded to int8, and then no point's recall is told to be higher."""
    trained_error: float | None = None
    """The part of their squared length that the rows trained on lose in codes; None where there are
    none, or nothing can be added to them without training."""
    folded_error: float | None = None
    """The same of the rows that were folded in last, without training."""

    def cheapest(self, recall: float, *, against: bool = False) -> PointEntry | None:
        """The first point whose worst recall reaches that; None where no point does."""
        points = self.against if against and self.against else self.points
        return next((point for point in points if point.worst >= recall), None)

    def default(self, *, against: bool = False) -> PointEntry:
        """The point of queries that ask for no recall: the cheapest that reaches the target, or
        else the best."""
        points = self.against if against and self.against else self.points
        return self.cheapest(self.target, against=against) or points[-1]

    @property
    def recall(self) -> dict[str, float]:
        """recall@10 of the default points under each condition; the lower where both have it."""
        toward, against = self.default().recall, self.default(against=True).recall
        return {
            name: min(known[name] for known in (toward, against) if name in known)
            for name in {**toward, **against}
        }


class CatalogEntry(Strict):
    """Where the items came from."""

    name: str
    media_root: str
    columns: dict[str, object]


class BehaviourEntry(Strict):
    """What the space of item vectors was learned from; see `learn_behaviour`."""

    method: Literal["ease", "als", "bpr"]
    users: int
    interactions: int
    neutral: float
    """The value of an interaction that says nothing."""
    liked: float
    """The value from which on an item counts as liked."""
    histories: bool
    """Whether the store knows what each user did."""


class Manifest(Strict):
    """The manifest of a generation."""

    format: int
    catalens: str
    edition: int
    generation: int
    created: str
    items: int
    dimension: int
    fusion: str
    missing: Policy
    """What becomes of a block that an item lacks, unless a query says otherwise."""
    weights_from: Literal["preset", "given", "learned"]
    """Where the spaces' default weights come from."""
    device: str
    spaces: list[SpaceEntry]
    index: IndexEntry
    catalog: CatalogEntry
    behaviour: BehaviourEntry | None = None
    """None where there is no space of item vectors."""
    files: dict[str, FileEntry]
    ranking: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    """The basis of its re-ranking heads, see `ranking.basis_of`; None where it has none."""

    @property
    def fitted(self) -> list[str]:
        """The files that embeddings alone do not give."""
        layout = GenerationLayout
        optional = (layout.RANKING, layout.RANKING_WEIGHTS)
        return [*layout.FITTED, *(name for name in optional if name in self.files)]

    def dump(self) -> bytes:
        """JSON, indented, with a newline at its end."""
        options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
        return orjson.dumps(self.model_dump(mode="json"), option=options)

    @classmethod
    def load(cls, data: bytes, sha256: str) -> Manifest:
        """Read a manifest whose hash the store knows.

        Raises:
            CorruptIndexError: other bytes than were written.
            UnsupportedFormatError: a newer format.
        """
        got = hashlib.sha256(data).hexdigest()
        if got != sha256:
            raise corrupt("manifest", f"SHA-256 {sha256[:16]}...", f"{got[:16]}...")
        try:
            value = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise corrupt("manifest", "JSON", str(error)) from error
        if not isinstance(value, dict):
            raise corrupt("manifest", "a JSON object", type(value).__name__)
        if value.get("format") != FORMAT:
            raise UnsupportedFormatError(
                "generation",
                expected=f"format {FORMAT}",
                got=f"format {value.get('format')}",
                remedy="Upgrade Catalens to the version that wrote it, or build it again.",
            )
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise corrupt("manifest", "the fields of format 1", str(error.errors()[0])) from error

    @property
    def weights(self) -> dict[str, float]:
        """Default weight of each space, in block order."""
        return {space.spec.name: space.spec.weight for space in self.spaces}


def corrupt(what: str, expected: str, got: str) -> CorruptIndexError:
    """The error for a derived file that is not what was written."""
    return CorruptIndexError(
        what,
        expected=expected,
        got=got,
        remedy="Run `catalens repair`. Build the index again from the catalog where that is not "
        "enough; what it has embeddings of is not encoded again.",
    )
