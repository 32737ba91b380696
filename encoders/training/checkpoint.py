"""A training's state on disk, whole or not there; tensors and JSON, nothing that can run."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

_NAME = "training.safetensors"
_TOLD = "training"


@dataclass(frozen=True)
class Checkpoint:
    """Named tensors, and what else there is to know, as JSON values."""

    tensors: Mapping[str, Tensor]
    told: Mapping[str, Any]

    def save(self, folder: Path) -> None:
        """Put it in the place of the one before; a kill leaves the one or the other."""
        from safetensors.torch import save_file

        unfinished = folder / f"{_NAME}.unfinished"
        tensors = {name: x.detach().cpu().contiguous() for name, x in self.tensors.items()}
        save_file(tensors, unfinished, {_TOLD: json.dumps(self.told)})
        with unfinished.open("rb") as written:
            os.fsync(written.fileno())
        unfinished.replace(folder / _NAME)

    @classmethod
    def load(cls, folder: Path, task: str) -> Checkpoint | None:
        """The one in a folder, where it is of this task; None where there is none, or it is
        damaged, or of something else: the training begins anew then."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(folder / _NAME, "pt") as file:
                told = json.loads((file.metadata() or {}).get(_TOLD, "{}"))
                if told.get("task") != task:
                    return None
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, ValueError, SafetensorError):
            return None
        return cls(tensors, told)
