"""Level means as predictors, from statistics: no row is looked at again.

The column ``mean(x | g)`` is constant in each level of its factor, so its products follow from sums
that are there. With ``m_g = S_x,g / n_g``, ``n_g`` the rows of a level and ``S_v,g`` their sum of a
column ``v``, its product with ``v`` is ``sum_g m_g S_v,g``, that with the effects of a level ``h``
of another factor ``sum_g m_g S_z,gh`` over the levels ``g`` that share rows with ``h``.

Means are no sums over rows: statistics are merged first, and given their level means afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from skhier.statistics.mean_sd import VARIANCE_ROUNDING, power_of_two
from skhier.statistics.plan import pair_products
from skhier.statistics.problem import Problem
from skhier.statistics.products import keeps_level_products
from skhier.statistics.records import FactorStats, GroupStats
from skhier.statistics.reduction import Reduction
from skhier.utils.design import Design
from skhier.utils.group_means import LevelMean, MeansOfFactor, mean_name, with_level_means
from skhier.utils.training import Training

__all__ = [
    "add_group_means",
    "means_of_part",
    "reduction_with_level_means",
    "reduction_with_means",
    "separable",
    "without_level_means",
]


class _Columns(NamedTuple):
    """New columns: the factor of each, its value at each level, and its shift and scale."""

    factors: tuple[int, ...]
    values: list[np.ndarray]
    mean: np.ndarray
    scale: np.ndarray
    sd: np.ndarray


def add_group_means(
    wanted: Sequence[MeansOfFactor], design: Design, training: Training | None, problem: Problem
) -> tuple[Design, Any, Problem]:
    """Design, rows and problem of a fit with the level means that can be told from their features.

    Where there are no rows any more, their statistics do.

    Parameters
    ----------
    wanted : sequence of MeansOfFactor
        Per factor.
    design, training, problem
        Of all rows, without level means.

    Raises
    ------
    ValueError
        X has a column of the name of a level mean.
    """
    if not any(of_factor.features for of_factor in wanted):
        return design, training, problem
    at, left_out = [], []
    for k, (features, automatic) in enumerate(wanted):
        kept = [j for j in features if separable(problem.reduction, j, k)]
        at += [(j, k) for j in kept]
        flat = tuple(j for j in features if j not in kept)
        left_out.append(MeansOfFactor(flat, automatic))
    names = [mean_name(design.feature_names[j], design.factors[k].name) for j, k in at]
    for name in names:
        if name in design.feature_names or names.count(name) > 1:
            raise ValueError(
                f"Two features would be called {name!r}, the name of a level mean. Rename a column "
                "of X."
            )
    design = design._replace(
        feature_names=[*design.feature_names, *names],
        means=tuple(LevelMean(j, k, np.zeros(0)) for j, k in at),
        means_left_out=tuple(left_out),
    )
    design, problem = means_of_part(design, problem)
    if training is None:
        return design, None, problem
    x = with_level_means(training.x, training.codes, design.means)
    return design, training._replace(x=x), problem


def separable(reduction: Reduction, feature: int, factor: int) -> bool:
    """Whether a feature varies within levels of a factor, and its level means between them."""
    total, of_factor = reduction.stats.xx[feature, [feature, -1]], reduction.stats.factors[factor]
    n, centre = of_factor.zz[-1, -1], total[1] / reduction.stats.n
    spread = total[0] - total[1] * centre
    between = n @ (_level_means(of_factor, feature) - centre) ** 2
    within = spread - between
    return bool(min(between, within) > VARIANCE_ROUNDING * max(spread, float(reduction.stats.n)))


def means_of_part(design: Design, problem: Problem) -> tuple[Design, Problem]:
    """A design whose level means are those of a problem's rows, and the problem with them.

    Parameters
    ----------
    design : Design
        With the level means of these rows or of more.
    problem : Problem
        Without level means; levels may be without rows.
    """
    if not design.means:
        return design, problem
    at = [(mean.feature, mean.factor) for mean in design.means]
    means = tuple(LevelMean(j, k, _in_users_units(problem.reduction, j, k)) for j, k in at)
    reduction, columns = _extended(problem.reduction, at, design.feature_names)
    sd = np.where(columns.sd > 0, columns.sd, 1.0)
    scales = problem.scales._replace(
        x_mean=np.append(problem.scales.x_mean, columns.mean),
        x_sd=np.append(problem.scales.x_sd, sd),
    )
    return design._replace(means=means), problem._replace(reduction=reduction, scales=scales)


def reduction_with_means(
    reduction: Reduction, at: Sequence[tuple[int, int]], names: Sequence[str]
) -> Reduction:
    """The statistics with more columns, after the features.

    Parameters
    ----------
    reduction : Reduction
        Of all rows that the means are of.
    at : sequence of (feature, factor)
    names : sequence of str
        Of all features, these included.
    """
    return _extended(reduction, at, names)[0]


def reduction_with_level_means(
    reduction: Reduction, means: Sequence[LevelMean], names: Sequence[str]
) -> Reduction:
    """The statistics with columns of level means that other rows have.

    Parameters
    ----------
    reduction : Reduction
        Of rows to predict, with the levels of the means.
    means : sequence of LevelMean
        NaN of a level that those other rows lack: its mean is that of the rows here.
    names : sequence of str
        Of all features, these included.
    """
    stats, units = reduction.stats, reduction.units
    values = []
    for j, k, known in means:
        own = _level_means(stats.factors[k], j)
        values.append(np.where(np.isnan(known), own, (known - units.x_mean[j]) / units.x_scale[j]))
    at = [mean.feature for mean in means]
    shift, scale = units.x_mean[at], units.x_scale[at]
    columns = _Columns(tuple(mean.factor for mean in means), values, shift, scale, scale)
    units = units._replace(
        x_mean=np.append(units.x_mean, shift), x_scale=np.append(units.x_scale, scale)
    )
    axes = reduction.axes._replace(features=tuple(names))
    return Reduction(axes, units, _with_columns(stats, columns))


def without_level_means(
    design: Design, training: Training | None, reduction: Reduction
) -> tuple[Design, Training | None, Reduction]:
    """What :func:`add_group_means` was given, of a fit; more rows have means of their own."""
    n = len(design.column_names)
    if not design.means:
        return design._replace(means_left_out=()), training, reduction
    if training is not None:
        training = training._replace(x=training.x[:, :n])
    p = len(reduction.stats.xy)
    kept = [*range(n), p - 1]
    stats, units = reduction.stats, reduction.units
    factors = []
    for of_factor in stats.factors:
        every = of_factor.xy_xy
        if len(every):
            every = every[[*kept, p]][:, [*kept, p]]
        factors.append(of_factor._replace(zx=of_factor.zx[:, kept], xy_xy=every))
    stats = stats._replace(
        factors=tuple(factors), xx=stats.xx[np.ix_(kept, kept)], xy=stats.xy[kept]
    )
    units = units._replace(x_mean=units.x_mean[:n], x_scale=units.x_scale[:n])
    axes = reduction.axes._replace(features=tuple(design.column_names))
    design = design._replace(feature_names=design.column_names, means=(), means_left_out=())
    return design, training, Reduction(axes, units, stats)


def _level_means(of_factor: FactorStats, feature: int) -> np.ndarray:
    """Internal units; 0 of levels without rows."""
    n = of_factor.zz[-1, -1]
    return np.where(n > 0, of_factor.zx[-1, feature] / np.where(n > 0, n, 1.0), 0.0)


def _in_users_units(reduction: Reduction, feature: int, factor: int) -> np.ndarray:
    units, of_factor = reduction.units, reduction.stats.factors[factor]
    means = units.x_mean[feature] + units.x_scale[feature] * _level_means(of_factor, feature)
    return np.where(of_factor.zz[-1, -1] > 0, means, np.nan)


def _extended(reduction, at, names) -> tuple[Reduction, _Columns]:
    columns = _columns(reduction, at)
    units = reduction.units._replace(
        x_mean=np.append(reduction.units.x_mean, columns.mean),
        x_scale=np.append(reduction.units.x_scale, columns.scale),
    )
    axes = reduction.axes._replace(features=tuple(names))
    return Reduction(axes, units, _with_columns(reduction.stats, columns)), columns


def _columns(reduction: Reduction, at: Sequence[tuple[int, int]]) -> _Columns:
    """About the features' shifts: the mean of a feature and that of its level means are one."""
    stats, units = reduction.stats, reduction.units
    values, scales, sds = [], [], []
    for j, k in at:
        means, n = _level_means(stats.factors[k], j), stats.factors[k].zz[-1, -1]
        variance = n @ (means - n @ means / stats.n) ** 2 / (stats.n - 1)
        sd = np.sqrt(variance) if variance > VARIANCE_ROUNDING else 0.0
        scale = power_of_two(sd)
        values.append(means / scale if sd else np.zeros_like(means))
        scales.append(units.x_scale[j] * (scale if sd else 1.0))
        sds.append(units.x_scale[j] * sd)
    shifts = np.array([units.x_mean[j] for j, _ in at])
    factors = tuple(k for _, k in at)
    return _Columns(factors, values, shifts, np.array(scales), np.array(sds))


