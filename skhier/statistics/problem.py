"""From the user's X, y and weights to a problem without rows: statistics, units and scales."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from skhier.priors import DataScales
from skhier.statistics.elimination import elimination_plan
from skhier.statistics.products import (
    change_units,
    group_stats,
    internal_units,
    level_pairs,
    moments,
    moments_of,
)
from skhier.statistics.records import GroupStats, Plan, Units
from skhier.utils.design import (
    Design,
    design_warnings,
    drop_rows,
    fit_design,
    settle_slopes,
    slope_warnings,
)
from skhier.utils.validation import (
    check_scales,
    check_target,
    check_weights,
    coarse_numbers,
    relative_spacing,
    weighted_median,
)

__all__ = [
    "Problem",
    "Training",
    "problem_warnings",
    "read_training",
    "reduce_part",
    "reduce_rows",
]

POINT = np.finfo(float).eps  # an sd that stands for 0


class Training(NamedTuple):
    """The rows of fit with a positive weight, in the user's units."""

    x: np.ndarray
    codes: np.ndarray
    y: np.ndarray
    weights: np.ndarray


class Problem(NamedTuple):
    """What sampling needs to know of the data."""

    stats: GroupStats
    units: Units
    scales: DataScales
    slopes: tuple[tuple[int, ...], ...]
    plan: Plan

    @property
    def y_is_constant(self) -> bool:
        """Whether the rows say nothing of any difference."""
        return self.stats.yy == 0


def read_training(
    table: Any, y: Any, sample_weight: Any, names: Sequence[str] | None, groups: Any, slopes: Any
) -> tuple[Design, Training]:
    """Checked rows, and what their columns mean.

    Parameters
    ----------
    table : DataFrame or 2-D array
    y, sample_weight
        As the user gave them.
    names : sequence of str or None
        Column names.
    groups, slopes
        The estimator's parameters.
    """
    y_eps = relative_spacing(y)
    y = check_target(y, table)
    design, rows = fit_design(table, names, groups, slopes)
    weights = check_weights(sample_weight, rows.x)
    kept = weights > 0
    if kept.sum() < 2:
        raise ValueError(f"fit needs two rows or more with a weight, got n_samples={kept.sum()}.")
    design, rows = drop_rows(design, rows, kept)
    design = settle_slopes(design, rows)._replace(y_eps=y_eps)
    return design, Training(rows.x, rows.codes, y[kept], weights[kept])


def reduce_rows(design: Design, training: Training) -> Problem:
    """Rows become statistics in internal coordinates."""
    x, codes, y, weights = training
    slopes = tuple(factor.slopes for factor in design.factors)
    n_levels = [len(factor.levels.labels) for factor in design.factors]
    of_x, of_y = moments(x, weights), moments(y[:, None], weights)
    check_scales(design.feature_names, of_x.sd, of_y.sd[0])
    units = internal_units(of_x, of_y, slopes)
    stats = group_stats(x, y, weights, codes, n_levels, slopes, units, level_pairs(codes))
    scales = _scales(of_x, of_y, y, weights)
    return Problem(stats, units, scales, slopes, elimination_plan(stats))


def reduce_part(problem: Problem, stats: GroupStats, y: np.ndarray, weights: np.ndarray) -> Problem:
    """The problem of some of its rows, whose statistics are known in its units.

    Parameters
    ----------
    problem : Problem
        Of all rows.
    stats : GroupStats
    y, weights : array of shape (n_samples,)
        The rows' own: medians are not additive.
    """
    of_x, of_y = moments_of(stats, problem.units)
    units = internal_units(of_x, of_y, problem.slopes)
    stats = change_units(stats, problem.units, units, problem.slopes)
    if of_y.sd[0] == 0:
        stats = stats._replace(yy=0.0)
    return problem._replace(stats=stats, units=units, scales=_scales(of_x, of_y, y, weights))


def _scales(of_x, of_y, y, weights):
    median = weighted_median(y, weights)
    return DataScales(
        n=weights.sum(),
        x_mean=of_x.mean,
        x_sd=np.where(of_x.sd > 0, of_x.sd, 1.0),
        y_mean=of_y.mean[0],
        y_sd=of_y.sd[0] or POINT * max(abs(of_y.mean[0]), 1.0),
        y_median=median,
        y_mad=1.4826 * weighted_median(np.abs(y - median), weights),
    )


def problem_warnings(design: Design, problem: Problem, codes: np.ndarray) -> list[str]:
    """What the data cannot tell; ``codes`` (n_samples, n_factors) are the rows' levels."""
    stats, units, scales, *_ = problem
    x_mean = units.x_mean / units.x_scale
    group_rows = [found.zz[-1, -1] for found in stats.factors]
    found = design_warnings(design, x_mean, stats.xx[:-1, :-1], group_rows, codes)
    found += slope_warnings(design, group_rows) + _coarse_warnings(design, problem)
    if problem.y_is_constant:
        found.append(
            f"y is constant ({scales.y_mean:g}): the posterior is a point; slopes and standard "
            "deviations are 0."
        )
    return found


def _coarse_warnings(design: Design, problem: Problem) -> list[str]:
    """Columns whose type rounds away what varies; what does not vary has another warning."""
    stats, scales = problem.stats, problem.scales
    varies = [not problem.y_is_constant, *(np.diag(stats.xx)[:-1] > 0)]
    names = ["y", *(f"Column {name!r} of X" for name in design.feature_names)]
    columns = zip(
        names,
        (design.y_eps, *design.eps),
        (scales.y_mean, *scales.x_mean),
        (scales.y_sd, *scales.x_sd),
        strict=True,
    )
    found = [coarse_numbers(*column) for column in itertools.compress(columns, varies)]
    return [message for message in found if message]
