"""What is said of y that cannot be such a response."""

from __future__ import annotations

import numpy as np

from skhier.utils.words import listed

__all__ = ["check_rows"]


def check_rows(y: np.ndarray, bad: np.ndarray, name: str, expected: str) -> None:
    """Raise ValueError where any row is bad.

    Parameters
    ----------
    y : array of shape (n_samples,)
    bad : bool array of shape (n_samples,)
    name : str
        Of the response.
    expected : str
        What every y must be, to follow "must be".
    """
    if not bad.any():
        return
    rows = np.flatnonzero(bad)
    seen = listed(f"row {i}: {float(y[i]):.10g}" for i in rows)
    raise ValueError(
        f"y of a {name} response must be {expected}; {len(rows)} of {len(y)} rows are not "
        f"({seen}). Correct them, or choose another response."
    )
