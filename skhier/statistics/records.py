"""Containers of statistics: arrays in internal coordinates, hardly any behaviour.

*Internal coordinates*: the columns of ``x`` are centred at their means and divided by powers of
two, so is ``y`` (see :class:`Units`). Effects are ordered slopes first, intercept last; that order
keeps the map between a Cholesky factor at ``x = 0`` and one at the mean of ``x`` lower triangular.
"""

from typing import Any, NamedTuple

import numpy as np

__all__ = ["FactorStats", "GroupStats", "PairStats", "Plan", "Units"]


class FactorStats(NamedTuple):
    """Cross-products per level of one grouping factor; its levels are the last axis.

    ``z`` are the ``q`` columns of ``x`` that vary by level: slopes, then the constant.

    Attributes
    ----------
    zz : array of shape (q, q, n_levels)
    zx : array of shape (q, p, n_levels)
    zy : array of shape (q, n_levels)
    xy_xy : array of shape (p + 1, p + 1, n_levels)
        Of ``x`` and ``y`` with themselves, which leaving a level out takes; (0, 0, n_levels) where
        they would be too many, and of several factors.
    """

    zz: Any
    zx: Any
    zy: Any
    xy_xy: Any

    @property
    def z_xy(self) -> np.ndarray:
        """``zx`` and ``zy`` side by side, (q, p + 1, n_levels)."""
        return np.concatenate([self.zx, self.zy[:, None]], axis=1)


class PairStats(NamedTuple):
    """Cross-products of two factors' columns, for the pairs of levels that share rows.

    Attributes
    ----------
    first, second : int array of shape (n_pairs,)
        Levels of the one factor and of the other; sorted.
    zz : array of shape (q_first, q_second, n_pairs)
    """

    first: Any
    second: Any
    zz: Any


class GroupStats(NamedTuple):
    """Cross-products of design and target: per level, per pair of levels, and in total.

    ``x`` has ``p`` columns: features, then the constant. Additive over disjoint rows.

    Attributes
    ----------
    factors : tuple of FactorStats
    pairs : tuple of PairStats
        Of factors (0, 1), (0, 2), ..., (1, 2), ...: ``itertools.combinations``.
    xx : array of shape (p, p)
    xy : array of shape (p,)
    yy : scalar
    n : scalar
        Sum of the sample weights.
    """

    factors: tuple[FactorStats, ...]
    pairs: tuple[PairStats, ...]
    xx: Any
    xy: Any
    yy: Any
    n: Any


class Plan(NamedTuple):
    """In which order group effects are integrated out, as indices of factors.

    Attributes
    ----------
    chain : tuple of int
        Level by level; each factor is nested in the next.
    dense : tuple of int
        The others, all their effects at once.
    """

    chain: tuple[int, ...]
    dense: tuple[int, ...]


class Units(NamedTuple):
    """The affine map from the user's units to internal coordinates.

    ``x_internal = (x - x_mean) / x_scale`` and ``y_internal = (y - y_mean) / y_scale``. The scales
    are powers of two, so scaling is exact.

    Attributes
    ----------
    x_mean, x_scale : array of shape (n_features,)
    y_mean, y_scale : scalar
    effects_at_mean : tuple of array of shape (q, q)
        Per factor: takes internal group effects with the intercept at x = 0 to those with the
        intercept at the mean of x. Lower triangular.
    """

    x_mean: Any
    x_scale: Any
    y_mean: Any
    y_scale: Any
    effects_at_mean: tuple[Any, ...]
