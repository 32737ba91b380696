"""What becomes of a block that an item lacks.

    neutral      zero: the similarity of an average item, neither reward nor penalty
    impute       estimated from what the item has, by what else reaches the space; shorter than a
                 block that is there, so that it counts less
    renormalise  a query's score is the weighted mean over the spaces that both sides have
    drop         a query does not return items that lack a space it asks

`impute` is a matter of the rows, settled when an index is built or rebuilt; the others are the
query's to choose.
"""

from __future__ import annotations

from typing import Literal, cast, get_args

from .errors import PolicyError

Policy = Literal["neutral", "impute", "renormalise", "drop"]
POLICIES: tuple[str, ...] = get_args(Policy)

MISSING, PRESENT, IMPUTED = 0, 1, 2
"""States of a block, as a generation's mask holds them."""


def check_policy(policy: str) -> Policy:
    """Return the policy.

    Raises:
        PolicyError: there is none of that name.
    """
    if policy not in POLICIES:
        raise PolicyError(
            "policy for missing modalities",
            expected=f"one of {', '.join(POLICIES)}",
            got=repr(policy),
            remedy="See `missing` in the README.",
        )
    return cast("Policy", policy)


def renormalise_needs(keeps_spaces_apart: bool, fusion: str) -> None:
    """Refuse `renormalise` where similarity in one space cannot be told from the others.

    Raises:
        PolicyError: it cannot.
    """
    if not keeps_spaces_apart:
        raise PolicyError(
            "policy `renormalise`",
            expected="a fusion that keeps spaces apart: concat or attention",
            got=f"fusion {fusion}",
            remedy="Choose another policy, or rebuild with one of these fusions.",
        )
