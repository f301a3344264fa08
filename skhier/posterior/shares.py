"""Shares of the variance of y: by factor, by the features, by all but the noise.

A factor's variance is ``mean over rows of z_i' Sigma z_i`` (Johnson 2014, Methods Ecol. Evol. 5),
the features' that of the population line over the rows (Nakagawa and Schielzeth 2013, Methods Ecol.
Evol. 4). Both need the rows only through their cross-products.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skhier.posterior.posterior import Posterior
from skhier.posterior.row_posterior import RowPosterior

__all__ = ["VarianceShares", "variance_shares"]


class VarianceShares(NamedTuple):
    """Posterior draws, each of shape (n_chains, n_draws).

    ``icc``: each factor's share of the variance that the features leave and, last, the noise's;
    ``marginal`` and ``conditional``: R^2 of the population line, and of that and the group effects.
    """

    icc: list[np.ndarray]
    marginal: np.ndarray
    conditional: np.ndarray


def variance_shares(posterior: Posterior | RowPosterior) -> VarianceShares:
    """Of the rows of fit, whose y is not constant."""
    mean_square, draws = posterior.mean_square, posterior.population
    cov = mean_square - np.outer(mean_square[-1], mean_square[-1])
    fixed = np.maximum(((draws.coef @ cov) * draws.coef).sum(1), 0)
    of_factors = []
    for varying, root in zip(posterior.slopes, draws.group_root, strict=True):
        at = [*varying, len(mean_square) - 1]
        of_rows = mean_square[np.ix_(at, at)]
        of_factors.append(np.einsum("sij,ik,skj->s", root, of_rows, root, optimize=True))
    random = sum(of_factors, np.zeros(posterior.n_draws))
    noise = posterior.observation_variance() / posterior.units.y_scale**2
    left = random + noise
    total = fixed + left
    return VarianceShares(
        [(part / left).reshape(posterior.shape) for part in (*of_factors, noise)],
        (fixed / total).reshape(posterior.shape),
        ((fixed + random) / total).reshape(posterior.shape),
    )
