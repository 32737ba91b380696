"""How well fusions find things, whole and with holes; what heads find that carries no text.

Learned on four fifths of the groups of the clip art and judged on the others, through the
product's own index:

- success@k of a text for held-out pictures without text;
- NDCG@10 of a title for the items that carry it, with 0 to 75 % of the items lacking their picture
  or their text, for each fusion and policy and for each space alone;
- the share of an item's ten neighbours that are of its category;
- recall@10 of the index against an exact scan under skewed weights;
- and on the stamps, recall@10 of a description spoken in Catalan, which the head never heard.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from catalens import Query, Retriever, learn_alignment, learn_fusion, rebuild_index

from .corpus import SEED
from .fusion_data import (
    Doubles,
    K,
    Row,
    Split,
    clipart_split,
    mean_of,
    ndcg,
    relevant_by,
    stamps_split,
    transfer,
    with_holes,
    write_judgements,
)
from .harness import Options, Result, Target, command, cores, rounded, say

SHARES = (0.0, 0.25, 0.5, 0.75)
RANKS = (1, 10, 50)
_ASKED = 1500
_MAPPED: Mapping[str, Any] = {"text": "text", "image": "image"}
_TEXT, _PICTURE = "minilm", "efficientnet"


def learn_all(split: Split) -> tuple[dict[str, Path], dict[str, Any]]:
    """Indexes of all items, one for each fusion, and what learning took. Those to be judged by are
    in them without their texts, so that nothing can be learned from them."""
    judgements = write_judgements(
        split.folder / "titles.jsonl", relevant_by(split.learned, "title")
    )
    base = split.build(
        "learned.idx",
        [
            *({**row, "part": "learned"} for row in split.learned),
            *({**_bare(row), "part": "judged"} for row in split.judged if "image" in row),
        ],
        **_MAPPED,
    )
    seconds: dict[str, float] = {}
    heads = learn_alignment(base)
    seconds["alignment, both ways"] = rounded(heads.seconds)
    found: dict[str, Any] = {
        "heads": [
            {
                "from": head.source,
                "to": head.target,
                "pairs": head.report.pairs,
                "kind": head.report.kind,
                "chance_at_10": rounded(head.report.chance[K]),
                "held_out_recall_at_10": rounded(head.report.recall[K]),
                "trust": rounded(head.report.trust),
            }
            for head in heads.heads
            if head.report is not None
        ]
    }
    learned = {"preset weights": _copy(base, split.folder / "learned-preset.idx")}
    for fusion, missing in (("concat", "impute"), ("attention", "neutral"), ("neural", "neutral")):
        summary = learn_fusion(base, fusion=fusion, missing=missing, judgements=judgements)
        seconds[fusion] = rounded(summary.seconds)
        say(f"  learned {fusion}: {summary.report}")
        learned[fusion] = _copy(base, split.folder / f"learned-{fusion}.idx")
        if fusion == "concat":
            found["weights"] = summary.weights
    rebuild_index(base, fusion="mean", missing="neutral")
    learned["mean"] = base
    return learned, {**found, "seconds": seconds}


def _bare(row: Row) -> Row:
    return {name: row[name] for name in ("id", "image", "category") if name in row}


def _copy(index: Path, to: Path) -> Path:
    shutil.rmtree(to, ignore_errors=True)
    return Path(shutil.copytree(index, to, ignore=shutil.ignore_patterns("lock.mdb")))


def text_to_picture(split: Split, learned: Mapping[str, Path]) -> dict[str, Any]:
    """Success@k of the different texts among held-out items, none of which shows its text."""
    pictured = [row for row in split.judged if "image" in row]
    texts = relevant_by(pictured, "text")
    seen = set(relevant_by(split.learned, "text"))
    queries = [Query(text=text) for text in texts]
    found: dict[str, Any] = {
        "items": len(pictured),
        "texts": len(texts),
        "of them in the learned part too": sum(text in seen for text in texts),
    }
    for name, missing in (("head to pictures", "neutral"), ("both heads", "impute")):
        with Retriever.open(learned["concat"], device="cpu") as shop:
            asked = [Query(text=q.parts[0].value, missing=missing) for q in queries]
            answers = shop.search_many(asked, 50, where='part = "judged"')
        ranks = {
            text: next((r for r, hit in enumerate(hits) if hit.id in texts[text]), 1_000)
            for text, hits in zip(texts, answers, strict=True)
        }
        found[name] = {
            "success": {str(k): rounded(mean_of(r < k for r in ranks.values())) for k in RANKS},
            "success of new texts": {
                str(k): rounded(mean_of(r < k for t, r in ranks.items() if t not in seen))
                for k in RANKS
            },
        }
    return found


def holes(split: Split, learned: Mapping[str, Path]) -> tuple[dict[str, Any], dict[str, Any]]:
    """NDCG@10 of titles for held-out items, for each contestant and share of holes; and without
    holes what each differs from text alone, with the standard error of that, titles paired."""
    titles = relevant_by(split.judged, "title")
    found: dict[str, dict[str, float]] = {}
    whole: dict[str, Doubles] = {}
    for share in SHARES:
        rows = with_holes(split.judged, share, ("text", "image"))
        index = split.build("judged.idx", rows, **_MAPPED)
        for name, (source, missing, weights) in _contestants(learned).items():
            transfer(source, index, missing)
            each = ndcg(index, titles, weights)
            found.setdefault(name, {})[f"{share:g}"] = rounded(float(each.mean()))
            say(f"  {share:.0%} holes, {name}: NDCG@10 {each.mean():.3f}")
            if share == 0:
                whole[name] = each
    return found, {name: _gain(each - whole["text alone"]) for name, each in whole.items()}


def _gain(each: Doubles) -> dict[str, float]:
    error = float(each.std() / np.sqrt(len(each)))
    return {"difference": rounded(float(each.mean())), "standard_error": rounded(error)}


def _contestants(learned: Mapping[str, Path]) -> dict[str, tuple[Path, str, dict[str, float]]]:
    concat = learned["concat"]
    return {
        "text alone": (concat, "neutral", {_PICTURE: 0.0}),
        "pictures alone": (concat, "neutral", {_TEXT: 0.0}),
        "concat, preset's weights": (learned["preset weights"], "neutral", {}),
        "concat": (concat, "neutral", {}),
        "concat, renormalise": (concat, "renormalise", {}),
        "concat, drop": (concat, "drop", {}),
        "concat, impute": (concat, "impute", {}),
        "mean": (learned["mean"], "neutral", {}),
        "attention": (learned["attention"], "neutral", {}),
        "neural": (learned["neural"], "neutral", {}),
    }


def categories(split: Split, learned: Mapping[str, Path]) -> dict[str, float]:
    """Share of an item's ten neighbours that are of its category, over the whole catalog."""
    index = split.build("all.idx", [*split.learned, *split.judged], **_MAPPED)
    found = {}
    for name, (source, missing, weights) in _contestants(learned).items():
        if missing != "neutral":
            continue
        transfer(source, index, missing)
        found[name] = rounded(_category_precision(index, weights))
        say(f"  category precision@10, {name}: {found[name]}")
    return found


