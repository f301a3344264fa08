"""Mean and standard deviation of columns: of rows, or of their cross-products."""

from typing import NamedTuple

import numpy as np

from skhier.statistics.products import total_products
from skhier.statistics.records import GroupStats, Units
from skhier.statistics.sums import exact_sum
from skhier.utils.budget import USUAL, DataBudget
from skhier.utils.training import Training

__all__ = [
    "MeanSd",
    "mean_sd_of_products",
    "mean_sd_of_rows",
    "mean_sd_of_training",
    "power_of_two",
]

VARIANCE_ROUNDING = 1e-13  # in units of that of more rows: a column below it is constant


class MeanSd(NamedTuple):
    """Weighted mean and standard deviation (divisor ``sum(w) - 1``) of columns, (k,)."""

    mean: np.ndarray
    sd: np.ndarray


def mean_sd_of_rows(values, weights, budget: DataBudget = USUAL.data) -> MeanSd:
    """Of each column; exact sums, safe against overflow of squares.

    Parameters
    ----------
    values : array of shape (n_samples, k)
    weights : array of shape (n_samples,)
        Positive; their sum is more than 1. Not checked here.
    budget : DataBudget
    """
    n = weights.sum()
    mean, sd = np.empty(values.shape[1]), np.empty(values.shape[1])
    for j, column in enumerate(values.T):
        if column.min() == column.max():  # the mean of 0.1s is rounded to another number
            mean[j], sd[j] = column[0], 0.0
            continue
        size = power_of_two(max(column.max(), -column.min()))
        mean[j] = exact_sum(column / size, weights, budget) / n * size
        rest = column - mean[j]
        size = power_of_two(max(rest.max(), -rest.min()))
        rest /= size
        rest *= rest
        sd[j] = np.sqrt(exact_sum(rest, weights, budget) / (n - 1)) * size
    return MeanSd(mean, sd)


def mean_sd_of_training(
    rows: Training, weights: np.ndarray, budget: DataBudget = USUAL.data
) -> tuple[MeanSd, MeanSd]:
    """Of the features and of the target of rows in memory, with weights as above."""
    columns = rows.x, rows.y[:, None]
    of_x, of_y = (mean_sd_of_rows(values, weights, budget) for values in columns)
    return of_x, of_y


def mean_sd_of_products(stats: GroupStats, units: Units) -> tuple[MeanSd, MeanSd]:
    """Of the features and of the target, in the user's units.

    Parameters
    ----------
    stats : GroupStats
        Of rows whose weights sum to more than 1.
    units : Units
        Those of ``stats``.
    """
    total, n = total_products(stats), float(stats.n)
    mean = total[:, -2] / n
    variance = np.maximum(np.diagonal(total) - n * mean**2, 0) / (n - 1)
    sd = np.sqrt(np.where(variance > VARIANCE_ROUNDING, variance, 0))
    of_x = MeanSd(units.x_mean + units.x_scale * mean[:-2], units.x_scale * sd[:-2])
    y_mean = units.y_mean + units.y_scale * mean[-1]
    return of_x, MeanSd(np.array([y_mean]), units.y_scale * sd[-1:])


def power_of_two(size) -> float:
    """The power of two just above ``size``; 1 for zero."""
    return 2.0 ** np.frexp(size)[1] if size > 0 else 1.0
