"""Pareto smoothing of importance weights.

Vehtari, Simpson, Gelman, Yao and Gabry (2024), JMLR 25(72).
"""

import numpy as np
from scipy.special import logsumexp

__all__ = ["MAX_K_HAT", "psis", "reliable_k"]

MAX_K_HAT = 0.7


def reliable_k(n_points: int) -> float:
    """Largest ``k_hat`` of weights that can be relied on (Vehtari et al. 2024, sec. 3.2.4)."""
    return min(1 - 1 / np.log10(n_points), MAX_K_HAT)


def psis(log_weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pareto smoothed log weights, up to a constant kept as it was, and the tail's shape.

    Parameters
    ----------
    log_weights : array of shape (..., n)

    Returns
    -------
    smoothed : array of shape (..., n)
    k_hat : array of shape (...)
        Infinite if there are too few distinct weights to fit a tail.
    """
    n = log_weights.shape[-1]
    n_tail = int(np.ceil(min(0.2 * n, 3 * np.sqrt(n))))
    if n_tail < 5:
        return log_weights, np.full(log_weights.shape[:-1], np.inf)
    top = log_weights.max(-1, keepdims=True)
    largest = np.argpartition(log_weights, n - n_tail - 1, axis=-1)[..., -n_tail - 1 :]
    within = np.argsort(np.take_along_axis(log_weights, largest, -1), axis=-1, kind="stable")
    order = np.take_along_axis(largest, within, -1)
    ranked = np.exp(np.take_along_axis(log_weights, order, -1) - top)
    cutoff, tail = ranked[..., :1], order[..., 1:]
    excess = ranked[..., 1:] - cutoff
    usable = excess[..., -1:] > 0
    shape, scale = (a[..., None] for a in _fit_pareto(np.where(usable, excess, 1.0)))
    stretched = np.log1p(-(np.arange(n_tail) + 0.5) / n_tail)
    flat = np.abs(shape) < np.finfo(float).eps
    safe = np.where(flat, 1.0, shape)
    # of hopeless weights the tail's quantiles overflow, and the largest weight bounds them
    with np.errstate(divide="ignore", over="ignore"):
        quantiles = scale * np.where(flat, -stretched, np.expm1(-safe * stretched) / safe)
        fitted = top + np.minimum(np.log(cutoff + quantiles), 0.0)
    smoothed = log_weights.copy()
    kept = np.take_along_axis(log_weights, tail, -1)
    np.put_along_axis(smoothed, tail, np.where(usable, fitted, kept), -1)
    return smoothed, np.where(usable, shape, np.inf)[..., 0]


def _fit_pareto(excess):
    """Shape and scale of generalised Pareto distributions (Zhang and Stephens 2009).

    With the weak prior of Vehtari et al. (2024, appendix G) on the shape. ``excess`` (..., n),
    ascending.
    """
    n = excess.shape[-1]
    n_grid = 30 + int(np.sqrt(n))
    quartile = np.maximum(excess[..., int(n / 4 + 0.5) - 1], np.finfo(float).tiny)[..., None]
    grid = 1 - np.sqrt(n_grid / (np.arange(n_grid) + 0.5))
    grid = grid / (3 * quartile) + 1 / excess[..., -1:]
    shapes = np.log1p(-grid[..., None] * excess[..., None, :]).mean(-1)
    log_like = n * (np.log(-grid / shapes) - shapes - 1)
    share = np.exp(log_like - logsumexp(log_like, axis=-1, keepdims=True))
    rate = (grid * share).sum(-1)
    shape = np.log1p(-rate[..., None] * excess).mean(-1)
    return (n * shape + 5) / (n + 10), -shape / rate
