"""Internal coordinates: centred and scaled by powers of two; the change from one to another.

Products about one shift become products about another by a matrix from both sides. Nothing cancels
as long as either shift is near the data, however far these are from 0.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from skhier.statistics.mean_sd import VARIANCE_ROUNDING, MeanSd, power_of_two
from skhier.statistics.products import factor_stats, total_products
from skhier.statistics.records import FactorStats, GroupStats, Units

__all__ = ["change_units", "common_units", "effects_at_mean", "internal_units", "same_units"]

REMOTE = 1e-14  # of the distance to the shift: a smaller spread of means is rounding


def internal_units(x: MeanSd, y: MeanSd, slopes: Sequence[Sequence[int]]) -> Units:
    """The map to internal coordinates: centred, and scaled by powers of two near the sd.

    Parameters
    ----------
    x, y : MeanSd
        Of the features and of the target.
    slopes : sequence of sequence of int
        Per factor, the features with a varying slope.
    """
    x_scale = np.array([power_of_two(s) for s in x.sd])
    at_mean = tuple(effects_at_mean((x.mean / x_scale)[list(varying)]) for varying in slopes)
    return Units(x.mean, x_scale, y.mean[0], power_of_two(y.sd[0]), at_mean)


def effects_at_mean(shift: np.ndarray) -> np.ndarray:
    """The matrix of :class:`Units`, (q, q), given the means of the slopes' features, (q - 1,)."""
    matrix = np.eye(len(shift) + 1)
    matrix[-1, :-1] = shift
    return matrix


def same_units(one: Units, other: Units) -> bool:
    """Whether both are the same map, bit for bit."""
    return one is other or all(
        np.array_equal(a, b) for a, b in zip(one[:4], other[:4], strict=True)
    )


def common_units(
    parts: Sequence[tuple[GroupStats, Units]], slopes: Sequence[Sequence[int]]
) -> Units:
    """Units near the mean and the sd of all parts together, in which they can be added.

    The mean of means and the sd by the law of total variance, of distances from the least of the
    shifts: a shift need not be the mean, only near it.

    Parameters
    ----------
    parts : sequence of (GroupStats, Units)
        Each with rows, in its units.
    slopes : sequence of sequence of int
        Per factor, the features with a varying slope.

    References
    ----------
    Chan, Golub and LeVeque (1983), Am. Stat. 37(3).
    """
    n = np.array([float(stats.n) for stats, _ in parts])[:, None]
    shift = np.array([np.append(units.x_mean, units.y_mean) for _, units in parts])
    scale = np.array([np.append(units.x_scale, units.y_scale) for _, units in parts])
    total = np.array([total_products(stats) for stats, _ in parts])
    others = np.delete(np.arange(total.shape[1]), -2)  # all but the constant
    off = total[:, others, -2] / n  # of each part's mean from its shift, its internal units
    variance = np.diagonal(total, axis1=1, axis2=2)[:, others] / n - off**2
    base, share = shift.min(0), n / n.sum()
    means = (shift - base) + scale * off
    mean = (share * means).sum(0)
    variance = np.where(variance > VARIANCE_ROUNDING, variance, 0)
    spreads = np.array([means - mean, scale * np.sqrt(variance)])
    size = np.array([power_of_two(largest) for largest in np.abs(spreads).max((0, 1))])
    sd = size * np.sqrt((share * (spreads / size) ** 2).sum((0, 1)))
    sd[sd <= REMOTE * (scale * np.abs(off)).max(0)] = 0.0
    center = base + mean
    return internal_units(MeanSd(center[:-1], sd[:-1]), MeanSd(center[-1:], sd[-1:]), slopes)


def change_units(
    stats: GroupStats, old: Units, new: Units, slopes: Sequence[Sequence[int]]
) -> GroupStats:
    """The same statistics in other internal coordinates.

    Parameters
    ----------
    stats : GroupStats
        In ``old`` units.
    old, new : Units
    slopes : sequence of sequence of int
        Per factor, the features with a varying slope.
    """
    p = len(stats.xy)
    ratio = np.append(old.x_scale / new.x_scale, [1.0, old.y_scale / new.y_scale])
    matrix = np.diag(ratio)  # columns [x 1 y], old to new
    matrix[p - 1, : p - 1] = (old.x_mean - new.x_mean) / new.x_scale
    matrix[p - 1, p] = (old.y_mean - new.y_mean) / new.y_scale
    total = matrix.T @ total_products(stats) @ matrix
    z = [[*varying, p - 1] for varying in slopes]
    every = list(range(p + 1))
    factors = []
    for at, factor in zip(z, stats.factors, strict=True):
        if factor.xy_xy.size:
            factors.append(factor_stats(_moved(factor.xy_xy, matrix, every, every), at, True))
            continue
        grouped = _moved(factor.z_xy, matrix, at, every)
        factors.append(FactorStats(grouped[:, at], grouped[:, :p], grouped[:, p], factor.xy_xy))
    pairs = [
        pair._replace(zz=_moved(pair.zz, matrix, z[k], z[m]))
        for (k, m), pair in zip(combinations(range(len(z)), 2), stats.pairs, strict=True)
    ]
    return GroupStats(
        tuple(factors),
        tuple(pairs),
        xx=total[:p, :p],
        xy=total[:p, p],
        yy=total[p, p],
        n=stats.n,
    )


def _moved(
    products: np.ndarray, matrix: np.ndarray, rows: Sequence[int], columns: Sequence[int]
) -> np.ndarray:
    """``matrix[rows, rows].T @ products @ matrix[columns, columns]`` of each level.

    Only the diagonal and the constant's row of the matrix are not 0, so that each product takes
    four others. Where rows are columns, the products are symmetric.
    """
    constant = len(matrix) - 2
    left, right = rows.index(constant), columns.index(constant)
    scale, shift = np.diag(matrix), matrix[constant] * (np.arange(len(matrix)) != constant)
    of_columns = scale[columns, None], shift[columns, None]
    out = np.empty_like(products)
    for a, i in enumerate(rows):
        rest = slice(a if rows == columns else 0, None)
        with_constant = scale[i] * products[a, right] + shift[i] * products[left, right]
        row = scale[i] * products[a, rest]
        row += shift[i] * products[left, rest]
        row *= of_columns[0][rest]
        row += of_columns[1][rest] * with_constant
        out[a, rest] = row
        if rows == columns:
            out[rest, a] = row
    return out
