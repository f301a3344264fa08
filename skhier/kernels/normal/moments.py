"""Posterior moments of the group effects of all factors, averaged over components.

Given the variance parameters everything is normal. With ``T`` the effects' means of each column of
``[X y]``, ``b | beta ~ Normal(T_y - T_X beta, C)``, so with ``beta ~ Normal(m, V)``

    E b = T_y - T_X m,   Cov b = C + T_X V T_X',   Cov(beta, b) = -V T_X'

and C follows from the top of the chain down: for a level with ``b = F u + noise``, u the effects of
its ancestors and of the dense factors, ``Cov b = F Cov(u) F' + sigma^2 h'h``.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import diags_array

from skhier.kernels.linalg import matmul
from skhier.kernels.normal.conditional import residual, sigma_of
from skhier.kernels.normal.eliminate import (
    Eliminated,
    Layout,
    back_substitute,
    batch_size,
    dense_parts,
    dense_rows,
    eliminate,
    sparse_crossing,
    wide_crossing,
)
from skhier.kernels.records import Components
from skhier.utils.budget import USUAL, MemoryBudget
from skhier.utils.slices import slices

__all__ = [
    "GroupMoments",
    "dense_slopes",
    "group_moments",
    "line_moments",
    "n_settled",
    "sparse_slopes",
]


class GroupMoments(NamedTuple):
    """Posterior moments of a factor's effects, Monte Carlo error of the conditionals averaged out.

    ``mean`` (G, q), ``cov`` (G, q, q), ``cross`` (G, p, q), the covariance with ``beta``.
    """

    mean: np.ndarray
    cov: np.ndarray
    cross: np.ndarray


def group_moments(
    layout: Layout, components: Components, budget: MemoryBudget = USUAL.memory
) -> tuple[GroupMoments, ...]:
    """Moments over all components, some components at a time.

    Parameters
    ----------
    layout : Layout
    components : Components
    budget : MemoryBudget

    Returns
    -------
    tuple of GroupMoments
        Per factor.
    """
    n, p = components.coef.shape
    size = batch_size(layout, p + 1, budget.moment_entries)
    factors = range(len(layout.stats.factors))
    centre = components.weights @ components.coef
    origin: dict[int, np.ndarray] = {}
    sums: dict[int, list[Any]] = {k: [0.0, 0.0, 0.0] for k in factors}
    for here in slices(n, size):
        part = components.take(here)
        of_part = _conditional_moments(layout, part, budget.slope_entries)
        for k, (mean, cov, cross) in of_part.items():
            # of deviations from near the mean, or the squares would cancel
            at = origin.setdefault(k, np.ascontiguousarray(mean[:, :1]))
            off = mean - at
            weighted = part.weights[:, None] * off
            sums[k][0] += weighted.sum(1)
            sums[k][1] += np.einsum("isg,jsg->ijg", off, weighted)
            sums[k][1] += np.tensordot(cov, part.weights, (2, 0))
            sums[k][2] += np.tensordot((part.coef - centre).T, weighted, (1, 1)) + cross
    of_factors = []
    for k in factors:
        mean, square, cross = sums[k]
        cov = square - mean[:, None] * mean[None]
        moments = (mean + origin[k][:, 0]).T, cov.transpose(2, 0, 1), cross.transpose(2, 0, 1)
        of_factors.append(GroupMoments(*map(np.ascontiguousarray, moments)))
    return tuple(of_factors)


def n_settled(
    layout: Layout, components: Components, error: float, budget: MemoryBudget = USUAL.memory
) -> float:
    """How many components like these settle every level's mean and sd.

    With many groups the variance parameters are all but known, and so are the effects' moments.

    Parameters
    ----------
    layout : Layout
    components : Components
        Two or more, taken as equally heavy: how much they differ says how many are needed.
    error : float
        Largest Monte Carlo error of a mean and of a sd, in posterior sds.
    budget : MemoryBudget
    """
    n, p = components.coef.shape
    sums: dict[int, list[Any]] = {}
    origin: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for here in slices(n, batch_size(layout, p + 1, budget.moment_entries)):
        of_part = _conditional_moments(layout, components.take(here), budget.slope_entries)
        for k, (mean, cov, _) in of_part.items():
            variance = np.einsum("iisg->isg", cov)
            at = origin.setdefault(k, (mean[:, :1].copy(), variance[:, :1].copy()))
            off = mean - at[0], variance - at[1]
            sums.setdefault(k, [0.0] * 4)
            for place, each in enumerate((off[0], off[1], off[0] ** 2, off[1] ** 2)):
                sums[k][place] += each.sum(1)
    worst = 0.0
    for k, (mean, variance, square, square_of_variance) in sums.items():
        total = origin[k][1][:, 0] + variance / n
        of_mean = (square - mean**2 / n) / (n - 1) / total
        of_sd = (square_of_variance - variance**2 / n) / (n - 1) / (2 * total) ** 2
        worst = max(worst, np.nanmax(of_mean, initial=0.0), np.nanmax(of_sd, initial=0.0))
    return worst / error**2


def _conditional_moments(layout, part, entries):
    """Per factor, given each component: mean (q, S, G) and covariance (q, q, S, G) of the effects;
    and the weighted sum of their covariances with beta, (p, q, G).
    """
    p, sigma = part.coef.shape[1], sigma_of(part.population)
    eliminated = eliminate(layout, sigma, part.group_root, np.eye(p + 1))
    covs = _covariances(layout, eliminated, sigma, entries)
    beta = np.ascontiguousarray(residual(part.coef).T)[:, None, :, None]
    moments = {}
    for k, t in back_substitute(layout, eliminated).items():
        cross: Any = 0.0
        mean, cov = matmul(t, beta)[:, 0], covs[k]
        if part.coef_cov is not None:
            of_beta = np.moveaxis(part.coef_cov, 0, -1)[..., None]
            moved = matmul(t[:, :p], of_beta)
            cov = cov + matmul(moved, np.swapaxes(t[:, :p], 0, 1))
            cross = -np.tensordot(part.weights, moved, (0, 2)).swapaxes(0, 1)
        moments[k] = mean, cov, cross
    return moments


def _covariances(layout: Layout, eliminated: Eliminated, sigma, entries) -> dict[int, np.ndarray]:
    """Covariances of the effects given beta and the variance parameters, (q, q, S, G).

    ``entries``: of levels x crossed effects that are multiplied together.
    """
    variance, plan = (sigma**2)[:, None], layout.plan
    covs = {}
    for k, columns, shape in dense_parts(layout):
        root = eliminated.root[:, :, columns].reshape(*eliminated.d.shape[:2], *shape)
        covs[k] = variance * np.einsum("smag,smbg->absg", root, root, optimize=True)
    of_chain = _lineages(layout, eliminated, variance)
    of_dense: Any = [0.0] * len(plan.chain)
    if plan.dense:
        of_dense = _through_dense(layout, eliminated, entries)
    for k, lineage, through in zip(plan.chain, of_chain, of_dense, strict=True):
        q = len(layout.stats.factors[k].zy)
        covs[k] = lineage[:q, :q] + variance * through
    return covs


def _lineages(layout, eliminated, variance):
    """Per factor of the chain: covariance of a level's effects and its ancestors', (w, w, S, G),
    given the dense effects.
    """
    out: list[np.ndarray] = []
    for i in reversed(range(len(eliminated.steps))):
        step = eliminated.steps[i]
        turned = np.swapaxes(step.half, 0, 1)
        own = variance * matmul(turned, step.half)
        if not step.up:
            out.insert(0, own)
            continue
        above = out[0][..., layout.above[i][0]]
        slope = -matmul(turned, np.concatenate(step.up, axis=1))
        moved = matmul(slope, above)
        own = own + matmul(moved, np.swapaxes(slope, 0, 1))
        corner = np.swapaxes(moved, 0, 1)
        top, bottom = np.concatenate([own, moved], 1), np.concatenate([corner, above], 1)
        out.insert(0, np.concatenate([top, bottom]))
    return out


def _through_dense(layout, eliminated, entries):
    """Per factor of the chain: ``F R'R F'``, F the change of its effects with the dense ones."""
    if not all(layout.wide):
        return _through_dense_sparse(layout, eliminated, entries)
    turned = [
        slope @ np.swapaxes(eliminated.root, 1, 2) for slope in dense_slopes(layout, eliminated)
    ]
    return [np.einsum("asgm,bsgm->absg", a, a, optimize=True) for a in turned]


def dense_slopes(layout: Layout, eliminated: Eliminated) -> list[np.ndarray]:
    """Per factor of the chain: how its effects change with the dense ones, (q, S, G, m)."""
    slopes: dict[int, np.ndarray] = {}
    for i in reversed(range(len(eliminated.steps))):
        step = eliminated.steps[i]
        inner = -wide_crossing(layout, i, step.crossing)
        for j, (ancestor, up) in enumerate(zip(layout.above[i], step.up, strict=True), i + 1):
            inner = inner - matmul(up[..., None], slopes[j][:, None][:, :, :, ancestor])[:, 0]
        slopes[i] = matmul(np.swapaxes(step.half, 0, 1)[..., None], inner[:, None])[:, 0]
    return [slopes[i] for i in range(len(slopes))]


def _through_dense_sparse(layout, eliminated, entries):
    """The same for large problems, a point and a slice of levels at a time."""
    m = len(layout.gram)
    n_points = len(eliminated.root)
    out = [
        np.empty((*step.half.shape[:2], n_points, step.half.shape[-1])) for step in eliminated.steps
    ]
    for s in range(n_points):
        for i, of_factor in enumerate(sparse_slopes(layout, eliminated, s)):
            for rows in slices(out[i].shape[-1], entries // m):
                turned = np.stack([slope[rows] @ eliminated.root[s].T for slope in of_factor])
                out[i][:, :, s, rows] = np.einsum("agm,bgm->abg", turned, turned)
    return out


def sparse_slopes(layout: Layout, eliminated: Eliminated, s: int) -> tuple[list[Any], ...]:
    """As :func:`dense_slopes` at one point, a sparse matrix (G, m) per effect."""
    slopes: dict[int, list[Any]] = {}
    for i in reversed(range(len(eliminated.steps))):
        slopes[i] = _sparse_slopes(layout, i, eliminated.steps[i], s, slopes)
    return tuple(slopes[i] for i in range(len(slopes)))


def _sparse_slopes(layout, i, step, s, slopes):
    """The i-th factor's, from those of the later ones."""
    q = len(step.half)
    inner = [-sparse_crossing(layout, i, step.crossing[b, s]) for b in range(q)]
    for j, (ancestor, up) in enumerate(zip(layout.above[i], step.up, strict=True), i + 1):
        for b in range(q):
            for c, slope in enumerate(slopes[j]):
                inner[b] = inner[b] - diags_array(up[b, c, s]) @ slope[ancestor]
    slope_of_effects = []
    for a in range(q):
        parts = [diags_array(step.half[b, a, s]) @ inner[b] for b in range(q)]
        slope_of_effects.append(sum(parts[1:], parts[0]).tocsr())
    return slope_of_effects


