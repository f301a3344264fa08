"""Levels with a noise of their own, given components: nodes of the noise, effects, rows left out.

Of a level the log of its noise's sd has mean m and sd s given a component. At nodes
``t_k = m + s x_k`` its posterior masses are those of adaptive Gauss-Hermite,

    share_k ~ w_k e^(x_k^2 / 2) p(y_g | t_k) N(t_k; log sigma, omega^2),

and given the noise all is normal: ``b_g ~ Normal(L M^-1 L'c, v L M^-1 L')`` with
``M = L'Z'Z L + v I``, ``v = e^(2 t_k)``, ``c = Z'(y - X beta)``. A row that is left out has

    y_i | y_-i, v ~ Normal(y_i - e_i / (1 - h_i), v / (1 - h_i)),   h_i = z_i'L M^-1 L'z_i,
    p(y_i | y_-i) = 1 / E[1 / p(y_i | y_-i, v)]   over the masses.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

from skhier.kernels.linalg import inverse_root, matmul
from skhier.kernels.normal.conditional import residual
from skhier.kernels.records import LevelNoises, Population
from skhier.responses.by_level import SPREAD
from skhier.responses.normal import SCALE
from skhier.responses.numerics import LOG_2PI
from skhier.statistics.level_roots import LevelRoots
from skhier.utils.budget import USUAL, MemoryBudget
from skhier.utils.hermite import normal_rule
from skhier.utils.slices import slices

__all__ = ["FARTHEST_LOG_NOISE", "LevelsGiven", "given_noise", "levels_given", "rows_given"]

FARTHEST_LOG_NOISE = 100.0  # its square and inverse are numbers; hardly of any weight


class LevelsGiven(NamedTuple):
    """K levels at S components and N nodes of their noise.

    Attributes
    ----------
    variance, log_share : array of shape (S, N, K)
        Of the noise, and the log of each node's posterior mass, which sums to 1 over nodes.
    mean : array of shape (q, S, N, K)
        Of the effects.
    root : array of shape (q, q, S, N, K)
        The effects' covariances are ``root root'``.
    """

    variance: np.ndarray
    log_share: np.ndarray
    mean: np.ndarray
    root: np.ndarray


class _Solved(NamedTuple):
    """``R^-1`` of ``M = R R'`` (q, q, S, N, K); its product with ``L'c`` (q, S, N, K)."""

    half: np.ndarray
    white: np.ndarray


def levels_given(
    noises: LevelNoises, population: Population, which: np.ndarray, n_nodes: int
) -> LevelsGiven:
    """Levels at nodes of their noise.

    Parameters
    ----------
    noises : LevelNoises
        Of S components or more.
    population : Population
        The first S components.
    which : int array of shape (K,)
        Levels.
    n_nodes : int
    """
    n = len(population.coef)
    x, weight = (a[:, None] for a in normal_rule(n_nodes))
    log_sd = noises.log_sd[:n, None, which] + noises.spread[:n, None, which] * x
    log_sd = np.clip(log_sd, -FARTHEST_LOG_NOISE, FARTHEST_LOG_NOISE)
    levels = noises.levels.take(which)
    solved = _solved(levels, population, np.exp(2 * log_sd))
    log_share = np.log(weight) + 0.5 * x**2 + _log_density(levels, population, log_sd)
    location = np.log(population.own[SCALE])[:, None, None]
    omega = np.maximum(population.own[SPREAD], 1e-100)[:, None, None]
    log_share = log_share - 0.5 * ((log_sd - location) / omega) ** 2
    log_share -= logsumexp(log_share, axis=1, keepdims=True)
    mean, root = _effects(population, np.exp(log_sd), solved)
    return LevelsGiven(np.exp(2 * log_sd), log_share, mean, root)


def given_noise(
    levels: LevelRoots, population: Population, variance: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Effects of K levels given their noises' variances (S, N, K).

    Returns
    -------
    mean : array of shape (q, S, N, K)
    root : array of shape (q, q, S, N, K)
    """
    return _effects(population, np.sqrt(variance), _solved(levels, population, variance))


def _solved(levels, population, variance) -> _Solved:
    reached = _reached(levels, population)
    crossed = matmul(np.swapaxes(reached, 0, 1), reached)
    q = len(crossed)
    m = np.repeat(crossed[:, :, :, None], variance.shape[1], axis=3)
    m[range(q), range(q)] += variance
    half = inverse_root(m, variance)
    seen = np.einsum("icK,Sc->iSK", levels.seen, residual(population.coef))
    pull = np.einsum("aiSK,aSK->iSK", reached, seen)
    return _Solved(half, np.einsum("ijSNK,jSK->iSNK", half, pull))


def _effects(population, sd, solved):
    chol = np.moveaxis(population.group_root[0], 0, -1)[..., None, None]
    root = matmul(chol, np.swapaxes(solved.half, 0, 1))  # L R^-T
    mean = np.einsum("ijSNK,jSNK->iSNK", root, solved.white)
    return mean, sd * root


