"""The error of this package.

CatalensError
└── PeerFailedError   a peer cannot be installed, built or asked; the others go on without it
"""

from __future__ import annotations

from encoders.errors import CatalensError


class PeerFailedError(CatalensError):
    """A peer cannot be installed, built or asked."""

    exit_code = 1
