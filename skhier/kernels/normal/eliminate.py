"""Group effects of all factors given the other parameters: elimination, and the way back.

The same elimination as in :mod:`skhier.kernels.normal.collapse`, in NumPy and for a batch of S
points of the parameters, with its factors kept: of a level ``h = R^-1 L'``, so that
``b = h'(h D - ...)`` follows from the effects of the later factors, from the top of the chain down
to its leaf.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg.lapack import dtrtri
from scipy.sparse import csr_array

from skhier.kernels.linalg import cholesky, inverse_root, matmul
from skhier.statistics.plan import Crossing, ancestors, crossing, dense_block, later_products
from skhier.statistics.records import GroupStats, Plan
from skhier.utils.budget import USUAL, KernelBudget

__all__ = [
    "Eliminated",
    "Layout",
    "back_substitute",
    "batch_size",
    "dense_parts",
    "dense_rows",
    "eliminate",
    "layout_of",
    "level_factor",
    "sparse_crossing",
    "wide_crossing",
]

INVERTED_WHOLE = 64  # rows up to which LAPACK inverts a triangle at once


class Layout(NamedTuple):
    """The statistics in the order of elimination; see :mod:`skhier.statistics.plan`.

    Attributes
    ----------
    stats : GroupStats
    plan : Plan
    above : tuple of tuple of int array
        Per factor of the chain and later one: the ancestor of each level.
    up : tuple of tuple of array of shape (q, q_later, n_levels)
        Their cross-products.
    crossings : tuple of Crossing
        Per factor of the chain.
    gram : array of shape (m, m)
    d : array of shape (m, p + 1)
        Products of the dense columns with themselves and with ``[X y]``.
    wide : tuple of bool
        Per factor of the chain: whether its crossing is small enough to be a full matrix.
    """

    stats: GroupStats
    plan: Plan
    above: tuple[tuple[np.ndarray, ...], ...]
    up: tuple[tuple[np.ndarray, ...], ...]
    crossings: tuple[Crossing, ...]
    gram: np.ndarray
    d: np.ndarray
    wide: tuple[bool, ...]


class EliminationStep(NamedTuple):
    """What is left of the elimination of a factor of the chain.

    Attributes
    ----------
    half : array of shape (q, q, S, n_levels)
        ``R^-1 L'``.
    up : tuple of array of shape (q, q_later, S, n_levels)
        ``R^-1 L'`` times the products with each later factor of the chain.
    d : array of shape (q, c, S, n_levels)
        The same with the columns.
    crossing : array of shape (q, S, n)
        The same with the dense effects, where there are any.
    """

    half: np.ndarray
    up: tuple[np.ndarray, ...]
    d: np.ndarray
    crossing: np.ndarray


class Eliminated(NamedTuple):
    """Factors of the elimination.

    Attributes
    ----------
    steps : tuple of EliminationStep
    root : array of shape (S, m, m)
        ``R^-1 L'`` of the dense block, L the effects' square root.
    d : array of shape (S, m, c)
        That times the dense products with the columns.
    log_det : array of shape (S,)
        ``sum log|M|``.
    """

    steps: tuple[EliminationStep, ...]
    root: np.ndarray
    d: np.ndarray
    log_det: np.ndarray


def layout_of(stats: GroupStats, plan: Plan, budget: KernelBudget = USUAL.kernels) -> Layout:
    """Indices and blocks; levels without rows may be there."""
    n_levels = {k: stats.factors[k].zy.shape[-1] for k in plan.dense}
    chain = range(len(plan.chain))
    above = tuple(ancestors(stats, plan, i) for i in chain)
    gram, d = dense_block(stats, plan, n_levels)
    p = len(stats.xy)
    crossings = tuple(crossing(stats, plan, i, above[i], n_levels) for i in chain)
    return Layout(
        stats,
        plan,
        above,
        tuple(later_products(stats, plan, i) for i in chain),
        crossings,
        gram,
        np.concatenate([np.zeros((0, p + 1)), *(part.reshape(-1, p + 1) for part in d)]),
        tuple(
            _is_wide(stats.factors[k].zy.shape, len(gram), cross, budget)
            for k, cross in zip(plan.chain, crossings, strict=True)
        ),
    )


def _is_wide(shape, m, cross, budget):
    """Whether a crossing is a full matrix: a small one, or one that is nearly full anyway."""
    q, n_levels = shape
    is_full = len(cross.level) > budget.full_share * n_levels * m
    return q * n_levels * m <= budget.max_wide * (budget.wider if is_full else 1)


def dense_parts(layout: Layout) -> Iterator[tuple[int, slice, tuple[int, int]]]:
    """Each dense factor, its columns of the dense block, and its (q, n_levels)."""
    begin = 0
    for k in layout.plan.dense:
        q, n_levels = layout.stats.factors[k].zy.shape
        yield k, slice(begin, begin + q * n_levels), (q, n_levels)
        begin += q * n_levels


def batch_size(layout: Layout, n_columns: int, entries: int) -> int:
    """How many points to take together, so that no array has more entries; at least 1."""
    largest = 3 * layout.gram.size
    for i, k in enumerate(layout.plan.chain):
        q, n_levels = layout.stats.factors[k].zy.shape
        largest = max(largest, q * max(q, n_columns) * n_levels, layout.crossings[i].z.size)
        if layout.plan.dense and layout.wide[i]:
            largest = max(largest, q * n_levels * len(layout.gram))
    return max(1, entries // max(largest, 1))


def wide_crossing(layout: Layout, i: int, values: np.ndarray) -> np.ndarray:
    """The full matrices of the i-th factor's sparse values (q, S, n), (q, S, n_levels, m)."""
    cross = layout.crossings[i]
    wide = np.zeros((*values.shape[:2], *_crossing_shape(layout, i)))
    wide[:, :, cross.level, cross.column] = values
    return wide


