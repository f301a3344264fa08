"""What is asked of the distribution of the line, or of new responses, at rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from skhier.posterior.level_noises import LevelNoisesPosterior
from skhier.posterior.mixture import mixture_cdf, mixture_log_density, mixture_quantiles
from skhier.posterior.posterior import Posterior
from skhier.posterior.row_posterior import RowPosterior

__all__ = ["distribution_function", "log_predictive_density", "normals", "quantiles", "responses"]


def quantiles(
    posterior: Posterior | RowPosterior, x, codes, q: np.ndarray, kind: str
) -> np.ndarray:
    """Quantiles (n_rows, len(q)) in units of y.

    Parameters
    ----------
    posterior : Posterior or RowPosterior
    x : array of shape (n_rows, n_features)
    codes : int array of shape (n_rows, n_factors)
        As in :meth:`~skhier.posterior.posterior.Posterior.mean`.
    q : array of shape (k,)
        In (0, 1).
    kind : {"response", "mean"}
        Of new responses, or of the line.
    """
    if isinstance(posterior, RowPosterior):
        return posterior.quantiles(x, codes, q, kind)
    response, out = posterior.response, np.empty((len(x), len(q)))
    mixture = posterior.line_mixture if kind == "mean" else posterior.response_mixture
    shift = response.mean_shift(posterior.rule_parameters()) if kind == "mean" else 0.0
    for rows, mean, sd in mixture(x, codes):
        out[rows] = mixture_quantiles(mean + shift, sd, q, posterior.rule.weights)
    return response.untransformed(out)


def distribution_function(posterior: Posterior | RowPosterior, x, codes, y) -> np.ndarray:
    """Posterior predictive probability of a response up to y, each row on its own, (n_rows,)."""
    if isinstance(posterior, RowPosterior):
        return posterior.distribution_function(x, codes, y)
    out, t = np.empty(len(y)), posterior.response.transformed(y)
    for rows, mean, sd in posterior.response_mixture(x, codes):
        out[rows] = mixture_cdf(t[rows], mean, sd, posterior.rule.weights)
    return out


def log_predictive_density(posterior: Posterior | RowPosterior, x, codes, y) -> np.ndarray:
    """Log posterior predictive density of each row on its own, (n_rows,)."""
    if isinstance(posterior, RowPosterior):
        return posterior.log_density(x, codes, y)
    out, t = np.empty(len(y)), posterior.response.transformed(y)
    for rows, mean, sd in posterior.response_mixture(x, codes):
        out[rows] = mixture_log_density(t[rows], mean, sd, posterior.rule.weights)
    return out + posterior.response.log_jacobian(t)


def normals(posterior: Posterior | RowPosterior, x, codes) -> Iterator[tuple[np.ndarray, ...]]:
    """New responses as mixtures of normals.

    Yields
    ------
    rows : int array of shape (k,)
    mean, sd : array of shape (n_components, k)
        In units of y.
    weights : array of shape (n_components,) or (n_components, k)
    """
    if isinstance(posterior, LevelNoisesPosterior) and posterior.response.name == "normal":
        yield from posterior.response_mixture(x, codes)
        return
    if isinstance(posterior, RowPosterior) or posterior.response.link != "identity":
        raise ValueError(
            f"This score takes predictive distributions that are mixtures of normals, and "
            f"response={posterior.response.name!r} has none. Use log_predictive_density, or a "
            "scorer of intervals."
        )
    for rows, mean, sd in posterior.response_mixture(x, codes):
        yield rows, mean, sd, posterior.rule.weights


def responses(
    posterior: Posterior | RowPosterior, x, codes, which, rng: np.random.Generator
) -> np.ndarray:
    """Draws of new responses, jointly over the rows, (n_draws, n_rows).

    ``which``: the draws of the population that they are of.
    """
    at = x, codes, which, rng.integers(2**31)
    lines = posterior.sample_lines(*at)
    if isinstance(posterior, LevelNoisesPosterior):
        return posterior.response.draw(lines, posterior.own_of_rows(*at), rng)
    return posterior.response.draw(lines, posterior.own_parameters(which, x), rng)
