"""ONNX exports made on this machine and kept, so that later processes run a model without torch.

Torch makes an export from the weights in seconds, OpenVINO opens it in some tenths of one. Exports
are kept in `$XDG_CACHE_HOME/catalens/exports`, or `~/.cache/catalens/exports`; deleting them
costs the time to make them again, and nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from .errors import ModelLoadError

T = TypeVar("T")

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


def export_onnx(module: Any, sample: Mapping[str, Any], dimensions: Sequence[str]) -> bytes:
    """Return a torch module as ONNX.

    Args:
        module: a module in evaluation mode, on the CPU.
        sample: its inputs by name, in order.
        dimensions: names of the first dimensions of each input, which may then have any length;
            the sample's must be two or more, for torch takes a dimension of one for a constant.
    """
    import torch

    free = dict(enumerate(torch.export.Dim(name) for name in dimensions))
    with warnings.catch_warnings():
        # The exporter remarks that inputs share the names of their dimensions, as they should.
        warnings.filterwarnings("ignore", category=UserWarning)
        program: Any = torch.onnx.export(
            module,
            tuple(sample.values()),
            dynamo=True,
            input_names=list(sample),
            dynamic_shapes=(free,) * len(sample),
            verbose=False,
        )
    export: bytes = program.model_proto.SerializeToString()
    return export


def exported_or_none(model: str, load: Callable[[], T]) -> T | None:
    """Load a model from its export; None, and a warning, where no export can be made.

    Whatever the reason (no onnxscript, an exporter that fails on this torch), the same weights
    run by torch all the same, only slower, so that nothing here may end a build or a query.

    Raises:
        ModelLoadError: the weights themselves do not read: torch could not run them either.
    """
    try:
        return load()
    except ModelLoadError:
        raise
    except Exception as error:
        reason = (str(error).strip() or "no reason given").splitlines()[0]
        warnings.warn(
            f"{model} runs by torch, at half the speed of its export or less: "
            f"that failed ({type(error).__name__}: {reason}). "
            "Install onnx and onnxscript in the versions that Catalens asks for.",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