def _category_precision(index: Path, weights: dict[str, float]) -> float:
    with Retriever.open(index, device="cpu") as shop:
        internals: Any = shop
        category = {
            r.id: r.metadata.get("category") for _, r in internals._view.snapshot.scan_records()
        }
        rng = np.random.default_rng(SEED)
        ids = [str(one) for one in rng.permutation(list(category))[:_ASKED]]
        states = internals._view.generation.states
        whole = [
            one
            for one in ids
            # One that has a single space cannot be asked for in the other.
            if states[internals._view.snapshot.row_of(one)].all()
        ]
        answers = shop.search_many([Query(like=[one], weights=weights) for one in whole], K)
    return mean_of(
        mean_of(category[hit.id] == category[one] for hit in hits)
        for one, hits in zip(whole, answers, strict=True)
    )


def skewed(index: Path) -> dict[str, float]:
    """Recall@10 of the index against an exact scan of its rows, ties allowed, under weights.

    Of an index of codes: one of this size would be exact by itself.
    """
    rebuild_index(index, profile="fast")
    with Retriever.open(index, device="cpu") as shop:
        internals: Any = shop
        generation, snapshot = internals._view.generation, internals._view.snapshot
        rows = np.concatenate([rows for _, rows in generation.searcher.rows.chunks()])
        whole = np.flatnonzero((generation.states == 1).all(axis=1))
        chosen = np.random.default_rng(SEED).permutation(whole)[:500].tolist()
        records = snapshot.records(generation.row_numbers[chosen].tolist())
        found = {}
        for name, weights in _SKEWS.items():
            queries = [Query(like=[record.id], weights=weights) for record in records]
            answers = shop.search_many(queries, K)
            good = 0
            for one, hits in zip(internals._view.composer.compose(queries), answers, strict=True):
                scores = rows @ one.vector
                scores[one.excluded] = -np.inf
                bound = np.partition(scores, -K)[-K]
                good += sum(hit.score >= bound - 1e-4 for hit in hits)
            found[name] = rounded(good / (K * len(queries)))
    return found


