"""Rows become group statistics: cross-products per group, in internal coordinates.

Sums are exact up to one final rounding, so neither the order of the rows nor writing a row twice
instead of giving it weight 2 changes a single bit. A Markov chain would amplify such a bit into
other draws. The device is the error-free split of Rump, Ogita and Oishi (2008), SIAM J. Sci.
Comput. 31(1), Algorithm 3.1: high parts on a common grid add up without rounding.
"""

from typing import NamedTuple

import numpy as np

from skhier.kernels.types import GroupStats, Units

__all__ = [
    "Moments",
    "change_units",
    "group_stats",
    "internal_units",
    "merge",
    "moments",
    "moments_of",
    "pad_groups",
    "padded_size",
]

ROUNDING = 1e-13  # of a variance, in units of that of more rows: below it the column is constant


class Moments(NamedTuple):
    """Weighted mean and standard deviation (divisor ``sum(w) - 1``) of columns."""

    mean: np.ndarray
    sd: np.ndarray


def moments(values, weights) -> Moments:
    """Moments of each column; exact sums, safe against overflow of squares.

    Parameters
    ----------
    values : array of shape (n_samples, k)
    weights : array of shape (n_samples,)
        Positive; their sum is more than 1. Not checked here.
    """
    n = weights.sum()
    mean, sd = np.empty(values.shape[1]), np.empty(values.shape[1])
    for j, column in enumerate(values.T):
        if column.min() == column.max():  # the mean of 0.1s is rounded to another number
            mean[j], sd[j] = column[0], 0.0
            continue
        size = _power_of_two(np.abs(column).max(initial=0.0))
        mean[j] = _total(column / size, weights) / n * size
        rest = column - mean[j]
        size = _power_of_two(np.abs(rest).max(initial=0.0))
        sd[j] = np.sqrt(_total((rest / size) ** 2, weights) / (n - 1)) * size
    return Moments(mean, sd)


def internal_units(x: Moments, y: Moments, slopes) -> Units:
    """The map to internal coordinates: centred, and scaled by powers of two near the sd.

    Parameters
    ----------
    x, y : Moments
        Of the features and of the target.
    slopes : sequence of int or None
        Features with a varying slope.
    """
    x_scale = np.array([_power_of_two(s) for s in x.sd])
    shift = (x.mean / x_scale)[list(slopes or ())]
    effects_at_mean = np.eye(len(shift) + 1)
    effects_at_mean[-1, :-1] = shift
    return Units(x.mean, x_scale, y.mean[0], _power_of_two(y.sd[0]), effects_at_mean)


def _power_of_two(size) -> float:
    """The power of two just above ``size``; 1 for zero."""
    return 2.0 ** np.frexp(size)[1] if size > 0 else 1.0


def group_stats(x, y, weights, codes, n_groups, slopes, units: Units) -> GroupStats:
    """Cross-products of design and target, per group; one pass over the rows.

    Parameters
    ----------
    x : array of shape (n_samples, n_features)
        The user's units.
    y, weights : array of shape (n_samples,)
    codes : int array of shape (n_samples,) or None
        Level of each row, ``0 <= codes < n_groups``. Not checked here.
    n_groups : int
    slopes : sequence of int or None
    units : Units

    References
    ----------
    Bates et al. (2015), J. Stat. Softw. 67(1), sec. 3.
    """
    ones = np.ones(len(y))
    columns = [*((x - units.x_mean) / units.x_scale).T, ones, (y - units.y_mean) / units.y_scale]
    p = len(columns) - 1
    total = np.empty((p + 1, p + 1))
    varying = () if slopes is None else (*slopes, p - 1)
    grouped = np.zeros((p + 1, p + 1, n_groups))
    for i in range(p + 1):
        for j in range(i + 1):
            parts = _exact_parts(columns[i] * columns[j], weights)
            total[i, j] = total[j, i] = sum(part.sum() for part in parts)
            if i in varying or j in varying:
                per_group = sum(np.bincount(codes, part, n_groups) for part in parts)
                grouped[i, j] = grouped[j, i] = per_group
    z = list(varying)
    return GroupStats(
        zz=grouped[z][:, z],
        zx=grouped[z, :p],
        zy=grouped[z, p],
        xx=total[:p, :p],
        xy=total[:p, p],
        yy=total[p, p],
        n=weights.sum(),
    )


