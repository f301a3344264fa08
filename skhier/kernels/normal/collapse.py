"""The likelihood with group effects and normal coefficients integrated out (normal response).

For a level h of a factor, with ``A, D`` the cross-products of its columns with themselves and with
all that come later (effects of other factors, X, y), ``Sigma = L L'`` and ``M = L'AL + sigma^2 I``:

    what h explains of the products of the later columns:  D' L M^-1 L' D
    log|V| = (n - sum_k G_k q_k) log sigma^2 + sum over all levels of log|M|

Take what it explains away, and the next factor sees cross-products again; the last ones are of
``[X y]``: ``sigma^2 [X y]'V^-1[X y]``. :mod:`skhier.statistics.plan` says in which order.
The cost does not depend on the number of rows. Valid for singular L, and for levels with fewer rows
than effects or with none. Lai, Sheldon and Domke (2024); Bates et al. (2015), sec. 3.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from skhier.kernels.cholesky import log_det_and_schur
from skhier.kernels.normal.level_sums import FEW, MANY, SOME, inverse_roots, sums
from skhier.kernels.records import MIN_VARIANCE, CoefPrior
from skhier.statistics.elimination import Elimination
from skhier.statistics.records import Plan
from skhier.utils.budget import USUAL, KernelBudget

__all__ = [
    "RESIDUAL_ROUNDING",
    "Collapsed",
    "collapse",
    "is_worth_a_thread",
    "marginal_and_conditional",
    "points_at_once",
    "work_of_a_point",
]

RESIDUAL_ROUNDING = 1e-15
ABSURD = 1e-50  # a noise_scale that no prior means


class Collapsed(NamedTuple):
    """What the group effects leave behind once integrated out.

    ``gram`` (p + 1, p + 1): ``sigma^2 [X y]' V^-1 [X y]``; ``log_det``: ``log|V|``.
    """

    gram: Any
    log_det: Any


def marginal_and_conditional(
    stats: Elimination,
    plan: Plan,
    chols,
    sigma,
    prior: CoefPrior,
    budget: KernelBudget = USUAL.kernels,
):
    """Log density of the rows and the coefficients' normal distribution, internal coordinates.

    Both given the variance parameters.

    Parameters
    ----------
    stats : Elimination
    plan : Plan
        Static.
    chols : sequence of array of shape (q, q)
        Per factor: lower triangular square root of Sigma, the intercept at the mean of x. May be
        singular.
    sigma : scalar
    prior : CoefPrior
        Of the coefficients that are integrated out, and the values of the others.
    budget : KernelBudget
        Static.

    Returns
    -------
    log_density : scalar
    mean : array of shape (p,)
    root : array of shape (p, k)
        The covariance is ``root root'``; k coefficients are integrated out, the others fixed.
    """
    possible = sigma > ABSURD
    sigma = jnp.maximum(sigma, MIN_VARIANCE**0.5)
    collapsed = collapse(stats, plan, chols, sigma, budget)
    k = prior.basis.shape[1]
    system = _system(collapsed.gram / sigma**2, prior)
    of_coefs, corner, inverse = log_det_and_schur(system, k, budget.lapack_rows)
    quadratic = corner[0, 0]
    # never below its rounding error: a perfect fit would leave the density without a bound
    quadratic = jnp.maximum(quadratic, RESIDUAL_ROUNDING * stats.n / sigma**2)
    log_det = collapsed.log_det + of_coefs + 2 * prior.log_scale
    root = prior.basis @ inverse.T
    log_density = -0.5 * (stats.n * jnp.log(2 * jnp.pi) + log_det + quadratic)
    log_density = jnp.where(possible, log_density, -jnp.inf)
    return log_density, prior.offset + root @ (inverse @ system[:k, k]), root


def _system(gram, prior):
    """``[P k; k' c]``: rows and prior as one least-squares problem in the integrated ones."""
    last = jnp.zeros((1, prior.basis.shape[1]))
    design = jnp.block([[prior.basis, -prior.offset[:, None]], [last, jnp.ones((1, 1))]])
    return design.T @ gram @ design + prior.rows.T @ prior.rows


def collapse(
    stats: Elimination, plan: Plan, chols, sigma, budget: KernelBudget = USUAL.kernels
) -> Collapsed:
    """Integrate the group effects out: the chain from the leaf up, then the dense ones."""
    variance = sigma**2
    gram = stats.total
    n_effects = sum(step.d[:, 0].size for step in stats.steps) + len(stats.gram)
    log_det = (stats.n - n_effects) * jnp.log(variance)
    r = len(gram)
    left = _Left(
        tuple((step.zz, step.d) for step in stats.steps),
        tuple(step.cross.z for step in stats.steps),
        stats.gram,
        jnp.concatenate([jnp.zeros((0, r)), *(d.reshape(-1, r) for d in stats.d)]),
    )
    for i, (k, step) in enumerate(zip(plan.chain, stats.steps, strict=True)):
        here = chols[k], variance, budget
        explained, dets, of_rows = _level_sums(step, *left.chain[i], i > 0, r, *here)
        gram, log_det = gram - explained, log_det + dets
        if plan.dense:
            left = _less_in_crossings(left, i, step, *here)
        left = _less_in_chain(left, i, step.owners, of_rows)
    if plan.dense:
        root = [chols[k] for k in plan.dense]
        n_levels = [d.shape[1] for d in stats.d]
        few = budget.unrolled_effects
        system = _dense_system(left, n_levels, root, gram, variance, few)
        dets, gram, _ = log_det_and_schur(system, len(stats.gram), budget.lapack_rows)
        log_det = log_det + dets
    return Collapsed(gram, log_det)


class _Left(NamedTuple):
    """Cross-products less what has been explained.

    ``chain``: per factor of the chain ``(zz, d)``, as in its ``Step``; ``crossings``: its products
    with the dense columns; ``gram``, ``d``: those of the dense columns with themselves and with
    ``[X y]``.
    """

    chain: tuple[tuple[Any, Any], ...]
    crossings: tuple[Any, ...]
    gram: Any
    d: Any


def _level_sums(step, zz, d, varies, r, chol, variance, budget):
    """``sum D'K D`` of the last r columns and ``sum log|M|``, over all levels; of the other columns
    per row of levels. A chunk of levels at a time, so that it stays in cache. The leaf's products
    do not vary with the parameters.
    """
    q, columns, n_levels = d.shape
    slots = n_levels // len(step.owners[0]) if step.owners else 1
    small = _is_small(q, columns - 1, budget)
    of_levels = partial(sums, columns - r, slots, varies, _way(q, small, budget))
    size = _chunk(n_levels, slots, budget.chunk if small else budget.chunk_factorised)
    if size == n_levels:
        return of_levels(zz, d, chol, variance)

    @jax.checkpoint
    def add(total, chunk):
        explained, dets, of_rows = of_levels(*chunk, chol, variance)
        return (total[0] + explained, total[1] + dets), of_rows

    zero = (jnp.zeros((r, r)), jnp.zeros_like(variance))
    (explained, dets), of_rows = jax.lax.scan(add, zero, (_split(zz, size), _split(d, size)))
    return explained, dets, _joined(of_rows)


def _less_in_chain(left, i, owners, of_rows):
    """The later factors' products less what the i-th explains, each level's its own."""
    chain, begin = list(left.chain), 0
    for k, owner in enumerate(owners, start=i + 1):
        zz, d = chain[k]
        end = begin + len(zz)
        explained = _at_owners(of_rows[begin:end, begin:], owner, zz.shape[-1])
        chain[k] = (zz - explained[:, : len(zz)], d - explained[:, len(zz) :])
        begin = end
    return left._replace(chain=tuple(chain))


def _at_owners(of_rows, owner, n_levels):
    """Sums of rows that have the same owner; all numbers of a row lie side by side, for speed."""
    rows = of_rows.reshape(-1, len(owner)).T
    sums = jnp.zeros((n_levels, rows.shape[1])).at[owner].add(rows)
    return sums.T.reshape(*of_rows.shape[:-1], n_levels)


def _less_in_crossings(left, i, step, chol, variance, budget):
    """All products with dense columns less what the i-th factor of the chain explains."""
    (zz, d), cross = left.chain[i], step.cross
    if step.table.size and not cross.lifts and len(zz) > budget.unrolled_effects:
        return _less_in_table(left, i, step.table, chol, variance, budget)
    half = jnp.moveaxis(inverse_roots(zz, chol, variance) @ chol.T, 0, 2)  # R^-1 L'
    w = jnp.einsum("ijn,jn->in", half[..., cross.level], left.crossings[i])
    hd = jnp.einsum("iag,acg->icg", half, d)
    r, n_columns = left.d.shape[1], len(left.gram)
    crossings, begin = list(left.crossings), 0
    for k, lift in enumerate(cross.lifts, start=i + 1):
        end = begin + len(crossings[k])
        moved = (hd[:, begin:end, cross.level] * w[:, None]).sum(0)
        crossings[k] = crossings[k].at[:, lift].add(-moved)
        begin = end
    if step.table.size:
        wide = w[:, step.table].reshape(-1, n_columns)
        explained = wide.T @ wide
        of_d = wide.T @ jnp.swapaxes(hd[:, -r:], 1, 2).reshape(-1, r)
    else:
        one, other, target = step.pairs
        products = (w[:, one] * w[:, other]).sum(0)
        half_sum = jnp.zeros(left.gram.size).at[target].add(products, indices_are_sorted=True)
        half_sum = half_sum.reshape(left.gram.shape)
        explained = half_sum + half_sum.T - jnp.diag(jnp.diagonal(half_sum))
        of_rows = (hd[:, -r:, cross.level] * w[:, None]).sum(0)
        of_d = jnp.zeros_like(left.d).at[cross.column].add(of_rows.T)
    return _Left(left.chain, tuple(crossings), left.gram - explained, left.d - of_d)


def _less_in_table(left, i, table, chol, variance, budget):
    """The same where all levels meet most dense columns: columns like those of X."""
    (zz, d), (m, r) = left.chain[i], left.d.shape
    met = jnp.swapaxes(left.crossings[i][:, table], 1, 2)
    columns = jnp.concatenate([met, d[:, -r:]], 1)
    way = _way(len(zz), False, budget)
    explained, *_ = sums(0, 1, i > 0, way, zz, columns, chol, variance)
    return left._replace(gram=left.gram - explained[:m, :m], d=left.d - explained[:m, m:])


def _dense_system(left, n_levels, chols, gram, variance, unrolled):
    """``[L'AL + sigma^2 I, L'D; D'L, [X y]'[X y]]`` of the dense effects."""
    ends = np.cumsum([n * len(chol) for n, chol in zip(n_levels, chols, strict=True)])

    def scaled(a):
        """L' times the rows of every factor; of few effects written out, for the compiler to fuse.

        Of many, the gradient of what is written out would be an array for each entry of L.
        """
        parts = []
        for block, n, chol in zip(jnp.split(a, ends[:-1]), n_levels, chols, strict=True):
            q = len(chol)
            if q > unrolled:
                parts.append((chol.T @ block.reshape(q, -1)).reshape(block.shape))
                continue
            of_effects = block.reshape(q, n, -1)
            for j in range(q):
                parts.append(sum(chol[i, j] * of_effects[i] for i in range(j, q)))
        return jnp.concatenate(parts)

    dense, d = scaled(scaled(left.gram).T), scaled(left.d)
    dense = dense + variance * jnp.eye(len(dense))
    return jnp.block([[dense, d], [d.T, gram]])


def work_of_a_point(stats: Elimination, budget: KernelBudget = USUAL.kernels) -> float:
    """Multiplications that one point of the variance parameters takes, roughly."""
    m = len(stats.gram)
    work = m**3 / 3 + 10.0 * m**2
    for step in stats.steps:
        q, r, n_levels = step.d.shape
        work += n_levels * (q + r) ** 2 * q
        work += q * (step.table.shape[0] * float(m) ** 2 + budget.scatter * step.pairs.shape[1])
    return work


def is_worth_a_thread(stats: Elimination, budget: KernelBudget = USUAL.kernels) -> bool:
    """Whether batches of points take so long that they may run side by side."""
    if len(stats.gram) > budget.lapack_rows:
        return True
    factorised = any(
        not _is_small(len(step.d), step.d.shape[1] - 1, budget) for step in stats.steps
    )
    return factorised and work_of_a_point(stats, budget) > budget.work_of_a_thread


def points_at_once(stats: Elimination, on_cpu: bool, budget: KernelBudget = USUAL.kernels) -> int:
    """How many points of the variance parameters to evaluate together; a power of two."""
    small, entries = True, 0
    for step in stats.steps:
        q, r, n_levels = step.d.shape
        of_step = _is_small(q, r - 1, budget)
        small &= of_step
        entries += n_levels * (4 if of_step else q * (2 * q + r))
        entries += q * (step.cross.z.size + step.table.size) + 2 * step.pairs.shape[1]
    entries += 4 * stats.gram.size
    entries = max(entries, stats.total.size)  # many coefficients are work too
    low, high = (64, 1024) if small else (8, 128)
    if stats.gram.size:
        low = 1
    at_once = (budget.entries_on_cpu if on_cpu else budget.entries_on_gpu) // max(entries, 1)
    return min(high, max(low, 2 ** int(np.log2(max(at_once, 1)))))


def _is_small(q, p, budget):
    return q <= budget.unrolled_effects and p <= budget.unrolled_columns


def _way(q, small, budget):
    """Of a level with so many effects."""
    if small:
        return FEW
    return MANY if q >= budget.many_effects else SOME


def _chunk(n_levels, slots, size):
    """All levels if they are few, else whole rows, a power of two that divides their number."""
    if n_levels <= 2 * size:
        return n_levels
    n_rows = n_levels // slots
    at_once = 2 ** int(np.log2(max(size // slots, 1)))
    return slots * min(at_once, n_rows & -n_rows)


def _split(a, size):
    """Chunks of the last axis, first."""
    return jnp.moveaxis(a.reshape(*a.shape[:-1], -1, size), -2, 0)


def _joined(a):
    """The inverse."""
    a = jnp.moveaxis(a, 0, -2)
    return a.reshape(*a.shape[:-2], a.shape[-2] * a.shape[-1])
