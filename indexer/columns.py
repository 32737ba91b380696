"""Which column of a dump holds which modality."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches

from .catalog_errors import InvalidColumnsError

CONVENTIONS = {
    "text": ("text", "title", "name", "description"),
    "image": ("image", "picture", "photo"),
    "audio": ("audio", "sound", "clip"),
}
"""Names looked for when a modality is not mapped; all that are there are used, in this order."""

_LISTED = 20


@dataclass(frozen=True)
class Columns:
    """The mapping from columns to id and modalities.

    None for `text`, `image` or `audio` means "not said": the names in `CONVENTIONS` are looked
    for in the first rows, exactly as written there. An empty tuple means "none". Every column
    that is not the id, a picture, a sound or a vector is metadata; text is metadata as well.

    Raises:
        InvalidColumnsError: a string stands where a tuple belongs, or one column has two roles
            (only the id may double as text).
    """

    id: str = "id"
    text: tuple[str, ...] | None = None
    image: tuple[str, ...] | None = None
    audio: tuple[str, ...] | None = None
    vector: Mapping[str, str] = field(default_factory=dict)
    """Column of ready-made vectors per space name."""

    def __post_init__(self) -> None:
        for modality in CONVENTIONS:
            if isinstance(getattr(self, modality), str):
                raise InvalidColumnsError(
                    f"{modality} columns",
                    expected="a tuple of names",
                    got=f"the string {getattr(self, modality)!r}",
                    remedy=f"Write ({getattr(self, modality)!r},).",
                )
        media = (*(self.image or ()), *(self.audio or ()), *self.vector.values())
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
    ) -> Columns:
        """The mapping that a user names: one column or several, one space of vectors or several."""
        return cls(
            id=id,
            text=_names(text),
            image=_names(image),
            audio=_names(audio),
            vector={"vector": vector} if isinstance(vector, str) else dict(vector or {}),
        )

    @property
    def of_inputs(self) -> tuple[str, ...]:
        """All columns that are named for a modality."""
        return (
            *(self.text or ()),
            *(self.image or ()),
            *(self.audio or ()),
            *self.vector.values(),
        )

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
            modality: tuple(
                name
                for name in names
                if (not seen or name in seen) and not self._is_taken(name, modality)
            )
            for modality, names in CONVENTIONS.items()
            if getattr(self, modality) is None
        }
        resolved = replace(self, **found)  # type: ignore[arg-type]
        if not (resolved.text or resolved.image or resolved.audio or resolved.vector):
            raise InvalidColumnsError(
                "columns",
                expected="at least one column of text, image, audio or vectors",
                got=f"none among {listed(seen)}",
                remedy="Say which columns hold the text, pictures, sound or vectors.",
            )
        return resolved

    def _is_taken(self, name: str, modality: str) -> bool:
        """Tell whether a column was given a role that it cannot share with a modality."""
        given = (*(self.text or ()), *(self.image or ()), *(self.audio or ()))
        taken = (*given, *self.vector.values(), *(() if modality == "text" else (self.id,)))
        return name in taken


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