_SKEWS: dict[str, dict[str, float]] = {
    "defaults": {},
    "1:1": {_TEXT: 1.0, _PICTURE: 1.0},
    "4:1": {_TEXT: 4.0, _PICTURE: 1.0},
    "1:4": {_TEXT: 1.0, _PICTURE: 4.0},
    "text alone": {_TEXT: 1.0, _PICTURE: 0.0},
    "pictures alone": {_TEXT: 0.0, _PICTURE: 1.0},
    "1:-0.5": {_TEXT: 1.0, _PICTURE: -0.5},
    "-0.5:1": {_TEXT: -0.5, _PICTURE: 1.0},
}


def spoken(split: Split, held_out: str = "ca") -> dict[str, Any]:
    """Recall@10 of descriptions spoken in a language that neither index nor head ever heard, for
    the items they describe: items that show and were learned from clips in other languages, and
    items that show no sound; and what carries it, the course of the clip or the heads."""
    rows = []
    for part, some in (("learned", split.learned), ("judged", split.judged)):
        for row in some:
            clips = [clip for lang, clip in sorted(row["spoken"].items()) if lang != held_out]
            bare = {k: v for k, v in row.items() if k != "spoken"} | {"part": part}
            # New items are found by what a clip says of picture and text: they show no sound.
            rows.append(bare | ({"spoken": clips} if clips and part == "learned" else {}))
    mapped = {"text": "title", "image": "image", "audio": "spoken"}
    index = split.build("spoken.idx", rows, preset="spoken", **mapped)
    heads = learn_alignment(index)
    found: dict[str, Any] = {"language": held_out}
    for part, some in (("learned", split.learned), ("judged", split.judged)):
        asked = [row for row in some if held_out in row["spoken"]]
        told = {row["id"]: split.media_root / row["spoken"][held_out] for row in asked}
        found[f"{part} items"] = {
            "queries": len(asked),
            "items": len(some),
            "recall_at_10": _recall_of_clips(index, told, part, _SPOKEN),
            "chance": rounded(K / len(some)),
        }
        if part == "learned":  # New items can be found by heads alone.
            found[f"{part} items"] |= {
                f"recall_at_10, {way}": _recall_of_clips(index, told, part, weights)
                for way, weights in _WAYS_OF_SPEECH.items()
            }
    found["heads"] = {
        f"{head.source} to {head.target}": (
            head.refused
            if head.report is None
            else {
                "pairs": head.report.pairs,
                "held_out_recall_at_10": rounded(head.report.recall[K]),
                "chance": rounded(head.report.chance[K]),
            }
        )
        for head in heads.heads
    }
    return found


# By what the clip says, not by voices that are alike.
_SPOKEN = {"log-mel": 0.0}
_WAYS_OF_SPEECH: dict[str, dict[str, float]] = {
    "course alone": {**_SPOKEN, _TEXT: 0.0, _PICTURE: 0.0},
    "heads alone": {**_SPOKEN, "course": 0.0},
}


