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

from skhier.kernels.linalg import inverse_cholesky, matmul
from skhier.kernels.types import GroupStats

__all__ = [
    "Components",
    "GroupConditional",
    "GroupMoments",
    "PopulationDraws",
    "coef_moments",
    "condition",
    "group_moments",
    "log_marginal",
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
        weights, beta, beta_cov, sigma, chol = self
        cov = None if beta_cov is None else beta_cov[:n]
        return Components(weights[:n] / weights[:n].sum(), beta[:n], cov, sigma[:n], chol[:n])


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
    chol, inverse, half = _solved(stats, draws)
    root = matmul(chol, np.swapaxes(inverse, 0, 1))  # L R^-T
    return GroupConditional(matmul(root, half)[:, 0], draws.sigma[:, None] * root)


def _solved(stats, draws):
    """``L``, ``R_g^-1`` and ``R_g^-1 L' (c_g - B_g beta)`` of every group and draw."""
    chol = np.ascontiguousarray(np.moveaxis(draws.chol, 0, -1))[..., None]
    transposed = np.swapaxes(chol, 0, 1)
    m = matmul(transposed, matmul(stats.zz[:, :, None], chol))
    for j in range(len(m)):
        m[j, j] += (draws.sigma**2)[:, None]
    inverse = inverse_cholesky(m)
    rest = stats.zy[:, None] - draws.beta @ stats.zx
    return chol, inverse, matmul(inverse, matmul(transposed, rest[:, None]))


def group_moments(stats: GroupStats, components: Components, budget: int = 2**17) -> GroupMoments:
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


def log_marginal(stats: GroupStats, draws: PopulationDraws, budget: int = 2**20) -> np.ndarray:
    """Log density of the rows given each draw, the group effects integrated out; internal units.

    ``sum_g log|M_g| + (n - G q) log sigma^2`` is the log determinant of the rows' covariance.

    Parameters
    ----------
    stats : GroupStats
        Empty groups change nothing.
    draws : PopulationDraws
    budget : int
        Entries of the largest temporary array.

    Returns
    -------
    array of shape (S,)
    """
    beta, sigma, _ = draws
    quadratic = stats.yy - 2 * beta @ stats.xy + ((beta @ stats.xx) * beta).sum(1)
    q, n_groups = stats.zy.shape
    log_det = (stats.n - n_groups * q) * np.log(sigma**2)
    at_once = max(1, budget // max(len(sigma) * q * q, 1))
    for start in range(0, n_groups if q else 0, at_once):
        _, inverse, half = _solved(take_groups(stats, slice(start, start + at_once)), draws)
        quadratic = quadratic - (half**2).sum((0, 1, 3))
        log_det = log_det - 2 * sum(np.log(inverse[j, j]).sum(1) for j in range(q))
    return -0.5 * (stats.n * np.log(2 * np.pi) + log_det + quadratic / sigma**2)


def take_groups(stats: GroupStats, which) -> GroupStats:
    """The statistics of some groups; the totals stay."""
    return stats._replace(zz=stats.zz[..., which], zx=stats.zx[..., which], zy=stats.zy[..., which])


def _moments(stats, components):
    weights, beta, beta_cov, sigma, chol = components
    given = condition(stats, PopulationDraws(beta, sigma, chol))
    mean = weights @ given.mean
    off = given.mean - mean[:, None]
    weighted = weights[:, None] * off
    k = matmul(given.root, np.swapaxes(given.root, 0, 1))  # sigma^2 L M_g^-1 L'
    cov = np.einsum("isk,jsk->kij", off, weighted) + (weights @ k).transpose(2, 0, 1)
    cross = ((beta - weights @ beta).T @ weighted).transpose(2, 1, 0)
    if beta_cov is not None:  # b_g moves with beta by -L M_g^-1 L' B_g
        slope = matmul(k / (sigma**2)[:, None], stats.zx[:, :, None])
        moved = matmul(slope, np.moveaxis(weights[:, None, None] * beta_cov, 0, -1)[..., None])
        cov += np.einsum("irsk,jrsk->kij", moved, slope)
        cross = cross - moved.sum(2).transpose(2, 1, 0)
    return mean.T, cov, cross