def _with_columns(stats: GroupStats, columns: _Columns) -> GroupStats:
    """The columns stand after the features, before the constant."""
    n_new, p = len(columns.values), len(stats.xy)
    new = slice(p - 1, p - 1 + n_new)
    whole = keeps_level_products(
        [len(of_factor.zx) for of_factor in stats.factors],
        p + n_new,
        [of_factor.zx.shape[-1] for of_factor in stats.factors],
    )
    factors = []
    for k, of_factor in enumerate(stats.factors):
        products = _against_effects(stats, k, columns)
        zx = np.insert(of_factor.zx, [p - 1] * n_new, products, axis=1)
        every = np.zeros((0, 0, zx.shape[-1]))
        if whole and len(of_factor.xy_xy):
            every = _level_products(of_factor, products[-1], columns)
        factors.append(FactorStats(of_factor.zz, zx, of_factor.zy, every))
    rows = np.empty((n_new, p + n_new + 1))
    for i, (k, m) in enumerate(zip(columns.factors, columns.values, strict=True)):
        rows[i] = np.append(factors[k].zx[-1], factors[k].zy[-1:], axis=0) @ m
    xx = np.insert(np.insert(stats.xx, [p - 1] * n_new, 0.0, 0), [p - 1] * n_new, 0.0, 1)
    xx[new], xx[:, new] = rows[:, :-1], rows[:, :-1].T
    xx[new, new] = (rows[:, new] + rows[:, new].T) / 2
    xy = np.insert(stats.xy, [p - 1] * n_new, rows[:, -1])
    return stats._replace(factors=tuple(factors), xx=xx, xy=xy)


