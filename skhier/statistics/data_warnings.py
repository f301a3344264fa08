"""Warnings of a fit: what its data cannot tell, and numbers too coarse for what varies."""

from __future__ import annotations

import itertools

import numpy as np

from skhier.statistics.problem import Problem
from skhier.utils.design import Design
from skhier.utils.identifiability import design_warnings, mean_warnings, slope_warnings
from skhier.utils.validation import coarse_numbers

__all__ = ["problem_warnings"]


def problem_warnings(design: Design, problem: Problem, point: float | None) -> list[str]:
    """What the data cannot tell.

    ``point``: the y that all rows have, where the response takes it for noise of sd 0.
    """
    stats, units = problem.stats, problem.units
    x_mean = units.x_mean / units.x_scale
    group_rows = [factor.zz[-1, -1] for factor in stats.factors]
    if problem.noise is not None:  # which a single row tells from its level's effects
        group_rows = [np.full(len(n_rows), np.inf) for n_rows in group_rows]
    messages = design_warnings(design, x_mean, stats.xx[:-1, :-1], group_rows, stats.pairs)
    messages += slope_warnings(design, group_rows) + mean_warnings(design)
    messages += _coarse_warnings(design, problem)
    if point is not None:
        messages.append(
            f"y is constant ({point:g}): the posterior is a point; slopes and "
            "standard deviations are 0."
        )
    return messages


def _coarse_warnings(design: Design, problem: Problem) -> list[str]:
    """Columns whose type rounds away what varies; what does not vary has another warning."""
    stats, scales = problem.stats, problem.scales
    k = len(design.column_names)  # a level mean is as coarse as its feature
    varies = [not problem.y_is_constant, *(np.diag(stats.xx)[:k] > 0)]
    names = ["y", *(f"Column {name!r} of X" for name in design.column_names)]
    columns = zip(
        names,
        (design.y_eps, *design.eps),
        (scales.y_mean, *scales.x_mean[:k]),
        (scales.y_sd, *scales.x_sd[:k]),
        strict=True,
    )
    messages = [coarse_numbers(*column) for column in itertools.compress(columns, varies)]
    return [message for message in messages if message]