def merge(*parts: GroupStats) -> GroupStats:
    """Statistics of several disjoint sets of rows, in the same units and with the same groups."""
    return GroupStats(*(sum(field) for field in zip(*parts, strict=True)))


def moments_of(stats: GroupStats, units: Units) -> tuple[Moments, Moments]:
    """Moments of the features and of the target, from their cross-products; the user's units."""
    total, n = _total_products(stats), float(stats.n)
    mean = total[:, -2] / n
    variance = np.maximum(np.diagonal(total) - n * mean**2, 0) / (n - 1)
    sd = np.sqrt(np.where(variance > ROUNDING, variance, 0))
    of_x = Moments(units.x_mean + units.x_scale * mean[:-2], units.x_scale * sd[:-2])
    y_mean = units.y_mean + units.y_scale * mean[-1]
    return of_x, Moments(np.array([y_mean]), units.y_scale * sd[-1:])


def change_units(stats: GroupStats, old: Units, new: Units, slopes) -> GroupStats:
    """The same statistics in other internal coordinates.

    Parameters
    ----------
    stats : GroupStats
        In ``old`` units.
    old, new : Units
    slopes : sequence of int or None
        Features with a varying slope.
    """
    p = len(stats.xy)
    factor = np.append(old.x_scale / new.x_scale, [1.0, old.y_scale / new.y_scale])
    matrix = np.diag(factor)  # columns [x 1 y], old to new
    matrix[p - 1, : p - 1] = (old.x_mean - new.x_mean) / new.x_scale
    matrix[p - 1, p] = (old.y_mean - new.y_mean) / new.y_scale
    total = matrix.T @ _total_products(stats) @ matrix
    z = [] if slopes is None else [*slopes, p - 1]
    of_z = matrix[np.ix_(z, z)]
    against = np.concatenate([stats.zx, stats.zy[:, None]], axis=1)
    grouped = np.einsum("ai,abg,bj->ijg", of_z, against, matrix, optimize=True)
    return GroupStats(
        zz=grouped[:, z],
        zx=grouped[:, :p],
        zy=grouped[:, p],
        xx=total[:p, :p],
        xy=total[:p, p],
        yy=total[p, p],
        n=stats.n,
    )


def _total_products(stats):
    """Cross-products of the columns ``[x 1 y]``."""
    corner = np.array([[stats.yy]])
    return np.block([[stats.xx, stats.xy[:, None]], [stats.xy[None], corner]])


def _total(values, weights) -> float:
    return sum(part.sum() for part in _exact_parts(values, weights))


def _exact_parts(values, weights):
    """``weights * values`` as two arrays, each of which adds up without rounding in any order.

    Exact for integer weights. What is left out is below 2^-65 of the largest value for 10^6 rows.
    """
    largest = np.frexp(np.abs(values).max(initial=0.0))[1]
    bits = int(np.frexp(weights.sum())[1]) + 1
    high = _on_grid(values, largest + bits)
    low = _on_grid(values - high, largest + 2 * bits - 53)
    return high * weights, low * weights


def _on_grid(values, exponent):
    """Rounded to multiples of 2^(exponent - 52)."""
    anchor = np.ldexp(1.5, exponent)
    return (values + anchor) - anchor


def padded_size(n_groups: int) -> int:
    """The number of groups rounded up to three significant bits: few shapes, at most 25% more."""
    step = 2 ** max(n_groups.bit_length() - 3, 0)
    return -(-n_groups // step) * step


def pad_groups(stats: GroupStats) -> GroupStats:
    """Zero statistics appended up to :func:`padded_size`; empty groups change no density."""
    extra = padded_size(stats.zy.shape[-1]) - stats.zy.shape[-1]

    def widen(a):
        return np.pad(a, [(0, 0)] * (a.ndim - 1) + [(0, extra)])

    return stats._replace(zz=widen(stats.zz), zx=widen(stats.zx), zy=widen(stats.zy))
