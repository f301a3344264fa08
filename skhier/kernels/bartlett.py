"""Coordinates in which the posterior of a covariance is nearly normal.

If the effects of all levels were seen, ``Sigma^-1`` would have a Wishart distribution, and in any
frame ``Sigma^-1 = L_0^-T A'A L_0^-1`` with independent entries of A, lower triangular: normal
numbers below the diagonal, chi on it. Noise and priors change that smoothly. So ``L = L_0 A^-1`` is
a root of Sigma, where ``L_0`` is one at the mode, and the coordinates are ``log A_ii`` and
``A_ij``, in the places that theta has for ``log tau_i`` and for partial correlations. With
``t_ij = sum_{k >= j} L_ik^2`` theta is

    log tau_i = log(t_i0) / 2,    partial correlation ij = tanh asinh(L_ij / sqrt(t_i,j+1))

    log |d theta / d(log A_ii, A_ij)| = sum_i (i + 1) log L_0,ii - q sum_i log A_ii
                                        - sum_{j <= i} log(t_ij) / 2        (i from 0)

Bartlett (1933), Proc. R. Soc. Edinburgh 53; partial correlations as Lewandowski, Kurowicka and Joe
(2009) take them, row by row.
"""

from typing import NamedTuple

import numpy as np

__all__ = ["RootOfFactor", "pulled_back", "root_at", "theta_and_log_volume"]


class RootOfFactor(NamedTuple):
    """Where a factor's entries are, and the root that the identity stands for.

    Attributes
    ----------
    places : int array of shape (q, q)
        Entries of theta: of ``log tau_i`` on the diagonal, of partial correlations below; of no
        meaning above.
    root : array of shape (q, q)
        ``L_0``, lower triangular.
    """

    places: np.ndarray
    root: np.ndarray


def root_at(theta: np.ndarray, places: np.ndarray) -> np.ndarray:
    """``L`` (q, q) at one theta (d,)."""
    entries = theta[places]
    partial = np.tanh(np.tril(entries, -1))
    left = np.cumprod(np.sqrt(1 - partial**2), axis=1)
    left = np.concatenate([np.ones((len(left), 1)), left[:, :-1]], axis=1)
    scale = np.exp(np.diagonal(entries))
    return scale[:, None] * np.tril((partial + np.eye(len(left))) * left)


def theta_and_log_volume(points, factors, take, xp, inverse):
    """Theta (..., d), and log volume of a unit of these coordinates in theta's (...), at points.

    Parameters
    ----------
    points : array of shape (..., d)
    factors : sequence of RootOfFactor
    take : int array of shape (d,)
        Where each entry of theta stands among the points' and then the entries of all factors.
    xp : module
        NumPy or jax.numpy, whichever has made the points.
    inverse : callable
        Takes lower triangular matrices (..., q, q) to their inverses.
    """
    parts, log_volume = [points], xp.zeros(points.shape[:-1])
    for places, root in factors:
        a, log_diagonal = _entries(points, places, xp)
        lower, rest, below = _lengths(xp.tril(root @ inverse(a)), xp)
        own = xp.tril(xp.arcsinh(lower / xp.sqrt(below)), -1)
        own = own + (0.5 * xp.log(rest[..., 0]))[..., None] * np.eye(len(root))
        parts.append(own.reshape(*points.shape[:-1], own.shape[-1] ** 2))
        of_root = (np.arange(1, len(root) + 1) * xp.log(xp.diagonal(root))).sum()
        of_lengths = 0.5 * xp.log(rest).sum((-2, -1))
        log_volume = log_volume + of_root - len(root) * log_diagonal.sum(-1) - of_lengths
    return xp.concatenate(parts, axis=-1)[..., take], log_volume


def _entries(points, places, xp):
    """``A`` (..., q, q) and the logarithms on its diagonal."""
    entries = points[..., places]
    log_diagonal = xp.diagonal(entries, axis1=-2, axis2=-1)
    return xp.tril(entries, -1) + xp.exp(log_diagonal)[..., None] * np.eye(
        len(places)
    ), log_diagonal


def _lengths(lower, xp):
    """``L``, its ``t_ij`` and ``t_i,j+1``; 1 above the diagonal."""
    above = np.triu(np.ones(lower.shape[-2:]), 1)
    rest = xp.flip(xp.cumsum(xp.flip(lower**2, -1), -1), -1) + above
    below = xp.concatenate([rest[..., 1:], xp.ones_like(rest[..., :1])], -1)
    return lower, rest, below


def pulled_back(
    points: np.ndarray, factors: tuple[RootOfFactor, ...], of_theta: np.ndarray, of_volume: float
) -> np.ndarray:
    """Gradient (n, d) of ``of_theta . theta + of_volume log_volume`` at points (n, d)."""
    gradient = of_theta.copy()
    for places, root in factors:
        q, diagonal = len(root), np.arange(len(root))
        a, _ = _entries(points, places, np)
        inverse = np.linalg.inv(a)
        lower, rest, below = _lengths(np.tril(root @ inverse), np)
        of_own, length = of_theta[:, places], np.sqrt(rest)
        of_corr = np.tril(of_own, -1)
        of_rest = np.tril(-0.5 * of_volume / rest)
        of_rest[..., 0] += 0.5 * of_own[:, diagonal, diagonal] / rest[..., 0]
        of_rest[..., 1:] -= (0.5 * of_corr * lower / (below * length))[..., :-1]
        of_lower = of_corr / length + 2 * lower * np.cumsum(of_rest, -1)
        turned = np.swapaxes(inverse, -1, -2)
        of_a = -turned @ (root.T @ of_lower) @ turned
        rows, columns = np.tril_indices(q, -1)
        gradient[:, places[rows, columns]] = of_a[:, rows, columns]
        of_diagonal = (of_a * a)[:, diagonal, diagonal] - q * of_volume
        gradient[:, places[diagonal, diagonal]] = of_diagonal
    return gradient
