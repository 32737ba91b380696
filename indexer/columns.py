"""Which column of a dump holds which modality."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any

from .catalog_errors import InvalidColumnsError
from .modalities import TEXT, modalities

_FIELDS = (TEXT, "image", "audio")

_LISTED = 20


@dataclass(frozen=True)
class Columns:
    """The mapping from columns to id and modalities.

    None for `text`, `image` or `audio`, and no entry in `others`, mean "not said": the names that
    the modality usually has (see `modalities.py`) are looked for in the first rows, exactly as
    written there. An empty tuple means "none". Every column that is not the id, or of a modality
    other than text, is metadata; text is metadata as well.

    Raises:
        InvalidColumnsError: a string stands where a tuple belongs, a modality of `others` is not
            registered, or one column has two roles (only the id may double as text).
    """

    id: str = "id"
    text: tuple[str, ...] | None = None
    image: tuple[str, ...] | None = None
    audio: tuple[str, ...] | None = None
    vector: Mapping[str, str] = field(default_factory=dict)
    """Column of ready-made vectors per space name."""
    others: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Columns per modality, of video and all that were registered."""

    def __post_init__(self) -> None:
        known = modalities()
        for name in self.others:
            if name not in known or name in _FIELDS:
                raise InvalidColumnsError(
                    f"columns of {name!r}",
                    expected=f"a modality among {', '.join(known)}",
                    got=repr(name),
                    remedy="Correct the name, or add it with register_modality first.",
                )
        for name in known:
            if isinstance(self.of(name), str):
                raise InvalidColumnsError(
                    f"{name} columns",
                    expected="a tuple of names",
                    got=f"the string {self.of(name)!r}",
                    remedy=f"Write ({self.of(name)!r},).",
                )
        media = self.not_metadata
        for role in (*media, *(self.text or ())):
            if role in media and (role in (self.id, *(self.text or ())) or media.count(role) > 1):
                raise InvalidColumnsError(
                    f"column {role!r}",
                    expected="one role per column",
                    got="two",
                    remedy="Name it once in the mapping.",
                )
        if len(set(self.text or ())) < len(self.text or ()):
            raise InvalidColumnsError(
                "text columns",
                expected="each named once",
                got=", ".join(self.text or ()),
                remedy="Name each once.",
            )

    @classmethod
    def named(
        cls,
        *,
        id: str,
        text: str | Sequence[str] | None,
        image: str | Sequence[str] | None,
        audio: str | Sequence[str] | None,
        vector: str | Mapping[str, str] | None,
        **others: str | Sequence[str] | None,
    ) -> Columns:
        """The mapping that a user names: one column or several, one space of vectors or several."""
        return cls(
            id=id,
            text=_names(text),
            image=_names(image),
            audio=_names(audio),
            vector={"vector": vector} if isinstance(vector, str) else dict(vector or {}),
            others={m: n for m, given in others.items() if (n := _names(given)) is not None},
        )

    def told(self) -> dict[str, Any]:
        """The arguments of `named`."""
        return {
            "id": self.id,
            **{name: self.of(name) for name in _FIELDS},
            "vector": dict(self.vector),
            **{name: names for name, names in self.others.items() if names},
        }

    def of(self, modality: str) -> tuple[str, ...] | None:
        """Columns of a modality; None where nothing was said of it."""
        if modality in _FIELDS:
            found: tuple[str, ...] | None = getattr(self, modality)
            return found
        return self.others.get(modality)

    @property
    def not_metadata(self) -> tuple[str, ...]:
        """All columns that are named for a modality other than text."""
        named = (name for one in modalities() if one != TEXT for name in self.of(one) or ())
        return (*named, *self.vector.values())

    @property
    def of_inputs(self) -> tuple[str, ...]:
        """All columns that are named for a modality."""
        return (*(self.text or ()), *self.not_metadata)

    def resolve(self, seen: Collection[str], *, optional: Collection[str] = ()) -> Columns:
        """Return the mapping with every None replaced by the conventional names that were seen.

        Args:
            seen: the columns of the first rows. Empty when none of these rows could be read: then
                the mapping is taken at its word, with all conventional names.
            optional: columns that need not be seen, as an index remembers those of a dump that had
                more of them; one column of inputs must be.

        Raises:
            InvalidColumnsError: a column named here was not seen, or no modality is left.
        """
        if seen:
            given = self.of_inputs
            needed = [name for name in given if name in seen or name not in optional]
            _check((self.id, *(needed or given)), self.id, seen)
        found = {
            name: tuple(
                column
                for column in modality.columns
                if (not seen or column in seen) and not self._is_taken(column, name)
            )
            for name, modality in modalities().items()
            if self.of(name) is None
        }
        fields = {name: names for name, names in found.items() if name in _FIELDS}
        others = {name: names for name, names in found.items() if name not in _FIELDS and names}
        resolved = replace(self, others={**self.others, **others}, **fields)  # type: ignore[arg-type]
        if not resolved.of_inputs:
            raise InvalidColumnsError(
                "columns",
                expected="at least one column of text, image, audio or vectors",
                got=f"none among {listed(seen)}",
                remedy="Say which columns hold the text, pictures, sound or vectors.",
            )
        return resolved

    def _is_taken(self, name: str, modality: str) -> bool:
        """Tell whether a column was given a role that it cannot share with a modality."""
        return name in (*self.of_inputs, *(() if modality == TEXT else (self.id,)))


def _names(given: str | Sequence[str] | None) -> tuple[str, ...] | None:
    if given is None:
        return None
    return (given,) if isinstance(given, str) else tuple(given)


def _check(names: Iterable[str], identity: str, seen: Collection[str]) -> None:
    for name in names:
        if name not in seen:
            near = get_close_matches(name, seen, n=1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            role = "id column" if name == identity else "column"
            raise InvalidColumnsError(
                f"{role} {name!r}",
                expected="a column of the dump",
                got=f"a dump with {listed(seen)}",
                remedy=f"{hint}Name a column that is there.",
            )


def listed(names: Iterable[str]) -> str:
    """Return names for a message, the first 20 in full."""
    ordered = [repr(name) for name in names]
    more = f" and {len(ordered) - _LISTED:,} more" if len(ordered) > _LISTED else ""
    return ", ".join(ordered[:_LISTED]) + more
