"""Kinds by name, options checked, encoders shared."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from encoders import (
    DeviceError,
    EncoderPool,
    EncoderSpec,
    InvalidPresetError,
    ModelLoadError,
    UnknownEncoderKindError,
    UnknownPresetError,
    UnsupportedModalityError,
    known_kinds,
    known_presets,
    load_encoder,
    load_preset,
    register,
    resolve_device,
)
from encoders.registry import _KINDS


def test_unknown_kind_lists_the_known() -> None:
    with pytest.raises(UnknownEncoderKindError) as caught:
        load_encoder(EncoderSpec(kind="word2vec"))
    for kind in ("clap", "efficientnet-lite", "log-mel", "open-clip", "vector", "'word2vec'"):
        assert kind in str(caught.value)


@pytest.mark.parametrize(
    "options, got",
    [
        ({"kind": "vector"}, "dimension"),
        ({"kind": "vector", "dimension": "many"}, "dimension"),
        ({"kind": "vector", "dimension": 0}, "dimension"),
        ({"kind": "log-mel", "mels": 80}, "mels"),
        ({"kind": "efficientnet-lite", "side": 300}, "side"),
        ({"kind": "open-clip"}, "model"),
        ({"kind": "clap", "model": 3}, "model"),
        ({"kind": "sentence-transformers", "runtime": "onnx"}, "runtime"),
    ],
)
def test_options_are_checked(options: dict[str, Any], got: str) -> None:
    with pytest.raises(InvalidPresetError) as caught:
        load_encoder(EncoderSpec.model_validate(options))
    assert caught.value.got.startswith(got)


@pytest.fixture
def own_kind() -> Iterator[str]:
    yield "mine"
    _KINDS.pop("mine", None)


def test_own_kind(own_kind: str) -> None:
    register(own_kind, "encoders.vector:VectorEncoder")
    spec = EncoderSpec.model_validate({"kind": own_kind, "dimension": 3})
    assert load_encoder(spec).dimension == 3
    assert own_kind in known_kinds()
    with pytest.raises(InvalidPresetError, match="module:Class"):
        register(own_kind, "no_colon")
    register(own_kind, "no_such_module:Encoder")
    with pytest.raises(ModelLoadError, match="no_such_module"):
        load_encoder(spec)
    register(own_kind, "pathlib:Path")
    with pytest.raises(InvalidPresetError, match="derived from"):
        load_encoder(spec)


def test_pool_shares_by_spec() -> None:
    pool = EncoderPool("cpu")
    one = pool.get(EncoderSpec.model_validate({"kind": "vector", "dimension": 3}))
    assert pool.get(EncoderSpec.model_validate({"kind": "vector", "dimension": 3})) is one
    assert pool.get(EncoderSpec.model_validate({"kind": "vector", "dimension": 4})) is not one
    with pytest.raises(UnsupportedModalityError, match="'text'"):
        one.prepare("text", b"")


def test_shipped_presets_load_and_their_kinds_exist() -> None:
    assert known_presets() == ["clip", "local", "local-multilingual", "spoken"]
    for name in known_presets():
        preset = load_preset(name)
        assert preset.name == name
        for space in preset.spaces:
            for spec in space.encoders.values():
                assert spec.kind in known_kinds()


def test_local_preset_needs_pip_packages_only() -> None:
    pool = EncoderPool("cpu")
    dimensions = {
        space.name: pool.get(space.encoders[space.item]).dimension
        for space in load_preset("local").spaces
    }
    assert dimensions == {
        "minilm": 384,
        "efficientnet": 1280,
        "log-mel": 192,
        "frames": 1280,
        "soundtrack": 192,
    }


def test_preset_from_file_and_dict(tmp_path: Path) -> None:
    local = load_preset("local")
    file = tmp_path / "mine.json"
    file.write_text(local.model_dump_json())
    assert load_preset(file) == local
    assert load_preset(str(file)) == local
    assert load_preset(json.loads(local.model_dump_json())) == local
    assert load_preset(local) is local
    # Options of a kind survive the round trip.
    assert load_preset(file).spaces[0].encoders["text"].options == {"model": "all-MiniLM-L6-v2"}


def test_presets_that_do_not_read(tmp_path: Path) -> None:
    with pytest.raises(UnknownPresetError, match="clip, local, local-multilingual, spoken"):
        load_preset("locla")
    for content in (b"{", b"\xff\xfe", b"[" * 100_000, b"[]", b'{"name": "x", "spaces": []}'):
        file = tmp_path / "bad.json"
        file.write_bytes(content)
        with pytest.raises(InvalidPresetError):
            load_preset(file)
    with pytest.raises(InvalidPresetError, match="no encoder for its item"):
        load_preset({"name": "x", "spaces": [{"name": "a", "item": "text", "encoders": {}}]})


def test_devices() -> None:
    assert resolve_device("cpu") == "cpu"
    import torch

    best = (
        "cuda"
        if torch.cuda.is_available()
        else "mps"
        if torch.backends.mps.is_available()
        else "cpu"
    )
    if "CUDA_VISIBLE_DEVICES" not in os.environ:
        assert resolve_device("auto") == best
    with pytest.raises(DeviceError, match="'auto', 'cpu', 'mps', 'cuda' or 'cuda:N'; got 'gpu'"):
        resolve_device("gpu")
    with pytest.raises(DeviceError, match=f"got {torch.cuda.device_count()} CUDA devices"):
        resolve_device("cuda:99")
    with pytest.raises(DeviceError):
        load_encoder(EncoderSpec(kind="log-mel"), device="tpu")
