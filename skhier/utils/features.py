"""Feature columns as one block of finite float64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from skhier.utils.categories import forbid_labels
from skhier.utils.frames import column_of, numeric_block
from skhier.utils.validation import TOO_LARGE, relative_spacing

__all__ = ["feature_block", "feature_spacings"]


def feature_block(
    table: Any, positions: list[int], names: list[str], as_groups: Sequence[str] = ()
) -> np.ndarray:
    """Columns as finite float64, (n_samples, len(positions)), Fortran order, the user's units.

    Parameters
    ----------
    table : DataFrame or 2-D array
        As :func:`skhier.utils.frames.as_table` returns it.
    positions : list of int
    names : list of str
        What to call them in errors.
    as_groups : sequence of str
        For each of them, how to make it a grouping factor; empty where it is too late for that.

    Raises
    ------
    ValueError, TypeError
        Categories, strings, dates, cells that are missing, infinite or too large.
    """
    forbid_labels(table, positions, names, as_groups)
    x = numeric_block(table, positions, names)
    largest = np.abs(x).max(0, initial=0.0)
    for name, size in zip(names, largest, strict=True):
        if size > TOO_LARGE:
            raise ValueError(
                f"Column {name!r} of X is too large for float64 arithmetic: {size:.3g}. Rescale it."
            )
    return x


def feature_spacings(table: Any, positions: Sequence[int]) -> tuple[float, ...]:
    """Relative spacing of each column's numbers as they came, such as float32's."""
    return tuple(relative_spacing(column_of(table, j)) for j in positions)
