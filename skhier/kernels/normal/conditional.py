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
from skhier.kernels.records import Components, Population
from skhier.responses.normal import SCALE
from skhier.utils.budget import USUAL, MemoryBudget

__all__ = [
    "GroupConditional",
    "coef_moments",
    "condition",
    "draw_others",
    "log_marginal",
    "residual",
    "sigma_of",
]


def sigma_of(population: Population) -> np.ndarray:
    """Sds of the noise, of the population's shape."""
    return population.own[SCALE]


def residual(beta: np.ndarray) -> np.ndarray:
    """``y - X beta`` as a combination of ``[X y]``, (S, p + 1), for ``beta`` (S, p)."""
    return np.concatenate([-beta, np.ones((len(beta), 1))], axis=1)


class GroupConditional(NamedTuple):
    """Normal distributions of K levels' effects, one per draw.

    ``mean`` (q, S, K) and ``root`` (q, q, S, K), with covariance ``root root'``.
    """

    mean: np.ndarray
    root: np.ndarray


def condition(
    layout: Layout, draws: Population, levels, others: Mapping[int, np.ndarray]
) -> GroupConditional:
    """Conditional distributions of some levels of the leaf given every draw.

    Parameters
    ----------
    layout : Layout
    draws : Population
        Arrays (S, ...).
    levels : int array of shape (K,) or slice
    others : mapping of int to array of shape (q, S, n_levels)
        Draws of the other factors' effects.
    """
    leaf = layout.plan.chain[0]
    zz, zx, zy, _ = (a[..., levels] for a in layout.stats.factors[leaf])
    sigma = sigma_of(draws)
    half, _ = level_factor(zz[:, :, None], draws.group_root[leaf], sigma**2)
    root = np.swapaxes(half, 0, 1)  # L R^-T
    rest = zy[:, None] - draws.coef @ zx - _explained(layout, levels, others)
    mean = matmul(root, matmul(half, rest[:, None]))[:, 0]
    return GroupConditional(mean, sigma[:, None] * root)


def _explained(layout, levels, others):
    """What the other factors' effects explain of the leaf's products with y, (q, S, K) or 0."""
    explained: Any = 0.0
    later = layout.plan.chain[1:]
    for k, ancestor, up in zip(later, layout.above[0], layout.up[0], strict=True):
        theirs = others[k][..., ancestor[levels]]
        explained = explained + matmul(up[..., levels][:, :, None], theirs[:, None])[:, 0]
    if layout.plan.dense:
        dense = np.concatenate([_stacked(others[k]) for k in layout.plan.dense])
        met = [sparse_crossing(layout, 0, z)[levels] @ dense for z in layout.crossings[0].z]
        explained = explained + np.swapaxes(np.stack(met), 1, 2)
    return explained


def _stacked(a):
    """(q, S, n_levels) to (q n_levels, S)."""
    return np.swapaxes(a, 1, 2).reshape(-1, a.shape[1])


def draw_others(
    layout: Layout,
    draws: Population,
    noise: Mapping[int, np.ndarray],
    budget: MemoryBudget = USUAL.memory,
) -> dict[int, np.ndarray]:
    """Joint draws of the effects of all factors but the leaf.

    Parameters
    ----------
    layout : Layout
    draws : Population
        Arrays (S, ...).
    noise : mapping of int to array of shape (q, S, n_levels)
        Standard normal numbers, for each of those factors.
    budget : MemoryBudget

    Returns
    -------
    dict of int to array of shape (q, S, n_levels)
    """
    out = {k: np.empty_like(of_factor) for k, of_factor in noise.items()}
    for rows, points, columns in _batches(layout, draws, budget):
        sigma = sigma_of(points)
        shape = (columns.shape[-1], len(sigma))  # one of the two is 1
        eliminated = eliminate(layout, sigma, points.group_root, columns)
        white = {
            k: sigma[:, None] * a[:, rows].reshape(len(a), *shape, a.shape[-1])
            for k, a in noise.items()
        }
        effects = back_substitute(layout, eliminated, white, leaf=False)
        for k, of_factor in out.items():
            of_factor[:, rows] = effects[k].reshape(len(of_factor), len(rows), -1)
    return out


def _batches(
    layout: Layout, draws: Population, budget: MemoryBudget
) -> Iterator[tuple[np.ndarray, Population, np.ndarray]]:
    """Rows of the draws, their variance parameters and ``y - X beta``: many points with a column
    each or, where few fit into memory, one point with the columns of all its draws.
    """
    sigma, columns = sigma_of(draws), residual(draws.coef)
    n = len(sigma)
    size = batch_size(layout, 1, budget.elimination_entries)
    if size >= budget.many_components or not layout.plan.dense:
        for begin in range(0, n, size):
            rows = np.arange(begin, min(begin + size, n))
            yield rows, draws.take(rows), columns[rows, :, None]
        return
    _, place = np.unique(sigma, return_inverse=True)
    order = np.argsort(place, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(place[order])) + 1):
        yield rows, draws.take(rows[:1]), columns[rows].T


def log_marginal(
    layout: Layout, draws: Population, budget: MemoryBudget = USUAL.memory
) -> np.ndarray:
    """Log density of the rows given each draw, the group effects integrated out; internal units.

    Parameters
    ----------
    layout : Layout
        Levels without rows change nothing.
    draws : Population
        Arrays (S, ...).
    budget : MemoryBudget

    Returns
    -------
    array of shape (S,)
    """
    beta, sigma, stats = draws.coef, sigma_of(draws), layout.stats
    quadratic = stats.yy - 2 * beta @ stats.xy + ((beta @ stats.xx) * beta).sum(1)
    n_effects = sum(of_factor.zy.size for of_factor in stats.factors)
    log_det = (stats.n - n_effects) * np.log(sigma**2)
    for rows, points, columns in _batches(layout, draws, budget):
        eliminated = eliminate(layout, sigma_of(points), points.group_root, columns)
        explained = (eliminated.d**2).sum(1).ravel()
        for step in eliminated.steps:
            explained = explained + (step.d**2).sum((0, 3)).ravel()
        quadratic[rows] -= explained
        log_det[rows] += eliminated.log_det
    return -0.5 * (stats.n * np.log(2 * np.pi) + log_det + quadratic / sigma**2)


def coef_moments(components: Components) -> tuple[np.ndarray, np.ndarray]:
    """Mean (p,) and covariance (p, p) of the coefficients."""
    weights, covs = components.weights, components.coef_cov
    mean = weights @ components.coef
    off = components.coef - mean
    cov = (weights[:, None] * off).T @ off
    return mean, cov if covs is None else cov + np.tensordot(weights, covs, 1)