def line_moments(
    layout: Layout, components: Components, x, zs, codes, entries: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of the regression line at rows of fit, given each component.

    Parameters
    ----------
    layout : Layout
        Its crossings are small enough to be full matrices.
    components : Components
    x : array of shape (K, p)
    zs : sequence of array of shape (K, q)
        Designs of each factor's effects; all internal.
    codes : int array of shape (K, n_factors)
        Levels of rows that ``layout`` was made of: ancestors are not looked up.
    entries : int
        Of the largest temporary array.

    Returns
    -------
    mean, variance : array of shape (S, K)
    """
    (n_rows, p), n = x.shape, len(components.weights)
    mean, variance = np.empty((n, n_rows)), np.empty((n, n_rows))
    width = p + 1 + sum(z.shape[1] for z in zs) ** 2 + len(layout.gram)
    size = min(batch_size(layout, p + 1, entries), entries // (n_rows * width))
    for here in slices(n, size):
        part = components.take(here)
        sigma = sigma_of(part.population)
        eliminated = eliminate(layout, sigma, part.group_root, np.eye(p + 1))
        t = back_substitute(layout, eliminated)
        effects = (sigma**2)[:, None] * _effect_terms(layout, eliminated, zs, codes)
        mean[here], variance[here] = _lines(part, x, zs, codes, t, effects)
    return mean, variance


def _lines(part, x, zs, codes, t, of_effects):
    p = x.shape[1]
    slope, constant = x.T[:, None], 0.0  # the line is constant + slope'beta and the effects' rest
    for k, z in enumerate(zs):
        moved = np.einsum("Ka,acSK->cSK", z, t[k][..., codes[:, k]], optimize=True)
        slope, constant = slope - moved[:p], constant + moved[p]
    slope = np.broadcast_to(slope, (p, *of_effects.shape))
    mean = constant + np.einsum("pSK,Sp->SK", slope, part.coef, optimize=True)
    if part.coef_cov is None:
        return mean, of_effects
    moved = np.einsum("pSK,Spr->rSK", slope, part.coef_cov, optimize=True)
    return mean, of_effects + (moved * slope).sum(0)


def _effect_terms(layout, eliminated, zs, codes):
    """Variance of the sum of a row's effects given beta, over that of the noise, (S, K)."""
    plan = layout.plan
    if not plan.chain:
        return np.zeros((len(eliminated.log_det), len(codes)))
    of_chain = np.concatenate([zs[k] for k in plan.chain], axis=1)
    own = _lineages(layout, eliminated, 1.0)[0][..., codes[:, plan.chain[0]]]
    variance = np.einsum("Ka,abSK,Kb->SK", of_chain, own, of_chain, optimize=True)
    if plan.dense:
        change = np.zeros((len(eliminated.root), len(codes), len(layout.gram)))
        for k, slope in zip(plan.chain, dense_slopes(layout, eliminated), strict=True):
            change += np.einsum("Ka,aSKm->SKm", zs[k], slope[:, :, codes[:, k]], optimize=True)
        change += dense_rows(layout, zs, codes)
        variance += ((change @ np.swapaxes(eliminated.root, 1, 2)) ** 2).sum(2)
    return variance
