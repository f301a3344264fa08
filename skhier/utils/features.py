"""Feature columns as one block of finite float64."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from skhier.utils.categories import forbid_labels
from skhier.utils.cells import TOO_LARGE, forbid_non_finite, relative_spacing, write_float64
from skhier.utils.table import Table

__all__ = ["read_features"]


def read_features(
    table: Table,
    positions: Sequence[int],
    names: Sequence[str],
    as_groups: Sequence[str] = (),
) -> tuple[np.ndarray, tuple[float, ...]]:
    """Read, check and convert each column, once.

    Parameters
    ----------
    table : Table
    positions : sequence of int
    names : sequence of str
        What to call them in errors.
    as_groups : sequence of str
        For each of them, how to make it a grouping factor; empty where it is too late for that.

    Returns
    -------
    x : array of shape (n_samples, len(positions))
        Finite float64, Fortran order, the user's units.
    eps : tuple of float
        Relative spacing of each column's numbers as they came, such as float32's.

    Raises
    ------
    ValueError, TypeError
        The first column of categories or strings; if there is none, the first that holds no
        numbers, such as dates; else all with cells that are missing, infinite or too large.
    """
    x = np.empty((table.n_rows, len(positions)), order="F")
    eps, no_numbers = [], None
    for j, (position, name) in enumerate(zip(positions, names, strict=True)):
        column, what = table.column(position), f"Column {name!r} of X"
        cells = column.cells
        forbid_labels(column, cells, what, as_groups[j] if as_groups else None)
        eps.append(relative_spacing(cells))
        try:
            write_float64(cells, x[:, j], what)
        except (TypeError, ValueError) as error:
            no_numbers = no_numbers or error
    if no_numbers is not None:
        raise no_numbers
    _forbid_extremes(x, names)
    return x, tuple(eps)


def _forbid_extremes(x: np.ndarray, names: Sequence[str]) -> None:
    # NaN passes through both; abs(x) would be a second block
    largest = np.maximum(x.max(0, initial=0.0), -x.min(0, initial=0.0))
    if not np.isfinite(largest).all():
        forbid_non_finite(x, names)
    for name, size in zip(names, largest.tolist(), strict=True):
        if size > TOO_LARGE:
            raise ValueError(
                f"Column {name!r} of X is too large for float64 arithmetic: {size:.3g}. Rescale it."
            )
