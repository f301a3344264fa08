"""Rows of each level as far as a level's own noise needs them: roots of their cross-products.

With ``[Z X y] = Q T``, Q with orthonormal columns, the rows of T that effects reach (``root`` and
``seen``) come first; the others, ``rest``, are what the level's own regression on Z leaves of X and
y, so that the residual sum of squares of a level is one of squares:

    min over b |y - X beta - Z b|^2 = |rest [-beta; 1]|^2.

Columns are centred at the level's own means before they are multiplied: levels may lie as far apart
as they like.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from skhier.statistics.records import FactorStats, Units
from skhier.statistics.rows import rounded_up
from skhier.statistics.sums import exact_parts, sums_by_code
from skhier.utils.budget import USUAL, DataBudget
from skhier.utils.training import Training

__all__ = ["LevelRoots", "level_roots", "roots_of_products", "without_residual"]

COLUMN_ROUNDING = 1e-12  # of a column's squares: what earlier columns leave of it is rounding
MEAN_ROUNDING = 2.0**-26  # of a mean, times that one's root: the rounding of what is about it


class LevelRoots(NamedTuple):
    """Triangular roots per level, internal coordinates; G levels, q effects, p columns of X.

    Attributes
    ----------
    root : array of shape (q, q, G)
        ``root' root = Z'WZ``; rows of zeros where a level has fewer rows than effects.
    seen : array of shape (q, p + 1, G)
        Of ``[X y]``, the rows that belong to ``root``.
    rest : array of shape (k, k, G)
        Upper triangular, of the columns ``columns`` of ``[X y]``.
    columns : int array of shape (k,)
        Those that effects do not explain in some level; y last.
    n : array of shape (G,)
        Sums of the rows' weights; 0 of levels that are there for their number alone.
    """

    root: Any
    seen: Any
    rest: Any
    columns: Any
    n: Any

    def take(self, which: Any) -> LevelRoots:
        """Some of the levels."""
        root, seen, rest = (a[..., which] for a in (self.root, self.seen, self.rest))
        return LevelRoots(root, seen, rest, self.columns, self.n[which])

    def padded(self) -> LevelRoots:
        """With levels without rows, up to one of few sizes, so that few programs are compiled."""
        more = rounded_up(len(self.n)) - len(self.n)

        def widened(a):
            return np.concatenate([a, np.zeros((*a.shape[:-1], more))], axis=-1)

        root, seen, rest, n = map(widened, (self.root, self.seen, self.rest, self.n))
        return LevelRoots(root, seen, rest, self.columns, n)


def level_roots(
    training: Training,
    units: Units,
    slopes: tuple[int, ...],
    n_levels: int,
    budget: DataBudget = USUAL.data,
) -> LevelRoots:
    """From rows of one factor.

    Parameters
    ----------
    training : Training
        In the user's units.
    units : Units
    slopes : tuple of int
        Features with a varying slope.
    n_levels : int
    budget : DataBudget
    """
    codes, weights = training.codes[:, 0], training.weights
    columns = [*((training.x - units.x_mean) / units.x_scale).T]
    columns.append((training.y - units.y_mean) / units.y_scale)

    def sums(values):
        return sums_by_code(codes, exact_parts(values, weights, budget=budget), n_levels)

    n = sums(np.ones(len(codes)))
    mean = np.stack([sums(column) for column in columns]) / np.where(n > 0, n, 1.0)
    off = [column - of_levels[codes] for column, of_levels in zip(columns, mean, strict=True)]
    products = np.empty((len(off), len(off), n_levels))
    for i, one in enumerate(off):
        for j, other in enumerate(off[: i + 1]):
            products[i, j] = products[j, i] = sums(one * other)
    squares = np.einsum("iig->ig", products) + n * (MEAN_ROUNDING * mean) ** 2
    return _roots(n, mean, products, squares, slopes)


def roots_of_products(stats: FactorStats, slopes: tuple[int, ...]) -> LevelRoots:
    """From a factor's cross-products, where the rows are gone: what levels differ by costs digits.

    Raises
    ------
    ValueError
        The statistics hold no products of y with itself per level.
    """
    if not stats.xy_xy.size:
        raise ValueError(
            "noise_by needs the sum of squares of y for each level, and these statistics do not "
            "hold it: with features whose slopes do not vary and so many levels they would be too "
            "many numbers. Fit the rows themselves, or statistics of fewer features."
        )
    n = stats.xy_xy[-2, -2]
    apart = np.delete(np.arange(len(stats.xy_xy)), -2)  # the constant
    mean = stats.xy_xy[-2, apart] / np.where(n > 0, n, 1.0)
    products = stats.xy_xy[np.ix_(apart, apart)]
    squares = np.einsum("iig->ig", products)
    return _roots(n, mean, products - n * mean[:, None] * mean, squares, slopes)


def _roots(n, mean, products, squares, slopes) -> LevelRoots:
    """``products`` of the features and y, centred; ``squares`` are what they were formed from."""
    n_features, q = len(mean) - 1, len(slopes) + 1
    others = [j for j in range(n_features) if j not in slopes]
    order = [*slopes, *others, n_features]
    upper = np.zeros_like(products)
    upper[:, order] = _upper_root(products[np.ix_(order, order)], squares[order])
    p = n_features + 1
    seen = np.zeros((q, p + 1, len(n)))
    at = [*range(n_features), p]  # where features and y are among [X y]
    seen[: q - 1, at] = upper[: q - 1]
    seen[q - 1, at] = np.sqrt(n) * mean
    seen[q - 1, n_features] = np.sqrt(n)
    diagonal = np.diagonal(upper[:, order], axis1=0, axis2=1)[:, q - 1 :]
    rows = np.append(np.flatnonzero(diagonal[:, :-1].any(0)), diagonal.shape[1] - 1) + q - 1
    columns = np.array(order)[rows]
    columns[-1] = p
    kept = upper[np.ix_(rows, np.array(order)[rows])]
    return LevelRoots(seen[:, [*slopes, n_features]], seen, kept, columns, n)


def _upper_root(products, squares) -> np.ndarray:
    """``T`` with ``T'T`` the products (m, m, G); rows of zeros for columns that others explain."""
    left, out = products.copy(), np.zeros_like(products)
    for j in range(len(left)):
        of_y = j == len(left) - 1
        pivot = np.maximum(left[j, j], 0.0)
        pivot = np.where(of_y | (pivot > COLUMN_ROUNDING * squares[j]), pivot, 0.0)
        size = np.sqrt(pivot)
        out[j, j:] = np.divide(left[j, j:], size, out=np.zeros_like(left[j, j:]), where=size > 0)
        left[j:, j:] -= out[j, j:, None] * out[j, None, j:]
    return out


def without_residual(levels: LevelRoots, least: float) -> np.ndarray:
    """Levels whose rows fit exactly by lines of their own, though they have more than that takes.

    Parameters
    ----------
    levels : LevelRoots
    least : float
        Residual variance, in internal units, up to which a fit is exact.
    """
    ranks = (np.einsum("iig->ig", levels.root) != 0).sum(0)
    ranks = ranks + (np.einsum("iig->ig", levels.rest[:-1, :-1]) != 0).sum(0)
    exact = levels.rest[-1, -1] ** 2 <= least * levels.n
    return np.flatnonzero(exact & (levels.n > ranks))
