"""Coordinates in which the posterior of a covariance is nearly normal.

If the effects of all levels were seen, ``Sigma^-1`` would have a Wishart distribution, and in any
frame ``Sigma^-1 = L_0^-T A'A L_0^-1`` with independent entries of A, lower triangular: normal
numbers below the diagonal, chi on it. Noise and priors change that smoothly. So ``L = L_0 B`` with
``B = A^-1`` is a root of Sigma, where ``L_0`` is one at the mode, and the coordinates are
``log A_ii`` and ``A_ij``, in the places that theta has for ``log tau_i`` and for partial
correlations.

Where rows tell a level's effects badly, priors shape the posterior more, and A, an inverse, has
heavy tails. There the coordinates are what theta is of Sigma, of ``B B'``: scales and partial
correlations in a frame where Sigma is near the identity, and its correlations near 0.

With ``t_ij(L) = sum_{k >= j} L_ik^2`` theta is

    log tau_i = log(t_i0) / 2,    partial correlation ij = tanh asinh(L_ij / sqrt(t_i,j+1))

    log |d theta / d(log A_ii, A_ij)| = sum_i (i + 1) log L_0,ii - q sum_i log A_ii
                                        - sum_{j <= i} log(t_ij(L)) / 2        (i from 0)

and of scales and partial correlations of B the middle term is ``sum_{j <= i} log(t_ij(B)) / 2``.

Bartlett (1933), Proc. R. Soc. Edinburgh 53; partial correlations as Lewandowski, Kurowicka and Joe
(2009) take them, row by row.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

__all__ = [
    "PartialsOfFactor",
    "RootOfFactor",
    "pulled_back",
    "root_at",
    "theta_and_log_volume",
]


class RootOfFactor(NamedTuple):
    """Where a factor's entries of A are, and the root that the identity stands for.

    Attributes
    ----------
    places : int array of shape (q, q)
        Entries of theta: of ``log tau_i`` on the diagonal, of partial correlations below; of no
        meaning above.
    root : array of shape (q, q)
        ``L_0``, lower triangular.
    counts : array of shape (q,)
        1; 0 of spare effects, which come first, with a diagonal root and entries of 0: the volume
        is that of the others.
    """

    places: np.ndarray
    root: np.ndarray
    counts: np.ndarray


class PartialsOfFactor(NamedTuple):
    """The same of the scales and partial correlations of B."""

    places: np.ndarray
    root: np.ndarray
    counts: np.ndarray


def root_at(theta: np.ndarray, places: np.ndarray) -> np.ndarray:
    """``L`` (q, q) at one theta (d,)."""
    return _root_of_partials(theta, places, np)[0]


def theta_and_log_volume(points, factors, take, xp, inverse):
    """Theta (..., d), and log volume of a unit of these coordinates in theta's (...), at points.

    Parameters
    ----------
    points : array of shape (..., d)
    factors : sequence of RootOfFactor or PartialsOfFactor
    take : int array of shape (d,)
        Where each entry of theta stands among the points' and then the entries of all factors.
    xp : module
        NumPy or jax.numpy, whichever has made the points.
    inverse : callable
        Takes lower triangular matrices (..., q, q) to their inverses.
    """
    parts, log_volume = [points], xp.zeros(points.shape[:-1])
    for factor in factors:
        root, counts = factor.root, factor.counts
        own_root, own_volume = _root_in_frame(points, factor, xp, inverse)
        lower, rest, below = _lengths(xp.tril(root @ own_root), xp)
        own = xp.tril(xp.arcsinh(lower / xp.sqrt(below)), -1)
        own = own + (0.5 * xp.log(rest[..., 0]))[..., None] * np.eye(len(root))
        parts.append(own.reshape(*points.shape[:-1], own.shape[-1] ** 2))
        of_root = (xp.cumsum(counts) * xp.log(xp.diagonal(root))).sum()
        of_lengths = (counts * xp.log(rest)).sum((-2, -1))
        log_volume = log_volume + of_root + own_volume - 0.5 * of_lengths
    return xp.concatenate(parts, axis=-1)[..., take], log_volume


def _root_in_frame(points, factor, xp, inverse):
    """``B`` (..., q, q), and its part of the log volume."""
    places, _, counts = factor
    if isinstance(factor, PartialsOfFactor):
        own_root, log_lengths = _root_of_partials(points, places, xp)
        return own_root, (counts * log_lengths).sum((-2, -1))
    a, log_diagonal = _entries(points, places, xp)
    return inverse(a), -counts.sum() * log_diagonal.sum(-1)


def _root_of_partials(points, places, xp):
    """A root (..., q, q) of scales and partial correlations; half the ``log t_ij`` of it."""
    entries = points[..., places]
    angles = xp.tril(entries, -1)
    log_cosh = xp.logaddexp(angles, -angles) - np.log(2.0)
    log_scale = xp.diagonal(entries, axis1=-2, axis2=-1)[..., None]
    log_lengths = xp.tril(log_scale - xp.cumsum(log_cosh, -1) + log_cosh)
    partial = xp.tanh(angles) + np.eye(len(places))
    return xp.tril(partial * xp.exp(log_lengths)), log_lengths


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
    points: np.ndarray,
    factors: Sequence[RootOfFactor | PartialsOfFactor],
    of_theta: np.ndarray,
    of_volume: float,
) -> np.ndarray:
    """Gradient (n, d) of ``of_theta . theta + of_volume log_volume`` at points (n, d)."""
    gradient = of_theta.copy()
    for factor in factors:
        places, root, _ = factor
        q, diagonal = len(root), np.arange(len(root))
        own_root, _ = _root_in_frame(points, factor, np, np.linalg.inv)
        lower, rest, below = _lengths(np.tril(root @ own_root), np)
        of_own, length = of_theta[:, places], np.sqrt(rest)
        of_corr = np.tril(of_own, -1)
        of_rest = np.tril(-0.5 * of_volume / rest)
        of_rest[..., 0] += 0.5 * of_own[:, diagonal, diagonal] / rest[..., 0]
        of_rest[..., 1:] -= (0.5 * of_corr * lower / (below * length))[..., :-1]
        of_lower = of_corr / length + 2 * lower * np.cumsum(of_rest, -1)
        pulled = _pulled_to_partials if isinstance(factor, PartialsOfFactor) else _pulled_to_a
        of_entries = pulled(points[:, places], own_root, root.T @ of_lower, of_volume)
        rows, columns = np.tril_indices(q)
        gradient[:, places[rows, columns]] = of_entries[:, rows, columns]
    return gradient


def _pulled_to_a(entries, own_root, of_own_root, of_volume):
    """Gradient of ``A_ij`` and ``log A_ii`` (n, q, q), from that of B."""
    q, diagonal = entries.shape[-1], np.arange(entries.shape[-1])
    turned = np.swapaxes(own_root, -1, -2)
    of_a = -turned @ of_own_root @ turned
    of_a[:, diagonal, diagonal] *= np.exp(entries[:, diagonal, diagonal])
    of_a[:, diagonal, diagonal] -= q * of_volume
    return of_a


def _pulled_to_partials(entries, own_root, of_own_root, of_volume):
    """The same of partial correlations and logarithms of scales."""
    diagonal = np.arange(entries.shape[-1])
    partial = np.tanh(np.tril(entries, -1))
    share = np.tril(of_own_root * own_root + of_volume)  # of logarithms of entries and lengths
    later = np.flip(np.cumsum(np.flip(share, -1), -1), -1)
    length = np.sqrt(_lengths(own_root, np)[1])
    of_entries = of_own_root * length * (1 - partial**2)
    of_entries[..., :-1] -= partial[..., :-1] * later[..., 1:]
    of_entries[:, diagonal, diagonal] = later[..., 0]
    return of_entries
