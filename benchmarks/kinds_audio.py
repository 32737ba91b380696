"""Audio kinds: spoken descriptions of stamps, found again through noise, and in a language that was
not in the index."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from catalens import Query, Retriever
from encoders.audio import decode_audio

from .corpus import SEED
from .fusion_data import Row, mean_of, stamps_split
from .harness import Target, rounded, say
from .kinds_index import built, encoder_of, rates

KINDS: dict[str, dict[str, Any]] = {
    "mfcc": {"kind": "mfcc"},
    "log-mel": {"kind": "log-mel"},
    "mel-course": {"kind": "mel-course"},
    "mel-lstm": {"kind": "mel-lstm"},
    "mel-lstm, untrained": {"kind": "mel-lstm", "epochs": 0},
}
HELD_OUT = "ca"
K = 10
GAIN = 1.5
_TIMED = 256
_AUGMENTED = 1000
_RATE = 16_000
_CUT = 0.1
_SNR_DB = (0.0, 10.0)
# Ten items have fewer clips than this together.
_CLIPS = 200


def measure(items: int | None) -> tuple[dict[str, Any], list[Target]]:
    """Recall of clips, and rates, for each kind."""
    split = stamps_split(items)
    spoken = [
        {"id": f"{row['id']} {language}", "audio": clip, "item": row["id"], "language": language}
        for row in (*split.learned, *split.judged)
        for language, clip in row["spoken"].items()
    ]
    rows = [row for row in spoken if row["language"] != HELD_OUT]
    known = {row["item"] for row in rows}
    asked = [row for row in spoken if row["language"] == HELD_OUT and row["item"] in known]
    drawn = np.random.default_rng(SEED).permutation(len(rows))[:_AUGMENTED].tolist()
    same = _same_clips(rows, split.media_root)
    noisy = {n: _augmented(split.media_root / rows[n]["audio"], n) for n in drawn}
    figures: dict[str, Any] = {
        "clips": len(rows),
        "items": len(known),
        "augmented": len(noisy),
        "queries_held_out": len(asked),
        "chance_held_out": rounded(K / len(known)),
        "rate_clips": _TIMED,
        "kinds": {},
    }
    encoders = {}
    for name, told in KINDS.items():
        index, taken = built(rows, told, "audio", split.media_root)
        figures["kinds"][name] = {
            **taken,
            "augmented_recall_at_1": _found_again(index, rows, noisy, same),
            "held_out_recall_at_10": _understood(index, asked, split.media_root),
        }
        encoders[name] = encoder_of(index)
        say(f"  {name}: {figures['kinds'][name]}")
    contents = [(split.media_root / rows[n]["audio"]).read_bytes() for n in drawn[:_TIMED]]
    for name, found in rates(encoders, "audio", contents).items():
        figures["kinds"][name] |= found
    return figures, _targets(figures["kinds"])


def _same_clips(rows: Sequence[Row], root: Path) -> dict[str, set[str]]:
    """For each row, the rows whose clip has the same bytes: no encoder can tell them apart."""
    by_content = defaultdict(set)
    digests = {r["id"]: hashlib.sha256((root / r["audio"]).read_bytes()).digest() for r in rows}
    for one, digest in digests.items():
        by_content[digest].add(one)
    return {one: by_content[digest] for one, digest in digests.items()}


def _augmented(clip: Path, seed: int) -> bytes:
    """The clip with up to a tenth cut off on both sides, in white noise of 0 to 10 dB."""
    rng = np.random.default_rng(seed)
    wave = decode_audio(clip.read_bytes(), sample_rate=_RATE)
    first, last = (int(rng.uniform(0, _CUT) * len(wave)) for _ in range(2))
    wave = wave[first : len(wave) - last]
    power = float((wave**2).mean()) / 10 ** (rng.uniform(*_SNR_DB) / 10)
    noise = rng.normal(0, np.sqrt(power), len(wave))
    file = BytesIO()
    soundfile.write(file, np.clip(0.5 * (wave + noise), -1, 1), _RATE, format="WAV")
    return file.getvalue()


def _found_again(
    index: Path, rows: Sequence[Row], noisy: Mapping[int, bytes], same: Mapping[str, set[str]]
) -> float:
    with Retriever.open(index, device="cpu") as shop:
        answers = shop.search_many([Query(audio=clip) for clip in noisy.values()], 1)
    return rounded(
        mean_of(hits[0].id in same[rows[n]["id"]] for n, hits in zip(noisy, answers, strict=True))
    )


def _understood(index: Path, asked: Sequence[Row], root: Path) -> float:
    """The share of clips whose item is among the first ten, by the most similar of its clips."""
    with Retriever.open(index, device="cpu") as shop:
        queries = [Query(audio=root / row["audio"]) for row in asked]
        answers = shop.search_many(queries, min(_CLIPS, len(shop)))
    found = []
    for row, hits in zip(asked, answers, strict=True):
        items = list(dict.fromkeys(hit.metadata["item"] for hit in hits))
        found.append(row["item"] in items[:K])
    return rounded(mean_of(found))


def _targets(kinds: dict[str, Row]) -> list[Target]:
    targets = []
    for measure, told in (
        ("augmented_recall_at_1", "clip in noise to itself, recall@1"),
        ("held_out_recall_at_10", "language not in the index to the item, recall@10"),
    ):
        trained, untrained = (kinds[name][measure] for name in ("mel-lstm", "mel-lstm, untrained"))
        targets.append(
            Target(
                f"{told}: mel-lstm to its untrained self",
                f">= {GAIN:g}x",
                f"{trained / untrained:.2f}x ({trained:.3f} against {untrained:.3f})",
                trained >= GAIN * untrained,
            )
        )
    return targets
