"""Draws from the prior: parameters in the user's units, and the responses that they make likely.

Distributions are drawn from as they stand in the user's units; internal coordinates, in which the
posterior is sampled, play no part.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple, NoReturn

import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import validate_data

from skhier.kernels.user_units import intercept_first
from skhier.priors import DataScales, Prior, PriorChoice, describe, prior_from
from skhier.statistics.problem import read_training, reduce_rows
from skhier.statistics.products import moments
from skhier.utils.design import Rows, fit_design
from skhier.utils.frames import as_table
from skhier.utils.memory import require_memory

__all__ = ["PriorDraws", "PriorSetting", "draw_parameters", "draw_responses", "prior_without_fit"]


class PriorSetting(NamedTuple):
    """What a prior means for one data set; pickles without JAX unless the user's prior holds it.

    ``names`` are those of the features, ``slopes`` the positions of those that vary by group or
    None, ``eta`` and ``correlated`` the estimator's.
    """

    prior: Prior
    scales: DataScales
    names: tuple[str, ...]
    factors: tuple[tuple[str, tuple[int, ...]], ...]
    eta: float
    correlated: bool

    @classmethod
    def of(cls, model: Any, scales: DataScales, design: Any) -> PriorSetting:
        """The setting of an estimator's parameters as they are now."""
        return cls(
            copy.deepcopy(prior_from(model.prior)),
            scales,
            tuple(design.feature_names),
            tuple((factor.name, factor.slopes) for factor in design.factors),
            float(model.eta),
            bool(model.correlated),
        )

    def resolve(self) -> PriorChoice:
        """The distributions."""
        return self.prior.resolve(self.scales, self.names, self.factors)


class PriorDraws(NamedTuple):
    """Independent draws of the population parameters, in the user's units.

    Attributes
    ----------
    intercept, noise_scale : array of shape (n,)
        The intercept at X = 0.
    coef : array of shape (n, n_features)
    group_scale : list of array of shape (n, q)
        Per factor, the intercept first.
    corr_chol : list of array of shape (n, q, q)
        Per factor, Cholesky factors of the correlation matrices.
    """

    intercept: np.ndarray
    noise_scale: np.ndarray
    coef: np.ndarray
    group_scale: list[np.ndarray]
    corr_chol: list[np.ndarray]


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
    of_x = moments(rows.x, np.ones(len(rows.x)))
    x_sd = np.where(of_x.sd > 0, of_x.sd, 1.0)
    unknown = [np.nan] * 4
    scales = _WithoutTarget(float(len(rows.x)), of_x.mean, x_sd, *unknown)
    return PriorSetting.of(model, scales, design), rows


def draw_parameters(setting: PriorSetting, n: int, rng: np.random.Generator) -> PriorDraws:
    """Draws of the population parameters.

    Parameters
    ----------
    setting : PriorSetting
    n : int
        Number of draws.
    rng : Generator

    Raises
    ------
    ValueError
        A prior is flat, or needs a y that is not known.
    """
    choice = setting.resolve()
    _check_proper(choice, setting)
    from skhier.inference import runtime
    from skhier.kernels.normal import models

    group_scale, corr_chol = [], []
    with runtime.precisely_on(runtime.find_device(None)):

        def sample(family, shape):
            return models.draw(family, shape, n, int(rng.integers(2**31)))

        def columns(blocks, size):
            values = np.empty((n, size))
            for at, family in blocks:
                values[:, list(at)] = sample(family, (len(at),))
            return values

        intercept, sigma = sample(choice.intercept, ()), sample(choice.noise_scale, ())
        coef = columns(choice.coef, len(setting.names))
        for (_, slopes), blocks in zip(setting.factors, choice.group_scale, strict=True):
            q = len(slopes) + 1
            if choice.decov is None:
                group_scale.append(columns(blocks, q)[:, intercept_first(q)])
            else:
                group_scale.append(_draw_decov(choice.decov, sigma, q, rng))
            chol = np.broadcast_to(np.eye(q), (n, q, q))
            if setting.correlated and q > 1:
                chol = models.draw_corr_chol(q, setting.eta, n, int(rng.integers(2**31)))
            corr_chol.append(chol)
    if choice.intercept_at_mean:
        intercept = intercept - coef @ setting.scales.x_mean
    return PriorDraws(intercept, sigma, coef, group_scale, corr_chol)


def _draw_decov(decov, sigma, q, rng):
    concentration, shape, scale = decov
    share = rng.dirichlet(np.full(q, concentration), len(sigma))
    return (sigma * scale * rng.gamma(shape, size=len(sigma)))[:, None] * np.sqrt(q * share)


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
    y = rows.x @ drawn.coef.T
    y += drawn.intercept
    factors = zip(setting.factors, levels, drawn.group_scale, drawn.corr_chol, strict=True)
    for (_, slopes), (of_factor, at), scale, corr_chol in factors:
        noise = rng.standard_normal((len(of_factor), len(slopes) + 1, n))
        effects = np.einsum("sij,gjs->gis", scale[:, :, None] * corr_chol, noise)
        del noise
        y += effects[at, 0]
        for i, j in enumerate(slopes, start=1):
            of_rows = effects[at, i]
            of_rows *= rows.x[:, [j]]
            y += of_rows
            del of_rows
        del effects
    noise = rng.standard_normal(y.shape)
    noise *= drawn.noise_scale
    y += noise
    return y


def _require_memory(setting, n_rows, n_levels, n):
    """Refuse draws that would not fit: the responses, and what is there beside them."""
    sizes = [len(slopes) + 1 for _, slopes in setting.factors]
    # a factor's random numbers and effects; then its effects and, of one of them, the rows'
    beside = [g * q + max(g * q, n_rows) for g, q in zip(n_levels, sizes, strict=True)]
    # Cholesky factors, and their product with the scales
    parameters = len(setting.names) + 2 + sum(q + 2 * q**2 for q in sizes)
    require_memory(
        8.0 * n * (n_rows + max([n_rows, *beside]) + parameters),
        f"{n} draws of {n_rows} responses from the prior",
        "Ask for fewer rows or draws.",
    )


def _effect(setting, slopes, i):
    """Name of an effect in the kernels' order, the varying intercept last."""
    return setting.names[slopes[i]] if i < len(slopes) else "intercept"


def _check_proper(choice, setting):
    """Raise ValueError where there is nothing to draw from; the message names the parameter."""
    blocks: dict[str, list[tuple[Any, Any]]] = {
        "intercept": [((), choice.intercept)],
        "noise_scale": [((), choice.noise_scale)],
        "coef": [([setting.names[j] for j in at], family) for at, family in choice.coef],
        "group_scale": [
            ([_effect(setting, slopes, i) for i in at], family)
            for (_, slopes), of_factor in zip(setting.factors, choice.group_scale, strict=True)
            for at, family in of_factor
        ],
    }
    for name, parts in blocks.items():
        for columns, family in parts:
            if describe(family) == "flat":
                of = f" of {', '.join(map(repr, columns[:5]))}" if columns else ""
                raise ValueError(
                    f"The prior of `{name}`{of} is flat: nothing can be drawn from it. Give "
                    f"`prior=Prior({name}=...)` a number or a distribution."
                )
