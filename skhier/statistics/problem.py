"""A problem without rows: statistics about their own mean, scales for the priors, and a plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, NoReturn

import numpy as np

from skhier.priors import DataScales
from skhier.statistics.mean_sd import MeanSd, mean_sd_of_training
from skhier.statistics.plan import elimination_plan
from skhier.statistics.products import LevelPairs
from skhier.statistics.records import GroupStats, Plan, Units
from skhier.statistics.reduction import Reduction, axes_of, reduce_block
from skhier.statistics.row_noise import RowNoise, check_noise, row_noise_of
from skhier.statistics.units import internal_units
from skhier.utils.budget import USUAL, DataBudget
from skhier.utils.design import Design
from skhier.utils.training import Medians, Training
from skhier.utils.validation import check_scales

__all__ = ["NO_MEDIANS", "Problem", "part_of", "problem_of", "reduce_rows"]

NO_MEDIANS = (
    "prior='brms' is scaled by the median of y and by its median absolute deviation, which are no "
    "sums over rows, so that statistics alone do not tell them. Fit the rows themselves, or use "
    "another prior, such as prior=None or 'bambi'."
)
POINT = np.finfo(float).eps  # an sd that stands for 0


class Problem(NamedTuple):
    """What sampling needs to know of the data.

    Attributes
    ----------
    reduction : Reduction
        In units of its own mean and sd.
    scales : DataScales
    plan : Plan
    noise : RowNoise or None
        Of rows whose noise is known.
    """

    reduction: Reduction
    scales: DataScales
    plan: Plan
    noise: RowNoise | None = None

    @property
    def stats(self) -> GroupStats:
        """In ``units``."""
        return self.reduction.stats

    @property
    def units(self) -> Units:
        """The internal coordinates."""
        return self.reduction.units

    @property
    def slopes(self) -> tuple[tuple[int, ...], ...]:
        """Per factor, the features with a varying slope."""
        return self.reduction.axes.slopes

    @property
    def y_is_constant(self) -> bool:
        """Whether the rows say nothing of any difference, nor of their noise."""
        return self.stats.yy == 0 and self.noise is None


class _WithoutMedians(DataScales):
    """Of statistics whose source does not tell medians."""

    def _untold(self) -> NoReturn:
        raise ValueError(NO_MEDIANS)

    y_median = property(_untold)
    y_mad = property(_untold)


def reduce_rows(
    design: Design,
    training: Training,
    pairs: Sequence[LevelPairs] | None = None,
    plan: Plan | None = None,
    budget: DataBudget = USUAL.data,
) -> Problem:
    """Rows in memory become a problem.

    Parameters
    ----------
    design : Design
    training : Training
    pairs : sequence of LevelPairs or None
        Of these rows and perhaps of others; None: those that occur.
    plan : Plan or None
        None: that of these rows, of which every level has one.
    budget : DataBudget
    """
    axes, noise = axes_of(design), row_noise_of(training)
    columns = mean_sd_of_training(training, training.weights, budget)
    if noise is not None:
        check_noise(noise, training, columns[1].sd[0])
        if not columns[1].sd[0]:  # there is a scale all the same
            columns[1].sd[0] = noise.scale
    check_scales(axes.features, columns[0].sd, columns[1].sd[0])
    units = internal_units(*columns, axes.slopes)
    reduction = reduce_block(axes, training, units, pairs, budget)
    scales = _data_scales(reduction, columns, training.medians())
    plan = elimination_plan(reduction.stats) if plan is None else plan
    return Problem(reduction, scales, plan, noise)


def problem_of(reduction: Reduction, medians: Medians | None = None) -> Problem:
    """The problem of rows of which nothing but their statistics is known.

    Parameters
    ----------
    reduction : Reduction
        In any units; every level has rows.
    medians : Medians or None
        Of y. None: a prior that asks for them is refused.

    Raises
    ------
    ValueError
        Standard deviations out of float64's range.
    """
    columns, reduction = _about_mean(reduction)
    check_scales(reduction.axes.features, columns[0].sd, columns[1].sd[0])
    scales = _data_scales(reduction, columns, medians)
    return Problem(reduction, scales, elimination_plan(reduction.stats))


def part_of(problem: Problem, reduction: Reduction, medians: Medians | None) -> Problem:
    """The problem of some of its rows, with the same levels in the same order of elimination.

    Parameters
    ----------
    problem : Problem
        Of all rows.
    reduction : Reduction
        Of the part, in any units; levels may be without rows.
    medians : Medians or None
        Of the part's y; None as of :func:`problem_of`.
    """
    columns, reduction = _about_mean(reduction)
    return problem._replace(reduction=reduction, scales=_data_scales(reduction, columns, medians))


def _about_mean(reduction: Reduction) -> tuple[tuple[MeanSd, MeanSd], Reduction]:
    """Mean and sd of the features and of y, and the products about them."""
    columns = reduction.mean_sd()
    moved = reduction.in_units(internal_units(*columns, reduction.axes.slopes))
    if columns[1].sd[0] == 0:
        moved = moved._replace(stats=moved.stats._replace(yy=0.0))
    return columns, moved


def _data_scales(
    reduction: Reduction, columns: tuple[MeanSd, MeanSd], medians: Medians | None
) -> DataScales:
    of_x, of_y = columns
    kind = DataScales if medians is not None else _WithoutMedians
    return kind(
        n=reduction.stats.n,
        x_mean=of_x.mean,
        x_sd=np.where(of_x.sd > 0, of_x.sd, 1.0),
        y_mean=of_y.mean[0],
        y_sd=of_y.sd[0] or POINT * max(abs(of_y.mean[0]), 1.0),
        y_median=medians.y_median if medians is not None else np.nan,
        y_mad=medians.y_mad if medians is not None else np.nan,
    )