def _recall_of_clips(
    index: Path, clips: Mapping[str, Path], part: str, weights: Mapping[str, float]
) -> float:
    """The share of items that are among the ten hits of their part for the clip about them."""
    with Retriever.open(index, device="cpu") as shop:
        queries = [Query(audio=clip, weights=weights) for clip in clips.values()]
        answers = shop.search_many(queries, K, where=f'part = "{part}"')
    return rounded(
        mean_of(one in {hit.id for hit in hits} for one, hits in zip(clips, answers, strict=True))
    )


def run(options: Options) -> Result:
    """Measure all."""
    split = clipart_split(options.items)
    say(f"clip art: {len(split.learned):,} items to learn from, {len(split.judged):,} held out")
    split.build("all.idx", [*split.learned, *split.judged], **_MAPPED)
    learned, figures = learn_all(split)
    figures["text to picture"] = text_to_picture(split, learned)
    say(f"  text to picture: {figures['text to picture']}")
    figures["ndcg_at_10"], figures["gained_on_text_alone"] = holes(split, learned)
    figures["category_precision_at_10"] = categories(split, learned)
    figures["recall_at_10_under_weights"] = skewed(learned["preset weights"])
    say(f"  recall under weights: {figures['recall_at_10_under_weights']}")
    voices = stamps_split(options.items)
    figures["spoken"] = spoken(voices)
    say(f"  spoken: {figures['spoken']}")
    settings = {"dataset": "clip art, stamps", "k": K, "threads": cores(), "seed": SEED}
    return Result("fusion", settings, figures, targets(figures))


def targets(figures: Mapping[str, Any]) -> list[Target]:
    """What issue and README promise, and how it came out."""
    success = figures["text to picture"]["both heads"]["success"]["10"]
    ndcg, precision = figures["ndcg_at_10"], figures["category_precision_at_10"]
    gains = {n: figures["gained_on_text_alone"][n] for n in ("concat", "attention", "neural")}
    lowest, gain = min(gains.items(), key=lambda one: float(one[1]["difference"]))
    half = {name: one["0.5"] for name, one in ndcg.items()}
    fused = {n: p for n, p in precision.items() if "alone" not in n}
    best = max(fused, key=lambda n: fused[n])
    single = max(precision["text alone"], precision["pictures alone"])
    skews = figures["recall_at_10_under_weights"]
    worst = min(skews, key=lambda n: skews[n])
    heard = figures["spoken"]["learned items"]
    slowest = max(figures["seconds"].values())
    other = max(half["concat"], half["concat, renormalise"])
    return [
        _target("text to held-out pictures, success@10", ">= 0.47", success, success >= 0.47),
        _target(
            "title to item with half of the items holed, NDCG@10, attention or neural",
            f"> concat's {half['concat']:.3f}",
            max(half["attention"], half["neural"]),
            max(half["attention"], half["neural"]) > half["concat"],
        ),
        _target(
            "the same, impute",
            f"> neutral and renormalise, {other:.3f}",
            half["concat, impute"],
            half["concat, impute"] > other,
        ),
        Target(
            f"title to item without holes, NDCG@10, the worst learned fusion ({lowest})",
            f">= text alone's {ndcg['text alone']['0']:.4f}",
            f"{ndcg[lowest]['0']:.4f}, {gain['difference']:+.4f} by {gain['standard_error']:.4f}",
            gain["difference"] >= 0,
        ),
        _target(
            f"category precision@10 of the fused vector ({best})",
            f"> best space alone, {single:.3f}",
            fused[best],
            fused[best] > single,
        ),
        _target(
            f"recall@10 under skewed weights, the worst ({worst})",
            ">= 0.95",
            skews[worst],
            skews[worst] >= 0.95,
        ),
        _target(
            "a language never heard to the item, recall@10",
            f">= 5x chance, {5 * heard['chance']:.3f}",
            heard["recall_at_10"],
            heard["recall_at_10"] >= 5 * heard["chance"],
        ),
        _target("learning on the clip art, the longest part", "<= 180 s", slowest, slowest <= 180),
    ]


def _target(name: str, target: str, measured: float, met: bool) -> Target:
    return Target(name, target, f"{measured:.3f}" if measured < 10 else f"{measured:.0f} s", met)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, write results, draw."""
    return command("fusion", __doc__, run, threads=cores(), arguments=arguments)


if __name__ == "__main__":
    sys.exit(main())
