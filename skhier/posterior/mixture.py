"""Mixtures of normals: what a prediction is, one component for each of a few points of theta."""

import numpy as np
from scipy.special import logsumexp, ndtr, ndtri

from skhier.responses.numerics import TINY

__all__ = [
    "mixture_cdf",
    "mixture_log_density",
    "mixture_moments",
    "mixture_quantiles",
    "total_moments",
    "without_lightest",
]

MAX_STEPS_TO_QUANTILE = 60  # so that it ends
NEGLIGIBLE = 1e-5  # of all weight: far below the Monte Carlo error of any number of components
NARROWEST = 1e-12  # sd of a component, in units of the mixture's: a step of its function
ACCURATE = 1e-10  # a step of the search, in units of the mixture's sd
CUBED = 2e-4  # a step, in units of the narrowest component's sd, whose cube is below that


def mixture_cdf(y, mean, sd, weights=None):
    """Distribution function of each row's mixture at y.

    Parameters
    ----------
    y : array of shape (n_samples,)
    mean, sd : array of shape (n_components, n_samples)
        A component without spread is a step, with half its height at the step itself.
    weights : array of shape (n_components,) or (n_components, n_samples) or None
        Sum 1; None: equal ones.

    Returns
    -------
    array of shape (n_samples,)
        In [0, 1].
    """
    off = y - mean
    z = np.where(off == 0, 0.0, np.copysign(np.inf, off))
    np.divide(off, sd, out=z, where=sd > 0)
    return _average(_rows_first(ndtr(z)), _of_rows(weights))


def mixture_log_density(y, mean, sd, weights=None):
    """Log density of each row under its mixture.

    Parameters
    ----------
    y : array of shape (n_samples,)
    mean, sd : array of shape (n_components, n_samples)
        ``sd > 0``.
    weights : array of shape (n_components,) or (n_components, n_samples) or None
        Positive, sum 1; None: equal ones.
    """
    z = (y - mean) / sd
    log_density = -0.5 * z**2 - np.log(sd) - 0.5 * np.log(2 * np.pi)
    shares = np.full(len(mean), 1 / len(mean)) if weights is None else weights
    with np.errstate(divide="ignore"):  # a component may have no weight
        log_shares = np.log(_of_rows(shares))
    return logsumexp(_rows_first(log_density) + log_shares, axis=1)


def mixture_moments(mean, sd, weights=None):
    """Mean and variance of each row's mixture, (n_samples,) each; parameters as above."""
    mean, sd, weights = _rows_first(mean), _rows_first(sd), _of_rows(weights)
    centre = _average(mean, weights)
    return centre, _average(sd**2 + (mean - centre[:, None]) ** 2, weights)


def total_moments(mean, variance, weights):
    """Mean and variance of each row's mixture of any components, (n_samples,) each.

    Parameters
    ----------
    mean, variance : array of shape (n_components, n_samples)
        Means may be as large as numbers are: a variance that no number holds is infinite.
    weights : array of shape (n_components,)
        Sum 1.
    """
    kept = weights > 0
    mean, variance, weights = mean[kept], variance[kept], weights[kept]
    centre = weights @ mean
    with np.errstate(over="ignore"):
        return centre, weights @ (variance + (mean - centre) ** 2)


def without_lightest(weights):
    """Weights (S,) with 0 for the lightest components, whose share together is negligible.

    Those far out have next to no weight, and yet all of a moment whose integral has no end. What
    divides by a density (leaving a row out) needs them.
    """
    order = np.argsort(weights, kind="stable")
    kept = weights.copy()
    kept[order[np.cumsum(weights[order]) <= NEGLIGIBLE * weights.sum()]] = 0
    return kept / kept.sum()


def mixture_quantiles(mean, sd, q, weights=None):
    """Quantiles of each row's mixture, by bracketed steps on its distribution function.

    Parameters
    ----------
    mean, sd : array of shape (n_components, n_samples)
        Where ``sd`` is 0 in all of a row's components, its quantiles are those of the means; where
        in some, these are steps of the distribution function.
    q : array of shape (k,)
        In (0, 1).
    weights : array of shape (n_components,) or (n_components, n_samples) or None
        Positive, sum 1; None: equal ones.

    Returns
    -------
    array of shape (n_samples, k)
        To 1e-10 of the mixture's sd; of a row the same bits whichever others are in the call.
    """
    # a row's components side by side: else how NumPy adds them up depends on the number of rows
    mean, sd, weights = _rows_first(mean), _rows_first(sd), _of_rows(weights)
    spread_out = sd.any(axis=1)
    if spread_out.all():
        return _quantiles(mean, sd, q, weights)
    out = np.empty((len(mean), len(q)))
    of_points, of_normals = (
        weights[kept] if np.ndim(weights) == 2 else weights for kept in (~spread_out, spread_out)
    )
    out[~spread_out] = _quantiles_of_points(mean[~spread_out], q, of_points)
    out[spread_out] = _quantiles(mean[spread_out], sd[spread_out], q, of_normals)
    return out


def _rows_first(a):
    return np.ascontiguousarray(np.transpose(a), dtype=float)


def _of_rows(weights):
    """Weights that rows have of their own with the rows first; others as they are."""
    return weights if np.ndim(weights) < 2 else _rows_first(weights)


def _average(a, weights):
    """Of each row, one whose bits do not depend on the number of rows."""
    if weights is None:
        return a.mean(axis=1)
    return np.einsum("ns,ns->n" if weights.ndim == 2 else "ns,s->n", a, weights)


