"""Whose line a warning is about."""

from __future__ import annotations

import sys

__all__ = ["users_stacklevel"]

ON_THE_WAY = {"skhier", "sklearn", "joblib"}


def users_stacklevel() -> int:
    """The ``stacklevel`` for a warning of the calling function that points at the user's line.

    The nearest caller outside of this package and of those that call it for the user.
    """
    level, frame = 1, sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").split(".")[0] in ON_THE_WAY:
        level, frame = level + 1, frame.f_back
    return level
