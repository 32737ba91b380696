"""Modalities that nobody thought of: registered, built, asked, changed, exported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from encoders import Encoder, Limits, register
from encoders.vector import VectorOptions
from indexer import (
    Writer,
    build_index,
    export_index,
    import_index,
    modalities,
    register_modality,
    verify_index,
)
from indexer.catalog_errors import InvalidColumnsError, InvalidModalityError
from retriever import Query, Retriever
from retriever.errors import QueryError

POINTS = 16


class Curve(Encoder):
    """The curve less its mean."""

    kind = "toy-curve"
    modalities = ("curve", "scan")
    options_model = VectorOptions
    dimension = POINTS

    def __init__(self, options: VectorOptions, device: str, limits: Limits) -> None:
        pass

    def fingerprint(self, modality: str) -> str:
        """Return a constant."""
        return "c" * 31 + str(self.modalities.index(modality))

    def prepare(self, modality: str, content: bytes) -> Any:
        """Return the values."""
        values = np.frombuffer(content, "<f4").astype(float)
        return values - values.mean() + 1e-6

    def _encode(self, modality: str, prepared: Any) -> Any:
        return prepared


def as_bytes(values: Any) -> bytes:
    return np.asarray(values, dtype="<f4").tobytes()


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    known = dict(modalities._MODALITIES)
    register("toy-curve", f"{Curve.__module__}:Curve")
    register_modality("curve", columns=("temperature",), content=as_bytes)
    register_modality("scan", suffixes=(".f32",))
    yield
    modalities._MODALITIES.clear()
    modalities._MODALITIES.update(known)


def preset(modality: str) -> dict[str, Any]:
    encoder = {"kind": "toy-curve", "dimension": POINTS}
    space = {"name": "shape", "item": modality, "encoders": {modality: encoder}}
    return {"name": "curves", "spaces": [space]}


def curves(n: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((n, POINTS)).cumsum(axis=1)


@pytest.mark.parametrize("named", [None, {"curve": "temperature"}])
def test_values_of_a_new_modality_are_found_by_values(
    tmp_path: Path, named: dict[str, str] | None
) -> None:
    x = curves(40)
    rows = [{"id": str(n), "temperature": list(x[n]), "place": "x"} for n in range(30)]
    rows.append({"id": "bad", "temperature": ["warm"], "title": "no curve"})
    out = tmp_path / "i"
    summary = build_index(rows, out, preset=preset("curve"), inputs=named, device="cpu")
    assert (summary.items, summary.rejected_rows, summary.rejected_inputs) == (30, 1, 1)
    assert "warm" in summary.rejects[0].reason
    with Writer.open(out, device="cpu") as writer:
        writer.add([{"id": "35", "temperature": x[35], "place": "y"}])
    centred = x - x.mean(axis=1, keepdims=True)
    for number in (3, 35):
        with Retriever.open(out) as index:
            hits = index.search(Query(inputs={"curve": list(2 * x[number] + 7)}), k=3)
            assert hits[0].id == str(number)
            assert "temperature" not in hits[0].metadata
            weighted = index.search(
                Query(inputs={"curve": (x[number], 0.5)}, weights={"curve": 2}), k=1
            )
            assert weighted[0].score == pytest.approx(hits[0].score, abs=1e-3)
        # The oracle: cosine of the curves themselves, of which centring on the catalog's mean
        # leaves the nearest.
        cosine = centred @ centred[number]
        cosine /= np.linalg.norm(centred, axis=1) * np.linalg.norm(centred[number])
        assert hits[0].id == str(int(np.argmax(cosine)))
    assert verify_index(out).problems == []
    export_index(out, tmp_path / "e.parquet")
    import_index(tmp_path / "e.parquet", tmp_path / "j", device="cpu")
    with Retriever.open(tmp_path / "j") as index:
        assert index.search(Query(inputs={"curve": x[3]}), k=1)[0].id == "3"


def test_files_of_a_new_modality_are_found_in_a_folder(tmp_path: Path) -> None:
    folder, x = tmp_path / "catalog", curves(12)
    folder.mkdir()
    for number in range(12):
        (folder / f"{number}.f32").write_bytes(as_bytes(x[number]))
    build_index(folder, tmp_path / "i", preset=preset("scan"), device="cpu")
    with Retriever.open(tmp_path / "i") as index:
        path = folder / "7.f32"
        for given in (path, str(path), path.read_bytes(), [path], [(path, 2.0)]):
            assert index.search(Query(inputs={"scan": given}), k=1)[0].id == "7"


def test_names_that_cannot_be_are_refused(tmp_path: Path) -> None:
    for name in ("text", "video", "vector", "item", "id", "Curve", "", "a b", "x" * 33):
        with pytest.raises(InvalidModalityError, match="another name"):
            register_modality(name)
    for suffix in (".png", "f32", ".json", ".f32"):
        with pytest.raises(InvalidModalityError, match="suffix"):
            register_modality("other", suffixes=(suffix,))
    with pytest.raises(InvalidColumnsError, match="register_modality"):
        build_index([{"id": 1, "x": 1}], tmp_path / "i", inputs={"smell": "x"})
    with pytest.raises(QueryError, match="register_modality"):
        Query(inputs={"smell": 1})
