"""Draws of responses from the prior, before or after fit."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import validate_data

from skhier.inference.prior import PriorSetting, draw_parameters
from skhier.priors import DataScales
from skhier.statistics.problem import read_training, reduce_rows
from skhier.statistics.products import moments
from skhier.utils.design import Rows, fit_design, settle_slopes
from skhier.utils.frames import as_table
from skhier.utils.memory import require_memory

__all__ = ["draw_responses", "prior_without_fit"]


class _WithoutTarget(DataScales):
    """Scales of X where y is not known yet."""

    def _unknown(self) -> NoReturn:
        raise ValueError(
            "Some priors are scaled by y, which is not known before fit. Pass `y=`, fit first, or "
            "give every parameter a distribution, `prior=Prior(intercept=..., coef=..., "
            "group_scale=..., noise_scale=...)`."
        )

    y_mean = property(_unknown)
    y_sd = property(_unknown)
    y_median = property(_unknown)
    y_mad = property(_unknown)


def prior_without_fit(model: Any, X: Any, y: Any) -> tuple[PriorSetting, Rows]:
    """The prior that ``model.fit(X, y)`` would use, and the rows as it would read them.

    Parameters
    ----------
    model : estimator
        Not changed.
    X : table of shape (n_samples, n_columns)
    y : array of shape (n_samples,) or None
        None: the priors must not depend on it.

    Raises
    ------
    ValueError, TypeError
        As ``fit``. Where y is None and a prior needs it, not here but on ``resolve``.
    """
    fresh, table = clone(model), as_table(X)
    fresh._check_params()
    validate_data(fresh, table, "no_validation" if y is None else y, skip_check_array=True)
    names = getattr(fresh, "feature_names_in_", None)
    if y is not None:
        design, training = read_training(table, y, None, names, model.groups, model.slopes)
        scales = reduce_rows(design, training).scales
        return PriorSetting.of(model, scales, design), Rows(training.x, training.codes, ())
    design, rows = fit_design(table, names, model.groups, model.slopes)
    design = settle_slopes(design, rows)
    of_x = moments(rows.x, np.ones(len(rows.x)))
    x_sd = np.where(of_x.sd > 0, of_x.sd, 1.0)
    unknown = [np.nan] * 4
    scales = _WithoutTarget(float(len(rows.x)), of_x.mean, x_sd, *unknown)
    return PriorSetting.of(model, scales, design), rows


def draw_responses(
    setting: PriorSetting, rows: Rows, n: int, rng: np.random.Generator
) -> np.ndarray:
    """Draws from the prior predictive distribution, jointly over the rows.

    Parameters
    ----------
    setting : PriorSetting
    rows : Rows
    n : int
        Number of draws.
    rng : Generator

    Returns
    -------
    array of shape (n_rows, n)
        Rows of one level share its effects within a draw.

    Raises
    ------
    MemoryError
        The draws would not fit into the memory available.
    ValueError, RuntimeError
        As of :func:`draw_parameters`.
    """
    require_memory(4 * 8.0 * len(rows.x) * n, "draws from the prior")
    drawn = draw_parameters(setting, n, rng)
    y = drawn.intercept + rows.x @ drawn.coef.T
    factors = zip(setting.factors, rows.codes.T, drawn.group_scale, drawn.corr_root, strict=True)
    for (_, slopes), codes, scale, corr_root in factors:
        levels, at = np.unique(codes, return_inverse=True)
        noise = rng.standard_normal((len(levels), len(slopes) + 1, n))
        effects = np.einsum("sij,gjs->gis", scale[:, :, None] * corr_root, noise)
        y += effects[at, 0]
        for i, j in enumerate(slopes, start=1):
            y += effects[at, i] * rows.x[:, [j]]
    return y + drawn.noise_scale * rng.standard_normal(y.shape)