def _quantiles_of_points(points, q, weights):
    """Of the distribution function that is linear between the points."""
    if weights is None or np.ptp(weights) == 0:
        return np.quantile(points, q, axis=1).T
    order = np.argsort(points, axis=1, kind="stable")
    points = np.take_along_axis(points, order, axis=1)
    shares = np.take_along_axis(weights, order, axis=1) if weights.ndim == 2 else weights[order]
    middle = np.cumsum(shares, axis=1) - shares / 2  # half of a point's share is below it
    out = [np.interp(q, *row) for row in zip(middle, points, strict=True)]
    return np.reshape(out, (len(points), len(q)))


def _quantiles(mean, sd, q, weights):
    """As above, of rows (n_samples, n_components) with spread, in units that overflow nowhere."""
    every = mean, sd, weights
    centre = _average(mean, weights)[:, None]
    scale = (np.abs(mean - centre) + sd).max(axis=1, keepdims=True)
    mean, sd = (mean - centre) / scale, sd / scale
    spread = np.sqrt(_average(sd**2 + mean**2, weights))
    least = NARROWEST * spread[:, None]
    # beside such a spread those are steps that are none
    hidden = ((sd > 0) & (sd < least)).any(axis=1)
    sd = np.maximum(sd, least)
    low, high = (mean - 40 * sd).min(axis=1), (mean + 40 * sd).max(axis=1)
    search = _Search(mean, 1 / sd, spread, sd.min(axis=1), weights)
    out = np.empty((len(mean), len(q)))
    for k, level in enumerate(q):
        at, without_end = search.quantile(level, low.copy(), high.copy())
        out[:, k] = centre[:, 0] + scale[:, 0] * at
        again = hidden.copy()
        again[without_end] = True
        if again.any():
            out[again, k] = _quantile_of_most(every, again, level)
    return out


def _quantile_of_most(mixtures, rows, level):
    """Where some components are so much wider than most that the others are a point beside them.

    Not all components matter to a bracket: at the upper end those of enough weight have enough of
    theirs below, at the lower end above.
    """
    mean, sd, weights = mixtures
    mean, sd = mean[rows], sd[rows]
    weights = weights[rows] if np.ndim(weights) == 2 else weights
    if weights is None:
        weights = np.full(mean.shape[1], 1 / mean.shape[1])
    below, above = 0.5 * (1 + level), 1 - 0.5 * level
    high = _reached(mean + sd * ndtri(level / below), weights, below)
    low = -_reached(sd * ndtri((1 - level) / above) - mean, weights, above)
    centre, scale = 0.5 * (low + high)[:, None], np.maximum(high - low, TINY)
    mean, sd = (mean - centre) / scale[:, None], sd / scale[:, None]
    sd = np.maximum(sd, NARROWEST)
    one = np.ones(len(mean))
    search = _Search(mean, 1 / sd, one, sd.min(axis=1), weights)
    return centre[:, 0] + scale * search.quantile(level, -0.5 * one, 0.5 * one)[0]


def _reached(places, weights, share):
    """The least place up to which each row's components have that share of the weight."""
    order = np.argsort(places, axis=1, kind="stable")
    weights = np.take_along_axis(np.broadcast_to(weights, places.shape), order, axis=1)
    first = (np.cumsum(weights, axis=1) >= share).argmax(axis=1)
    return np.take_along_axis(places, order, axis=1)[np.arange(len(places)), first]


class _Search:
    """Halley's steps inside brackets that shrink, for rows of mixtures with mean near 0.

    ``quantile`` returns places, and which rows have not come to an end.
    """

    def __init__(self, mean, precise, spread, narrowest, weights):
        self.rows = mean, precise, spread, narrowest
        self.weights = weights  # a row's own move with the rows

    def quantile(self, level, low, high):
        rows, weights = self.rows, self.weights
        at = np.clip(rows[2] * ndtri(level), low, high)
        todo = np.arange(len(at))
        for _ in range(MAX_STEPS_TO_QUANTILE):
            at[todo], low[todo], high[todo], done = self._step(
                at[todo], low[todo], high[todo], rows, weights, level
            )
            if done.any():
                todo, rows = todo[~done], tuple(a[~done] for a in rows)
                weights = weights[~done] if np.ndim(weights) == 2 else weights
            if not len(todo):
                break
        return at, todo

    def _step(self, at, low, high, rows, weights, level):
        """Halves the bracket where a step leads out of it."""
        mean, precise, spread, narrowest = rows
        z = (at[:, None] - mean) * precise
        off = _average(ndtr(z), weights) - level
        low, high = np.where(off < 0, at, low), np.where(off < 0, high, at)
        density = np.exp(-0.5 * z * z)
        density *= precise
        slope = _average(density, weights) / np.sqrt(2 * np.pi)
        density *= z
        density *= precise
        bend = -_average(density, weights) / np.sqrt(2 * np.pi)
        # between components the slope is next to nothing: the step leads out, or is no number
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            newton = off / slope
            step = newton / np.clip(1 - 0.5 * newton * bend / slope, 0.5, 2)
            new = at - step
        inside = (new > low) & (new < high)
        new = np.where(inside, new, 0.5 * (low + high))
        moved = np.abs(new - at)
        # a step is also small within a component far narrower than the mixture
        bound = 1e-4 * min(level, 1 - level)
        near = (np.abs(off) <= bound) & (moved * slope <= 2 * bound)
        small = (moved <= ACCURATE * spread) | (inside & (moved <= CUBED * narrowest))
        return new, low, high, near & small
