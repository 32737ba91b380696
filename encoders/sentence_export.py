"""The packaged text model as a network for a CPU, exported at first use."""

from __future__ import annotations

import numpy as np

from .cpu_network import CpuNetwork, open_network, runtime
from .errors import ModelLoadError
from .exports import export_onnx, kept_export
from .fingerprint import file_sha256
from .sentence_folder import SentenceFolder

_EXPORT_REVISION = 1
"""Counts up with every change of `make_export` or `export_onnx`: kept exports are made anew."""


def open_packaged(folder: SentenceFolder) -> CpuNetwork:
    """Return the network, from a kept export or one made now.

    Raises:
        ModelLoadError: the weights do not read.
    """
    weights = file_sha256(folder.path / "model.safetensors")
    # With the runtime's version: what one opens and was checked by, another may not open.
    key = f"{_EXPORT_REVISION}-{runtime().__version__}-{weights}"
    export = kept_export(f"all-minilm-l6-v2-{key}", lambda: make_export(folder))
    return open_network(export, fast=True)


def make_export(folder: SentenceFolder) -> bytes:
    """Return the transformer as ONNX in float32, after it gave the vectors that torch gives: from
    token ids and mask, int64 (n, tokens), to a vector for each token, float32 (n, tokens, 384).

    Raises:
        ModelLoadError: the weights do not read.
        ValueError: the export computes something else.
    """
    import torch
    from transformers import AutoModel
    from transformers.utils import logging

    shows_progress = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        # Attention step by step: the fused kind is exported with tests for NaN.
        network = AutoModel.from_pretrained(
            str(folder.path), attn_implementation="eager", local_files_only=True
        ).eval()
    except Exception as error:
        raise ModelLoadError(
            f"transformer {folder.path}",
            expected="a folder saved by sentence-transformers",
            got=f"{type(error).__name__}: {error}",
            remedy="Restore the model's folder.",
        ) from error
    finally:
        if shows_progress:
            logging.enable_progress_bar()

    class Tokens(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            tokens: torch.Tensor = self.network(
                input_ids=input_ids, attention_mask=attention_mask
            ).last_hidden_state
            return tokens

    # Of other lengths than the sample: an export that took one for a constant shows here.
    ids = np.random.default_rng(0).integers(1000, 20_000, (3, 20))
    mask = (np.arange(20) < np.array([20, 7, 1])[:, None]).astype(np.int64)
    feed = {"input_ids": ids, "attention_mask": mask}
    tokens = Tokens()
    sample = {name: torch.from_numpy(value[:2, :12]) for name, value in feed.items()}
    export = export_onnx(tokens, sample, ["rows", "tokens"])
    with torch.inference_mode():
        expected = tokens(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()
    found = open_network(export)(feed)
    if not np.allclose(found, expected, rtol=1e-3, atol=1e-3):
        raise ValueError(f"vectors differ by up to {np.abs(found - expected).max():.3g}")
    return export
