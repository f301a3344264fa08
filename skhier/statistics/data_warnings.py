"""Warnings of a fit: what its data cannot tell, and numbers too coarse for what varies."""

from __future__ import annotations

import itertools

import numpy as np

from skhier.statistics.problem import Problem
from skhier.utils.design import Design
from skhier.utils.identifiability import design_warnings, slope_warnings
from skhier.utils.validation import coarse_numbers

__all__ = ["problem_warnings"]


def problem_warnings(design: Design, problem: Problem) -> list[str]:
    """What the data cannot tell."""
    stats, units = problem.stats, problem.units
    x_mean = units.x_mean / units.x_scale
    group_rows = [factor.zz[-1, -1] for factor in stats.factors]
    messages = design_warnings(design, x_mean, stats.xx[:-1, :-1], group_rows, stats.pairs)
    messages += slope_warnings(design, group_rows) + _coarse_warnings(design, problem)
    if problem.y_is_constant:
        messages.append(
            f"y is constant ({problem.scales.y_mean:g}): the posterior is a point; slopes and "
            "standard deviations are 0."
        )
    return messages


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
    messages = [coarse_numbers(*column) for column in itertools.compress(columns, varies)]
    return [message for message in messages if message]