def _log_density(levels, population, log_sd):
    """Log density of the levels' rows but for their number, (S, N, K): a sum of squares."""
    off, variance = residual(population.coef), np.exp(2 * log_sd)
    rest = (np.einsum("icK,Sc->iSK", levels.rest, off[:, levels.columns]) ** 2).sum(0)
    seen = np.einsum("icK,Sc->iSK", levels.seen, off)
    reached = _reached(levels, population)
    spread = matmul(reached, np.swapaxes(reached, 0, 1))
    q = len(spread)
    covariance = np.repeat(spread[:, :, :, None], variance.shape[1], axis=3)
    covariance[range(q), range(q)] += variance
    half = inverse_root(covariance, variance)
    quadratic = (np.einsum("ijSNK,jSK->iSNK", half, seen) ** 2).sum(0) + rest[:, None] / variance
    log_det = (levels.n - q) * 2 * log_sd - 2 * np.log(half[range(q), range(q)]).sum(0)
    return -0.5 * (log_det + quadratic)


def _reached(levels, population):
    """``F L``, (q, q, S, K)."""
    chol = np.moveaxis(population.group_root[0], 0, -1)
    return matmul(levels.root[:, :, None], chol[..., None])


def rows_given(
    noises: LevelNoises,
    population: Population,
    codes: np.ndarray,
    xy: np.ndarray,
    z: np.ndarray,
    n_nodes: int,
    budget: MemoryBudget = USUAL.memory,
) -> tuple[np.ndarray, np.ndarray]:
    """Log densities of rows without each, and with it seen again.

    The work is that of rows x components x nodes.

    Parameters
    ----------
    noises, population, n_nodes
        As of :func:`levels_given`.
    codes : int array of shape (n_rows,)
        Levels; those of a level side by side.
    xy : array of shape (n_rows, p + 1)
        ``[x y]``, internal units.
    z : array of shape (n_rows, q)
    budget : MemoryBudget

    Returns
    -------
    without, within : array of shape (n_rows, S)
        Of y in internal units.
    """
    off = xy @ residual(population.coef).T
    prior = z @ population.group_root[0].transpose(1, 0, 2).reshape(z.shape[1], -1)
    prior = (prior.reshape(*off.shape, z.shape[1]) ** 2).sum(-1)  # z'Sigma z
    without, within = np.empty_like(off), np.empty_like(off)
    begins = np.flatnonzero(np.diff(codes, prepend=-1))
    ends = np.append(begins[1:], len(codes))
    size = len(population.coef) * n_nodes
    for some in slices(len(begins), budget.noise_entries // (size * z.shape[1] ** 2)):
        given = _levels_first(levels_given(noises, population, codes[begins[some]], n_nodes))
        for begin, end, *of_level in zip(begins[some], ends[some], *given, strict=True):
            for part in slices(end - begin, budget.noise_row_entries // size):
                rows = slice(begin + part.start, min(begin + part.stop, end))
                pair = _rows_of_level(LevelsGiven(*of_level), off[rows], prior[rows], z[rows])
                without[rows], within[rows] = pair
    return without, within


def _levels_first(given: LevelsGiven) -> LevelsGiven:
    """Axes (K, N, ..., S): nodes are added up entry by entry, and components lie together."""
    parts = (np.moveaxis(a, (-1, -2), (0, 1)) for a in given)
    return LevelsGiven(*map(np.ascontiguousarray, parts))


def _rows_of_level(given: LevelsGiven, off, prior, z) -> tuple[np.ndarray, np.ndarray]:
    """Of k rows of a level whose arrays are (N, ..., S); ``off`` and ``prior`` (k, S)."""
    v, log_share = given.variance[:, None], given.log_share[:, None]
    n, q, _, s = given.root.shape
    square = z @ given.mean
    np.subtract(off, square, out=square)
    np.square(square, out=square)
    square *= 0.5
    # vh = |z'L R^-T|^2 v of all rows; 1 - h is at least v / (v + z'Sigma z)
    spread = (z @ given.root.reshape(n, q, q * s)).reshape(n, -1, q, s)
    vh = np.square(spread, out=spread).sum(2)
    left = v**2 / (v + prior)  # of v (1 - h), whose square over v^2 is in the density
    np.maximum(left, v - vh, out=left)
    vh += v
    exponent = square / left
    exponent += log_share
    without = _log_sum(exponent, v / np.sqrt(left, out=left))
    np.divide(square, vh, out=square)
    np.subtract(log_share, square, out=square)
    within = _log_sum(square, 1 / np.sqrt(vh, out=vh))
    return -0.5 * LOG_2PI - without, within - 0.5 * LOG_2PI


def _log_sum(exponent, factor):
    """Log of the sum of ``factor e^exponent`` over the first axis."""
    top = exponent.max(0)
    exponent -= top
    factor *= np.exp(exponent, out=exponent)
    return top + np.log(factor.sum(0))
