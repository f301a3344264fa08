"""Rows of fit: read from the user's X, y and weights, one column after the other."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from skhier.utils.budget import USUAL, DataBudget
from skhier.utils.cells import relative_spacing
from skhier.utils.design import Design, Rows, fit_design
from skhier.utils.settling import drop_rows, settle_slopes
from skhier.utils.side_column import Wanted
from skhier.utils.table import Table
from skhier.utils.validation import check_target, check_weights

__all__ = [
    "Medians",
    "Training",
    "forbid_few_rows",
    "read_block",
    "read_training",
    "training_of",
    "weighted_median",
]

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
    side : array of shape (n_samples,) or None
        Of the side column: logs of exposures, or known standard errors.
    precision : array of shape (n_samples,) or None
        Of known noise: ``1 / side^2`` in units of its weighted mean over all rows of fit.
    """

    x: np.ndarray
    codes: np.ndarray
    y: np.ndarray
    weights: np.ndarray
    side: np.ndarray | None = None
    precision: np.ndarray | None = None

    @property
    def of_sums(self) -> np.ndarray:
        """Weights of the rows in sums over them, which go with a noise of one scale."""
        return self.weights if self.precision is None else self.weights * self.precision

    @property
    def mean_exposure(self) -> float:
        """Of the rows; 1 where they have none."""
        return float(np.average(np.exp(self._log_exposures), weights=self.weights))

    @property
    def mean_log_exposure(self) -> float:
        """Of the rows; 0 where they have none."""
        return float(np.average(self._log_exposures, weights=self.weights))

    @property
    def _log_exposures(self):
        """Of each row, if the side column is of exposures and not of known errors."""
        if self.side is None or self.precision is not None:
            return np.zeros(len(self.y))
        return self.side

    @property
    def columns(self) -> np.ndarray:
        """``x`` with the side column, as posteriors take it."""
        return self.x if self.side is None else np.column_stack([self.x, self.side])

    def take(self, rows: np.ndarray) -> Training:
        """Some of the rows, given by index or mask."""
        parts: list[Any] = [None if of_all is None else of_all[rows] for of_all in self]
        return Training(*parts)

    def with_own_precision(self) -> Training:
        """Some of the rows of fit, whose known noise is in units of their own mean."""
        if self.precision is None:
            return self
        mean = np.average(self.precision, weights=self.weights)
        return self._replace(precision=self.precision / mean)

    def medians(self, rows: np.ndarray | slice = EVERY) -> Medians:
        """Of y in some of the rows; a weight of 2 is the row twice."""
        y, weights = self.y[rows], self.weights[rows]
        median = weighted_median(y, weights)
        return Medians(median, 1.4826 * weighted_median(np.abs(y - median), weights))


def read_training(
    table: Table,
    y: Any,
    sample_weight: Any,
    groups: Any,
    slopes: Any,
    side: Wanted | None = None,
    budget: DataBudget = USUAL.data,
) -> tuple[Design, Training]:
    """Checked rows, and what their columns mean.

    Parameters
    ----------
    table : Table
    y, sample_weight
        As the user gave them.
    groups, slopes
        The estimator's parameters.
    side : Wanted or None
        Its ``exposure`` or ``known_noise``.
    budget : DataBudget

    Raises
    ------
    ValueError, TypeError
        Bad columns, labels, numbers or weights; fewer than two rows with a weight.
    """
    design, rows, training = _read(table, y, sample_weight, groups, slopes, side, least=2)
    return settle_slopes(design, rows, budget), training


def read_block(
    table: Table, y: Any, sample_weight: Any, groups: Any, slopes: Any
) -> tuple[Design, Training]:
    """Checked rows that may be a part of all, or none; their slopes are not settled.

    Parameters
    ----------
    table, y, sample_weight, groups, slopes
        As of :func:`read_training`.

    Raises
    ------
    ValueError, TypeError
        As :func:`read_training`, but of few rows.
    """
    design, _, training = _read(table, y, sample_weight, groups, slopes)
    return design, training


def _read(
    table, y, sample_weight, groups, slopes, side=None, least=0
) -> tuple[Design, Rows, Training]:
    """``least``: rows with a weight that there have to be."""
    y_eps = relative_spacing(y)
    y, weights = check_target(y, table.native), check_weights(sample_weight, table.native, least)
    kept = weights > 0
    forbid_few_rows(int(kept.sum()), least)
    design, rows = drop_rows(*fit_design(table, groups, slopes, side), kept)
    training = training_of(design, rows, y[kept], weights[kept])
    return design._replace(y_eps=y_eps), rows, training


def training_of(design: Design, rows: Rows, y: np.ndarray, weights: np.ndarray) -> Training:
    """Rows of fit as a design reads them, with their y and weights, (n_samples,) each."""
    if design.side is None:
        return Training(rows.x, rows.codes, y, weights)
    x, side = rows.x[:, :-1], np.ascontiguousarray(rows.x[:, -1])
    precision = None
    if design.side.parameter == "known_noise":
        smallest = side.min(initial=np.inf)  # squares of large or small errors leave the range
        precision = (smallest / side) ** 2
        precision = precision / np.average(precision, weights=weights)
    return Training(x, rows.codes, y, weights, side, precision)


def forbid_few_rows(n: int, least: int = 2) -> None:
    """Raise ValueError for fewer rows with a weight than ``least``."""
    if n < least:
        raise ValueError(f"fit needs two rows or more with a weight, got n_samples={n}.")


def weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    """The median of rows repeated by their weights; halfway between the two middle ones."""
    if weights.min() == weights.max() == 1:
        return float(np.median(values))  # needs no sorting
    low = np.quantile(values, 0.5, method="inverted_cdf", weights=weights)
    high = -np.quantile(-values, 0.5, method="inverted_cdf", weights=weights)
    return float(low + high) / 2
