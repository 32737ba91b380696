"""What `catalens inspect` shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from indexer import (
    IndexEntry,
    IndexLayout,
    Manifest,
    PointEntry,
    Snapshot,
    load_manifest,
    open_latest,
)
from indexer.ranking import RankingFiles, read_ranking
from retriever.head.files import load_ranking

_SOURCES = {"preset": "of the preset", "given": "given", "learned": "learned"}


def describe(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What an index is made of, as JSON values, and its rejects.

    Raises:
        NotAnIndexError: the folder is no index.
        CorruptIndexError: its store or manifest is damaged.
    """
    layout = IndexLayout(path)

    def opened(snapshot: Snapshot) -> tuple[Manifest, RankingFiles | None]:
        folder = layout.generation(snapshot.current.generation)
        manifest = load_manifest(folder, snapshot.current)
        return manifest, read_ranking(folder, manifest)

    store, snapshot, (manifest, ranking) = open_latest(layout, opened)
    try:
        with snapshot:
            rejects = list(snapshot.rejects())
            items = snapshot.count()
            uncompacted = snapshot.uncompacted()
            fields = snapshot.postings().fields()
    finally:
        store.close()
    derived = sum(entry.bytes for entry in manifest.files.values())
    in_store = layout.store_data.stat().st_size
    rows = sum(1 for reject in rejects if reject["modality"] is None)
    found = {
        "index": str(path),
        "items": items,
        "uncompacted": {
            **uncompacted._asdict(),
            "generation_rows": manifest.items,
            "compact_due": uncompacted.is_due(manifest.items),
        },
        "format": manifest.format,
        "catalens": manifest.catalens,
        "created": manifest.created,
        "edition": manifest.edition,
        "generation": manifest.generation,
        "catalog": manifest.catalog.model_dump(),
        "fusion": manifest.fusion,
        "missing": manifest.missing,
        "weights_from": manifest.weights_from,
        "dimension": manifest.dimension,
        "spaces": {
            space.spec.name: {
                "item": space.spec.item,
                "reached_from": sorted(space.fingerprints),
                "heads": {
                    modality: {"source": head.source, "trust": round(head.trust, 4)}
                    for modality, head in space.heads.items()
                },
                "encoders": {m: e.kind for m, e in space.spec.encoders.items()},
                "dimension": space.dimension,
                "weight": space.spec.weight,
                "items": space.coverage,
                "coverage": round(space.coverage / manifest.items, 4),
                "imputed": space.imputed,
                "pool": space.spec.pool,
            }
            for space in manifest.spaces
        },
        "behaviour": manifest.behaviour and manifest.behaviour.model_dump(),
        "kind": manifest.index.kind,
        "profile": manifest.index.profile,
        "factory": manifest.index.factory,
        "rows": manifest.index.rows,
        "drift": _drift(manifest.index),
        **points_json(manifest.index),
        "bytes": {"derived": derived, "store": in_store},
        "bytes_per_item": {
            "codes": manifest.index.code_bytes,
            "derived": round(derived / manifest.items, 1),
            "store": round(in_store / max(items, 1), 1),
        },
        "fields": fields,
        "ranking": _ranking(ranking, manifest),
        "rejects": {"rows": rows, "inputs": len(rejects) - rows},
    }
    return found, rejects


def _behaviour(learned: dict[str, Any] | None) -> str:
    if learned is None:
        return "not learned"
    kept = "histories kept" if learned["histories"] else "no histories kept"
    return (
        f"{learned['method']} from {learned['interactions']:,} interactions of "
        f"{learned['users']:,} users, {kept}"
    )


def describe_tables(found: dict[str, Any]) -> Iterator[Table | Text]:
    """The same for people."""
    facts = Table(box=None, show_header=False, pad_edge=False)
    per_item = found["bytes_per_item"]
    recall = ", ".join(f"{name} {value:.3f}" for name, value in found["recall_at_10"].items())
    for name, value in {
        "index": found["index"],
        "items": f"{found['items']:,}{_uncompacted(found['uncompacted'])}",
        "catalog": found["catalog"]["name"],
        "generation": f"{found['generation']} (edition {found['edition']}, {found['created']})",
        "kind": f"{found['kind']} ({found['factory']}), profile {found['profile']}",
        "fusion": (
            f"{found['fusion']}, missing modalities: {found['missing']}, "
            f"weights {_SOURCES[found['weights_from']]}"
        ),
        "behaviour": _behaviour(found["behaviour"]),
        "rows": _rows(found),
        "searched at": _searched_at(found),
        "drift": _drift_told(found["drift"]),
        "recall@10": recall,
        "bytes per item": (
            f"{per_item['codes']} code, {per_item['derived']:,} derived files, "
            f"{per_item['store']:,} store"
        ),
        "filters": ", ".join(found["fields"]) or "no metadata",
        **{f"head, {task}": _head_told(head) for task, head in found["ranking"].items()},
        "rejects": f"{found['rejects']['rows']:,} rows, {found['rejects']['inputs']:,} inputs",
    }.items():
        facts.add_row(Text(name, style="bold"), Text(value))
    yield facts
    spaces = Table(box=None, pad_edge=False)
    for heading in (
        "space",
        "filled by",
        "reached from",
        "encoder",
        "dimension",
        "weight",
        "items",
    ):
        spaces.add_column(heading)
    for name, space in found["spaces"].items():
        spaces.add_row(
            Text(name),
            space["item"],
            ", ".join((*space["reached_from"], *(f"{m} (head)" for m in space["heads"]))),
            ", ".join(sorted(set(space["encoders"].values()))),
            str(space["dimension"]),
            f"{space['weight']:g}",
            f"{space['items']:,} ({space['coverage']:.0%})"
            + (f" + {space['imputed']:,} imputed" if space["imputed"] else ""),
        )
    yield Text("")
    yield spaces
    yield from points_tables(found)


