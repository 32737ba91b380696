"""The errors of this room.

CatalensError
├── DatasetUnavailableError   a dataset cannot be fetched or read on this machine
├── GpuNeededError            a benchmark of a GPU, where none can be used
└── DemoFailedError           a step of the demo did not do what it should
"""

from __future__ import annotations

from encoders.errors import CatalensError


class DatasetUnavailableError(CatalensError):
    """A dataset cannot be fetched, unpacked or read on this machine."""

    exit_code = 1


class GpuNeededError(CatalensError):
    """A benchmark of a GPU was started where none can be used."""


class DemoFailedError(CatalensError):
    """A step of the demo did not do what it should."""

    exit_code = 1
