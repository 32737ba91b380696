"""Which device a model runs on, and in which precision. Torch is imported inside functions only."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import DeviceError
from .memory import device_memory

if TYPE_CHECKING:
    import torch

_NAME = re.compile(r"auto|cpu|mps|cuda(:\d{1,3})?")


def check_device_name(device: str) -> str:
    """Return `device` if it is a name we know, without importing torch.

    Raises:
        DeviceError: the name is not `auto`, `cpu`, `mps`, `cuda` or `cuda:N`.
    """
    if not _NAME.fullmatch(device):
        raise DeviceError(
            "device",
            expected="'auto', 'cpu', 'mps', 'cuda' or 'cuda:N'",
            got=repr(device),
            remedy="Use 'auto' to take the best device there is.",
        )
    return device


def resolve_device(device: str = "auto") -> str:
    """Return the device to use: `cpu`, `mps`, `cuda` or `cuda:N`.

    `auto` takes CUDA, then MPS, then the CPU. Torch is imported only where an accelerator is
    asked for or may be there, so that a text query on a plain machine never waits for it.

    Raises:
        DeviceError: the name is unknown, or the device asked for is not on this machine.
    """
    check_device_name(device)
    if device == "cpu" or (device == "auto" and not _accelerator_possible()):
        return "cpu"
    import torch

    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    mps = torch.backends.mps.is_available()
    if device == "auto":
        return "cuda" if cuda else "mps" if mps else "cpu"
    if device == "mps" and mps:
        return device
    number = int(device.partition(":")[2] or 0)
    if device.startswith("cuda") and number < cuda:
        return device
    raise DeviceError(
        f"device {device!r}",
        expected="a device of this machine",
        got=f"{cuda} CUDA devices, {'an' if mps else 'no'} MPS device, torch {torch.__version__}",
        remedy="Use 'auto' or 'cpu', or install a torch build for this accelerator.",
    )


def _accelerator_possible() -> bool:
    """Whether torch might see an accelerator; False only where the system has no driver for one."""
    if platform.system() == "Darwin":
        return platform.machine() == "arm64"
    if os.environ.get("CUDA_VISIBLE_DEVICES", "unset").strip() in ("", "-1"):
        return False
    if platform.system() != "Linux":
        return True
    # NVIDIA, NVIDIA under WSL, NVIDIA Jetson, AMD.
    nodes = ("/dev/nvidiactl", "/dev/dxg", "/dev/nvhost-gpu", "/dev/kfd")
    return any(Path(node).exists() for node in nodes)


def usable_cores() -> int:
    """Cores that this process may run on, or fewer where OMP_NUM_THREADS says so."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(allowed or 1, int(asked)) if asked.isdecimal() and int(asked) else allowed or 1


def precision(device: str) -> torch.dtype:
    """Return the float type for a model on a resolved device: half on GPUs, float32 on the CPU.

    bfloat16 has float32's range and cannot overflow, so it is taken where the GPU computes in it.
    """
    import torch

    if device == "cpu":
        return torch.float32
    if device.startswith("cuda") and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    return torch.float16


@contextmanager
def inference(kind: str, rows: int, device: str) -> Iterator[None]:
    """Run a torch model in the block: no gradients, half precision on a GPU, memory errors ours.

    Weights stay float32 and the arithmetic is cast, so that a fingerprint taken from the weights
    does not depend on the device.

    Raises:
        OutOfMemoryError: the batch of `rows` does not fit.
    """
    import torch

    dtype = precision(device)
    cast: AbstractContextManager[Any] = nullcontext()
    if dtype != torch.float32:
        cast = torch.autocast(torch.device(device).type, dtype=dtype)
    with device_memory(kind, rows), torch.inference_mode(), cast:
        yield
