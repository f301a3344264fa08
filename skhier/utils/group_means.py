"""Level means: predictors of the population that are a feature's mean over the row's level.

The coefficient of ``mean(x | g)`` is by how much the effect of ``x`` between levels of ``g``
exceeds that within them (Mundlak 1978, Econometrica 46).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from skhier.utils.levels import NO_LABEL

__all__ = ["LevelMean", "MeansOfFactor", "mean_name", "with_level_means"]


class MeansOfFactor(NamedTuple):
    """Features whose means over a factor's levels are wanted; ``automatic``: all that can be."""

    features: tuple[int, ...]
    automatic: bool


class LevelMean(NamedTuple):
    """A predictor: the mean of a feature over each level of a factor.

    ``values`` (n_levels,), in units of the feature; NaN of a level without rows.
    """

    feature: int
    factor: int
    values: np.ndarray


def mean_name(feature: str, factor: str) -> str:
    """What the predictor is called."""
    return f"mean({feature} | {factor})"


def with_level_means(x: np.ndarray, codes: np.ndarray, means: Sequence[LevelMean]) -> np.ndarray:
    """Rows with their level means: those of fit, and of new levels that of their rows here.

    Parameters
    ----------
    x : array of shape (n_rows, n_features)
    codes : int array of shape (n_rows, n_factors)
        Those past a factor's levels are of new levels, a code each; a row of code ``NO_LABEL`` is a
        level of its own.
    means : sequence of LevelMean

    Returns
    -------
    array of shape (n_rows, n_features + len(means))
    """
    if not means:
        return x
    out = np.empty((len(x), x.shape[1] + len(means)), order="F")
    out[:, : x.shape[1]] = x
    for column, mean in zip(out.T[x.shape[1] :], means, strict=True):
        column[:] = _means_of_rows(x[:, mean.feature], codes[:, mean.factor], mean.values)
    return out


def _means_of_rows(x, codes, values):
    n_levels = len(values)
    labelled = codes != NO_LABEL
    of_rows = x.copy()
    known = labelled & (codes < n_levels)
    of_rows[known] = values[codes[known]]
    new = np.flatnonzero(labelled & ~(known & ~np.isnan(of_rows)))
    if len(new):
        _, first, level = np.unique(codes[new], return_index=True, return_inverse=True)
        base = x[new[first]]  # sums of distances to it: the mean of equal numbers is exact
        away = np.bincount(level, x[new] - base[level])
        of_rows[new] = (base + away / np.bincount(level))[level]
    return of_rows
