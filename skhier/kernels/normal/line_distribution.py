"""Moments of the regression line at any rows given each component, in closed form.

With the effects of :mod:`skhier.kernels.normal.effects` the line ``x'beta + sum of z_k'b_k`` is

    x'E beta + sum of z_k'm_k  +  (x - sum of T_k'z_k)'(beta - E beta)
        + sum over noises of (sum of W'z)'e  +  (sum of F'z + z_dense)'d

a normal with independent parts. A row's levels may be any: known or not, a leaf and a level that it
is not nested in; two effects share a noise where the level above is the same one.
"""

from typing import Any

import numpy as np

from skhier.kernels.normal.effects import DenseEffects, LevelEffects, SparseEffects
from skhier.kernels.normal.eliminate import Layout
from skhier.kernels.records import Components

__all__ = ["line_distribution"]


def line_distribution(
    layout: Layout, components: Components, effects: LevelEffects, x, zs, codes
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of the line given each component; of a row the same bits in any company.

    Parameters
    ----------
    layout : Layout
    components : Components
    effects : LevelEffects
    x : array of shape (n, p)
    zs : sequence of array of shape (n, q)
        Designs of each factor's effects, internal; 0 where the factor does not count.
    codes : int array of shape (n, n_factors)
        Levels as in ``effects``.

    Returns
    -------
    mean, variance : array of shape (n, S)
    """
    beta = np.ascontiguousarray(components.coef.T)
    mean = np.einsum("np,ps->ns", x, beta)
    slope = np.repeat(x[:, :, None], beta.shape[1], axis=2)
    for k, z in enumerate(zs):
        level = codes[:, k]
        mean += np.einsum("nq,nqs->ns", z, effects.means[k][level])
        slope -= np.einsum("nq,nqps->nps", z, effects.slopes[k][level])
    variance = np.zeros_like(mean)
    if components.coef_cov is not None:
        cov = np.ascontiguousarray(np.moveaxis(components.coef_cov, 0, -1))
        moved = np.einsum("nps,prs->nrs", slope, cov)
        variance += np.einsum("nps,nps->ns", moved, slope)
    _add_noise(variance, layout, effects, zs, codes)
    if effects.dense is not None:
        variance += _of_dense(layout, effects.dense, zs, codes)
    return mean, np.maximum(variance, 0)  # rounding of parts that cancel


def _add_noise(variance, layout, effects, zs, codes):
    """Of every level that one of the row's effects has a share of."""
    chain = layout.plan.chain
    for j, last in enumerate(chain):
        parts = []
        for i, k in enumerate(chain[: j + 1]):
            own = codes[:, k]
            level = codes[:, last] if i == j else layout.above[i][j - i - 1][own]
            weight = np.einsum("nq,nqrs->nrs", zs[k], effects.noise[i][j - i][own])
            parts.append((level, weight))
        for weight in _of_levels(parts):
            variance += np.einsum("nrs,nrs->ns", weight, weight)


def _of_levels(parts):
    """The weights of the same level's noise added up, in the last part that has it."""
    for i, (level, weight) in enumerate(parts):
        for later, total in parts[i + 1 :]:
            same = level == later
            total[same] += weight[same]
            weight[same] = 0
            level = np.where(same, -1, level)
    return [weight for _, weight in parts]


def _of_dense(layout, dense: DenseEffects | SparseEffects, zs, codes):
    """Variance of what the dense effects do to the row, through its other levels too."""
    chain, others = layout.plan.chain, list(_columns(layout, zs, codes))
    get = _Wide(dense) if isinstance(dense, DenseEffects) else _Sparse(dense, chain, codes)
    total: Any = 0.0
    for at, (column, z) in enumerate(others):
        total = total + (z**2)[:, None] * get.cov(column, column)
        for column2, z2 in others[at + 1 :]:
            total = total + (2 * z * z2)[:, None] * get.cov(column, column2)
    for i, k in enumerate(chain):
        g, z = codes[:, k], zs[k]
        for i2, k2 in enumerate(chain[:i]):
            between = np.einsum("na,nabs->nbs", 2 * z, get.between(i, g, i2, codes[:, k2]))
            total = total + np.einsum("nb,nbs->ns", zs[k2], between)
        own = np.einsum("na,nabs->nbs", z, get.own(i, g))
        total = total + np.einsum("nb,nbs->ns", z, own)
        for column, z2 in others:
            total = total + np.einsum("na,nas->ns", 2 * z * z2[:, None], get.met(i, g, column))
    return total


def _columns(layout, zs, codes):
    """Each dense effect of the rows: its column of the dense block and its design."""
    begin = 0
    for k in layout.plan.dense:
        q, n_levels = layout.stats.factors[k].zy.shape
        for a in range(q):
            yield begin + a * n_levels + codes[:, k], zs[k][:, a]
        begin += q * n_levels


class _Wide:
    """Entries of full matrices."""

    def __init__(self, dense: DenseEffects):
        self.dense = dense

    def cov(self, column, other):
        return self.dense.cov[column, other]

    def own(self, i, g):
        return self.dense.own[i][g]

    def met(self, i, g, column):
        """Covariance with a dense effect, (n, q, S)."""
        # the two index arrays, on either side of a slice, come first
        return self.dense.moved[i][g, :, column]

    def between(self, i, g, i2, g2):
        slopes, moved = self.dense.slopes[i2][g2], self.dense.moved[i][g]
        return np.einsum("nams,nbms->nabs", moved, slopes)


class _Sparse:
    """The same from sparse matrices, whose products with D are made for the rows' levels."""

    def __init__(self, dense: SparseEffects, chain, codes):
        self.dense = dense
        self.levels, self.moved = [], []
        for of_factor, k in zip(dense.slopes, chain, strict=True):
            levels, where = np.unique(codes[:, k], return_inverse=True)
            self.levels.append((levels, where))
            self.moved.append([slope[levels] @ dense.cov for slope in of_factor])

    def cov(self, column, other):
        return self.dense.cov[column, other][:, None]

    def own(self, i, g):
        levels, where = self.levels[i]
        pairs = [
            [(slope[levels] * moved).sum(axis=1) for slope in self.dense.slopes[i]]
            for moved in self.moved[i]
        ]
        return np.moveaxis(np.array(pairs), -1, 0)[where][..., None]

    def met(self, i, g, column):
        _, where = self.levels[i]
        return np.stack([moved[where, column] for moved in self.moved[i]], axis=1)[..., None]

    def between(self, i, g, i2, g2):
        _, where = self.levels[i]
        pairs = [
            [(slope[g2] * moved[where]).sum(axis=1) for slope in self.dense.slopes[i2]]
            for moved in self.moved[i]
        ]
        return np.moveaxis(np.array(pairs), -1, 0)[..., None]
