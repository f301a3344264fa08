"""Equal mixtures of normals: what a prediction is, one component per posterior draw."""

import numpy as np
from scipy.special import logsumexp, ndtr, ndtri

__all__ = ["mixture_cdf", "mixture_log_density", "mixture_quantiles"]

N_STEPS = 60


def mixture_cdf(y, mean, sd):
    """Distribution function of each row's mixture at y.

    Parameters
    ----------
    y : array of shape (n_samples,)
    mean, sd : array of shape (n_draws, n_samples)
        A component without spread is a step, with half its height at the step itself.

    Returns
    -------
    array of shape (n_samples,)
        In [0, 1].
    """
    off = y - mean
    z = np.where(off == 0, 0.0, np.copysign(np.inf, off))
    np.divide(off, sd, out=z, where=sd > 0)
    return ndtr(z).mean(axis=0)


def mixture_log_density(y, mean, sd):
    """Log density of each row under its mixture.

    Parameters
    ----------
    y : array of shape (n_samples,)
    mean, sd : array of shape (n_draws, n_samples)
        ``sd > 0``.
    """
    z = (y - mean) / sd
    log_density = -0.5 * z**2 - np.log(sd) - 0.5 * np.log(2 * np.pi)
    return logsumexp(log_density, axis=0) - np.log(len(mean))


def mixture_quantiles(mean, sd, q):
    """Quantiles of each row's mixture, by bracketed Newton steps on its distribution function.

    Parameters
    ----------
    mean, sd : array of shape (n_draws, n_samples)
        Where ``sd`` is 0 throughout, the quantiles are those of the draws.
    q : array of shape (k,)
        In (0, 1).

    Returns
    -------
    array of shape (n_samples, k)
        To 1e-10 of the mixture's sd.
    """
    return np.stack([_quantile(mean, sd, level) for level in q], axis=1)


def _quantile(mean, sd, level):
    if not sd.any():
        return np.quantile(mean, level, axis=0)
    spread = np.sqrt(np.mean(sd**2, 0) + np.var(mean, 0))
    low, high = (mean - 40 * sd).min(0), (mean + 40 * sd).max(0)
    at = np.clip(mean.mean(0) + spread * ndtri(level), low, high)
    sd = np.where(sd > 0, sd, 1e-12 * np.where(spread > 0, spread, 1.0))
    todo = np.arange(len(at))
    for _ in range(N_STEPS):
        at[todo], low[todo], high[todo], done = _newton_step(
            at[todo], low[todo], high[todo], mean[:, todo], sd[:, todo], spread[todo], level
        )
        todo = todo[~done]
        if not len(todo):
            break
    return at


def _newton_step(at, low, high, mean, sd, spread, level):
    """A step of Newton's method inside a bracket that shrinks; halves it where that leads out."""
    z = (at - mean) / sd
    off = ndtr(z).mean(0) - level
    low, high = np.where(off < 0, at, low), np.where(off < 0, high, at)
    slope = (np.exp(-0.5 * z**2) / sd).mean(0) / np.sqrt(2 * np.pi)
    with np.errstate(divide="ignore", invalid="ignore"):
        newton = at - off / slope
    inside = (newton > low) & (newton < high)
    new = np.where(inside, newton, 0.5 * (low + high))
    # a Newton step is also small within a component far narrower than the mixture
    near = np.abs(off) <= 1e-4 * min(level, 1 - level)
    return new, low, high, near & (np.abs(new - at) <= 1e-10 * spread)
