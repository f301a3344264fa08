"""Group effects given everything else, in closed form (normal response).

Of the *leaf*, the first factor of the chain (:mod:`skhier.statistics.plan`), given the
effects of all other factors too. With ``Sigma = L L'``, ``M_g = L' A_g L + sigma^2 I = R_g R_g'``:

    b_g | beta, sigma, Sigma, others, y ~ Normal(L a_g, sigma^2 L M_g^-1 L')
    a_g = M_g^-1 L'(c_g - B_g beta - sum over others of C_g b)

``A_g, B_g, c_g, C_g`` are the level's cross-products. Valid for singular L, for groups with fewer
rows than effects, and for empty ones, where it is the population's ``Normal(0, Sigma)``. The others
follow from the elimination of all effects (:mod:`skhier.kernels.normal.eliminate`).
Lai, Sheldon and Domke (2024); Lindley and Smith (1972), J. R. Stat. Soc. B 34.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from skhier.kernels.linalg import matmul
from skhier.kernels.normal.eliminate import (
    Layout,
    back_substitute,
    batch_size,
    eliminate,
    level_factor,
    sparse_crossing,
)

__all__ = [
    "CoefPriors",
    "Components",
    "GroupConditional",
    "PopulationDraws",
    "coef_moments",
    "condition",
    "draw_others",
    "log_marginal",
    "residual",
]

ENTRIES = 2**19  # of the largest temporary array
MANY = 16  # points at once, below which their arrays are large enough for one point at a time


def residual(beta: np.ndarray) -> np.ndarray:
    """``y - X beta`` as a combination of ``[X y]``, (S, p + 1), for ``beta`` (S, p)."""
    return np.concatenate([-beta, np.ones((len(beta), 1))], axis=1)


class PopulationDraws(NamedTuple):
    """Equally weighted draws of all parameters but the group effects, internal coordinates.

    ``beta`` (S, p), intercept last; ``sigma`` (S,); ``chols``: per factor (S, q, q), the effects'
    Cholesky factor with the intercept at the mean of x.
    """

    beta: np.ndarray
    sigma: np.ndarray
    chols: tuple[np.ndarray, ...]

    def take(self, which) -> "PopulationDraws":
        """Some of the draws."""
        beta, sigma, chols = self
        return PopulationDraws(beta[which], sigma[which], tuple(c[which] for c in chols))

    def columns(self) -> np.ndarray:
        """``y - X beta`` as combinations of ``[X y]``, (S, p + 1, 1)."""
        return residual(self.beta)[:, :, None]


class CoefPriors(NamedTuple):
    """Priors of the k coefficients that are integrated out, at S points, internal coordinates.

    ``beta = basis u + offset`` with ``root u - target ~ N(0, I)``: ``basis`` (p, k), ``root``
    (k, k), rows of 0 where the prior is flat, ``offset`` (S, p), ``target`` (S, k).
    """

    basis: np.ndarray
    root: np.ndarray
    offset: np.ndarray
    target: np.ndarray

    def take(self, which) -> "CoefPriors":
        """Those of some points."""
        return self._replace(offset=self.offset[which], target=self.target[which])


class Components(NamedTuple):
    """The posterior of the population parameters as a mixture: beta is normal given the others.

    Any first few components stand for the posterior too.

    ``weights`` (S,), sum 1; ``beta`` (S, p), mean of the coefficients; ``beta_cov`` (S, p, p) or
    None, if they are draws; ``sigma`` (S,) and ``chols`` as in :class:`PopulationDraws`; ``prior``:
    what ``beta`` and ``beta_cov`` follow from with the rows; None if they are draws.
    """

    weights: np.ndarray
    beta: np.ndarray
    beta_cov: np.ndarray | None
    sigma: np.ndarray
    chols: tuple[np.ndarray, ...]
    prior: CoefPriors | None = None

    def first(self, n: int) -> "Components":
        """The first n components, weights renormalised."""
        some = self.take(slice(n))
        return some._replace(weights=some.weights / some.weights.sum())

    def take(self, which) -> "Components":
        """Some of the components, weights as they are."""
        weights, beta, beta_cov, sigma, chols, prior = self
        cov = None if beta_cov is None else beta_cov[which]
        some = tuple(chol[which] for chol in chols)
        prior = None if prior is None else prior.take(which)
        return Components(weights[which], beta[which], cov, sigma[which], some, prior)


class GroupConditional(NamedTuple):
    """Normal distributions of K levels' effects, one per draw.

    ``mean`` (q, S, K) and ``root`` (q, q, S, K), with covariance ``root root'``.
    """

    mean: np.ndarray
    root: np.ndarray


def condition(
    layout: Layout, draws: PopulationDraws, levels, others: Mapping[int, np.ndarray]
) -> GroupConditional:
    """Conditional distributions of some levels of the leaf given every draw.

    Parameters
    ----------
    layout : Layout
    draws : PopulationDraws
    levels : int array of shape (K,) or slice
    others : mapping of int to array of shape (q, S, n_levels)
        Draws of the other factors' effects.
    """
    leaf = layout.plan.chain[0]
    zz, zx, zy, _ = (a[..., levels] for a in layout.stats.factors[leaf])
    half, _ = level_factor(zz[:, :, None], draws.chols[leaf], draws.sigma**2)
    root = np.swapaxes(half, 0, 1)  # L R^-T
    rest = zy[:, None] - draws.beta @ zx - _explained(layout, levels, others)
    mean = matmul(root, matmul(half, rest[:, None]))[:, 0]
    return GroupConditional(mean, draws.sigma[:, None] * root)


def _explained(layout, levels, others):
    """What the other factors' effects explain of the leaf's products with y, (q, S, K) or 0."""
    found: Any = 0.0
    later = layout.plan.chain[1:]
    for k, ancestor, up in zip(later, layout.above[0], layout.up[0], strict=True):
        theirs = others[k][..., ancestor[levels]]
        found = found + matmul(up[..., levels][:, :, None], theirs[:, None])[:, 0]
    if layout.plan.dense:
        dense = np.concatenate([_stacked(others[k]) for k in layout.plan.dense])
        met = [sparse_crossing(layout, 0, z)[levels] @ dense for z in layout.crossings[0].z]
        found = found + np.swapaxes(np.stack(met), 1, 2)
    return found


def _stacked(a):
    """(q, S, n_levels) to (q n_levels, S)."""
    return np.swapaxes(a, 1, 2).reshape(-1, a.shape[1])


def draw_others(
    layout: Layout, draws: PopulationDraws, noise: Mapping[int, np.ndarray], entries: int = ENTRIES
) -> dict[int, np.ndarray]:
    """Joint draws of the effects of all factors but the leaf.

    Parameters
    ----------
    layout : Layout
    draws : PopulationDraws
    noise : mapping of int to array of shape (q, S, n_levels)
        Standard normal numbers, for each of those factors.
    entries : int
        Of the largest temporary array.

    Returns
    -------
    dict of int to array of shape (q, S, n_levels)
    """
    out = {k: np.empty_like(of_factor) for k, of_factor in noise.items()}
    for rows, points, columns in _batches(layout, draws, entries):
        shape = (columns.shape[-1], len(points.sigma))  # one of the two is 1
        found = eliminate(layout, points.sigma, points.chols, columns)
        white = {
            k: points.sigma[:, None] * a[:, rows].reshape(len(a), *shape, a.shape[-1])
            for k, a in noise.items()
        }
        effects = back_substitute(layout, found, white, leaf=False)
        for k, of_factor in out.items():
            of_factor[:, rows] = effects[k].reshape(len(of_factor), len(rows), -1)
    return out


def _batches(
    layout: Layout, draws: PopulationDraws, entries: int
) -> Iterator[tuple[np.ndarray, PopulationDraws, np.ndarray]]:
    """Rows of the draws, their variance parameters and ``y - X beta``: many points with a column
    each or, where few fit into memory, one point with the columns of all its draws.
    """
    n = len(draws.sigma)
    size = batch_size(layout, 1, entries)
    if size >= MANY or not layout.plan.dense:
        for begin in range(0, n, size):
            rows = np.arange(begin, min(begin + size, n))
            some = draws.take(rows)
            yield rows, some, some.columns()
        return
    _, place = np.unique(draws.sigma, return_inverse=True)
    order = np.argsort(place, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(place[order])) + 1):
        some = draws.take(rows)
        yield rows, some.take(slice(1)), some.columns()[:, :, 0].T


def log_marginal(layout: Layout, draws: PopulationDraws, entries: int = ENTRIES) -> np.ndarray:
    """Log density of the rows given each draw, the group effects integrated out; internal units.

    Parameters
    ----------
    layout : Layout
        Levels without rows change nothing.
    draws : PopulationDraws
    entries : int
        Of the largest temporary array.

    Returns
    -------
    array of shape (S,)
    """
    beta, sigma, _ = draws
    stats = layout.stats
    quadratic = stats.yy - 2 * beta @ stats.xy + ((beta @ stats.xx) * beta).sum(1)
    n_effects = sum(found.zy.size for found in stats.factors)
    log_det = (stats.n - n_effects) * np.log(sigma**2)
    for rows, points, columns in _batches(layout, draws, entries):
        found = eliminate(layout, points.sigma, points.chols, columns)
        explained = (found.d**2).sum(1).ravel()
        for level in found.levels:
            explained = explained + (level.d**2).sum((0, 3)).ravel()
        quadratic[rows] -= explained
        log_det[rows] += found.log_det
    return -0.5 * (stats.n * np.log(2 * np.pi) + log_det + quadratic / sigma**2)


def coef_moments(components: Components) -> tuple[np.ndarray, np.ndarray]:
    """Mean (p,) and covariance (p, p) of the coefficients."""
    weights, beta, beta_cov, *_ = components
    mean = weights @ beta
    off = beta - mean
    cov = (weights[:, None] * off).T @ off
    return mean, cov if beta_cov is None else cov + np.tensordot(weights, beta_cov, 1)
