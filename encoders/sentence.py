"""Text by sentence-transformers models: ONNX Runtime on a CPU where it can, torch elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from .base import Encoder
from .device import inference, resolve_device, usable_cores
from .errors import ModelLoadError
from .exports import open_session
from .fingerprint import fingerprint
from .limits import Limits
from .memory import device_memory
from .sentence_folder import OnnxPlan, SentenceFolder, find_model
from .text import MAX_CHARACTERS, decode_text
from .vectors import Vectors


class SentenceOptions(BaseModel):
    """Options of the kind `sentence-transformers`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = "all-MiniLM-L6-v2"
    """Name on the hub, or a local folder; the default comes as a pip package."""


class SentenceEncoder(Encoder):
    """Sentence embeddings, made unit.

    On a CPU the folder's ONNX export runs by ONNX Runtime, and torch is not imported. Without an
    export, or on a GPU, the same weights run by sentence-transformers. The runtimes differ by
    rounding, or by quantisation where the export is int8; the fingerprint is of the weights, and
    a test bounds the difference for the packaged model. An export beside a user's own weights is
    trusted to be an export of them.
    """

    kind: ClassVar[str] = "sentence-transformers"
    revision: ClassVar[int] = 1
    options_model: ClassVar[type[BaseModel]] = SentenceOptions
    modalities = ("text",)

    def __init__(self, options: SentenceOptions, device: str, limits: Limits) -> None:
        self.folder = find_model(options.model)
        self.device = resolve_device(device)
        plan = self.folder.onnx_plan() if self.device == "cpu" else None
        self._model: _OnnxModel | _TorchModel
        if plan is not None:
            self._model = _OnnxModel(plan)
            self.batch_size = 16
            self.calls_at_once = usable_cores()
        else:
            self._model = _TorchModel(self.folder, self.device)
            self.batch_size = 32 if self.device == "cpu" else 256
        self.runtime = self._model.name
        self.dimension = self._model.dimension

    def fingerprint(self, modality: str) -> str:
        """Return 32 hex digits naming weights, tokenizer, pooling and length, not the runtime."""
        self.check_modality(modality)
        return fingerprint(
            kind=self.kind,
            revision=self.revision,
            modality=modality,
            options={"max_characters": MAX_CHARACTERS},
            files=self.folder.fingerprint_files(),
        )

    def prepare(self, modality: str, content: bytes) -> Any:
        """Return the tokens of a text (ONNX Runtime) or the text itself (torch).

        Raises:
            UndecodableMediaError: not UTF-8.
            EmptyMediaError: blank.
        """
        self.check_modality(modality)
        return self._model.prepare(decode_text(content))

    def _encode(self, modality: str, prepared: Sequence[Any]) -> Any:
        return self._model.encode(list(prepared))

    def length(self, prepared: Any) -> int:
        """Tokens of a text, or its characters where torch tokenises later."""
        return len(prepared)


class _OnnxModel:
    """Tokenizer, ONNX session and pooling."""

    name = "onnx"

    def __init__(self, plan: OnnxPlan) -> None:
        self._pooling = plan.pooling
        try:
            from tokenizers import Tokenizer

            self._tokenizer = Tokenizer.from_file(str(plan.tokenizer))
            # The file's own settings are of its training; the model's length wins.
            self._tokenizer.enable_truncation(plan.max_tokens)
            self._tokenizer.no_padding()
            self._session = open_session(plan.model)
            self._inputs = {value.name for value in self._session.get_inputs()}
            outputs = self._session.get_outputs()
            names = [value.name for value in outputs]
            known = [name for name in ("last_hidden_state", "token_embeddings") if name in names]
            self._output = (known or names)[0]
            self.dimension = int(outputs[names.index(self._output)].shape[-1])
            unknown = self._inputs - {"input_ids", "attention_mask", "token_type_ids"}
            if unknown or len(outputs[names.index(self._output)].shape) != 3:
                raise ValueError(f"inputs {sorted(self._inputs)}, outputs {names}")
        except Exception as error:
            # onnxruntime's and tokenizers' errors derive from Exception only.
            raise ModelLoadError(
                f"ONNX export {plan.model}",
                expected="a text model giving one vector per token, and its tokenizer.json",
                got=f"{type(error).__name__}: {error}",
                remedy="Export the model again, or remove the export to run it by torch.",
            ) from error

    def prepare(self, text: str) -> NDArray[np.int64]:
        """Return token ids, int64 with shape (tokens,)."""
        return np.asarray(self._tokenizer.encode(text).ids, dtype=np.int64)

    def encode(self, batch: list[NDArray[np.int64]]) -> Vectors:
        """Return pooled vectors, float32 with shape (len(batch), dimension), of any length."""
        shape = (len(batch), max(len(ids) for ids in batch))
        ids = np.zeros(shape, dtype=np.int64)
        mask = np.zeros(shape, dtype=np.int64)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        feed = {name: value for name, value in feed.items() if name in self._inputs}
        with device_memory(SentenceEncoder.kind, len(batch)):
            tokens = self._session.run([self._output], feed)[0]  # (batch, tokens, dimension)
        if self._pooling == "cls":
            return np.asarray(tokens[:, 0], dtype=np.float32)
        weights = mask[:, :, None].astype(np.float32)
        return np.asarray((tokens * weights).sum(axis=1) / weights.sum(axis=1), dtype=np.float32)


class _TorchModel:
    """The model by sentence-transformers."""

    name = "torch"

    def __init__(self, folder: SentenceFolder, device: str) -> None:
        self._device = device
        try:
            from sentence_transformers import SentenceTransformer

            self._model = SentenceTransformer(
                str(folder.path), device=device, local_files_only=True, trust_remote_code=False
            )
            size = self._model.get_embedding_dimension()
            if not size:
                raise ValueError("the model does not say its dimension")
            self.dimension = int(size)
        except Exception as error:
            raise ModelLoadError(
                f"sentence-transformers model {folder.path}",
                expected="a folder saved by sentence-transformers",
                got=f"{type(error).__name__}: {error}",
                remedy="Restore the model's folder.",
            ) from error
        # The library's tokenizer changes its own padding on every call.
        self._lock = threading.Lock()

    def prepare(self, text: str) -> str:
        """Return the text: the library tokenises whole batches."""
        return text

    def encode(self, batch: list[str]) -> Vectors:
        """Return pooled vectors, float32 with shape (len(batch), dimension), of any length."""
        with self._lock, inference(SentenceEncoder.kind, len(batch), self._device):
            tensor = self._model.encode(
                batch, batch_size=len(batch), convert_to_tensor=True, show_progress_bar=False
            )
            return np.asarray(tensor.float().cpu().numpy(), dtype=np.float32)
