"""What the rows say of a row, or of a group, that is left out: closed forms (normal response).

Per component all is normal. With m_i and h_i the mean and the variance of row i's line given all
rows, group effects and coefficients integrated out,

    g_i = (y_i - m_i) / sigma^2,   c_i = (1 - h_i / sigma^2) / sigma^2
    y_i | y_-i, theta ~ Normal(y_i - g_i / c_i, 1 / c_i)

and of one factor, with ``beta = m + Q u``, ``u ~ N(0, I)``, ``r = y - X m``,
``H = Q' X_g' V_g^-1 X_g Q`` and ``h = Q' X_g' V_g^-1 r_g``, a group that is left out has

    log p(y_g | y_-g, theta) = log N(r_g; 0, V_g) + log|I - H| / 2 - h'(I - H)^-1 h / 2.

What remains is an average over the components, whose weights change as the inverse of that density:
importance sampling, smoothed. Vehtari, Gelman and Gabry (2017), Stat. Comput. 27; Sundararajan and
Keerthi (2001), Neural Comput. 13, for the row's formula.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

from skhier.kernels.normal.conditional import Components, PopulationDraws, condition
from skhier.kernels.normal.eliminate import Layout
from skhier.kernels.normal.moments import line_moments
from skhier.utils.pareto import psis

__all__ = ["GroupProducts", "LeftOut", "leave_groups_out", "leave_rows_out", "smoothed"]

LOG_2PI = np.log(2 * np.pi)
ALONE = 1e-12  # a group that leaves less of the precision than this decides on its own


class LeftOut(NamedTuple):
    """Log densities of K rows or groups, one per component: arrays (S, K).

    ``without``: given the others' rows; ``within``: of the same numbers seen again, given all rows.
    """

    without: np.ndarray
    within: np.ndarray


class GroupProducts(NamedTuple):
    """Of K groups: cross-products of ``[X y]``, (p + 1, p + 1, K), and numbers of rows (K,)."""

    products: np.ndarray
    n: np.ndarray


def leave_rows_out(layout: Layout, components: Components, x, zs, y, codes) -> LeftOut:
    """Densities of rows, each left out on its own.

    Parameters
    ----------
    layout, components, x, zs, codes
        As of :func:`~skhier.kernels.normal.moments.line_moments`.
    y : array of shape (K,)
    """
    mean, line = line_moments(layout, components, x, zs, codes)
    variance = (components.sigma**2)[:, None]
    g, c = (y - mean) / variance, (1 - line / variance) / variance
    c = np.maximum(c, np.finfo(float).tiny)  # a row that alone decides a coefficient
    without = 0.5 * (np.log(c) - g**2 / c - LOG_2PI)
    again = variance + line
    within = -0.5 * (np.log(again) + (variance * g) ** 2 / again + LOG_2PI)
    return LeftOut(without, within)


def leave_groups_out(layout: Layout, components: Components, groups: GroupProducts) -> LeftOut:
    """Joint densities of all rows of a group of the only factor, each group left out on its own.

    A group without which a coefficient has no distribution (flat priors) has density 0.

    Parameters
    ----------
    layout : Layout
        Of the K groups.
    components : Components
    groups : GroupProducts
        Of the same groups.
    """
    _, beta, beta_cov, sigma, (chol,) = components
    factor = layout.stats.factors[0]
    zz, d = factor.zz, factor.z_xy
    q = len(zz)
    n_components, p = beta.shape
    k = _shrinkage(layout, components)
    left = np.einsum("acK,abSK,bdK->SKcd", d, k, d, optimize=True)
    gram = (np.moveaxis(groups.products, 2, 0) - left) / (sigma**2)[:, None, None, None]
    # [X y] to [X y - X m]
    shift = np.concatenate([-beta, np.ones((n_components, 1))], axis=1)
    h = np.einsum("SKpd,Sd->SKp", gram[..., :p, :], shift)
    quadratic = np.einsum("Sc,SKcd,Sd->SK", shift, gram, shift, optimize=True)
    m = np.einsum("Sai,abK,Sbj->SKij", chol, zz, chol, optimize=True)
    m = m + (sigma**2)[:, None, None, None] * np.eye(q)
    log_det = (groups.n - q) * np.log(sigma**2)[:, None] + np.linalg.slogdet(m)[1]  # of V_g
    alone = -0.5 * (groups.n * LOG_2PI + log_det + quadratic)
    if beta_cov is None:
        return LeftOut(alone, alone)
    root = _root(beta_cov)
    h = np.einsum("Spr,SKp->SKr", root, h)
    inner = np.einsum("Spr,SKpd,Sdt->SKrt", root, gram[..., :p, :p], root, optimize=True)
    values, vectors = np.linalg.eigh(inner)
    h2 = np.einsum("SKrt,SKr->SKt", vectors, h) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        without = alone + 0.5 * (np.log1p(-values) - h2 / (1 - values)).sum(-1)
    without = np.where((values < 1 - ALONE).all(-1), without, -np.inf)
    within = alone - 0.5 * (np.log1p(values) - h2 / (1 + values)).sum(-1)
    return LeftOut(without, within)


def smoothed(left_out: LeftOut, weights):
    """Averages over the components.

    Parameters
    ----------
    left_out : LeftOut
    weights : array of shape (S,)
        Of the components, sum 1.

    Returns
    -------
    elpd, lpd, k_hat, mcse : array of shape (K,)
        Log predictive density without and with the row, the Pareto shape of the weights, and the
        Monte Carlo standard error of the first.
    """
    without, within = left_out
    with np.errstate(divide="ignore"):
        log_weights = np.log(weights)[:, None]
    log_ratio, k_hat = psis((log_weights - without).T)
    log_ratio = log_ratio.T - logsumexp(log_ratio.T, axis=0)
    elpd = logsumexp(log_ratio + without, axis=0)
    # delta method for a ratio of two means; Vehtari et al. (2024), sec. 6
    off = np.exp(log_ratio) * np.expm1(without - elpd)
    mcse = np.sqrt((off**2).sum(0))
    return elpd, logsumexp(log_weights + within, axis=0), k_hat, mcse


def _shrinkage(layout, components):
    """``K_g = L M_g^-1 L'`` per component and group, (q, q, S, K)."""
    _, beta, _, sigma, chols = components
    root = condition(layout, PopulationDraws(beta, sigma, chols), slice(None), {}).root
    return np.einsum("ijSK,kjSK->ikSK", root, root) / (sigma**2)[:, None]


def _root(cov):
    values, vectors = np.linalg.eigh(cov)
    return vectors * np.sqrt(np.maximum(values, 0))[:, None]
