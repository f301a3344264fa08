"""Which rows of fit count, and which slopes the data let vary."""

from __future__ import annotations

import numpy as np

from skhier.utils.budget import USUAL, DataBudget
from skhier.utils.design import Design, Rows
from skhier.utils.levels import side_by_side

__all__ = ["drop_rows", "settle_slopes"]


def drop_rows(design: Design, rows: Rows, kept: np.ndarray) -> tuple[Design, Rows]:
    """The design and the rows as if only some rows had been there."""
    if kept.all():
        return design, rows
    factors, codes = [], []
    for factor, of_rows in zip(design.factors, rows.codes.T, strict=True):
        present, places = np.unique(of_rows[kept], return_inverse=True)
        factors.append(factor._replace(levels=factor.levels.keep(present)))
        codes.append(places)
    x = rows.x[kept]
    design = design._replace(factors=tuple(factors))
    return design, rows._replace(x=x, codes=side_by_side(codes, len(x)))


def settle_slopes(design: Design, rows: Rows, budget: DataBudget = USUAL.data) -> Design:
    """The design with those slopes of ``slopes="all"`` that vary within levels of their factor.

    Parameters
    ----------
    design : Design
        As :func:`fit_design` returns it: with every feature where the data are to decide.
    rows : Rows
        Those that count in fit; every level occurs.
    budget : DataBudget
    """
    factors = []
    for factor, codes in zip(design.factors, rows.codes.T, strict=True):
        levels, chunk = len(factor.levels.labels), budget.rows_compared
        flat = _constant_within(rows.x, codes, levels, factor.slopes, chunk)
        slopes = factor.slopes
        if factor.automatic:
            slopes = tuple(j for j in slopes if j not in flat)
        factors.append(factor._replace(slopes=slopes, flat=flat))
    return design._replace(factors=tuple(factors))


def _constant_within(
    x: np.ndarray, codes: np.ndarray, n_levels: int, columns: tuple[int, ...], chunk: int
) -> tuple[int, ...]:
    """Which columns have one value in all rows of each level; compared, not summed."""
    first = np.empty(n_levels, dtype=np.intp)
    first[codes[::-1]] = np.arange(len(codes))[::-1]  # of repeated indices the last one counts
    for start in range(0, len(x), chunk):
        rows = slice(start, start + chunk)
        of_level = first[codes[rows]]
        columns = tuple(j for j in columns if (x[rows, j] == x[of_level, j]).all())
        if not columns:
            break
    return columns
