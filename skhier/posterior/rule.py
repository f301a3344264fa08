"""A few weighted components that stand for all: a quadrature rule of the posterior of theta.

Every feature of a component, the distribution function of a line at a point say, has an average
over all components. Of any such d averages some d + 1 components with positive weights have them
exactly (Tchakaloff 1957, Bull. Sci. Math. 81); non-negative least squares finds such (Lawson and
Hanson 1974, ch. 23). The features are distribution functions of lines at rows of all kinds of
levels, their principal directions, and normal scores of theta with their products. Distribution
functions at rows and points that were not among them tell the error.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg import eigh
from scipy.optimize import nnls
from scipy.special import ndtr, ndtri

from skhier.kernels.records import Components
from skhier.posterior.mixture import NARROWEST
from skhier.utils.budget import USUAL, RuleBudget

__all__ = ["Rule", "places_by_lines", "places_by_moments", "rule_by_lines"]

CHECKED = 3  # every third row tells the error
# where distribution functions are compared, in sds from the mean
AT, AT_CHECKED = (-2.9, -2.0, -1.1, 0.0, 1.1, 2.0, 2.9), (-2.5, -1.65, -0.5, 0.5, 1.65, 2.5)
LEAST_DENSITY = 0.02  # times the sd, that a probability is divided by
OF_SUM = 30.0  # weight of the weights' sum beside the features


class Rule(NamedTuple):
    """Components, and their quantiles' largest measured error in sds."""

    components: Components
    error: float


def rule_by_lines(
    components: Components,
    mean,
    sd,
    most: int | None = None,
    budget: RuleBudget = USUAL.rule,
) -> Rule:
    """As few as keep the error small; all of them, if no few do.

    Parameters
    ----------
    components : Components
    mean, sd : array of shape (n_rows, S)
        Of lines, and of new responses, at rows of all kinds.
    most : int or None
        At most so many, whatever the error.
    budget : RuleBudget
    """
    at, weights, error = places_by_lines(components, mean, sd, most, budget)
    return Rule(components.take(at)._replace(weights=weights), error)


def places_by_lines(
    components: Components,
    mean,
    sd,
    most: int | None = None,
    budget: RuleBudget = USUAL.rule,
) -> tuple[np.ndarray, np.ndarray, float]:
    """As :func:`rule_by_lines`: where its components are among all, their weights, the error."""
    checks = np.arange(len(mean)) % CHECKED == CHECKED - 1
    weights = components.weights
    of_lines = _distributions(weights, mean[~checks], sd[~checks], AT)
    checked = _distributions(weights, mean[checks], sd[checks], AT_CHECKED)
    return _places(components, of_lines, checked, most, budget)


def places_by_moments(
    components: Components, mean, variance, budget: RuleBudget = USUAL.rule
) -> tuple[np.ndarray, np.ndarray, float]:
    """The same where means and sds of new responses are all that is asked, which may have tails.

    The error is of means and sds, in sds.

    Parameters
    ----------
    components : Components
    mean, variance : array of shape (n_rows, S)
        Of new responses at rows of all kinds. Where one is no number all components stay.
    budget : RuleBudget
    """
    weights = components.weights
    centre = (mean @ weights)[:, None]
    with np.errstate(over="ignore", invalid="ignore"):
        square = variance + (mean - centre) ** 2
        total = (square @ weights)[:, None]
        # an error of a variance is half as large in the sd
        features = np.stack([(mean - centre) / np.sqrt(total), 0.5 * (square / total - 1)])
    if not np.isfinite(features).all():
        return np.arange(len(weights)), weights, 0.0
    checks = np.arange(len(mean)) % CHECKED == CHECKED - 1
    of_rows, checked = (
        features[:, which].reshape(-1, len(weights)).T for which in (~checks, checks)
    )
    return _places(components, of_rows, checked, None, budget)


