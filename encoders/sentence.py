"""Text by sentence-transformers models: OpenVINO on a CPU where it can, torch elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from .base import Encoder
from .cpu_network import CpuNetwork, open_network
from .device import inference, resolve_device, usable_cores
from .errors import ModelLoadError
from .exports import exported_or_none
from .fingerprint import fingerprint
from .limits import Limits
from .memory import device_memory
from .sentence_export import open_packaged
from .sentence_folder import ExportPlan, SentenceFolder, find_model
from .text import MAX_CHARACTERS, decode_text
from .vectors import Vectors

# What exporters call the output that has a vector for each token.
_TOKENS = ("last_hidden_state", "token_embeddings")


class SentenceOptions(BaseModel):
    """Options of the kind `sentence-transformers`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = "all-MiniLM-L6-v2"
    """Name on the hub, or a local folder; the default comes as a pip package."""


class SentenceEncoder(Encoder):
    """Sentence embeddings, made unit.

    On a CPU the folder's ONNX export runs by OpenVINO, and torch is not imported. The packaged
    model gets an export made at first use, and multiplies in int8 where the processor can; a test
    bounds what that changes. Without an export, or on a GPU, the same weights run by
    sentence-transformers. The fingerprint is of the weights: runtimes differ by rounding. An export
    beside a user's own weights is trusted to be an export of them.
    """

    kind: ClassVar[str] = "sentence-transformers"
    revision: ClassVar[int] = 1
    options_model: ClassVar[type[BaseModel]] = SentenceOptions
    modalities = ("text",)

    def __init__(self, options: SentenceOptions, device: str, limits: Limits) -> None:
        self.folder = find_model(options.model)
        self.device = resolve_device(device)
        plan = self.folder.export_plan() if self.device == "cpu" else None
        exported = None
        if plan is not None and plan.export is not None:
            exported = _ExportedModel(plan, _opened(plan.export))
        elif plan is not None:
            network = exported_or_none("all-MiniLM-L6-v2", lambda: open_packaged(self.folder))
            exported = None if network is None else _ExportedModel(plan, network)
        self._model: _ExportedModel | _TorchModel
        if exported is not None:
            self._model = exported
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
        """Return the tokens of a text (OpenVINO) or the text itself (torch).

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


class _ExportedModel:
    """Tokenizer, network and pooling."""

    name = "openvino"

    def __init__(self, plan: ExportPlan, network: CpuNetwork) -> None:
        self._pooling = plan.pooling
        self._network = network
        self.dimension = network.output[-1]
        try:
            from tokenizers import Tokenizer

            self._tokenizer = Tokenizer.from_file(str(plan.tokenizer))
            # The file's own settings are of its training; the model's length wins.
            self._tokenizer.enable_truncation(plan.max_tokens)
            self._tokenizer.no_padding()
        except Exception as error:
            # The library's errors derive from Exception only.
            raise _not_loaded(plan.tokenizer, error) from error

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
        feed = {name: value for name, value in feed.items() if name in self._network.inputs}
        with device_memory(SentenceEncoder.kind, len(batch)):
            vectors = self._network(feed)  # (batch, tokens, dimension)
        if self._pooling == "cls":
            return vectors[:, 0]
        shares = mask.astype(np.float32)
        shares /= shares.sum(axis=1, keepdims=True)
        pooled: Vectors = np.matmul(shares[:, None], vectors)[:, 0]
        return pooled


def _opened(export: Path) -> CpuNetwork:
    """A user's own export, if it is of the kind that we know how to ask."""
    try:
        network = open_network(export, outputs=_TOKENS)
        unknown = network.inputs - {"input_ids", "attention_mask", "token_type_ids"}
        if unknown or len(network.output) != 3 or network.output[-1] < 1:
            raise ValueError(f"inputs {sorted(network.inputs)}, output {network.output}")
        return network
    except Exception as error:
        # OpenVINO's errors derive from Exception only.
        raise _not_loaded(export, error) from error


def _not_loaded(file: Path, error: Exception) -> ModelLoadError:
    return ModelLoadError(
        f"ONNX export {file}",
        expected="a text model giving one vector per token, and its tokenizer.json",
        got=f"{type(error).__name__}: {error}",
        remedy="Export the model again, or remove the export to run it by torch.",
    )


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
