"""Modalities by name: where a catalog keeps the inputs of each, and how a value becomes bytes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from encoders.errors import UndecodableMediaError

from .catalog_errors import InvalidModalityError
from .values import shown

TEXT = "text"
VECTOR = "vector"
BEHAVIOUR = "behaviour"
"""Item vectors, learned from what users did; also the name of their space."""
LIKED = "behaviour:liked"
"""The vectors by which an item asks when a user likes it."""
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
# Words that a query or a mapping of columns uses for something else.
_TAKEN = ("id", "item", "like", "unlike", "weights", "missing", "inputs", VECTOR, BEHAVIOUR)

Content = Callable[[Any], bytes]


@dataclass(frozen=True)
class Modality:
    """A kind of input.

    `columns` are the names that a dump's columns for it usually have, `suffixes` those of its files
    in a folder. `content` makes bytes of one value of a column or a query; None for files: a
    value is then a path, bytes, or a list of these.
    """

    name: str
    columns: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()
    content: Content | None = None

    @property
    def is_of_files(self) -> bool:
        """Whether an input is a file that lies somewhere."""
        return self.content is None

    def bytes_of(self, value: Any) -> bytes:
        """What `content` makes of a value.

        Raises:
            MediaError: it cannot.
        """
        assert self.content is not None
        try:
            return self.content(value)
        except (TypeError, ValueError) as error:
            raise UndecodableMediaError(
                self.name,
                expected="a value that its `content` takes",
                got=f"{shown(value)} ({error})",
                remedy="Correct the value, or leave it out.",
            ) from error


def _text(value: Any) -> bytes:
    if not isinstance(value, str):
        raise UndecodableMediaError(
            TEXT,
            expected="a string or a list of strings",
            got=shown(value),
            remedy="Convert the value to a string.",
        )
    return value.encode()


_MODALITIES = {
    modality.name: modality
    for modality in (
        Modality(TEXT, ("text", "title", "name", "description"), (".txt", ".md"), _text),
        Modality(
            "image",
            ("image", "picture", "photo"),
            (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
        ),
        Modality("audio", ("audio", "sound", "clip"), (".wav", ".flac", ".ogg", ".mp3")),
        Modality("video", ("video", "movie"), (".mp4", ".webm", ".mkv", ".mov", ".avi")),
    )
}


def register_modality(
    name: str,
    *,
    columns: tuple[str, ...] = (),
    suffixes: tuple[str, ...] = (),
    content: Content | None = None,
) -> None:
    """Add a modality of your own, for every process that builds or asks an index with it.

    Args:
        name: as the encoders of a preset, the columns of a catalog and the weights of a query call
            it: a lower-case word.
        columns: names of columns that are looked for where none is named.
        suffixes: of its files in a catalog that is a folder, such as `.csv`.
        content: makes the bytes that its encoders are given of one value of a column or a query; it
            may raise TypeError, ValueError or MediaError. None for files: a value is then a path
            below the media root, or bytes.

    Raises:
        InvalidModalityError: a name that cannot be, or one that comes with Catalens; a suffix that
            is another modality's.
    """
    if not _NAME.fullmatch(name) or name in _TAKEN or name in _BUILT_IN:
        raise InvalidModalityError(
            "modality",
            expected="a lower-case word of at most 32 letters that stands for nothing else",
            got=repr(name),
            remedy="Choose another name.",
        )
    for suffix in suffixes:
        owner = modality_of_suffix(suffix)
        if not suffix.startswith(".") or suffix == ".json" or owner not in (None, name):
            raise InvalidModalityError(
                f"suffix of modality {name!r}",
                expected="one like .csv, that no other modality has",
                got=f"{suffix!r}" + (f", which is {owner}" if owner else ""),
                remedy="Leave it out, or choose another.",
            )
    _MODALITIES[name] = Modality(name, tuple(columns), tuple(suffixes), content)


_BUILT_IN = frozenset(_MODALITIES)


def modalities() -> dict[str, Modality]:
    """All there are, by name: text first, then in the order in which they were registered."""
    return dict(_MODALITIES)


def modality_named(name: str) -> Modality | None:
    """The modality of a name; None where none is registered."""
    return _MODALITIES.get(name)


def modality_of_suffix(suffix: str) -> str | None:
    """Name of the modality whose files end so, in upper or lower case; None for other files."""
    suffix = suffix.lower()
    return next((name for name, one in _MODALITIES.items() if suffix in one.suffixes), None)