def sparse_crossing(layout: Layout, i: int, values: np.ndarray) -> Any:
    """The matrix of the i-th factor's sparse values (n,), (n_levels, m)."""
    cross = layout.crossings[i]
    return csr_array((values, (cross.level, cross.column)), _crossing_shape(layout, i))


def _crossing_shape(layout, i):
    return layout.stats.factors[layout.plan.chain[i]].zy.shape[-1], len(layout.gram)


def dense_rows(layout: Layout, zs, codes) -> np.ndarray:
    """Rows of the dense columns' design, (K, m); ``zs`` (K, q) and ``codes`` of every factor."""
    out, row = np.zeros((len(codes), len(layout.gram))), np.arange(len(codes))
    for k, columns, (q, n_levels) in dense_parts(layout):
        for a in range(q):
            out[row, columns.start + a * n_levels + codes[:, k]] = zs[k][:, a]
    return out


def eliminate(layout: Layout, sigma, chols, columns) -> Eliminated:
    """Eliminate all effects.

    Parameters
    ----------
    layout : Layout
    sigma : array of shape (S,)
    chols : sequence of array of shape (S, q, q)
        Per factor, as in :class:`~skhier.kernels.records.Population`.
    columns : array of shape (p + 1, c) or (S, p + 1, c)
        Combinations of ``[X y]``.
    """
    chain, variance = layout.plan.chain, sigma**2
    state = {
        i: (
            layout.stats.factors[k].zz[:, :, None],
            tuple(up[:, :, None] for up in layout.up[i]),
            _of_columns(layout.stats.factors[k], columns),
            layout.crossings[i].z[:, None],
        )
        for i, k in enumerate(chain)
    }
    gram = np.broadcast_to(layout.gram, (len(sigma), *layout.gram.shape))
    dense = layout.d @ columns
    dense = np.broadcast_to(dense, (len(sigma), *dense.shape[-2:]))
    steps, log_det = [], np.zeros(len(sigma))
    for i, k in enumerate(chain):
        step, log_dets = _eliminate_level(layout.crossings[i], *state[i], chols[k], variance)
        steps.append(step)
        log_det = log_det + log_dets
        for j in range(i + 1, len(chain)):
            state[j] = _less(layout, state[j], i, j, step)
        if layout.plan.dense:
            of_gram, of_d = _dense_sums(layout, i, step)
            gram, dense = gram - of_gram, dense - of_d
    root, of_dense, log_dets = _eliminate_dense(layout, gram, dense, chols, variance)
    return Eliminated(tuple(steps), root, of_dense, log_det + log_dets)


