"""Importing libraries that warn of what is none of their user's doing."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def torch_jit_accepted() -> Iterator[None]:
    """Let libraries declare torch.jit scripts at import, which torch 2.14 calls deprecated."""
    with warnings.catch_warnings():
        for category in (FutureWarning, DeprecationWarning):
            warnings.filterwarnings("ignore", message=r".*torch\.jit", category=category)
        yield
