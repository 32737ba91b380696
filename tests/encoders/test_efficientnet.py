"""EfficientNet-Lite0: its export is the plain network, and pictures are padded, not cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from encoders import (
    Encoder,
    EncoderSpec,
    Limits,
    ModelLoadError,
    encode_all,
    load_encoder,
    usable_cores,
)
from encoders import efficientnet as module
from encoders.efficientnet import EfficientNetLiteEncoder, load_network
from encoders.exports import export_onnx
from tests.processes import run_python

SPEC = EncoderSpec(kind="efficientnet-lite")


@pytest.fixture(scope="module", autouse=True)
def exports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of kept exports, empty at first: one real export is made for all tests here."""
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        yield cache / "catalens" / "exports"


@pytest.fixture(scope="module")
def encoder(exports: Path) -> Encoder:
    return load_encoder(SPEC, "cpu")


@pytest.fixture(scope="module")
def pictures(photo: Image.Image) -> list[Image.Image]:
    shapes = [(400, 300), (300, 400), (60, 300), (224, 224), (1, 1), (399, 7)]
    return [photo.rotate(15 * i).resize(shape) for i, shape in enumerate(shapes)]


@pytest.fixture(scope="module")
def prepared(
    encoder: Encoder, pictures: list[Image.Image], saved: Callable[..., bytes]
) -> list[Any]:
    return [encoder.prepare("image", saved(picture, "PNG")) for picture in pictures]


@pytest.fixture(scope="module")
def plain(prepared: list[Any]) -> Any:
    """What the package's own network gives in torch, eager and unchanged."""
    weights = EfficientNetLiteEncoder(module.EfficientNetLiteOptions(), "cpu", Limits()).weights
    network = load_network(weights)
    with torch.inference_mode():
        inputs = torch.from_numpy(np.stack(prepared)).permute(0, 3, 1, 2).contiguous()
        features = network.extract_features(inputs.float() / 127.5 - 1).mean((2, 3)).numpy()
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def assert_same(found: Any, plain: Any) -> None:
    assert found.shape == (6, 1280) and found.dtype == np.float32
    assert (found * plain).sum(axis=1).min() >= 0.9999
    np.testing.assert_allclose(found, plain, atol=1e-5)


def assert_near(found: Any, plain: Any) -> None:
    """What bfloat16 changes, where the processor has it (usual over 240 drawings: mean .9997, least
    .998)."""
    assert found.shape == (6, 1280) and found.dtype == np.float32
    cosines = (found * plain).sum(axis=1)
    assert cosines.mean() >= 0.999 and cosines.min() >= 0.995


def test_the_export_gives_what_the_plain_network_gives(
    encoder: Encoder, exports: Path, prepared: list[Any], plain: Any
) -> None:
    assert_near(encode_all(encoder, "image", prepared), plain)
    assert isinstance(encoder, EfficientNetLiteEncoder) and encoder.runtime == "openvino"
    assert encoder.calls_at_once == usable_cores()
    assert len(list(exports.iterdir())) == 2
    # One by one, and more than a batch in one call.
    assert_near(np.concatenate([encoder.encode("image", [row]) for row in prepared]), plain)
    assert_near(encoder.encode("image", prepared), plain)
    assert encoder.encode("image", []).shape == (0, 1280)


def test_threads_share_an_encoder(prepared: list[Any], plain: Any) -> None:
    """The first calls of all come at once, and one of them loads the network."""
    shared = load_encoder(SPEC, "cpu")
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: shared.encode("image", prepared), range(8)):
            assert_near(found, plain)


def test_a_kept_export_needs_no_torch(
    encoder: Encoder, pictures: list[Image.Image], tmp_path: Path
) -> None:
    assert isinstance(encoder, EfficientNetLiteEncoder) and encoder.runtime == "openvino"
    pictures[0].save(tmp_path / "picture.png")
    done = run_python(
        """
import sys
from pathlib import Path
from encoders import EncoderSpec, encode_all, load_encoder
encoder = load_encoder(EncoderSpec(kind="efficientnet-lite"), "cpu")
picture = encoder.prepare("image", Path(sys.argv[1]).read_bytes())
assert encode_all(encoder, "image", [picture]).shape == (1, 1280)
print(*({"torch", "onnx", "onnxscript", "openvino"} & set(sys.modules)))
""",
        tmp_path / "picture.png",
    )
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["openvino"], "")


