"""Settings of the whole suite."""

from __future__ import annotations

from hypothesis import settings

# The same examples at every run: a red main must come from a change, not from a draw.
settings.register_profile("steady", derandomize=True)
settings.load_profile("steady")
