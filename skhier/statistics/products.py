"""Rows become group statistics: cross-products per group, in internal coordinates.

Sums are exact up to one final rounding, so neither the order of the rows nor writing a row twice
instead of giving it weight 2 changes a single bit. A Markov chain would amplify such a bit into
other draws. The device is the error-free split of Rump, Ogita and Oishi (2008), SIAM J. Sci.
Comput. 31(1), Algorithm 3.1: high parts on a common grid add up without rounding.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from skhier.statistics.records import FactorStats, GroupStats, PairStats, Units

__all__ = [
    "LevelPairs",
    "Moments",
    "change_units",
    "group_stats",
    "internal_units",
    "level_pairs",
    "merge",
    "moments",
    "moments_of",
    "pad_groups",
    "padded",
    "padded_size",
    "total_products",
]

MANY = 2**22  # entries of all levels' full cross-products, above which they are not kept
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


class LevelPairs(NamedTuple):
    """Pairs of levels of two factors that share rows, sorted; ``of_row`` is each row's pair."""

    first: np.ndarray
    second: np.ndarray
    of_row: np.ndarray


def level_pairs(codes: np.ndarray) -> tuple[LevelPairs, ...]:
    """The pairs of levels that occur, for every two factors.

    Parameters
    ----------
    codes : int array of shape (n_samples, n_factors)
    """
    found = []
    for one, other in combinations(codes.T, 2):
        size = int(other.max(initial=0)) + 1
        pairs, of_row = np.unique(one.astype(np.int64) * size + other, return_inverse=True)
        found.append(LevelPairs(pairs // size, pairs % size, of_row))
    return tuple(found)


def internal_units(x: Moments, y: Moments, slopes: Sequence[Sequence[int]]) -> Units:
    """The map to internal coordinates: centred, and scaled by powers of two near the sd.

    Parameters
    ----------
    x, y : Moments
        Of the features and of the target.
    slopes : sequence of sequence of int
        Per factor, the features with a varying slope.
    """
    x_scale = np.array([_power_of_two(s) for s in x.sd])
    at_mean = tuple(_effects_at_mean((x.mean / x_scale)[list(varying)]) for varying in slopes)
    return Units(x.mean, x_scale, y.mean[0], _power_of_two(y.sd[0]), at_mean)


def _effects_at_mean(shift):
    matrix = np.eye(len(shift) + 1)
    matrix[-1, :-1] = shift
    return matrix


def _power_of_two(size) -> float:
    """The power of two just above ``size``; 1 for zero."""
    return 2.0 ** np.frexp(size)[1] if size > 0 else 1.0


def group_stats(
    x,
    y,
    weights,
    codes,
    n_levels: Sequence[int],
    slopes: Sequence[Sequence[int]],
    units: Units,
    pairs: Sequence[LevelPairs],
) -> GroupStats:
    """Cross-products of design and target, per level and pair of levels; one pass over the rows.

    Parameters
    ----------
    x : array of shape (n_samples, n_features)
        The user's units.
    y, weights : array of shape (n_samples,)
    codes : int array of shape (n_samples, n_factors)
        Level of each row, ``0 <= codes[:, k] < n_levels[k]``. Not checked here.
    n_levels : sequence of int
    slopes : sequence of sequence of int
        Per factor, the features with a varying slope.
    units : Units
    pairs : sequence of LevelPairs
        Of these rows and perhaps of others.

    References
    ----------
    Bates et al. (2015), J. Stat. Softw. 67(1), sec. 3.
    """
    ones = np.ones(len(y))
    columns = [*((x - units.x_mean) / units.x_scale).T, ones, (y - units.y_mean) / units.y_scale]
    p = len(columns) - 1
    z = [[*varying, p - 1] for varying in slopes]
    whole = len(z) == 1 and (len(z[0]) == p or (p + 1) ** 2 * n_levels[0] <= MANY)
    total = np.empty((p + 1, p + 1))
    per_level = [np.zeros((p + 1, p + 1, n)) for n in n_levels]
    per_pair = [np.zeros((p, p, len(found.first))) for found in pairs]
    both = list(combinations(range(len(z)), 2))
    for i in range(p + 1):
        for j in range(i + 1):
            parts = _exact_parts(columns[i] * columns[j], weights)
            total[i, j] = total[j, i] = sum(part.sum() for part in parts)
            for k, out in enumerate(per_level):
                if whole or i in z[k] or j in z[k]:
                    out[i, j] = out[j, i] = _sums(codes[:, k], parts, out.shape[-1])
            for (k, m), found, out in zip(both, pairs, per_pair, strict=True):
                if (i in z[k] and j in z[m]) or (j in z[k] and i in z[m]):
                    out[i, j] = out[j, i] = _sums(found.of_row, parts, out.shape[-1])
    return GroupStats(
        tuple(
            FactorStats(
                out[at][:, at],
                out[at, :p],
                out[at, p],
                out if whole else np.zeros((0, 0, out.shape[-1])),
            )
            for at, out in zip(z, per_level, strict=True)
        ),
        tuple(
            PairStats(found.first, found.second, out[z[k]][:, z[m]])
            for (k, m), found, out in zip(both, pairs, per_pair, strict=True)
        ),
        xx=total[:p, :p],
        xy=total[:p, p],
        yy=total[p, p],
        n=weights.sum(),
    )


def _sums(codes, parts, n):
    return sum(np.bincount(codes, part, n) for part in parts)


def merge(*parts: GroupStats) -> GroupStats:
    """Statistics of disjoint sets of rows, in the same units and with the same levels and pairs."""
    by_factor = zip(*(part.factors for part in parts), strict=True)
    by_pair = zip(*(part.pairs for part in parts), strict=True)
    totals = zip(*(part[2:] for part in parts), strict=True)
    return GroupStats(
        tuple(FactorStats(*map(sum, zip(*same, strict=True))) for same in by_factor),
        tuple(same[0]._replace(zz=sum(pair.zz for pair in same)) for same in by_pair),
        *map(sum, totals),
    )


def moments_of(stats: GroupStats, units: Units) -> tuple[Moments, Moments]:
    """Moments of the features and of the target, from their cross-products; the user's units."""
    total, n = total_products(stats), float(stats.n)
    mean = total[:, -2] / n
    variance = np.maximum(np.diagonal(total) - n * mean**2, 0) / (n - 1)
    sd = np.sqrt(np.where(variance > ROUNDING, variance, 0))
    of_x = Moments(units.x_mean + units.x_scale * mean[:-2], units.x_scale * sd[:-2])
    y_mean = units.y_mean + units.y_scale * mean[-1]
    return of_x, Moments(np.array([y_mean]), units.y_scale * sd[-1:])


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
    factor = np.append(old.x_scale / new.x_scale, [1.0, old.y_scale / new.y_scale])
    matrix = np.diag(factor)  # columns [x 1 y], old to new
    matrix[p - 1, : p - 1] = (old.x_mean - new.x_mean) / new.x_scale
    matrix[p - 1, p] = (old.y_mean - new.y_mean) / new.y_scale
    total = matrix.T @ total_products(stats) @ matrix
    z = [[*varying, p - 1] for varying in slopes]
    of_z = [matrix[np.ix_(at, at)] for at in z]

    def moved(left, products, right):
        return np.einsum("ai,abg,bj->ijg", left, products, right, optimize=True)

    factors = []
    for at, left, found in zip(z, of_z, stats.factors, strict=True):
        grouped = moved(left, found.z_xy, matrix)
        whole = moved(matrix, found.xy_xy, matrix) if found.xy_xy.size else found.xy_xy
        factors.append(FactorStats(grouped[:, at], grouped[:, :p], grouped[:, p], whole))
    pairs = [
        pair._replace(zz=moved(of_z[k], pair.zz, of_z[m]))
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


def total_products(stats: GroupStats) -> np.ndarray:
    """Cross-products of the columns ``[x 1 y]``, (p + 1, p + 1)."""
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


def padded_size(n: int, bits: int = 3) -> int:
    """A number rounded up to so many significant bits: few shapes, with 3 at most 25% more."""
    step = 2 ** max(n.bit_length() - bits, 0)
    return -(-n // step) * step


def pad_groups(stats: GroupStats) -> GroupStats:
    """Zero statistics appended up to :func:`padded_size`; they change no density."""
    return stats._replace(
        factors=tuple(FactorStats(*map(padded, found)) for found in stats.factors),
        pairs=tuple(PairStats(*map(padded, pair)) for pair in stats.pairs),
    )


def padded(a: np.ndarray) -> np.ndarray:
    """Zeros appended on the last axis up to :func:`padded_size`."""
    extra = padded_size(a.shape[-1]) - a.shape[-1]
    return np.pad(a, [(0, 0)] * (a.ndim - 1) + [(0, extra)])
