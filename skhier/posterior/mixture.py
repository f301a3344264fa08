"""Equal mixtures of normals: what a prediction is, one component per posterior draw."""

import numpy as np
from scipy.special import logsumexp, ndtr, ndtri

__all__ = ["mixture_cdf", "mixture_log_density", "mixture_quantiles"]

N_STEPS = 60
NARROWEST = 1e-12  # sd of a component, in units of the mixture's: a step of its function


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
        Where ``sd`` is 0 in all of a row's components, its quantiles are those of the draws; where
        in some, these are steps of the distribution function.
    q : array of shape (k,)
        In (0, 1).

    Returns
    -------
    array of shape (n_samples, k)
        To 1e-10 of the mixture's sd; of a row the same bits whichever others are in the call.
    """
    # a row's components side by side: else how NumPy adds them up depends on the number of rows
    mean, sd = (np.ascontiguousarray(np.transpose(a), dtype=float) for a in (mean, sd))
    spread_out = sd.any(axis=1)
    out = np.empty((len(mean), len(q)))
    out[~spread_out] = np.quantile(mean[~spread_out], q, axis=1).T
    out[spread_out] = _quantiles(mean[spread_out], sd[spread_out], q)
    return out


def _quantiles(mean, sd, q):
    """As above, of rows (n_samples, n_draws) with spread, in units in which nothing overflows."""
    centre = mean.mean(axis=1, keepdims=True)
    scale = (np.abs(mean - centre) + sd).max(axis=1, keepdims=True)
    mean, sd = (mean - centre) / scale, sd / scale
    spread = np.sqrt(np.mean(sd**2, axis=1) + np.var(mean, axis=1))
    sd = np.maximum(sd, NARROWEST * spread[:, None])
    found = np.stack([_quantile(mean, sd, spread, level) for level in q], axis=1)
    return centre + scale * found


def _quantile(mean, sd, spread, level):
    low, high = (mean - 40 * sd).min(axis=1), (mean + 40 * sd).max(axis=1)
    at = np.clip(mean.mean(axis=1) + spread * ndtri(level), low, high)
    todo = np.arange(len(at))
    for _ in range(N_STEPS):
        at[todo], low[todo], high[todo], done = _newton_step(
            at[todo], low[todo], high[todo], mean[todo], sd[todo], spread[todo], level
        )
        todo = todo[~done]
        if not len(todo):
            break
    return at


def _newton_step(at, low, high, mean, sd, spread, level):
    """A step of Newton's method inside a bracket that shrinks; halves it where that leads out."""
    z = (at[:, None] - mean) / sd
    off = ndtr(z).mean(axis=1) - level
    low, high = np.where(off < 0, at, low), np.where(off < 0, high, at)
    slope = (np.exp(-0.5 * z**2) / sd).mean(axis=1) / np.sqrt(2 * np.pi)
    # between components the slope is next to nothing: the step leads out, or to no number at all
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        newton = at - off / slope
    inside = (newton > low) & (newton < high)
    new = np.where(inside, newton, 0.5 * (low + high))
    # a Newton step is also small within a component far narrower than the mixture
    near = np.abs(off) <= 1e-4 * min(level, 1 - level)
    return new, low, high, near & (np.abs(new - at) <= 1e-10 * spread)
