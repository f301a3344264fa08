"""Rows of several factors, each left out: eliminated like one more column, its leaf's rows first.

See :mod:`skhier.kernels.normal.left_out` for what is computed. Digits are lost as
``eps (tau / sigma)^2``, and never more than a row's prior variance allows.
"""

import numpy as np

from skhier.kernels.linalg import matmul
from skhier.kernels.normal.conditional import sigma_of
from skhier.kernels.normal.eliminate import (
    Eliminated,
    Layout,
    batch_size,
    dense_parts,
    dense_rows,
    eliminate,
    wide_crossing,
)
from skhier.kernels.normal.information import EPS, eliminate_levels, level_rows, row_given_level
from skhier.kernels.normal.left_out import (
    NEAR,
    InternalRows,
    LeftOut,
    RowGiven,
    not_filled,
    other_rows,
    products_of_others,
)
from skhier.kernels.records import Components
from skhier.utils.budget import USUAL
from skhier.utils.slices import slices

__all__ = ["leave_rows_out_of_several"]


def leave_rows_out_of_several(
    layout: Layout,
    components: Components,
    rows: InternalRows,
    which,
    entries: int = USUAL.memory.elimination_entries,
) -> LeftOut:
    """Densities of rows of several factors, each left out on its own.

    Parameters
    ----------
    layout : Layout
        Its crossings are small enough to be full matrices.
    components : Components
    rows : InternalRows
    which : int array of shape (K,)
    entries : int
        Of the largest temporary array.
    """
    out = not_filled(components, which)
    model = layout, components, rows
    doubtful = _put_of_several(out, np.arange(len(which)), *model, which, None, entries)
    few = np.flatnonzero(doubtful)
    if len(few):
        leaf = layout.plan.chain[0]
        others, z = other_rows(rows.codes[:, leaf], rows.weights, which[few]), rows.zs[leaf]
        products = products_of_others(others, z, _later_columns(layout, rows, slice(None)))
        own = level_rows(products_of_others(others, z, z), products, None, others.sum(1))
        _put_of_several(out, few, *model, which[few], own, entries)
    return out


def _later_columns(layout, rows, which):
    """What the leaf's effects are correlated with: later effects of the chain, dense ones, [x y]"""
    zs = [z[which] for z in rows.zs]
    later = [zs[k] for k in layout.plan.chain[1:]]
    dense = dense_rows(layout, zs, rows.codes[which])
    return np.concatenate([*later, dense, rows.xy(which)], axis=1)


