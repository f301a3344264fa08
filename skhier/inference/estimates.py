"""Posterior means, sds and their Monte Carlo errors from weighted points, coefficients exact.

Given a point of the variance parameters the coefficients are normal with known moments, so that
these estimates carry less Monte Carlo error than draws would (Rao-Blackwell).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from skhier.utils.diagnostics import is_constant, mcse_mean

__all__ = ["Estimate", "block_error", "chain_error", "estimates"]


class Estimate(NamedTuple):
    """Posterior mean and sd of a parameter, and the standard error of the mean; any shape."""

    mean: np.ndarray
    sd: np.ndarray
    mcse: np.ndarray


def estimates(
    weights: np.ndarray,
    means: Mapping[str, np.ndarray],
    variances: Mapping[str, np.ndarray],
    error: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> dict[str, Estimate]:
    """Moments of each parameter.

    Parameters
    ----------
    weights : array of shape (n,)
        Sum 1.
    means : mapping of str to array of shape (n, ...)
        Mean of each parameter given each point.
    variances : mapping of str to array of shape (n, ...)
        Variance of those that the point does not determine.
    error : callable
        Takes weights and values (n, ...); gives the standard error of their mean.
    """
    by_name = {}
    for name, values in means.items():
        mean = values[0] + np.tensordot(weights, values - values[0], 1)  # exact for constants
        variance = np.tensordot(weights, (values - mean) ** 2 + variances.get(name, 0.0), 1)
        by_name[name] = Estimate(mean, np.sqrt(variance), error(weights, values))
    return by_name


def block_error(n_blocks: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Standard error from blocks that were drawn independently; point i is in ``i % n_blocks``.

    Delete-one-block jackknife of the ratio of weighted sums.
    """

    def error(weights, values):
        shape = (len(weights) // n_blocks, n_blocks)
        of_blocks = weights.reshape(shape)
        values = (values - values[0]).reshape(*shape, *values.shape[1:])
        sums = np.einsum("jb,jb...->b...", of_blocks, values)
        left = 1 - of_blocks.sum(0).reshape(n_blocks, *[1] * (sums.ndim - 1))
        without = (sums.sum(0) - sums) / left
        return np.sqrt((n_blocks - 1) * ((without - without.mean(0)) ** 2).mean(0))

    return error


def chain_error(place: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Standard error from Markov chains; ``place`` (n_chains, n_draws) are their points.

    0 of what is the same at every point, as the mean of a slope that the data say nothing of.
    """

    def error(weights, values):
        draws = values[place]
        return np.where(is_constant(draws), 0.0, mcse_mean(draws))

    return error
