"""Level means: predictors of the population that are a feature's mean over the row's level.

The coefficient of ``mean(x | g)`` is by how much the effect of ``x`` between levels of ``g``
exceeds that within them (Mundlak 1978, Econometrica 46).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from reprlib import repr as short
from typing import Any, NamedTuple

import numpy as np

from skhier.utils.columns import find_column, is_all, resolve_columns

__all__ = [
    "NO_LABEL",
    "LevelMean",
    "MeansOfFactor",
    "mean_name",
    "resolve_group_means",
    "with_level_means",
]

NO_LABEL = -1  # the code of a row of which nobody says what level it is of


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


def resolve_group_means(
    group_means: Any,
    factors: Sequence[tuple[str, tuple[int, ...]]],
    features: Sequence[int],
    names: Sequence[str] | None,
    n_columns: int,
    index: Sequence[Any] = (),
    side: tuple[str, int] | None = None,
) -> tuple[MeansOfFactor, ...]:
    """What the estimator's ``group_means`` asks for, per factor.

    Parameters
    ----------
    group_means : None, "all", list or dict
        Features, for every factor; or a dict from factor, by its name or as ``groups`` has it, to
        either.
    factors : sequence of (name, positions)
    features : sequence of int
        Positions of the features in X.
    names : sequence of str or None
        Column names of X, if it has any.
    n_columns : int
    index : sequence
        Names of X's row index, whose levels are no columns.
    side : (str, int) or None
        Another parameter and the position of its column, which is no feature.

    Raises
    ------
    ValueError, TypeError
        There is no factor, or no such one; or a column that is no feature.
    """
    if group_means is None:
        return (MeansOfFactor((), False),) * len(factors)
    if not factors:
        raise ValueError(
            f"`group_means={short(group_means)}` asks for means over the levels of grouping "
            "factors, and groups=None has none. Name a grouping column in `groups`, or set "
            "group_means=None."
        )
    of_factors: list[Any] = [group_means] * len(factors)
    if isinstance(group_means, Mapping):
        of_factors = [None] * len(factors)
        for key, wanted in group_means.items():
            of_factors[_factor_at(key, factors, names, n_columns, index)] = wanted
    return tuple(
        MeansOfFactor(
            resolve_columns(wanted, features, names, n_columns, index, "group_means", side),
            is_all(wanted),
        )
        for wanted in of_factors
    )


def _factor_at(key, factors, names, n_columns, index) -> int:
    called = [name for name, _ in factors]
    if key in called:
        return called.index(key)
    columns = key if isinstance(key, tuple) else (key,)
    at = tuple(find_column(column, names, n_columns, "group_means", index) for column in columns)
    for k, (_, positions) in enumerate(factors):
        if at == positions:
            return k
    raise ValueError(
        f"`group_means` has the key {short(key)}, which is not a factor of `groups`. Factors: "
        f"{', '.join(map(repr, called))}."
    )


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
