"""Backbones of timm, from small checkpoints made on disk; timm's own calls are the oracle."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from encoders import Encoder, EncoderSpec, ModelLoadError, encode_all, load_encoder
from encoders.imports import torch_jit_accepted

with torch_jit_accepted():
    import timm

MODELS = ["test_vit", "test_resnet", "test_convnext", "test_efficientnet"]
Save = Callable[..., bytes]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def made(name: str) -> Any:
    torch.manual_seed(0)
    return timm.create_model(name).eval()


def load(**options: Any) -> Encoder:
    return load_encoder(EncoderSpec.model_validate({"kind": "timm", **options}), "cpu")


def checkpoint(path: Path, name: str) -> str:
    save_file(made(name).state_dict(), path / f"{name}.safetensors")
    return str(path / f"{name}.safetensors")


@pytest.mark.parametrize("name", MODELS)
def test_vectors_are_timms_own(name: str, tmp_path: Path, photo: Image.Image, saved: Save) -> None:
    encoder = load(model=name, checkpoint=checkpoint(tmp_path, name))
    content = [saved(photo, "PNG"), saved(photo.rotate(90), "PNG")]
    found = encode_all(encoder, "image", [encoder.prepare("image", one) for one in content])
    model = made(name)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    model.reset_classifier(0)
    with torch.inference_mode():
        inputs = torch.stack([transform(photo), transform(photo.rotate(90))])
        expected = model(inputs).numpy()
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert found.shape == (2, encoder.dimension)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_form_of_a_checkpoint_changes_nothing(tmp_path: Path) -> None:
    state = made("test_resnet").state_dict()
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "a.pt")
    bare = {name: x for name, x in state.items() if not name.startswith("fc.")}
    torch.save(bare, tmp_path / "b.pt")
    folder = tmp_path / "model"
    folder.mkdir()
    save_file(state, folder / "model.safetensors")
    config = {"architecture": "test_resnet", "num_classes": 1000, "pretrained_cfg": {}}
    (folder / "config.json").write_text(json.dumps(config))
    loaded = [
        load(model="test_resnet", checkpoint=checkpoint(tmp_path, "test_resnet")),
        load(model="test_resnet", checkpoint=str(tmp_path / "a.pt")),
        load(model="test_resnet", checkpoint=str(tmp_path / "b.pt")),
    ]
    assert len({one.fingerprint("image") for one in loaded}) == 1
    assert load(model=f"local-dir:{folder}").dimension == loaded[0].dimension


def test_other_weights_are_another_encoder(tmp_path: Path) -> None:
    first = load(model="test_vit", checkpoint=checkpoint(tmp_path, "test_vit"))
    state = made("test_vit").state_dict()
    state["norm.bias"] = state["norm.bias"] + 1
    save_file(state, tmp_path / "other.safetensors")
    other = load(model="test_vit", checkpoint=str(tmp_path / "other.safetensors"))
    assert first.fingerprint("image") != other.fingerprint("image")


def test_a_name_that_timm_does_not_know() -> None:
    with pytest.raises(ModelLoadError, match=r"an unknown name; the nearest are .*resnet50\b"):
        load(model="rezznet50.a1_in1k")
    with pytest.raises(ModelLoadError, match=r"list_models"):
        load(model="org/name")


def test_a_checkpoint_of_another_architecture(tmp_path: Path) -> None:
    other = checkpoint(tmp_path, "test_resnet")
    with pytest.raises(ModelLoadError, match=r"parameters are missing: .*Name the model"):
        load(model="test_vit", checkpoint=other)
    state = made("test_vit").state_dict()
    state["pos_embed"] = state["pos_embed"][:, :-1]
    save_file(state, tmp_path / "cut.safetensors")
    with pytest.raises(ModelLoadError, match="are of another shape: pos_embed"):
        load(model="test_vit", checkpoint=str(tmp_path / "cut.safetensors"))


def test_weights_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="no such file"):
        load(model="test_vit", checkpoint=str(tmp_path / "none.pt"))
    with pytest.raises(ModelLoadError, match="download them and give 'checkpoint'"):
        load(model="test_vit")
    with pytest.raises(ModelLoadError, match="local-dir"):
        load(model=f"local-dir:{tmp_path}")


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    torch.save({"state_dict": made("test_vit")}, tmp_path / "whole.pt")  # a module, as code
    with pytest.raises(ModelLoadError):
        load(model="test_vit", checkpoint=str(tmp_path / "whole.pt"))