def _of_columns(of_factor, columns):
    """Products with combinations of ``[X y]``, (q, c, S or 1, n_levels)."""
    columns = columns if columns.ndim == 3 else columns[None]
    return np.ascontiguousarray(np.einsum("arg,src->acsg", of_factor.z_xy, columns, optimize=True))


def level_factor(zz, chol, variance) -> tuple[np.ndarray, np.ndarray]:
    """``R^-1 L'`` of every level and point, ``L'A L + sigma^2 I = R R'``, and ``sum log|R R'|``.

    Parameters
    ----------
    zz : array of shape (q, q, S or 1, n_levels)
    chol : array of shape (S, q, q)
    variance : array of shape (S,)

    Returns
    -------
    half : array of shape (q, q, S, n_levels)
    log_det : array of shape (S,)
    """
    chol = np.ascontiguousarray(np.moveaxis(chol, 0, -1))[..., None]
    transposed = np.swapaxes(chol, 0, 1)
    m = matmul(transposed, matmul(zz, chol))
    for j in range(len(m)):
        m[j, j] += variance[:, None]
    inverse = inverse_root(m, variance[:, None])
    log_det = -2 * sum(np.log(inverse[j, j]).sum(1) for j in range(len(m)))
    return matmul(inverse, transposed), log_det


def _eliminate_level(cross, zz, up, d, products, chol, variance):
    half, log_det = level_factor(zz, chol, variance)
    of_entries = np.zeros((len(half), len(variance), 0))
    if len(cross.level):
        of_entries = matmul(half[..., cross.level], products[:, None])[:, 0]
    ups = tuple(matmul(half, block) for block in up)
    return EliminationStep(half, ups, matmul(half, d), of_entries), log_det


def _less(layout, state, i, j, step):
    """The j-th factor's products less what the i-th explains."""
    zz, up, d, products = state
    ancestor, n = layout.above[i][j - i - 1], zz.shape[-1]
    mine = np.swapaxes(step.up[j - i - 1], 0, 1)
    others = step.up[j - i :]
    to_ancestors = _places(ancestor, n)
    zz = zz - _summed(to_ancestors, matmul(mine, np.swapaxes(mine, 0, 1)))
    up = tuple(
        block - _summed(to_ancestors, matmul(mine, other))
        for block, other in zip(up, others, strict=True)
    )
    d = d - _summed(to_ancestors, matmul(mine, step.d))
    cross = layout.crossings[i]
    if len(cross.level):
        moved = matmul(mine[..., cross.level], step.crossing[:, None])[:, 0]
        lift = _places(cross.lifts[j - i - 1], products.shape[-1])
        products = products - _summed(lift, moved)
    return zz, up, d, products


def _places(at, n):
    """The matrix that takes entry i to place ``at[i]`` of n."""
    return csr_array((np.ones(len(at)), (at, np.arange(len(at)))), shape=(n, len(at)))


def _summed(places, a):
    """Sums of entries of the last axis that go to the same place."""
    n, m = places.shape
    return (places @ a.reshape(-1, m).T).T.reshape(*a.shape[:-1], n)


def _dense_sums(layout, i, step):
    """What a factor of the chain explains of the dense columns' products, (S, m, m), (S, m, c)."""
    m, (q, n_points, _) = len(layout.gram), step.crossing.shape
    d = np.moveaxis(step.d, 1, -1)  # (q, S, G, c)
    if layout.wide[i]:
        wide = wide_crossing(layout, i, step.crossing)
        turned = np.swapaxes(wide, 2, 3)
        return (turned @ wide).sum(0), (turned @ d).sum(0)
    of_gram, of_d = np.zeros((n_points, m, m)), np.zeros((n_points, m, d.shape[-1]))
    for s in range(n_points):
        for a in range(q):
            met = sparse_crossing(layout, i, step.crossing[a, s])
            turned = met.T.tocsr()
            of_gram[s] += (turned @ met).toarray()
            of_d[s] += turned @ d[a, s]
    return of_gram, of_d