def _against_effects(stats: GroupStats, k: int, columns: _Columns) -> np.ndarray:
    """Products of a factor's effects with the columns, (q, n_columns, n_levels)."""
    zz = stats.factors[k].zz
    products = np.empty((len(zz), len(columns.values), zz.shape[-1]))
    for i, (of_column, m) in enumerate(zip(columns.factors, columns.values, strict=True)):
        if of_column == k:
            products[:, i] = zz[:, -1] * m
            continue
        own, others, shared = pair_products(stats, k, of_column)
        for a, sums in enumerate(shared[:, -1]):
            products[a, i] = np.bincount(own, sums * m[others], zz.shape[-1])
    return products


def _level_products(of_factor: FactorStats, sums: np.ndarray, columns: _Columns) -> np.ndarray:
    """``FactorStats.xy_xy`` of the only factor with the columns, whose sums are (n_columns, n)."""
    p, n_new = len(of_factor.xy_xy) - 1, len(sums)
    at, new = [p - 1] * n_new, slice(p - 1, p - 1 + n_new)
    out = np.insert(np.insert(of_factor.xy_xy, at, 0.0, 0), at, 0.0, 1)
    for i, m in enumerate(columns.values):
        row = m * np.insert(of_factor.xy_xy[p - 1], at, sums, axis=0)
        out[p - 1 + i], out[:, p - 1 + i] = row, row
    out[new, new] = np.stack(columns.values)[:, None] * sums[None]
    return out
