"""A sample of a catalog decoded to arrays that a network learns from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from ..device import usable_cores
from ..errors import FitError
from ..fitting import FitProgress, State, decoded

T = TypeVar("T")

_CHUNK = 16


def decode_sample(
    inputs: Sequence[bytes],
    decode: Callable[[bytes], T],
    progress: FitProgress,
    *,
    kind: str,
    least: int,
    what: str,
) -> list[T]:
    """Decode all inputs that can be, in threads, in their order.

    Args:
        inputs: as `FittedEncoder.fit` is given them.
        decode: thread-safe; raises `MediaError` where an input is bad.
        progress: told of one stage.
        kind: of the encoder, for the message.
        least: that is enough to learn from.
        what: is learned from, for the message: "pictures".

    Raises:
        FitError: fewer than `least` can be decoded.
    """
    progress.start(f"read {what}", len(inputs))

    def work(start: int) -> list[T]:
        return list(decoded(inputs[start : start + _CHUNK], decode))

    found: list[T] = []
    with ThreadPoolExecutor(usable_cores(), thread_name_prefix="catalens-fit") as pool:
        starts = range(0, len(inputs), _CHUNK)
        for start, some in zip(starts, pool.map(work, starts), strict=True):
            found += some
            progress.advance(min(_CHUNK, len(inputs) - start))
    progress.finish()
    if len(found) < least:
        raise FitError(
            f"encoder kind {kind!r}",
            expected=f"at least {least} {what} to learn from",
            got=f"{len(found)} of {len(inputs)} that can be read",
            remedy="Give a larger catalog, or choose an encoder that is not trained on it.",
        )
    return found


def arrays_of(module: Any) -> dict[str, Any]:
    """What a module has learned, as float32 arrays by name."""
    return {
        name: tensor.detach().cpu().float().numpy()
        for name, tensor in module.state_dict().items()
        if tensor.is_floating_point()
    }


def load_arrays(module: Any, state: State) -> Any:
    """The module with what it learned, checked.

    Raises:
        EncoderStateError: the state is of another module.
    """
    import torch

    given = {
        name: torch.from_numpy(state.tensor(name, np.float32, *tensor.shape).copy())
        for name, tensor in module.state_dict().items()
        if tensor.is_floating_point()
    }
    # Batch norm's counters, which count nothing any more, are left out.
    module.load_state_dict(given, strict=False)
    return module
