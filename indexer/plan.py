"""Which index a catalog gets: one table, from measurements.

| profile  | index                            | resident, bytes a row | rows    | for             |
|----------|----------------------------------|-----------------------|---------|-----------------|
| `exact`  | a scan of the rows, mapped       | 0                     | float16 | 2 10^7 values   |
| `fast`   | IVF, 4-bit codes of 4 dimensions | D/8 + 8               | float16 | anything larger |
| `memory` | IVF, 4-bit codes of 8 dimensions | D/16 + 8              | int8    | little memory   |
| `gpu`    | IVF, 8-bit codes, as GPUs have   | up to D/4 + 8         | float16 | faiss-gpu       |

`auto` is `exact` while a scan is quick, then `fast`, or on a GPU `gpu`; fewer than 1,000 rows, on
which nothing can be trained, are `exact` whatever is asked.

Every profile scores by rows on disk, and may have either kind: float16 takes 2 bytes a dimension,
int8 one (`row_codecs.py`). What int8 loses is measured at the build and told. Reasons, measured
with 384 dimensions on two AVX-512 cores where nothing else is said:

- A scan of float16 rows costs 1.7 ms at 50,000 rows on one core, half of what it costs in float32,
  and finds everything. Codes answer in 0.1 ms from there on, and nothing is lost by starting late.
- Fast scan (Andre et al. 2015, arXiv:1704.07355) reads 4-bit codes in registers. With codes of 4
  dimensions 40 candidates for 10 hits give recall@10 of .96 on 116,033 glosses.
- No rotation (OPQ, RaBitQ) and no sub-vector across two spaces: either mixes what queries weigh
  apart, which ruins recall under skewed weights.
- Spherical k-means, since similarity is by inner product. About 1.5 sqrt(n) lists: at 116,033 rows
  512 lists find more at the same speed than 1,024 or 2,048, and a graph (HNSW) to choose them by
  brings nothing. From 4,096 lists on it is taken: of a million rows, batches of 48 to 160 lists
  then take 6 to 24 % less time, single queries 3 to 13 % less or (160 lists) 7 % more, and find up
  to .004 less.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from .errors import ProfileError
from .fusion import BLOCK_ALIGNMENT
from .gpu import SUBQUANTIZERS
from .row_codecs import RowType

Profile = Literal["auto", "exact", "fast", "memory", "gpu"]

EXACT_VALUES = 20_000_000
"""Values (rows times dimensions) up to which `auto` scans: 52,000 rows of 384 dimensions."""
LEAST_CODED = 1_000
"""Rows below which there is nothing to train codes on, and a scan costs nothing: always `exact`."""
_SCANNED = {"float16": ("SQfp16", 2), "int8": ("SQ8", 1)}
"""FAISS's name for rows that are scanned, and bytes a dimension."""
_TRAIN_PER_LIST = 64
_MIN_TRAIN = 32_768
_GRAPH_FROM_LISTS = 4_096


def check_profile(profile: str) -> Profile:
    """Return the profile.

    Raises:
        ProfileError: there is none of that name.
    """
    for known in get_args(Profile):
        if profile == known:
            return known  # type: ignore[no-any-return]
    raise ProfileError(
        "profile",
        expected=f"one of {', '.join(get_args(Profile))}",
        got=repr(profile),
        remedy="Leave it out for `auto`.",
    )


def rows_of(profile: Profile) -> RowType:
    """The type of rows that a profile takes unless told otherwise."""
    return "int8" if profile == "memory" else "float16"


@dataclass(frozen=True)
class Plan:
    """The index that a catalog gets.

    `kind` is `exact`, `ivf-pq` or `custom`; `factory` FAISS's own name for the index, `dimension`
    what it is made for: vectors that are shorter are padded with zeros. `lists` is 1 where there
    are none. `code_bytes` is the size of one code. `profile` is what was asked for, `rows` the
    type of the rows that give the scores.
    """

    kind: str
    factory: str
    dimension: int
    lists: int
    code_bytes: int
    train_rows: int
    profile: Profile
    rows: RowType = "float16"

    @classmethod
    def choose(
        cls,
        n: int,
        dimension: int,
        starts: Sequence[int],
        profile: Profile,
        *,
        gpu: bool,
        rows: RowType = "float16",
    ) -> Plan:
        """Choose by the table above.

        Args:
            n: rows.
            dimension: of the fused vectors.
            starts: where the blocks of the spaces start in them.
            profile: a row of the table.
            gpu: whether the index will be searched on a GPU.
            rows: type of the rows that give the scores.
        """
        quick = n < LEAST_CODED or (profile == "auto" and n * dimension <= EXACT_VALUES)
        if profile == "exact" or quick:
            factory, bytes_each = _SCANNED[rows]
            return cls("exact", factory, dimension, 1, bytes_each * dimension, 0, profile, rows)
        # A power of two.
        lists = 1 << round(np.log2(1.5 * np.sqrt(n)))
        train = min(n, max(_MIN_TRAIN, _TRAIN_PER_LIST * lists))
        coarse = f"IVF{lists}" if lists < _GRAPH_FROM_LISTS else f"IVF{lists}_HNSW32"
        if profile == "gpu" or (profile == "auto" and gpu):
            m, width = _gpu_code(dimension, starts)
            # With np: without polysemous training, which takes five times as long and serves none.
            factory = f"IVF{lists},PQ{m}x8np"
            return cls("ivf-pq", factory, m * width, lists, m, train, profile, rows)
        width = BLOCK_ALIGNMENT
        aligned = math.gcd(*starts) or dimension
        if profile == "memory" and dimension % (2 * width) == aligned % (2 * width) == 0:
            width *= 2
        m = dimension // width
        factory = f"{coarse},PQ{m}x4fs"
        return cls("ivf-pq", factory, dimension, lists, -(-m // 2), train, profile, rows)

    @classmethod
    def custom(cls, n: int, dimension: int, factory: str, rows: RowType = "float16") -> Plan:
        """An index by FAISS's own name; what it consists of shows when it is there."""
        return cls("custom", factory, dimension, 1, 0, min(n, 4 * _MIN_TRAIN), "auto", rows)


def _gpu_code(dimension: int, starts: Sequence[int]) -> tuple[int, int]:
    """Number and width of sub-vectors: as narrow as a GPU can have, none across two spaces."""
    aligned = math.gcd(*starts) or dimension
    width = BLOCK_ALIGNMENT
    while width <= aligned:
        if aligned % width == 0:
            for m in SUBQUANTIZERS:
                if m * width >= dimension:
                    return m, width
        width *= 2
    # So many dimensions, so oddly cut: wide sub-vectors that straddle, which rescoring mends.
    return SUBQUANTIZERS[-1], -(-dimension // SUBQUANTIZERS[-1])