def _put_of_several(out, columns, layout, components, rows, which, own, entries):
    """``own``: of each row its level of the leaf without it; None: with it. Returns which rows
    tell nearly all that their level tells of its effects, (K,).
    """
    n_points, p = components.coef.shape
    doubtful, products = np.zeros(len(which), bool), _later_columns(layout, rows, which)
    q = rows.zs[layout.plan.chain[0]].shape[1]
    width = products.size * (q + 2)
    size = min(batch_size(layout, p + 1, entries), entries // width)
    for here in slices(n_points, size):
        part = components.take(here)
        sigma = sigma_of(part.population)
        eliminated = eliminate(layout, sigma, part.group_root, np.eye(p + 1))
        spread, off, unsure = _off_leaf(layout, eliminated, part, rows, which, products, own)
        doubtful |= unsure
        share, rest = _off_others(layout, eliminated, part, rows, which, off, spread)
        RowGiven(spread, share, rest).put(out, here, columns, sigma)
    return doubtful


def _off_leaf(layout, eliminated: Eliminated, part, rows, which, columns, own):
    """Variance of the row given its level of the leaf and the later effects, in units of the
    noise's; its columns less what the level's other rows predict; whether that is doubtful.
    """
    leaf = layout.plan.chain[0]
    z, doubtful = rows.zs[leaf][which], np.zeros(len(which), bool)
    if own is not None:
        root = part.group_root[leaf]
        reached = eliminate_levels(own, sigma_of(part.population), root)
        variance, off = row_given_level(reached, root, z, columns)
        return 1 + variance, off, doubtful
    n_points = len(part.weights)
    off = np.repeat(columns.T[:, None], n_points, axis=1)
    z = np.broadcast_to(z.T[:, None], (z.shape[1], n_points, len(which)))
    alone = 1 - _take_out(layout, eliminated, 0, rows.codes[which], z, off)
    doubtful = (alone < NEAR).any(0)
    alone = np.maximum(alone, EPS)
    return 1 / alone, off / alone, doubtful


def _take_out(layout, eliminated, i, codes, z, off):
    """Take what the i-th factor of the chain explains out of ``off``, in place.

    ``z`` (q, S, K), the row's products with its effects; ``off`` (c, S, K), with all later effects
    and ``[x y]``. Returns the variance of its effects' sum, (S, K).
    """
    step, m = eliminated.steps[i], len(layout.gram)
    at = codes[:, layout.plan.chain[i]]
    white = matmul(step.half[..., at], z[:, None])[:, 0]
    begin = 0
    for up in step.up:
        off[begin : begin + up.shape[1]] -= _turned(up[..., at], white)
        begin += up.shape[1]
    if m:
        wide = wide_crossing(layout, i, step.crossing)
        explained = np.einsum("aSKm,aSK->mSK", wide[:, :, at], white, optimize=True)
        off[begin : begin + m] -= explained
    off[begin + m :] -= _turned(step.d[..., at], white)
    return (white**2).sum(0)


def _turned(a, white):
    return matmul(np.swapaxes(a, 0, 1), white[:, None])[:, 0]


def _off_others(layout, eliminated: Eliminated, part, rows, which, off, spread):
    """Share and rest of :class:`RowGiven`: later effects of the chain, dense ones, coefficients."""
    least = 1 / (1 + _prior_variance(layout, part, off) / spread)
    known, off = np.zeros_like(spread), off.copy()
    for i, k in enumerate(layout.plan.chain[1:], start=1):
        q = rows.zs[k].shape[1]
        z, off = off[:q], off[q:]
        known += _take_out(layout, eliminated, i, rows.codes[which], z, off)
    m = len(layout.gram)
    if m:
        white = np.moveaxis(off[:m], 0, -1) @ np.swapaxes(eliminated.root, 1, 2)  # (S, K, m)
        off = off[m:] - np.moveaxis(white @ eliminated.d, -1, 0)
        known += (white**2).sum(-1)
    slopes = np.moveaxis(off[:-1], 0, -1)
    if part.coef_cov is not None:
        spread_of_coef = ((slopes @ part.coef_cov) * slopes).sum(-1)
        known += spread_of_coef / (sigma_of(part.population) ** 2)[:, None]
    share = np.maximum(1 - known / spread, np.maximum(least, EPS))
    return share, off[-1] - (slopes @ part.coef[..., None])[..., 0]


def _prior_variance(layout, part, off):
    """Prior variance of what the row tells of later effects and coefficients, (S, K).

    In units of the noise's; the rows can only lessen it. Infinite under flat priors.
    """
    begin, variance = 0, np.zeros(off.shape[1:])
    shapes = [(k, (part.group_root[k].shape[-1], 1)) for k in layout.plan.chain[1:]]
    for k, shape in [*shapes, *((k, shape) for k, _, shape in dense_parts(layout))]:
        size = shape[0] * shape[1]
        off_factor = off[begin : begin + size].reshape(*shape, *off.shape[1:])
        white = np.einsum("Saj,agSK->jgSK", part.group_root[k], off_factor, optimize=True)
        variance += (white**2).sum((0, 1))
        begin += size
    if part.coef_cov is not None:
        root = None if part.prior is None else part.prior.root
        if root is None or np.linalg.matrix_rank(root) < len(root):
            return np.full_like(variance, np.inf)
        white = np.linalg.solve(root.T, part.prior.basis.T)
        variance += (np.tensordot(white, off[begin:-1], 1) ** 2).sum(0)
    return variance / (sigma_of(part.population) ** 2)[:, None]
