"""The public surface is a list, and importing it loads no model library."""

from __future__ import annotations

import subprocess
import sys

import pytest

import encoders

SURFACE = [
    "AbsentTrackError",
    "CatalensError",
    "DeviceError",
    "EmptyMediaError",
    "Encoder",
    "EncoderError",
    "EncoderPool",
    "EncoderSpec",
    "EncoderStateError",
    "FitError",
    "FitProgress",
    "FitTask",
    "FittedEncoder",
    "Head",
    "HeadError",
    "InvalidPresetError",
    "InvalidVectorError",
    "Limits",
    "MediaError",
    "MediaTooLargeError",
    "MediaTooLongError",
    "MissingMediaError",
    "ModelLoadError",
    "NoFramesError",
    "NoSoundError",
    "NotFittedError",
    "OutOfMemoryError",
    "Preset",
    "SpaceSpec",
    "State",
    "UndecodableMediaError",
    "UnknownEncoderKindError",
    "UnknownPresetError",
    "UnsafePathError",
    "UnsupportedModalityError",
    "Vectors",
    "check_encoder",
    "decoded",
    "encode_all",
    "fit_encoder",
    "fitted_class",
    "known_kinds",
    "known_presets",
    "load_encoder",
    "load_preset",
    "read_bytes",
    "register",
    "resolve_device",
    "unwrapped",
    "usable_cores",
    "wrapped_by",
]


def test_surface_is_this_list() -> None:
    assert sorted(encoders.__all__) == sorted(SURFACE)
    for name in SURFACE:
        assert hasattr(encoders, name)


def loaded_after(code: str) -> set[str]:
    """Run code in a new interpreter and return the modules it left loaded."""
    code += "\nimport sys; print(' '.join(sorted(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_import_is_light() -> None:
    heavy = {"torch", "openvino", "PIL", "soundfile", "tokenizers", "transformers", "torchaudio"}
    assert not loaded_after("import encoders") & heavy


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_text_on_a_cpu_takes_no_torch(device: str) -> None:
    if device == "auto" and encoders.resolve_device("auto") != "cpu":
        pytest.skip("with an accelerator here, torch is right")
    loaded = loaded_after(
        "from encoders import *\n"
        f"e = load_encoder(EncoderSpec(kind='sentence-transformers'), {device!r})\n"
        "v = encode_all(e, 'text', [e.prepare('text', b'a red shoe')])\n"
        "assert v.shape == (1, 384) and len(e.fingerprint('text')) == 32\n"
    )
    assert "openvino" in loaded
    assert not loaded & {"torch", "transformers", "sentence_transformers"}


def test_vectors_take_no_torch() -> None:
    loaded = loaded_after(
        "import numpy as np\n"
        "from encoders import *\n"
        "e = load_encoder(EncoderSpec(kind='vector', dimension=2))\n"
        "v = encode_all(e, 'vector', [e.prepare('vector', np.ones(2, '<f4').tobytes())])\n"
        "assert v.shape == (1, 2)\n"
    )
    assert not loaded & {"torch", "openvino"}
