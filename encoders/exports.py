"""ONNX exports made on this machine and kept, so that later processes run a model without torch.

Torch makes an export from the weights in seconds, ONNX Runtime opens it in milliseconds. Exports
are kept in `$XDG_CACHE_HOME/catalens/exports`, or `~/.cache/catalens/exports`; deleting them
costs the time to make them again, and nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

_DIGEST_BYTES = hashlib.sha256().digest_size


def exports_folder() -> Path:
    """`$XDG_CACHE_HOME/catalens/exports`, or `~/.cache/catalens/exports`.

    Raises:
        FileNotFoundError: the user has no home.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG specification has relative paths ignored.
    if not base.is_absolute():
        try:
            base = Path.home() / ".cache"
        except RuntimeError as error:
            raise FileNotFoundError(str(error)) from error
    return base / "catalens" / "exports"


def kept_export(key: str, make: Callable[[], bytes]) -> bytes:
    """Return the export kept under `key`; made, and kept, where there is none that is whole.

    The bytes that were verified are the ones returned: no one opens the file again. Processes
    that find none at once each make their own, and the last one stays. Where none can be kept,
    each process makes its own, and a RuntimeWarning says so.

    Args:
        key: a file name, of all that decides the export's content.
        make: makes the export; what it raises passes.
    """
    name = f"{key}.onnx-sealed"
    with contextlib.suppress(OSError):
        kept = _read(exports_folder() / name)
        if kept is not None:
            return kept
    export = make()
    try:
        _write(exports_folder() / name, export)
    except OSError as error:
        warnings.warn(
            f"An ONNX export cannot be kept and will be made again by every process: {error}. "
            "Set XDG_CACHE_HOME to a folder that can be written.",
            RuntimeWarning,
            stacklevel=2,
        )
    return export


def _read(file: Path) -> bytes | None:
    """The export in a file; None where the file is cut short or its bytes have changed."""
    content = file.read_bytes()
    digest, export = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    return export if hashlib.sha256(export).digest() == digest else None


def _write(file: Path, export: bytes) -> None:
    """Publish digest and export by one rename: no reader sees a part, or one without the other."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Made with mode 0600, under a name that is this process's alone.
    descriptor, temporary = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(hashlib.sha256(export).digest() + export)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(file)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise


def export_onnx(module: Any, sample: Any) -> bytes:
    """Return a torch module of one input as ONNX, its first dimension of any length.

    Args:
        module: a module in evaluation mode, on the CPU.
        sample: an input of two rows or more; torch takes a dimension of one for a constant.
    """
    import torch

    rows = torch.export.Dim("rows")
    program: Any = torch.onnx.export(
        module, (sample,), dynamo=True, dynamic_shapes=({0: rows},), verbose=False
    )
    export: bytes = program.model_proto.SerializeToString()
    return export


def open_session(export: bytes | Path) -> Any:
    """Return an ONNX Runtime session on the CPU whose calls keep to the thread that makes them:
    `Encoder.calls_at_once` of them run side by side."""
    runtime = onnx_runtime()
    settings = runtime.SessionOptions()
    settings.log_severity_level = 3
    settings.intra_op_num_threads = 1
    settings.inter_op_num_threads = 1
    source = str(export) if isinstance(export, Path) else export
    return runtime.InferenceSession(source, settings, providers=["CPUExecutionProvider"])


def onnx_runtime() -> Any:
    """Return the module onnxruntime, imported with its telemetry off.

    From 1.29 on, its packages tell Microsoft what is run, under an identifier that they put into
    the user's cache, unless this variable is set before the import. What a user set stays.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime
