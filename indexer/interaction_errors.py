"""Errors of interactions: what users did cannot be read, or nothing can be learned from it.

CatalensError
└── LearningError
    └── InteractionsError
        ├── MissingColumnError     no column of users or items, or none of the name that was given
        ├── NoInteractionsError    no row is left that can be used
        ├── SingleUserError        all are of one user
        ├── ConstantValuesError    all values are the same, where a model needs two
        ├── FutureTimeError        a time is in the future
        ├── NoLikesError           no value is above the neutral one
        ├── BehaviourOptionError   a method, rank or value that cannot be
        └── SpaceNameError         the catalog has a space of the name that item vectors take
"""

from __future__ import annotations

from .learning.errors import LearningError


class InteractionsError(LearningError):
    """What users did cannot be used."""


class MissingColumnError(InteractionsError):
    """A column that is needed, or was named, is not there."""


class NoInteractionsError(InteractionsError):
    """No row is left that can be used."""


class SingleUserError(InteractionsError):
    """All interactions are of one user."""


class ConstantValuesError(InteractionsError):
    """All values are the same, and a model needs to be told good from bad."""


class FutureTimeError(InteractionsError):
    """A time is in the future."""


class NoLikesError(InteractionsError):
    """No value is above the neutral one."""


class BehaviourOptionError(InteractionsError):
    """A method that there is not, or a rank or value that cannot be."""


class SpaceNameError(InteractionsError):
    """The catalog has a space of the name that item vectors take."""
