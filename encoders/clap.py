"""Sound and text into one space by CLAP models of transformers."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from .audio import audio_blocks
from .base import Encoder
from .device import inference, resolve_device
from .errors import ModelLoadError
from .fingerprint import fingerprint, state_sha256
from .limits import Limits
from .text import MAX_CHARACTERS, decode_text
from .windows import WINDOWS, spread, windows_of


class ClapOptions(BaseModel):
    """Options of the kind `clap`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    """Name on the hub, or a local folder with model, feature extractor and tokenizer."""


class ClapEncoder(Encoder):
    """The audio and the text tower of one CLAP.

    CLAP hears 10 seconds. Of a longer clip the feature extractor takes a part at random, so that
    no vector could be made twice; here up to four windows spread over the clip are encoded, and
    the vector is the mean of theirs.
    """

    kind: ClassVar[str] = "clap"
    revision: ClassVar[int] = 1
    options_model: ClassVar[type[BaseModel]] = ClapOptions
    modalities = ("audio", "text")

    def __init__(self, options: ClapOptions, device: str, limits: Limits) -> None:
        self.limits = limits
        self.device = resolve_device(device)
        self.batch_size = 8 if self.device == "cpu" else 64
        try:
            from transformers import AutoTokenizer, ClapFeatureExtractor, ClapModel

            source = str(Path(options.model).expanduser())
            # The hub's copies of CLAP hold pickled weights too; safetensors only where there is
            # a choice, and transformers unpickles with `weights_only` in any case.
            model = ClapModel.from_pretrained(source, trust_remote_code=False).eval()
            self._extractor = ClapFeatureExtractor.from_pretrained(source)
            self._tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
            self._weights = state_sha256(model.state_dict())
            self._model = model.to(self.device)
            self.dimension = int(model.config.projection_dim)
            self._max_tokens = int(model.config.text_config.max_position_embeddings) - 2
        except Exception as error:
            raise ModelLoadError(
                f"CLAP model {options.model!r}",
                expected="a folder or hub name with model, feature extractor and tokenizer",
                got=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
                remedy="Download the model and give its folder; catalens[clip] installs the code.",
            ) from error
        # The tokenizer changes its own padding on every call.
        self._lock = threading.Lock()

    def fingerprint(self, modality: str) -> str:
        """Return 32 hex digits naming weights, feature extractor or tokenizer, and tower."""
        self.check_modality(modality)
        preparation = (
            self._extractor.to_json_string()
            if modality == "audio"
            else f"{type(self._tokenizer).__name__} {len(self._tokenizer)} {MAX_CHARACTERS}"
        )
        return fingerprint(
            kind=self.kind,
            revision=self.revision,
            modality=modality,
            options={"weights": self._weights, "preparation": preparation, "windows": WINDOWS},
            files=(),
        )

    def prepare(self, modality: str, content: bytes) -> Any:
        """Return mel features, float32 (windows, channels, frames, mels), or a list of token ids.

        Raises:
            MediaError: as `audio.decode_audio` and `text.decode_text`.
        """
        self.check_modality(modality)
        if modality == "text":
            text = decode_text(content)
            with self._lock:
                ids = self._tokenizer(text, truncation=True, max_length=self._max_tokens)
            return list(ids["input_ids"])
        extractor = self._extractor
        blocks = audio_blocks(content, self.limits, extractor.sampling_rate)
        windows = spread(windows_of(blocks, int(extractor.nb_max_samples)))
        features = extractor(windows, sampling_rate=extractor.sampling_rate, return_tensors="np")
        return np.asarray(features["input_features"], dtype=np.float32)

    def _encode(self, modality: str, prepared: Sequence[Any]) -> Any:
        return self._audio(prepared) if modality == "audio" else self._text(prepared)

    def length(self, prepared: Any) -> int:
        """Windows of a clip, or tokens of a text."""
        return len(prepared)

    def _audio(self, prepared: Sequence[Any]) -> NDArray[np.float64]:
        import torch

        parts = []
        stacked = np.concatenate(list(prepared))
        # A clip brings up to four windows, so the model is fed by windows and not by clips.
        for start in range(0, len(stacked), self.batch_size):
            features = torch.from_numpy(stacked[start : start + self.batch_size])
            with inference(self.kind, len(prepared), self.device):
                # No window is longer than the model hears. (The extractor marks one of a batch
                # as longer, at random, for training.)
                longer = torch.zeros((len(features), 1), dtype=torch.bool, device=self.device)
                output = self._model.get_audio_features(
                    input_features=features.to(self.device), is_longer=longer
                )
                parts.append(_pooled(output).float().cpu().numpy())
        vectors = np.concatenate(parts).astype(np.float64)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        bounds = np.cumsum([0] + [len(windows) for windows in prepared])[:-1]
        return np.asarray(np.add.reduceat(vectors, bounds, axis=0))

    def _text(self, prepared: Sequence[Any]) -> Any:
        import torch

        width = max(len(ids) for ids in prepared)
        pad = self._tokenizer.pad_token_id or 0
        ids = torch.full((len(prepared), width), pad, dtype=torch.long)
        mask = torch.zeros((len(prepared), width), dtype=torch.long)
        for row, tokens in enumerate(prepared):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = 1
        with inference(self.kind, len(prepared), self.device):
            output = self._model.get_text_features(
                input_ids=ids.to(self.device), attention_mask=mask.to(self.device)
            )
            return _pooled(output).float().cpu().numpy()


def _pooled(output: Any) -> Any:
    """Return the projected vectors: transformers 5 wraps what transformers 4 returned."""
    return getattr(output, "pooler_output", output)
