"""Sound by the self-supervised speech models that torchaudio has as pipelines."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from .audio import Samples, audio_blocks
from .base import Encoder
from .device import inference, resolve_device
from .errors import ModelLoadError
from .fingerprint import fingerprint, state_sha256
from .limits import Limits
from .windows import WINDOWS, spread, windows_of

_SECONDS = 10
_LEAST_SECONDS = 0.1
"""A shorter clip is repeated: the convolutions of these models see 25 ms at once."""


class TorchaudioPipelineOptions(BaseModel):
    """Options of the kind `torchaudio-pipeline`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bundle: str = "HUBERT_BASE"
    """A bundle of wav2vec 2.0, HuBERT or WavLM, as `torchaudio.pipelines` names it."""
    checkpoint: str | None = None
    """Its weights in a file; None downloads them, once."""
    layer: int | None = Field(default=None, ge=1)
    """The transformer layer that is pooled, from 1; None takes the last."""


class TorchaudioPipelineEncoder(Encoder):
    """The mean over time of a layer of wav2vec 2.0 (Baevski et al. 2020, arXiv:2006.11477), HuBERT
    (Hsu et al. 2021, arXiv:2106.07447) or WavLM (Chen et al. 2021, arXiv:2110.13900).

    Of a clip longer than 10 seconds up to four windows spread over it are heard, and the vector is
    the mean of theirs. Windows of unequal length are never padded to one batch: these models
    normalise over time, so that a vector would depend on its neighbours.
    """

    kind: ClassVar[str] = "torchaudio-pipeline"
    revision: ClassVar[int] = 1
    options_model: ClassVar[type[BaseModel]] = TorchaudioPipelineOptions
    modalities = ("audio",)

    def __init__(self, options: TorchaudioPipelineOptions, device: str, limits: Limits) -> None:
        self.limits = limits
        self.device = resolve_device(device)
        self.batch_size = 8 if self.device == "cpu" else 32
        model, self._rate = _load(options)
        # Some bundles come wrapped in a step that normalises a whole batch as if it were one clip.
        self._normalises = hasattr(model, "normalize_waveform") and model.normalize_waveform
        model = getattr(model, "model", model)
        self._layers = len(model.encoder.transformer.layers)
        self._layer = options.layer or self._layers
        if self._layer > self._layers:
            raise ModelLoadError(
                f"layer of {options.bundle}",
                expected=f"1 to {self._layers}",
                got=str(self._layer),
                remedy="Correct the preset.",
            )
        self._weights = state_sha256(model.state_dict())
        self._model = model.to(self.device)
        self.dimension = int(model.encoder.transformer.layers[0].final_layer_norm.bias.shape[0])

    def fingerprint(self, modality: str) -> str:
        """Return 32 hex digits naming weights, layer and windows."""
        self.check_modality(modality)
        settings = {
            "weights": self._weights,
            "layer": self._layer,
            "normalises": self._normalises,
            "sample_rate": self._rate,
            "windows": WINDOWS,
            "seconds": _SECONDS,
        }
        return fingerprint(
            kind=self.kind, revision=self.revision, modality=modality, options=settings, files=()
        )

    def prepare(self, modality: str, content: bytes) -> list[Samples]:
        """Return windows of a clip, float32 (samples,) each.

        Raises:
            MediaError: as `audio.decode_audio`.
        """
        self.check_modality(modality)
        blocks = audio_blocks(content, self.limits, self._rate)
        windows = spread(windows_of(blocks, _SECONDS * self._rate))
        least = round(_LEAST_SECONDS * self._rate)
        if len(windows[0]) < least:
            filled = windows[0] if len(windows[0]) else np.zeros(1, dtype=np.float32)
            windows = [np.resize(filled, least)]
        return windows

    def length(self, prepared: Any) -> int:
        """Samples of a clip."""
        return sum(len(window) for window in prepared)

    def _encode(self, modality: str, prepared: Sequence[Any]) -> Any:
        windows = [window for clip in prepared for window in clip]
        vectors = np.zeros((len(windows), self.dimension))
        by_length: dict[int, list[int]] = {}
        for n, window in enumerate(windows):
            by_length.setdefault(len(window), []).append(n)
        for rows in by_length.values():
            for start in range(0, len(rows), self.batch_size):
                some = rows[start : start + self.batch_size]
                vectors[some] = self._features(np.stack([windows[n] for n in some]), len(prepared))
        bounds = np.cumsum([0] + [len(clip) for clip in prepared])[:-1]
        counts = np.array([len(clip) for clip in prepared])[:, None]
        return np.add.reduceat(vectors, bounds, axis=0) / counts

    def _features(self, windows: Samples, clips: int) -> NDArray[np.float32]:
        import torch

        with inference(self.kind, clips, self.device):
            waves = torch.from_numpy(windows).to(self.device)
            if self._normalises:
                waves = torch.nn.functional.layer_norm(waves, waves.shape[1:])
            layers, _ = self._model.extract_features(waves, num_layers=self._layer)
            pooled: NDArray[np.float32] = layers[-1].float().mean(dim=1).cpu().numpy()
        return pooled


def _load(options: TorchaudioPipelineOptions) -> tuple[Any, int]:
    """The model of a bundle, on the CPU, and its sample rate."""
    try:
        from torchaudio import pipelines

        known = [
            name for name in dir(pipelines) if hasattr(getattr(pipelines, name), "_model_type")
        ]
        if options.bundle not in known:
            raise _unknown(options.bundle, known)
        bundle = getattr(pipelines, options.bundle)
        # The loader of a checkpoint that lies in the cache already; it unpickles weights alone.
        settings: dict[str, Any] = {"weights_only": True, "progress": False}
        if options.checkpoint is not None:
            file = Path(options.checkpoint).expanduser()
            if not file.is_file():
                raise FileNotFoundError(f"no such file: {file}")
            settings |= {"model_dir": str(file.parent), "file_name": file.name}
        return bundle.get_model(dl_kwargs=settings), int(bundle.sample_rate)
    except ModelLoadError:
        raise
    except Exception as error:
        # torch.hub raises URLError where there is no network, load_state_dict RuntimeError.
        told = " ".join(str(error).split())
        raise ModelLoadError(
            f"torchaudio pipeline {options.bundle!r}",
            expected="weights of just that model, in the file given or by a download",
            got=f"{type(error).__name__}: {told[:300]}",
            remedy="Download the weights where there is a network and give their file as "
            "'checkpoint'; name the bundle that they are of.",
        ) from error


def _unknown(name: str, known: Sequence[str]) -> ModelLoadError:
    near = get_close_matches(name.upper(), known, n=5, cutoff=0.5) or known
    return ModelLoadError(
        f"torchaudio pipeline {name!r}",
        expected=f"a bundle such as {', '.join(near[:5])}",
        got="an unknown name",
        remedy="See the wav2vec 2.0, HuBERT and WavLM bundles of torchaudio.pipelines.",
    )
