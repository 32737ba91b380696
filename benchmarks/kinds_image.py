"""Image kinds: pictures of clip art whose nearest are of the same category."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from catalens import Query, Retriever

from .corpus import SEED
from .fusion_data import Row, clipart_split, mean_of
from .harness import Target, rounded, say
from .kinds_index import built, encoder_of, rates

KINDS: dict[str, dict[str, Any]] = {
    "efficientnet-lite": {"kind": "efficientnet-lite"},
    "cnn": {"kind": "cnn"},
    "cnn, untrained": {"kind": "cnn", "epochs": 0},
}
K = 10
GAIN = 1.5
_TIMED = 128


def measure(items: int | None) -> tuple[dict[str, Any], list[Target]]:
    """Category precision@10 of the nearest pictures, and rates, for each kind."""
    split = clipart_split(items)
    rows = [
        {"id": row["id"], "image": row["image"], "category": row["category"]}
        for row in (*split.learned, *split.judged)
        if "image" in row and "category" in row
    ]
    figures: dict[str, Any] = {"pictures": len(rows), "rate_pictures": _TIMED, "kinds": {}}
    encoders = {}
    for name, told in KINDS.items():
        everything = split.folder / "all.idx"
        known = everything if everything.is_dir() and name == "efficientnet-lite" else None
        index, taken = built(rows, told, "image", split.media_root, known)
        figures["kinds"][name] = {**taken, **_precision(index)}
        encoders[name] = encoder_of(index)
        say(f"  {name}: {figures['kinds'][name]}")
    drawn = np.random.default_rng(SEED).permutation(len(rows))[:_TIMED].tolist()
    contents = [(split.media_root / rows[n]["image"]).read_bytes() for n in drawn]
    for name, found in rates(encoders, "image", contents).items():
        figures["kinds"][name] |= found
    return figures, _targets(figures["kinds"])


def _precision(index: Path) -> dict[str, float]:
    """The share of the ten nearest pictures that are of a picture's category: over all pictures,
    and the mean over categories, of which three hold half of all."""
    with Retriever.open(index, device="cpu") as shop:
        internals: Any = shop
        category = {
            r.id: r.metadata["category"] for _, r in internals._view.snapshot.scan_records()
        }
        answers = shop.search_many([Query(like=[one]) for one in category], K)
    each = defaultdict(list)
    for one, hits in zip(category, answers, strict=True):
        share = mean_of(category[hit.id] == category[one] for hit in hits)
        each[category[one]].append(share)
    return {
        "category_precision_at_10": rounded(mean_of(x for some in each.values() for x in some)),
        "mean_over_categories": rounded(mean_of(mean_of(some) for some in each.values())),
    }


def _targets(kinds: dict[str, Row]) -> list[Target]:
    targets = []
    for measure in ("category_precision_at_10", "mean_over_categories"):
        trained, untrained, ready = (
            kinds[name][measure] for name in ("cnn", "cnn, untrained", "efficientnet-lite")
        )
        named = f"nearest pictures, {measure.replace('_', ' ')}"
        targets += [
            Target(
                f"{named}: cnn to its untrained self",
                f">= {GAIN:g}x",
                f"{trained / untrained:.2f}x ({trained:.3f} against {untrained:.3f})",
                trained >= GAIN * untrained,
            ),
            Target(
                f"{named}: efficientnet-lite to the untrained cnn",
                "more",
                f"{ready:.3f} against {untrained:.3f}",
                ready > untrained,
            ),
        ]
    return targets