@pytest.mark.parametrize(
    "error",
    [ModuleNotFoundError("No module named 'onnxscript'"), RuntimeError("\nthe exporter\nfailed")],
)
def test_without_an_export_torch_runs(
    error: Exception,
    prepared: list[Any],
    plain: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing(*_: Any) -> bytes:
        raise error

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(module, "export_onnx", failing)
    encoder = load_encoder(SPEC, "cpu")
    with pytest.warns(RuntimeWarning, match=r"by torch.*(onnxscript|the exporter).*Install onnx"):
        assert_same(encode_all(encoder, "image", prepared), plain)
    # Said once, not for each batch: a second warning would be an error here.
    assert_same(encode_all(encoder, "image", prepared), plain)
    assert isinstance(encoder, EfficientNetLiteEncoder) and encoder.runtime == "torch"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("part", ["first", "rest"])
def test_an_export_of_something_else_is_refused(
    encoder: Encoder, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other(torch.nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            shape = (-1, 1280) if part == "rest" else (-1, 16, 112, 112)
            mean = inputs.float().mean((1, 2, 3))
            return mean.reshape(-1, *[1] * (len(shape) - 1)).expand(shape)

    assert isinstance(encoder, EfficientNetLiteEncoder)
    monkeypatch.setattr(
        module, "export_onnx", lambda _, *sample: export_onnx(Other().eval(), *sample)
    )
    with pytest.raises(ValueError, match="features differ by up to"):
        module.make_exports(encoder.weights)[part]()


def test_the_weights_see(encoder: Encoder, saved: Callable[..., bytes]) -> None:
    """Two drawings of like things are nearer than two of unlike ones."""
    from PIL import ImageDraw

    def drawn(shape: str, colour: str, offset: int) -> Any:
        picture = Image.new("RGB", (300, 300), "white")
        box = (60 + offset, 60, 220 + offset, 220)
        getattr(ImageDraw.Draw(picture), shape)(box, fill=colour)
        return encoder.prepare("image", saved(picture, "PNG"))

    rows = encoder.encode(
        "image",
        [drawn("ellipse", "red", 0), drawn("ellipse", "red", 20), drawn("rectangle", "blue", 0)],
    )
    assert rows[0] @ rows[1] > rows[0] @ rows[2] + 0.05


def test_padding_keeps_everything(encoder: Encoder, saved: Callable[..., bytes]) -> None:
    tall = Image.new("RGB", (100, 400), "black")
    tall.paste((255, 0, 0), (0, 0, 100, 40))
    prepared = encoder.prepare("image", saved(tall, "PNG"))
    assert prepared.shape == (224, 224, 3) and prepared.dtype == np.uint8
    assert (prepared[:, :80] == 255).all() and (prepared[:, -80:] == 255).all()
    assert prepared[5, 112].tolist() == [255, 0, 0]  # the very top is still there
    assert prepared[220, 112].tolist() == [0, 0, 0]


def test_fingerprint_is_of_the_weights() -> None:
    # Changes only with the weights, the transform or `revision`: then caches are void, on purpose.
    # Not with the runtime, so indexes of before there were exports still open.
    assert load_encoder(SPEC, "cpu").fingerprint("image") == "baa0af9431441642db58bac40f933e0e"


def test_broken_weights(tmp_path: Path, prepared: list[Any]) -> None:
    file = tmp_path / "weights.pth"
    for content in (b"", b"\x80\x04not a checkpoint"):
        file.write_bytes(content)
        with pytest.raises(ModelLoadError, match="EfficientNet-Lite0"):
            load_network(file)
    torch.save({"_fc.bias": torch.zeros(1000)}, file)
    with pytest.raises(ModelLoadError, match="Missing key"):
        load_network(file)
    # No fallback for these: torch would not read them either.
    encoder = load_encoder(SPEC, "cpu")
    assert isinstance(encoder, EfficientNetLiteEncoder)
    for weights in (file, tmp_path / "none.pth"):
        encoder.weights = weights
        with pytest.raises(ModelLoadError):
            encoder.encode("image", prepared)
