"""Continuous ranked probability score of normals and of mixtures of normals.

    CRPS(F, y) = integral of (F(x) - 1{y <= x})^2 dx = E|Y - y| - E|Y - Y'| / 2

Gneiting and Raftery (2007), J. Am. Stat. Assoc. 102, eq. 20-21. Grimit, Gneiting, Berrocal and
Johnson (2006), Q. J. R. Meteorol. Soc. 132, eq. 5-6.
"""

import numpy as np
from scipy.special import ndtr

__all__ = ["crps_mixture", "crps_normal"]

REACH_SDS = 6.0  # beyond the outermost components the integral ends: F there is below 1e-9
TYPICAL = 0.2  # quantile of the components' sds that sets the first grid
NODE_STEP = 0.75  # of that sd between its nodes
ENOUGH = 1e-6  # relative change between a grid and its half: the finer one's error is far smaller
MAX_EVEN = 300  # nodes of an even grid, beyond which one that widens to both sides needs fewer
MAX_NODES = 2**13


def crps_normal(y, mean, sd):
    """CRPS of normal distributions, in closed form: the lower, the better.

    Parameters
    ----------
    y, mean, sd : array, broadcastable
        ``sd >= 0``, not checked; where it is 0 the score is the absolute error.

    Returns
    -------
    array
        In units of y.

    References
    ----------
    Gneiting, Raftery, Westveld and Goldman (2005), Mon. Weather Rev. 133, eq. 5.

    Examples
    --------
    >>> print(round(float(crps_normal(1.0, 0.0, 1.0)), 4))
    0.6024
    """
    sd = np.asarray(sd, dtype=float)
    off = np.asarray(y, dtype=float) - mean
    return _mean_distance(off, sd) - sd / np.sqrt(np.pi)


def crps_mixture(y, mean, sd, weights=None):
    """CRPS of each row's mixture of normals: the lower, the better.

    ``E|Y - y|`` is exact. ``E|Y - Y'|``, in closed form a sum over all pairs of components (Grimit
    et al. 2006, eq. 6), is the integral of ``2 F(1 - F)``. That integrand is smooth and vanishes
    at both ends, so the trapezoidal rule on an even grid converges exponentially (Trefethen and
    Weideman 2014): some 40 evaluations of F in place of all pairs. The grid is halved until
    it changes no row's integral by a relative 1e-6. Measured against the double sum, the score's
    relative error is then below 1e-8, and below 1e-4 where the sds of the components spread over
    five orders of magnitude.

    Parameters
    ----------
    y : array of shape (n_samples,)
    mean, sd : array of shape (n_components, n_samples)
        ``sd > 0``. Not checked.
    weights : array of shape (n_components,) or (n_components, n_samples) or None
        Of the components, of any sum; None: equal ones. Not checked.

    Returns
    -------
    array of shape (n_samples,)
        In units of y.

    References
    ----------
    Trefethen and Weideman (2014), SIAM Review 56(3), sec. 5.
    """
    mean, sd = np.asarray(mean, dtype=float), np.asarray(sd, dtype=float)
    weights = np.ones(len(mean)) if weights is None else np.asarray(weights, dtype=float)
    weights = weights / weights.sum(0)
    centre = _average(weights, mean)  # small numbers are left, which keep their digits
    off = mean - centre
    distance = _average(weights, _mean_distance(np.asarray(y, dtype=float) - centre - off, sd))
    return distance - _half_mean_difference(off, sd, weights)


def _average(weights, a):
    """Of each row, (n_samples,), with weights that are the same for all rows or each one's own."""
    return weights @ a if weights.ndim == 1 else np.einsum("sn,sn->n", weights, a)


def _mean_distance(off, sd):
    """``E|Y - y|`` of normals, ``off = y - mean``."""
    z = off / np.where(sd > 0, sd, 1.0)
    spread = sd * np.sqrt(2 / np.pi) * np.exp(-0.5 * z**2)
    return np.where(sd > 0, off * (2 * ndtr(z) - 1) + spread, np.abs(off))


def _half_mean_difference(mean, sd, weights):
    """The integral of ``F(1 - F)`` of each row."""
    low, high = (mean - REACH_SDS * sd).min(0), (mean + REACH_SDS * sd).max(0)
    typical = np.quantile(sd, TYPICAL, axis=0)
    n = np.ceil(((high - low) / (NODE_STEP * typical)).max())
    if n > MAX_EVEN:  # some components are far wider than most, or far away
        low, high = np.arcsinh(low / typical), np.arcsinh(high / typical)
        n = np.ceil(((high - low) / (0.5 * NODE_STEP)).max())
    else:
        typical = None
    n = max(int(n), 8)
    step = (high - low) / n
    every_second = _sum_over(mean, sd, weights, low, step, np.arange(2, n, 2), typical)
    total = every_second + _sum_over(mean, sd, weights, low, step, np.arange(1, n, 2), typical)
    coarse, fine = 2 * step * every_second, step * total
    while np.any(np.abs(fine - coarse) > ENOUGH * fine) and n < MAX_NODES:
        n, step, coarse = 2 * n, step / 2, fine
        total = total + _sum_over(mean, sd, weights, low, step, np.arange(1, n, 2), typical)
        fine = step * total
    return fine


def _sum_over(mean, sd, weights, low, step, nodes, scale):
    """Sum of the integrand; with a scale, that of the substitution ``x = scale sinh(t)``."""
    total = np.zeros(mean.shape[1])
    for node in nodes:
        at, slope = low + node * step, 1.0
        if scale is not None:
            at, slope = scale * np.sinh(at), scale * np.cosh(at)
        below = _average(weights, ndtr((at - mean) / sd))
        total += slope * below * (1 - below)
    return total
