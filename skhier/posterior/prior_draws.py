"""Draws of responses from the prior, before or after fit."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import validate_data

from skhier.inference.prior import PriorSetting, draw_parameters
from skhier.inference.statement import stated_problem, stated_response
from skhier.presets import preset_of, prior_from
from skhier.priors import DataScales
from skhier.responses.base import Own
from skhier.responses.by_level import of_levels
from skhier.statistics.group_means import add_group_means
from skhier.statistics.problem import reduce_rows
from skhier.utils.design import Rows, fit_design
from skhier.utils.memory import require_memory
from skhier.utils.noise_by import noise_factor
from skhier.utils.settling import settle_slopes
from skhier.utils.table import read_table
from skhier.utils.training import read_training, training_of
from skhier.utils.wanted_means import wanted_means

__all__ = ["draw_responses", "prior_without_fit"]


def _unless_nan(at: int) -> Any:
    """An entry of the scales that is known only if the response alone tells it."""

    def known(scales: DataScales) -> float:
        value: Any = tuple(scales)[at]
        if np.isnan(value):
            raise ValueError(
                "Some priors are scaled by y, which is not known before fit. Pass `y=`, fit first, "
                "or give every parameter a distribution, `prior=Prior(intercept=..., coef=..., "
                "group_scale=..., noise_scale=...)`, the last if the response has a noise scale."
            )
        return value

    return property(known)


class _WithoutTarget(DataScales):
    """Scales of X, and what of y's a response tells without any y: a line has a unit."""

    y_mean = _unless_nan(3)
    y_sd = _unless_nan(4)
    y_median = _unless_nan(5)
    y_mad = _unless_nan(6)


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
    fresh, table = clone(model), read_table(X)
    fresh._check_params()
    validate_data(fresh, table.native, "no_validation" if y is None else y, skip_check_array=True)
    response, columns = fresh._response, (model.groups, model.slopes, model._side)
    if y is not None:
        design, training = read_training(table, fresh._numbers_of(y), None, *columns)
        response.check_target(training.y, training.weights)
        training = training._replace(y=response.transformed(training.y))
    else:
        design, rows = fit_design(table, *columns)
        design, n = settle_slopes(design, rows), len(rows.x)
        training = training_of(design, rows, np.zeros(n), np.ones(n))
    noise_by = noise_factor(model._noise_by, design, table.names)
    wanted = wanted_means(model.group_means, table, design)
    problem = reduce_rows(design, training)
    design, training, problem = add_group_means(wanted, design, training, problem)
    response, preset = stated_response(problem, response), preset_of(prior_from(model.prior))
    if y is None:
        unknown = DataScales(*problem.scales[:3], *[np.nan] * 4)
        scales: DataScales = _WithoutTarget(*response.prior_scales(unknown, preset))
    else:
        scales = stated_problem(problem, response, preset, training).scales
    setting = PriorSetting.of(model, scales, design, response, noise_by)
    return setting, Rows(training.columns, training.codes, ())


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
    ValueError
        As of :func:`draw_parameters`.
    """
    levels = [np.unique(codes, return_inverse=True) for codes in rows.codes.T]
    _require_memory(setting, len(rows.x), [len(of_factor) for of_factor, _ in levels], n)
    drawn = draw_parameters(setting, n, rng)
    n_features = drawn.coef.shape[1]
    y = rows.x[:, :n_features] @ drawn.coef.T
    y += drawn.intercept
    factors = zip(setting.factors, levels, drawn.group_scale, drawn.corr_root, strict=True)
    for (_, slopes), (of_factor, at), scale, corr_root in factors:
        noise = rng.standard_normal((len(of_factor), len(slopes) + 1, n))
        effects = np.einsum("sij,gjs->gis", scale[:, :, None] * corr_root, noise)
        del noise
        y += effects[at, 0]
        for i, j in enumerate(slopes, start=1):
            of_rows = effects[at, i]
            of_rows *= rows.x[:, [j]]
            y += of_rows
            del of_rows
        del effects
    own: Own = drawn.own
    if setting.noise_by is not None:
        of_factor, at = levels[setting.noise_by]
        own = of_levels(own, rng.standard_normal((len(of_factor), n))[at])
    for side in rows.x.T[n_features:, :, None]:
        y, own = setting.response.at_rows(y, own, side)
    return setting.response.draw(y, own, rng)


def _require_memory(setting, n_rows, n_levels, n):
    """Refuse draws that would not fit: the responses, and what is there beside them."""
    sizes = [len(slopes) + 1 for _, slopes in setting.factors]
    # a factor's random numbers and effects; then its effects and, of one of them, the rows'
    beside = [g * q + max(g * q, n_rows) for g, q in zip(n_levels, sizes, strict=True)]
    # roots, and their product with the scales
    parameters = len(setting.names) + 2 + sum(q + 2 * q**2 for q in sizes)
    require_memory(
        8.0 * n * (n_rows + max([n_rows, *beside]) + parameters),
        f"{n} draws of {n_rows} responses from the prior",
        "Ask for fewer rows or draws.",
    )
