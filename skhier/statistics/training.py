"""Rows of fit: read from the user's X, y and weights, one column after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from skhier.utils.design import Design, Rows, fit_design
from skhier.utils.settling import drop_rows, settle_slopes
from skhier.utils.validation import (
    check_target,
    check_weights,
    relative_spacing,
    weighted_median,
)

__all__ = ["Medians", "Training", "forbid_few_rows", "read_block", "read_training"]

EVERY = slice(None)


class Medians(NamedTuple):
    """What some priors ask of y that is no sum over rows, so that its source has to know it.

    Attributes
    ----------
    y_median : float
    y_mad : float
        Median absolute deviation times 1.4826, the sd of normal numbers.
    """

    y_median: float
    y_mad: float


class Training(NamedTuple):
    """A block of rows with positive weights, in the user's units.

    Attributes
    ----------
    x : array of shape (n_samples, n_features)
    codes : int array of shape (n_samples, n_factors)
        Levels of each row.
    y, weights : array of shape (n_samples,)
    """

    x: np.ndarray
    codes: np.ndarray
    y: np.ndarray
    weights: np.ndarray

    def take(self, rows: np.ndarray) -> Training:
        """Some of the rows, given by index or mask."""
        return Training(*(of_all[rows] for of_all in self))

    def medians(self, rows: np.ndarray | slice = EVERY) -> Medians:
        """Of y in some of the rows; a weight of 2 is the row twice."""
        y, weights = self.y[rows], self.weights[rows]
        median = weighted_median(y, weights)
        return Medians(median, 1.4826 * weighted_median(np.abs(y - median), weights))


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

    Raises
    ------
    ValueError, TypeError
        Bad columns, labels, numbers or weights; fewer than two rows with a weight.
    """
    design, training = read_block(table, y, sample_weight, names, groups, slopes, least=2)
    return settle_slopes(design, Rows(training.x, training.codes, ())), training


def read_block(
    table: Any,
    y: Any,
    sample_weight: Any,
    names: Sequence[str] | None,
    groups: Any,
    slopes: Any,
    least: int = 0,
) -> tuple[Design, Training]:
    """Checked rows that may be a part of all; their slopes are not settled.

    Parameters
    ----------
    table, y, sample_weight, names, groups, slopes
        As of :func:`read_training`.
    least : int
        Rows with a weight that there have to be.

    Raises
    ------
    ValueError, TypeError
        As :func:`read_training`, of fewer rows than ``least``.
    """
    y_eps = relative_spacing(y)
    y, weights = check_target(y, table), check_weights(sample_weight, table, least)
    kept = weights > 0
    forbid_few_rows(int(kept.sum()), least)
    design, rows = fit_design(table, names, groups, slopes)
    design, rows = drop_rows(design, rows, kept)
    return design._replace(y_eps=y_eps), Training(rows.x, rows.codes, y[kept], weights[kept])


def forbid_few_rows(n: int, least: int = 2) -> None:
    """Raise ValueError for fewer rows with a weight than ``least``."""
    if n < least:
        raise ValueError(f"fit needs two rows or more with a weight, got n_samples={n}.")
