"""Columns that are linear combinations of others."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg import solve_triangular

__all__ = ["Dependence", "linear_dependence"]

SAME_COLUMN = 1e-10  # share of a column's variance that others leave unexplained


class Dependence(NamedTuple):
    """``redundant`` columns are combinations of the ``kept`` ones and, perhaps, of the constant."""

    kept: list[int]
    redundant: list[int]
    needs_constant: bool


def linear_dependence(gram: np.ndarray, mean: np.ndarray) -> Dependence:
    """Columns that are linear combinations of earlier ones and, perhaps, of the constant.

    Parameters
    ----------
    gram : array of shape (p, p)
        Cross-products of the centred columns, any units; positive diagonal.
    mean : array of shape (p,)

    Examples
    --------
    >>> linear_dependence(np.array([[1.0, 2.0], [2.0, 4.0]]), np.array([1.0, 5.0]))
    Dependence(kept=[0], redundant=[1], needs_constant=True)
    """
    size = np.sqrt(np.diag(gram))
    corr = gram / np.outer(size, size)
    kept, redundant = _split_columns(corr)
    if not redundant:
        return Dependence(kept, redundant, False)
    # redundant columns = kept columns @ weights, in units of their norms; so must be their means
    weights = np.linalg.solve(corr[kept][:, kept], corr[kept][:, redundant])
    scaled = mean / size
    off = scaled[redundant] - scaled[kept] @ weights
    return Dependence(kept, redundant, bool(np.abs(off).max() > 1e-6 * np.abs(scaled).max()))


def _split_columns(corr: np.ndarray) -> tuple[list[int], list[int]]:
    """Columns that are no linear combination of those before them, and the others.

    Cholesky decomposition of a correlation matrix that leaves out rows with no residual.
    """
    p = len(corr)
    root = np.zeros((p, p))
    kept: list[int] = []
    for j in range(p):
        k = len(kept)
        row = solve_triangular(root[:k, :k], corr[kept, j], lower=True) if k else np.zeros(0)
        rest = corr[j, j] - row @ row
        if rest > SAME_COLUMN * p:
            root[k, :k], root[k, k] = row, np.sqrt(rest)
            kept.append(j)
    return kept, [j for j in range(p) if j not in kept]
