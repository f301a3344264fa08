"""Rows, levels and draws as every posterior sees them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from skhier.kernels.records import Components, Population
from skhier.statistics.records import Units
from skhier.utils.budget import RuleBudget

__all__ = [
    "OUT",
    "asked_rows",
    "equal_components",
    "internal_rows",
    "level_stream",
    "side_of",
    "varying_columns",
]

OUT = -1  # the code of a factor whose effects do not count


def internal_rows(
    units: Units, slopes: Sequence[Sequence[int]], x: np.ndarray
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Designs of the population coefficients and of each factor's effects, constant last.

    Parameters
    ----------
    units : Units
    slopes : sequence of sequence of int
        Per factor: features with a varying slope.
    x : array of shape (n_rows, n_features) or (n_rows, n_features + 1)
        In the user's units; a side column, the last, is no part of a design.

    Returns
    -------
    x : array of shape (n_rows, n_features + 1)
    zs : list of array of shape (n_rows, q)
        In internal units.
    """
    features = x[:, : len(units.x_mean)]
    x = np.column_stack([(features - units.x_mean) / units.x_scale, np.ones(len(x))])
    return x, [x[:, varying_columns(units, of_factor)] for of_factor in slopes]


def side_of(units: Units, x: np.ndarray) -> np.ndarray | None:
    """The side column (n_rows,) of rows as of :func:`internal_rows`; None: they have none."""
    n_features = len(units.x_mean)
    return x[:, n_features] if x.shape[1] > n_features else None


def varying_columns(units: Units, slopes: Sequence[int]) -> list[int]:
    """Which columns of the population's design vary by a factor, the constant last."""
    return [*slopes, len(units.x_mean)]


def level_stream(seed, k, code) -> np.random.Generator:
    """Random numbers of one level of the k-th factor."""
    return np.random.Generator(np.random.Philox(key=(int(seed) << 64) + (k << 48) + code))


def equal_components(draws: Population) -> Components:
    """Draws as components, in an order that makes any first few a random choice."""
    n = len(draws.coef)
    order = np.random.default_rng(0).permutation(n)
    return Components(np.full(n, 1 / n), draws.take(order))


def asked_rows(
    scale: np.ndarray, n_levels: Sequence[int], budget: RuleBudget
) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose lines choose components: features as in the rows of fit and beyond.

    Parameters
    ----------
    scale : array of shape (n_features,)
        Of the features, internal units.
    n_levels : sequence of int
        Known ones of each factor.
    budget : RuleBudget

    Returns
    -------
    x : array of shape (budget.rows, n_features + 1)
        The constant last; internal units.
    codes : int array of shape (budget.rows, n_factors)
        Of known levels, the next one for a new level, and ``OUT``.
    """
    rng, n = np.random.default_rng(0), budget.rows
    x = np.ones((n, len(scale) + 1))
    x[:, :-1] = 1.5 * scale * rng.standard_normal((n, len(scale)))
    codes = np.zeros((n, len(n_levels)), int)
    for k, known in enumerate(n_levels):
        codes[:, k] = rng.integers(max(known, 1), size=n)
        kind = rng.random(n)
        codes[kind < budget.new + budget.absent, k] = known
        codes[kind < budget.absent, k] = OUT
    return x, codes