def _places(components, of_lines, checked, most, budget):
    """By features (S, width) of lines, and those that tell the error."""
    weights, sizes = components.weights, budget.sizes
    of_theta = _theta_features(components, budget.max_squared)
    if most is not None:
        sizes = ((most // 2, (most - 1) // 2, budget.sizes[1][2]),)
    tries = []
    for n_lines, n_theta, n_candidates in sizes:
        at = _candidates(weights, n_candidates)
        features = [_principal(of_lines[at], n_lines), _sketch(of_theta, n_theta)[at]]
        chosen, share = _average_to_zero(np.concatenate(features, axis=1))
        error = float(np.abs(share @ checked[at[chosen]]).max())
        tries.append((at[chosen], share, error))
        if error <= budget.wanted_error:
            break
    best = min(tries, key=lambda of_try: of_try[2])
    if best[2] <= budget.quantile_error or most is not None:
        return best
    return np.arange(len(weights)), weights, 0.0


def _candidates(weights, n):
    """Places of n components resampled systematically, each once."""
    ends = np.cumsum(weights)
    which = np.searchsorted(ends, (np.arange(n) + 0.5) / n * ends[-1])
    return np.unique(np.minimum(which, len(weights) - 1))


def _average_to_zero(features):
    """Which rows of the features average to 0, and with which weights."""
    n, d = features.shape
    system = np.concatenate([features.T, np.full((1, n), OF_SUM)])
    try:
        weights, _ = nnls(system, np.append(np.zeros(d), OF_SUM), maxiter=20 * n)
    except RuntimeError:  # no solution within so many steps: every candidate
        weights = np.ones(n)
    chosen = np.flatnonzero(weights)
    return chosen, weights[chosen] / weights.sum()


def _distributions(weights, mean, sd, at):
    """Each component's distribution functions less the mixture's, (S, n_rows * n_at).

    Times what makes of a probability a distance in sds. A row at a time, which stays in cache.
    """
    at = np.array(at)[:, None]
    out = np.empty((len(mean), len(at), len(weights)))
    for row, centres, widths in zip(out, mean, sd, strict=True):
        centre = centres @ weights
        spread = np.sqrt((widths**2 + (centres - centre) ** 2) @ weights)
        if spread == 0:
            row[:] = 0
            continue
        width = np.maximum(widths / spread, NARROWEST)
        off = (at - (centres - centre) / spread) / width
        ndtr(off, out=row)
        row -= (row @ weights)[:, None]
        density = (np.exp(-0.5 * off**2) / width) @ weights / np.sqrt(2 * np.pi)
        row /= np.maximum(density, LEAST_DENSITY)[:, None]
    return out.reshape(-1, len(weights)).T


def _theta_features(components, max_squared):
    """Normal scores of theta and of the coefficients' means, and their products, (S, width).

    Scores have no tails, which the choice would go into.
    """
    weights, coef = components.weights, components.coef
    entries = [root[:, *np.tril_indices(root.shape[1])] for root in components.group_root]
    own = [values[:, None] for values in components.population.own.values()]
    raw = np.concatenate([*own, *entries, coef], axis=1)
    raw = raw[:, np.ptp(raw, axis=0) > 0]
    order = np.argsort(raw, axis=0, kind="stable")
    ranks = np.empty_like(raw)
    np.put_along_axis(ranks, order, np.cumsum(weights[order], axis=0), axis=0)
    scores = ndtri(np.clip(ranks - weights[:, None] / 2, 1e-4, 1 - 1e-4))
    if scores.shape[1] ** 2 > 2 * max_squared:
        products = scores**2
    else:
        one, two = np.triu_indices(scores.shape[1])
        products = scores[:, one] * scores[:, two]
    features = np.concatenate([scores, products], axis=1)
    features -= weights @ features
    return features


def _principal(features, n):
    """The n directions in which they vary most, to scale 1."""
    d = features.shape[1]
    scale, vectors = eigh(features.T @ features, subset_by_index=[max(d - n, 0), d - 1])
    real = scale > 1e-12 * max(scale.max(), 0)
    return features @ (vectors[:, real] / np.sqrt(scale[real] / len(features)))


def _sketch(features, n):
    """At most n combinations of the columns at random."""
    d = features.shape[1]
    if d > n:
        features = features @ np.random.default_rng(0).standard_normal((d, n))
    size = np.sqrt(np.mean(features**2)) if features.size else 0.0
    return features / size if size else features
