"""What the child process asks of a library."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Settings = Mapping[str, Any]
Ids = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Sizes:
    """Bytes of a built index.

    `vectors` are the vectors it keeps to score candidates, in whatever precision; `index` is all
    else that a search reads to name the k best; `besides` is what it stores and does not need for
    that, such as metadata.
    """

    index: int
    vectors: int
    besides: int
    where: str
    """`disk`, or `memory` where it cannot be saved."""


class Adapter(ABC):
    """One library with one index. `choose` comes before `batch` and `one`, which alone are timed.

    What the library wants to be handed (its own query objects, lists in place of arrays) is made
    in `choose`; plain ids are taken out of its answers by `batch_ids` and `one_ids`.
    """

    package: str
    """The distribution whose version is reported."""
    threads: str
    """How the library itself is kept to one thread, besides the environment and the core."""
    rows: Path | None = None
    """Metadata of the items, a JSON line each, set before `build`: for who keeps any."""
    indexing_s: float | None = None
    """Seconds of `build` from vectors to an index, set by who does more in it than that."""

    def __init__(self, k: int, core: int) -> None:
        self.k = k
        self.core = core

    @abstractmethod
    def build(self, vectors: Vectors, folder: Path, settings: Settings) -> None:
        """Index float32 unit vectors (n, d), whose ids are 0 .. n-1. Timed."""

    def tune(self) -> None:  # noqa: B027  # few have anything to do here
        """Find out how to be searched, by the library's own means. Timed apart."""

    @abstractmethod
    def sizes(self, folder: Path) -> Sizes:
        """What the index takes; saved, if it is not yet, into the folder, which goes after."""

    @abstractmethod
    def choose(self, setting: Settings, queries: Vectors) -> None:
        """Take a setting and queries (m, d) for the calls that follow."""

    @abstractmethod
    def batch(self) -> Any:
        """Answer all queries by the library's own batch call."""

    @abstractmethod
    def one(self, number: int) -> Any:
        """Answer the query of that number alone."""

    def batch_ids(self, answer: Any) -> Ids:
        """Ids in an answer of `batch`."""
        return [[int(i) for i in row] for row in answer]

    def one_ids(self, answer: Any) -> Sequence[int]:
        """Ids in an answer of `one`."""
        return self.batch_ids([answer])[0]


def bytes_under(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def float_bytes(vectors: Vectors) -> int:
    """What the vectors take in single precision."""
    return int(np.prod(vectors.shape)) * 4