def _ranking(files: RankingFiles | None, manifest: Manifest) -> dict[str, Any]:
    """The re-ranking head of each task, as JSON values."""
    heads = load_ranking(files, [space.spec.name for space in manifest.spaces])
    return {
        task: {
            **head.entry.model_dump(mode="json", exclude={"features", "names"}),
            "members": head.model.members,
            "hidden": head.model.hidden,
            "features": head.entry.names,
        }
        for task, head in heads.items()
    }


def _head_told(head: Mapping[str, Any]) -> str:
    told = (
        f"{head['model']} of {head['members']} members over {len(head['features'])} features, "
        f"{head['depth']} candidates; NDCG@10 on {head['held_out']:,} held out "
        f"{head['learned']:.3f}, fused score {head['fused']:.3f} (p = {head['p']:.3f})"
    )
    if head["forced"]:
        told += ", switched on by --force"
    if head["privacy"] is not None:
        told += f"; private, epsilon {head['privacy']['epsilon']:.3g}"
    return told


def _drift(index: IndexEntry) -> dict[str, float | None]:
    """How much codes lose of the rows trained on, and of those folded in last."""
    trained, folded = index.trained_error, index.folded_error
    ratio = None if not trained or folded is None else round(folded / trained, 4)
    return {"trained_error": trained, "folded_error": folded, "ratio": ratio}


def _drift_told(found: Mapping[str, Any]) -> str:
    if found["trained_error"] is None:
        return "no codes that could be added to"
    told = f"codes lose {found['trained_error']:.3f} of the rows trained on"
    if found["ratio"] is None:
        return told
    return f"{told}, {found['ratio']:.3f} times as much of those folded in last"


def _uncompacted(found: Mapping[str, Any]) -> str:
    if not (found["fresh"] or found["dead"]):
        return ""
    told = f"; {found['fresh']:,} beside the generation, {found['dead']:,} dead in it"
    return f"{told}: compaction is due" if found["compact_due"] else told


def points_json(index: IndexEntry) -> dict[str, Any]:
    """How an index can be searched, as JSON values."""
    return {
        "target": index.target,
        "rows_recall": index.rows_recall,
        "operating_point": _point(index.default()),
        "operating_point_against": _point(index.default(against=True)),
        "recall_at_10": index.recall,
        "points": [_point(point) for point in index.points],
        "points_against": [_point(point) for point in index.against],
        "exact_rows": index.exact_rows,
        "threads": index.threads,
    }


def points_tables(found: Mapping[str, Any]) -> Iterator[Table | Text]:
    """The same for people."""
    for title, kind, default in (
        ("point", "points", "operating_point"),
        ("against a space", "points_against", "operating_point_against"),
    ):
        if found[kind]:
            yield Text("")
            yield _points_table(title, found[kind], found[default])


def _points_table(
    title: str, points: Sequence[Mapping[str, Any]], default: Mapping[str, Any]
) -> Table:
    """Operating points as `describe` gives them, one a line, the default one marked."""
    table = Table(box=None, pad_edge=False)
    table.add_column(title)
    for heading in ("nprobe", "per hit", "worst recall@10", "p50 ms", "p99 ms", "q/s"):
        table.add_column(heading, justify="right")
    for point in points:
        table.add_row(
            "default" if point == default else "",
            str(point["nprobe"]),
            str(point["k_factor"]),
            f"{point['worst']:.3f}",
            f"{point['p50_ms']:g}",
            f"{point['p99_ms']:g}",
            f"{point['queries_per_second']:,.0f}",
        )
    return table


def _point(point: PointEntry) -> dict[str, Any]:
    return {**point.model_dump(), "worst": point.worst}


def _rows(found: Mapping[str, Any]) -> str:
    lossless = found["rows_recall"] == 1
    told = "" if lossless else f", recall@10 of a scan {found['rows_recall']:.3f}"
    return f"{found['rows']}{told}"


def _searched_at(found: Mapping[str, Any]) -> str:
    if found["kind"] == "exact":
        return "every row"
    point, against = found["operating_point"], found["operating_point_against"]
    told = f"nprobe {point['nprobe']}, {point['k_factor']} candidates per hit"
    if against != point:
        told += f"; against a space: nprobe {against['nprobe']}, {against['k_factor']} candidates"
    return f"{told}; filters of up to {found['exact_rows']:,} rows: exactly"
