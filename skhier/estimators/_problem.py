"""From the user's X, y and weights to a problem without rows: statistics, units and scales."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from skhier.kernels.stats import (
    change_units,
    group_stats,
    internal_units,
    moments,
    moments_of,
)
from skhier.kernels.types import GroupStats, ModelSpec, Units
from skhier.priors import DataScales, PriorChoice
from skhier.utils.design import Design, design_warnings, drop_rows, fit_design
from skhier.utils.validation import (
    check_scales,
    check_target,
    check_weights,
    weighted_median,
)

__all__ = [
    "Problem",
    "Training",
    "model_spec",
    "problem_warnings",
    "read_training",
    "reduce_part",
    "reduce_rows",
]

POINT = np.finfo(float).eps  # an sd that stands for 0


class Training(NamedTuple):
    """The rows of fit with a positive weight, in the user's units."""

    x: np.ndarray
    codes: np.ndarray | None
    y: np.ndarray
    weights: np.ndarray


class Problem(NamedTuple):
    """What sampling needs to know of the data."""

    stats: GroupStats
    units: Units
    scales: DataScales
    slopes: tuple[int, ...] | None

    @property
    def y_is_constant(self) -> bool:
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
    y = check_target(y, table)
    design, rows = fit_design(table, names, groups, slopes)
    weights = check_weights(sample_weight, rows.x)
    kept = weights > 0
    if kept.sum() < 2:
        raise ValueError(f"fit needs two rows or more with a weight, got n_samples={kept.sum()}.")
    design, rows = drop_rows(design, rows, kept)
    return design, Training(rows.x, rows.codes, y[kept], weights[kept])


def reduce_rows(design: Design, training: Training) -> Problem:
    """Rows become statistics in internal coordinates."""
    x, codes, y, weights = training
    slopes = design.factor.slopes if design.factor else None
    n_groups = len(design.factor.levels.labels) if design.factor else 0
    of_x, of_y = moments(x, weights), moments(y[:, None], weights)
    check_scales(design.feature_names, of_x.sd, of_y.sd[0])
    units = internal_units(of_x, of_y, slopes)
    stats = group_stats(x, y, weights, codes, n_groups, slopes, units)
    return Problem(stats, units, _scales(of_x, of_y, y, weights), slopes)


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
    return Problem(stats, units, _scales(of_x, of_y, y, weights), problem.slopes)


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


def problem_warnings(design: Design, problem: Problem) -> list[str]:
    """What the data cannot tell."""
    stats, units, scales, _ = problem
    x_mean = units.x_mean / units.x_scale
    group_rows = stats.zz[-1, -1] if design.factor else None
    found = design_warnings(design, x_mean, stats.xx[:-1, :-1], group_rows)
    if problem.y_is_constant:
        found.append(
            f"y is constant ({scales.y_mean:g}): the posterior is a point; slopes and standard "
            "deviations are 0."
        )
    return found


def model_spec(
    problem: Problem, choice: PriorChoice, correlated: bool, noncentered: bool
) -> ModelSpec:
    """The static part of the model."""
    return ModelSpec(
        n_features=len(problem.units.x_mean),
        slopes=problem.slopes,
        correlated=correlated,
        noncentered=noncentered,
        intercept_at_mean=choice.intercept_at_mean,
        coef_blocks=tuple(at for at, _ in choice.coef),
        scale_blocks=tuple(at for at, _ in choice.group_scale),
    )
