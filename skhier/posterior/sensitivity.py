"""How much a posterior would move if the prior, or the likelihood, counted a little more or less.

Either is raised to a power near 1, the draws are weighted accordingly, and the distance between the
weighted and the unweighted draws of each parameter is divided by the change of the power's log2.

Kallioinen, Paananen, Buerkner and Vehtari (2024), Stat. Comput. 34, 57.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from skhier.inference import prior
from skhier.inference.prior import PriorSetting
from skhier.kernels.user_units import effects_to_user
from skhier.posterior.posterior import Posterior
from skhier.posterior.row_posterior import RowPosterior
from skhier.utils.diagnostics import is_constant
from skhier.utils.pareto import psis

__all__ = ["cjs_distance", "log_likelihood", "log_prior", "sensitivity_table"]

ALPHAS = (0.99, 1.01)  # the paper's, and priorsense's and ArviZ's default
THRESHOLD = 0.05


def sensitivity_table(
    named: Mapping[str, np.ndarray], log_prior: np.ndarray, log_likelihood: np.ndarray
) -> Any:
    """Sensitivity of each parameter that varies.

    Parameters
    ----------
    named : mapping of str to array of shape (n_chains, n_draws)
    log_prior, log_likelihood : array of shape (n_chains * n_draws,)
        Of each draw, chain by chain, up to a constant.

    Returns
    -------
    DataFrame
        Index parameter; columns ``prior``, ``likelihood``, ``pareto_k`` (the worst of the four
        sets of weights) and ``diagnosis``.
    """
    import pandas as pd

    draws = np.stack([values.ravel() for values in named.values()], axis=1)
    varies = ~is_constant(np.stack(list(named.values()), axis=-1))
    sensitivity, k_hats = {}, []
    for part, log_density in (("prior", log_prior), ("likelihood", log_likelihood)):
        weights, k_hat = _power_weights(log_density)
        sensitivity[part] = [_gradient(column, weights) for column in draws.T[varies]]
        k_hats.append(k_hat)
    names = [name for name, kept in zip(named, varies, strict=True) if kept]
    table = pd.DataFrame(sensitivity, index=pd.Index(names, name="parameter"))
    diagnosis = map(_diagnosis, table["prior"], table["likelihood"])
    return table.assign(pareto_k=max(k_hats), diagnosis=list(diagnosis))


def log_prior(setting: PriorSetting, posterior: Posterior | RowPosterior) -> np.ndarray:
    """Log prior density of each posterior draw, up to a constant.

    In the parameters that the prior is stated in: slopes, the intercept where its prior sits,
    standard deviations and correlation matrices (``(eta - 1) log|Omega|``); of ``DecovPrior`` the
    size and the shares of the variance. Flat priors count 0.

    Parameters
    ----------
    setting : PriorSetting
    posterior : Posterior

    Returns
    -------
    array of shape (n_chains * n_draws,)
    """
    choice = setting.resolve()
    drawn = posterior.population_draws()
    n = posterior.n_draws
    coef, intercept = drawn["coef"].reshape(n, -1), drawn["intercept"].ravel()
    if choice.intercept_at_mean:
        intercept = intercept + coef @ setting.scales.x_mean
    own = {name: drawn[name].ravel() for name in choice.own}
    roots = [
        effects_to_user(posterior.units, k, posterior.slopes[k], of_group.at_mean) @ root
        for k, (of_group, root) in enumerate(
            zip(choice.groups, posterior.population.group_root, strict=True)
        )
    ]
    return prior.log_prior_density(setting, choice, intercept, coef, own, roots)


def log_likelihood(posterior: Posterior | RowPosterior) -> np.ndarray:
    """Log density of the rows given each draw, group effects integrated out, up to a constant.

    The distribution of the group effects is part of the model, not of the prior.

    Returns
    -------
    array of shape (n_chains * n_draws,)
    """
    return posterior.log_likelihood()


def _power_weights(log_density):
    """Normalised weights for each power, and the worse of the shapes of their tails."""
    if np.ptp(log_density) == 0:  # flat: no power changes anything
        return [np.full(len(log_density), 1 / len(log_density))] * 2, 0.0
    log_weights = np.outer(np.array(ALPHAS) - 1, log_density - log_density.max())
    smooth, k_hat = psis(log_weights)
    weights = np.exp(smooth - smooth.max(1, keepdims=True))
    return list(weights / weights.sum(1, keepdims=True)), float(k_hat.max())


def _gradient(draws, weights):
    """Mean over both directions of the change of distance per change of log2 of the power."""
    moved = [
        max(cjs_distance(draws, weight), cjs_distance(-draws, weight)) / abs(np.log2(alpha))
        for alpha, weight in zip(ALPHAS, weights, strict=True)
    ]
    return float(np.mean(moved))


def cjs_distance(draws: np.ndarray, weights: np.ndarray) -> float:
    """Cumulative Jensen-Shannon distance between draws and the same draws with weights, in [0, 1].

    Parameters
    ----------
    draws : array of shape (n,)
    weights : array of shape (n,)
        Sum 1.

    References
    ----------
    Nguyen and Vreeken (2015), ECML PKDD; Kallioinen et al. (2024), eq. 5-6: normalised by its upper
    bound.
    """
    order = np.argsort(draws, kind="stable")
    widths = np.diff(draws[order])
    p = np.arange(1, len(draws)) / len(draws)
    q = np.minimum(np.cumsum(weights[order])[:-1], 1.0)
    middle = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = p * np.log2(p / middle) + np.where(q > 0, q * np.log2(q / middle), 0.0)
    bound = (p + q) @ widths
    return float(np.sqrt(max(gap @ widths, 0.0) / bound)) if bound > 0 else 0.0


def _diagnosis(prior, likelihood):
    if prior < THRESHOLD:
        return "-"
    if likelihood < THRESHOLD:
        return "strong prior or weak data"
    return "prior-data conflict possible"