def _eliminate_dense(layout, gram, d, chols, variance):
    n_points, m = gram.shape[:2]
    if m == 0:
        return np.zeros((n_points, 0, 0)), np.zeros((n_points, 0, d.shape[-1])), 0.0
    system = _times_chols(layout, chols, gram, transposed=True)
    system = _times_chols(layout, chols, np.swapaxes(system, 1, 2), transposed=True)
    system[:, np.arange(m), np.arange(m)] += variance[:, None]
    roots = cholesky(system, variance)
    log_det = 2 * np.log(np.diagonal(roots, axis1=1, axis2=2)).sum(1)
    inverse = _inverse_lower(roots)
    half = np.swapaxes(_times_chols(layout, chols, np.swapaxes(inverse, 1, 2)), 1, 2)
    return half, half @ d, log_det


def _inverse_lower(roots):
    """In halves, by products of matrices, which LAPACK's own routine makes too little of."""
    m = roots.shape[1]
    if m <= INVERTED_WHOLE:
        return np.stack([dtrtri(root, lower=True)[0] for root in roots])
    h, out = m // 2, np.zeros_like(roots)
    out[:, :h, :h] = first = _inverse_lower(roots[:, :h, :h])
    out[:, h:, h:] = second = _inverse_lower(roots[:, h:, h:])
    out[:, h:, :h] = -second @ (roots[:, h:, :h] @ first)
    return out


def _times_chols(layout, chols, a, transposed=False):
    """Every dense effect's L (or L') times the rows of ``a`` (S, m, c)."""
    out = np.empty_like(a)
    subscripts = "saj,sagc->sjgc" if transposed else "saj,sjgc->sagc"
    for k, rows, shape in dense_parts(layout):
        block = a[:, rows].reshape(len(a), *shape, -1)
        block = np.einsum(subscripts, chols[k], block, optimize=True)
        out[:, rows] = block.reshape(len(a), rows.stop - rows.start, -1)
    return out


def back_substitute(
    layout: Layout, eliminated: Eliminated, noise: Mapping[int, np.ndarray] | None = None, leaf=True
) -> dict[int, np.ndarray]:
    """Means of the effects given the parameters, per column; with noise, draws.

    Parameters
    ----------
    layout : Layout
    eliminated : Eliminated
    noise : mapping of int to array of shape (q, c, S, n_levels) or None
        Per factor: standard normal numbers times sigma.
    leaf : bool
        False: not of the first factor of the chain.

    Returns
    -------
    dict of int to array of shape (q, c, S, n_levels)
        Per factor.
    """
    effects: dict[int, np.ndarray] = {}
    white = eliminated.d
    if noise is not None:
        parts = [_flat(noise[k]) for k in layout.plan.dense]
        white = white + np.concatenate([np.zeros_like(white[:, :0]), *parts], axis=1)
    dense = np.swapaxes(eliminated.root, 1, 2) @ white  # (S, m, c)
    for k, rows, shape in dense_parts(layout):
        effects[k] = dense[:, rows].reshape(len(dense), *shape, -1).transpose(1, 3, 0, 2)
    for i in reversed(range(not leaf, len(layout.plan.chain))):
        k, step = layout.plan.chain[i], eliminated.steps[i]
        rest = step.d if noise is None else step.d + noise[k]
        later = layout.plan.chain[i + 1 :]
        for other, ancestor, up in zip(later, layout.above[i], step.up, strict=True):
            rest = rest - matmul(up, effects[other][..., ancestor])
        if layout.plan.dense:
            rest = rest - _met(layout, i, step, dense)
        effects[k] = matmul(np.swapaxes(step.half, 0, 1), rest)
    return effects


def _flat(a):
    """(q, c, S, n_levels) to (S, q n_levels, c)."""
    return a.transpose(2, 0, 3, 1).reshape(a.shape[2], -1, a.shape[1])


def _met(layout, i, step, dense):
    """``R^-1 L'`` times the products with the dense effects, times those, (q, c, S, n_levels)."""
    if layout.wide[i]:
        return (wide_crossing(layout, i, step.crossing) @ dense).transpose(0, 3, 1, 2)
    (n_points, _, c), q = dense.shape, len(step.half)
    out = np.empty((q, c, n_points, step.half.shape[-1]))
    for s in range(n_points):
        for a in range(q):
            met = sparse_crossing(layout, i, step.crossing[a, s])
            out[a, :, s] = (met @ dense[s]).T
    return out
