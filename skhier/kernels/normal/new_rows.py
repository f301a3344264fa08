"""Densities of rows that the statistics do not hold, given each component; internal units."""

from collections.abc import Sequence

import numpy as np

from skhier.kernels.normal.conditional import sigma_of
from skhier.kernels.normal.eliminate import layout_of
from skhier.kernels.normal.moments import line_moments
from skhier.kernels.records import Components
from skhier.responses.numerics import LOG_2PI
from skhier.statistics.records import FactorStats, GroupStats, Plan
from skhier.utils.slices import slices

__all__ = ["new_level_density", "new_row_density"]


def new_row_density(
    stats: GroupStats, plan: Plan, components: Components, x, zs, codes, y: float, entries: int
) -> np.ndarray:
    """Log density of one row of known levels.

    Parameters
    ----------
    stats : GroupStats
    plan : Plan
    components : Components
    x : array of shape (1, p)
    zs : sequence of array of shape (1, q)
        Designs of each factor's effects.
    codes : int array of shape (1, n_factors)
    y : float
    entries : int
        Of the arrays over components.

    Returns
    -------
    array of shape (S,)
    """
    if len(stats.factors) == 1:  # the other levels do not matter
        own = FactorStats(*(a[..., codes[0]] for a in stats.factors[0]))
        stats, codes = stats._replace(factors=(own,)), np.zeros_like(codes)
    mean, of_line = line_moments(layout_of(stats, plan), components, x, zs, codes, entries)
    variance = sigma_of(components.population) ** 2 + of_line[:, 0]
    return -0.5 * (LOG_2PI + np.log(variance) + (y - mean[:, 0]) ** 2 / variance)


def new_level_density(
    components: Components,
    varying: Sequence[int],
    xy: np.ndarray,
    counts: np.ndarray,
    entries: int,
) -> np.ndarray:
    """Joint log density of all rows of a new level of the only factor.

    ``y = X m + W u + noise`` with u standard normal, ``W W' = Z Sigma Z' + X C X'``. Rows enter by
    the triangle of their QR decomposition, and the quadratic form is a least-squares residual:
    neither squares what it subtracts.

    Parameters
    ----------
    components : Components
    varying : sequence of int
        Columns of x that vary by level.
    xy : array of shape (n_rows, p + 1)
        Columns of x, and y.
    counts : array of shape (n_rows,)
        Weights.
    entries : int
        Of the arrays over components.

    Returns
    -------
    array of shape (S,)
    """
    triangle = np.linalg.qr(np.sqrt(counts)[:, None] * xy).R
    n, p = counts.sum(), xy.shape[1] - 1
    d = p + components.group_root[0].shape[1]
    out = np.empty(len(components.weights))
    for here in slices(len(out), entries // ((len(triangle) + d) * d)):
        part = components.take(here)
        sigma = sigma_of(part.population)
        w = triangle[:, :p] @ _line_root(part, varying)
        rest = triangle[:, p] - part.coef @ triangle[:, :p].T
        tall = np.concatenate([w, sigma[:, None, None] * np.eye(d)], axis=1)
        wide = np.concatenate([rest, np.zeros((len(rest), d))], axis=1)[..., None]
        basis, root = np.linalg.qr(tall)
        residual = wide - basis @ (np.swapaxes(basis, 1, 2) @ wide)
        log_det = 2 * np.log(np.abs(np.diagonal(root, axis1=1, axis2=2))).sum(1)
        log_det += (n - d) * np.log(sigma**2)
        quadratic = (residual[..., 0] ** 2).sum(1) / sigma**2
        out[here] = -0.5 * (n * LOG_2PI + log_det + quadratic)
    return out


def _line_root(components, varying):
    """``B`` (S, p, d) with ``X B u`` the deviation of a new level's line from ``X m``."""
    n, p = components.coef.shape
    of_level = np.zeros((n, p, components.group_root[0].shape[1]))
    of_level[:, varying] = components.group_root[0]
    if components.coef_cov is None:
        return np.concatenate([of_level, np.zeros((n, p, p))], axis=2)
    values, vectors = np.linalg.eigh(components.coef_cov)
    root = vectors * np.sqrt(np.maximum(values, 0))[:, None]
    return np.concatenate([of_level, root], axis=2)
