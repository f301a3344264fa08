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
    "Components",
    "GroupConditional",
    "GroupMoments",
    "PopulationDraws",
    "coef_moments",
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


class Components(NamedTuple):
    """The posterior of the population parameters as a mixture: beta is normal given the others.

    Any first few components stand for the posterior too.

    ``weights`` (S,), sum 1; ``beta`` (S, p), mean of the coefficients; ``beta_cov`` (S, p, p) or
    None, if they are draws; ``sigma`` (S,) and ``chol`` (S, q, q) as in :class:`PopulationDraws`.
    """

    weights: np.ndarray
    beta: np.ndarray
    beta_cov: np.ndarray | None
    sigma: np.ndarray
    chol: np.ndarray

    def first(self, n: int) -> "Components":
        """The first n components, weights renormalised."""
        cut = Components(*(None if a is None else a[:n] for a in self))
        return cut._replace(weights=cut.weights / cut.weights.sum())


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


def group_moments(
    stats: GroupStats, components: Components, budget: int = 2**20
) -> GroupMoments:
    """Moments over all components, a slice of groups at a time.

    Parameters
    ----------
    stats : GroupStats
    components : Components
    budget : int
        Entries of the largest temporary array.
    """
    q, n_groups = stats.zy.shape
    p = stats.zx.shape[1]
    at_once = max(1, budget // (len(components.sigma) * q * max(p, q)))
    slices = [slice(i, i + at_once) for i in range(0, n_groups, at_once)]
    parts = [_moments(take_groups(stats, s), components) for s in slices]
    return GroupMoments(*(np.concatenate(a) for a in zip(*parts, strict=True)))


def coef_moments(components: Components) -> tuple[np.ndarray, np.ndarray]:
    """Mean (p,) and covariance (p, p) of the coefficients."""
    weights, beta, beta_cov, *_ = components
    mean = weights @ beta
    off = beta - mean
    cov = (weights[:, None] * off).T @ off
    return mean, cov if beta_cov is None else cov + np.tensordot(weights, beta_cov, 1)


def take_groups(stats: GroupStats, which) -> GroupStats:
    """The statistics of some groups; the totals stay."""
    return stats._replace(zz=stats.zz[..., which], zx=stats.zx[..., which], zy=stats.zy[..., which])


def _moments(stats, components):
    weights, beta, beta_cov, sigma, chol = components
    given = condition(stats, PopulationDraws(beta, sigma, chol))
    mean = np.einsum("s,isk->ik", weights, given.mean)
    off = given.mean - mean[:, None]
    weighted = weights[:, None] * off
    cov = np.einsum("isk,jsk->kij", off, weighted)
    root = np.sqrt(weights)[:, None] * given.root
    cov += np.einsum("iask,jask->kij", root, root)
    centred = beta - weights @ beta
    cross = np.einsum("sp,isk->kpi", centred, weighted, optimize=True)
    if beta_cov is not None:
        # b moves with beta by -K_g B_g, K_g = L M_g^-1 L'
        scaled = given.root / sigma[:, None]
        slope = np.einsum("iask,jask->ijsk", scaled, scaled)
        slope = np.einsum("ijsk,jpk->ipsk", slope, stats.zx)
        moved = np.einsum("ipsk,spr->irsk", slope, weights[:, None, None] * beta_cov, optimize=True)
        cov += np.einsum("irsk,jrsk->kij", moved, slope)
        cross -= moved.sum(2).transpose(2, 1, 0)
    return mean.T, cov, cross
