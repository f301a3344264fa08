"""Group effects given everything else, in closed form (normal response).

With ``Sigma = L L'`` and ``M_g = L' A_g L + sigma^2 I = R_g R_g'``:

    b_g | beta, sigma, Sigma, y ~ Normal(L a_g, sigma^2 L M_g^-1 L')
    a_g = M_g^-1 L'(c_g - B_g beta)

``A_g, B_g, c_g`` are the group's cross-products ``zz, zx, zy``. Valid for singular L, for groups
with fewer rows than effects, and for empty ones, where it is the population's ``Normal(0, Sigma)``.
Lai, Sheldon and Domke (2024); Lindley and Smith (1972), J. R. Stat. Soc. B 34.
"""

from typing import NamedTuple

import numpy as np

from skhier.kernels.linalg import inverse_cholesky
from skhier.kernels.types import GroupStats

__all__ = [
    "GroupConditional",
    "GroupMoments",
    "PopulationDraws",
    "condition",
    "group_moments",
    "take_groups",
]


class PopulationDraws(NamedTuple):
    """Equally weighted draws of all parameters but the group effects, internal coordinates.

    ``beta`` (S, p), intercept last; ``sigma`` (S,); ``chol`` (S, q, q), the effects' Cholesky
    factor with the intercept at the mean of x.
    """

    beta: np.ndarray
    sigma: np.ndarray
    chol: np.ndarray


class GroupConditional(NamedTuple):
    """Normal distributions of K groups' effects, one per draw.

    ``mean`` (q, S, K) and ``root`` (q, q, S, K), with covariance ``root root'``.
    """

    mean: np.ndarray
    root: np.ndarray


class GroupMoments(NamedTuple):
    """Posterior moments of group effects, Monte Carlo error of the conditionals averaged out.

    ``mean`` (G, q), ``cov`` (G, q, q), ``cross`` (G, p, q), the covariance with ``beta``.
    """

    mean: np.ndarray
    cov: np.ndarray
    cross: np.ndarray


def condition(stats: GroupStats, draws: PopulationDraws) -> GroupConditional:
    """Conditional distribution of every group in ``stats`` given every draw."""
    chol, variance = draws.chol, draws.sigma**2
    m = np.einsum("sai,ajsk->ijsk", chol, np.einsum("abk,sbj->ajsk", stats.zz, chol, optimize=True))
    for j in range(len(m)):
        m[j, j] += variance[:, None]
    inverse = inverse_cholesky(m)
    rest = stats.zy[:, None] - np.einsum("apk,sp->ask", stats.zx, draws.beta, optimize=True)
    half = np.einsum("ijsk,jsk->isk", inverse, np.einsum("sai,ask->isk", chol, rest))
    root = np.einsum("sai,jisk->ajsk", chol, inverse)  # L R^-T
    return GroupConditional(np.einsum("ajsk,jsk->ask", root, half), draws.sigma[:, None] * root)


def group_moments(stats: GroupStats, draws: PopulationDraws, budget: int = 2**22) -> GroupMoments:
    """Moments over all draws, a slice of groups at a time.

    Parameters
    ----------
    stats : GroupStats
    draws : PopulationDraws
    budget : int
        Entries of the largest temporary array.
    """
    q, n_groups = stats.zy.shape
    at_once = max(1, budget // (len(draws.sigma) * q * q))
    slices = [slice(i, i + at_once) for i in range(0, n_groups, at_once)]
    parts = [_moments(take_groups(stats, s), draws) for s in slices]
    return GroupMoments(*(np.concatenate(a) for a in zip(*parts, strict=True)))


def take_groups(stats: GroupStats, which) -> GroupStats:
    """The statistics of some groups; the totals stay."""
    return stats._replace(zz=stats.zz[..., which], zx=stats.zx[..., which], zy=stats.zy[..., which])


def _moments(stats, draws):
    given = condition(stats, draws)
    n_draws = len(draws.sigma)
    mean = given.mean.mean(1)
    off = given.mean - mean[:, None]
    cov = np.einsum("isk,jsk->kij", off, off)
    cov += np.einsum("iask,jask->kij", given.root, given.root)
    cross = np.einsum("sp,isk->kpi", draws.beta - draws.beta.mean(0), off, optimize=True)
    return mean.T, cov / n_draws, cross / n_draws
