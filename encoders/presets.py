"""Presets: shipped by name, read from a user's file, or given as a dict."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .errors import InvalidPresetError, UnknownPresetError
from .spec import Preset


def known_presets() -> list[str]:
    """Return the names of the presets shipped with the package, sorted."""
    folder = files("encoders") / "presets"
    return sorted(
        entry.name.removesuffix(".json")
        for entry in folder.iterdir()
        if entry.name.endswith(".json")
    )


def load_preset(source: str | os.PathLike[str] | Mapping[str, Any] | Preset) -> Preset:
    """Return a preset, checked.

    Args:
        source: the name of a shipped preset, the path of a JSON file, a mapping of the same
            shape, or a preset, which is returned as it is. A name wins over a file of that name
            in the working folder; write "./local" for the file.

    Raises:
        UnknownPresetError: no preset of that name and no file of that path.
        InvalidPresetError: it does not read, or does not say what a preset must.
    """
    if isinstance(source, Preset):
        return source
    if isinstance(source, Mapping):
        return _checked(dict(source), "preset")
    name = os.fspath(source)
    if name in known_presets():
        text = (files("encoders") / "presets" / f"{name}.json").read_text("utf-8")
    else:
        text = _file_text(name)
    try:
        return _checked(json.loads(text), f"preset {name!r}")
    except (ValueError, RecursionError) as error:
        raise InvalidPresetError(
            f"preset {name!r}",
            expected="JSON",
            got=str(error),
            remedy="Correct the file.",
        ) from error


def _file_text(name: str) -> str:
    path = Path(name)
    if not path.is_file():
        raise UnknownPresetError(
            f"preset {name!r}",
            expected=f"one of {', '.join(known_presets())}, or the path of a JSON file",
            got="neither",
            remedy="Correct the name or the path.",
        )
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidPresetError(
            f"preset {name!r}",
            expected="a readable UTF-8 file",
            got=str(error),
            remedy="Correct the file.",
        ) from error


def _checked(value: Any, what: str) -> Preset:
    try:
        return Preset.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "preset"
        raise InvalidPresetError(
            what,
            expected="a name and spaces, each with a name, an item modality and its encoders",
            got=f"{where}: {first['msg']}",
            remedy="Correct the preset.",
        ) from error
