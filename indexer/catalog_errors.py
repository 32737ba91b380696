"""Errors of catalog reading.

CatalensError
└── CatalogError
    ├── EmptyCatalogError        the dump has no rows, or none that can be used
    ├── UnreadableCatalogError   no such file, an unknown format, or damage reading cannot pass
    ├── InvalidColumnsError      the mapping names a column never seen, or maps no modality
    ├── InvalidModalityError     a modality to register with a name or suffix that cannot be
    └── RejectedRowError         one row cannot be used; raised in strict mode, recorded otherwise
"""

from __future__ import annotations

from encoders.errors import CatalensError


class CatalogError(CatalensError):
    """A catalog dump, or a row of it, cannot be used."""


class EmptyCatalogError(CatalogError):
    """The dump has no rows, or every one of them was rejected."""


class UnreadableCatalogError(CatalogError):
    """There is no such dump, its format is unknown, or it is damaged as a whole."""


class InvalidColumnsError(CatalogError):
    """The mapping from columns to modalities does not fit the dump."""


class InvalidModalityError(CatalogError):
    """A modality cannot be registered under this name, or with this suffix."""


class RejectedRowError(CatalogError):
    """One row cannot be used. Reading turns it into a `Reject` and goes on."""
