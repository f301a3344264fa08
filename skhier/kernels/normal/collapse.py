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

from skhier.kernels.cholesky import inverse_cholesky, log_det_and_schur
from skhier.kernels.records import MIN_VARIANCE, CoefPrior
from skhier.statistics.elimination import Elimination
from skhier.statistics.records import Plan
from skhier.utils.budget import USUAL, KernelBudget

__all__ = [
    "RESIDUAL_ROUNDING",
    "Collapsed",
    "collapse",
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
    sums = partial(_sums, columns - r, slots, varies, small)
    size = _chunk(n_levels, slots, budget.chunk if small else budget.chunk_factorised)
    if size == n_levels:
        return sums(zz, d, chol, variance)

    @jax.checkpoint
    def add(total, chunk):
        explained, dets, of_rows = sums(*chunk, chol, variance)
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
        return _less_in_table(left, i, step.table, chol, variance)
    half = jnp.moveaxis(_inverse_factors(zz, chol, variance)[1] @ chol.T, 0, 2)  # R^-1 L'
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


def _less_in_table(left, i, table, chol, variance):
    """The same where all levels meet most dense columns: columns like those of X."""
    (zz, d), (m, r) = left.chain[i], left.d.shape
    met = jnp.swapaxes(left.crossings[i][:, table], 1, 2)
    columns = jnp.concatenate([met, d[:, -r:]], 1)
    explained, *_ = _sums(0, 1, i > 0, False, zz, columns, chol, variance)
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


def _unrolled(zz, d, chol, variance, w, slots):
    """Entry by entry, so that each operation is one over the levels and the compiler fuses them.

    The sum over all levels is a product of the entries of ``K = L M^-1 L'`` with those of ``D D'``.
    Without it a fit takes longer: 0.47 s of a processor instead of 0.23 s for 100,000 rows in 1,000
    levels, 0.050 s instead of 0.036 s for the sleep study (compiled, least of seven alternated).
    """
    q = len(zz)
    al = [[sum(zz[a, b] * chol[b, j] for b in range(j, q)) for j in range(q)] for a in range(q)]
    m = [[sum(chol[a, i] * al[a][j] for a in range(i, q)) for j in range(i + 1)] for i in range(q)]
    for i in range(q):
        m[i][i] = m[i][i] + variance
    v = [[chol[a, i] if a >= i else 0.0 for a in range(q)] for i in range(q)]  # L'
    k = {(a, b): 0.0 for a in range(q) for b in range(a + 1)}
    pivots = 1.0
    for j in range(q):
        inverse, pivots = 1 / m[j][j], pivots * m[j][j]
        for a, b in k:
            k[a, b] = k[a, b] + v[j][a] * v[j][b] * inverse
        for i in range(j + 1, q):
            factor = m[i][j] * inverse
            for c in range(j + 1, i + 1):
                m[i][c] = m[i][c] - factor * m[c][j]
            v[i] = [mine - factor * theirs for mine, theirs in zip(v[i], v[j], strict=True)]
    columns = d.shape[1]
    row, col = np.tril_indices(columns)
    where = np.zeros((columns, columns), int)
    where[row, col] = where[col, row] = np.arange(len(row))
    within, of_rows = np.flatnonzero(col >= w), np.flatnonzero(col < w)
    total, by_row = jnp.zeros(len(within)), jnp.zeros((len(of_rows), d.shape[2] // slots))
    for a, b in k:
        products = d[a][row] * d[b][col]
        if a != b:
            products = products + d[b][row] * d[a][col]
        total = total + products[within] @ k[a, b]
        by_row = by_row + _over_slots(products[of_rows], k[a, b], slots)
    gram = jnp.zeros(len(row)).at[within].set(total)[where[w:, w:]]
    place = np.zeros(len(row), int)
    place[of_rows] = np.arange(len(of_rows))
    return gram, jnp.log(pivots).sum(), by_row[place[where[:w]]]


def _over_slots(products, k, slots):
    """Sums of ``products * k`` over each so many levels."""
    rows = k.shape[-1] // slots
    split = products.reshape(*products.shape[:-1], rows, slots)
    return jnp.einsum("...rc,...rc->...r", split, k.reshape(*k.shape[:-1], rows, slots))


def _factorised(zz, d, chol, variance, w, slots):
    """The same by a factorisation of each ``M``."""
    return _factors_and_sums(zz, d, chol, variance, w, slots)[0]


def _factors_and_sums(zz, d, chol, variance, w, slots):
    """Levels first: products of one matrix with all levels' are one of two large matrices."""
    d = jnp.moveaxis(d, 2, 0)
    al, inverse = _inverse_factors(zz, chol, variance)
    wide = inverse @ (chol.T @ d)
    log_det = -2 * jnp.log(jnp.diagonal(inverse, axis1=1, axis2=2)).sum()
    all_rows = wide[:, :, w:].reshape(-1, d.shape[2] - w)
    rows = wide.reshape(len(d) // slots, -1, d.shape[2])  # those of the levels of a row of slots
    by_row = jnp.moveaxis(jnp.swapaxes(rows[:, :, :w], 1, 2) @ rows, 0, 2)
    return (all_rows.T @ all_rows, log_det, by_row), (d, al, inverse, wide)


def _inverse_factors(zz, chol, variance):
    """``A L`` and ``R^-1``, ``M = R R'``, (n_levels, q, q)."""
    al = jnp.moveaxis(zz, 2, 0) @ chol
    return al, inverse_cholesky(chol.T @ al + variance * jnp.eye(len(zz)))


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2, 3))
def _sums(w, slots, varies, small, zz, d, chol, variance):
    """``sum D'K D`` without the first w columns, ``sum log|M|``, and the first w rows of ``D'K D``,
    a sum for each so many slots; written out if ``small``.

    Their gradient in closed form compiles and runs several times faster than that of the code.
    """
    return (_unrolled if small else _factorised)(zz, d, chol, variance, w, slots)


def _sums_forward(w, slots, varies, small, zz, d, chol, variance):
    if small:
        kept = None
        found = _unrolled(zz, d, chol, variance, w, slots)
    else:
        found, kept = _factors_and_sums(zz, d, chol, variance, w, slots)
    return found, (zz, d, chol, variance, kept)


def _sums_backward(w, slots, varies, small, inputs, cotangents):
    """With ``Y = M^-1 L' D`` and E the cotangent of ``D'K D``, c that of the log determinants:

    d/dL = 2 sum (D - A L Y) E Y' + c A L M^-1,  d/dD = 2 L Y E,
    d/dA = c L M^-1 L' - L Y E Y' L',  d/dsigma^2 = sum c tr M^-1 - tr Y E Y'.
    """
    zz, d, chol, variance, kept = inputs
    of_gram, c, of_rows = cotangents
    if kept is None:
        kept = _factors_and_sums(zz, d, chol, variance, w, slots)[1]
    d, al, half, wide = kept
    half = jnp.swapaxes(half, 1, 2)  # R'^-1
    y, inverse = half @ wide, half @ jnp.swapaxes(half, 1, 2)
    e = jnp.pad(of_gram, (w, 0))
    if w:
        by_row = jnp.repeat(jnp.moveaxis(of_rows, 2, 0), slots, 0)
        e = e + jnp.pad(by_row, ((0, 0), (0, len(of_gram)), (0, 0)))
    e = (e + jnp.swapaxes(e, -1, -2)) / 2
    ye = y @ e
    of_chol = 2 * (_sum_of_products(d - al @ y, ye) + c * _sum_of_products(al, inverse))
    of_variance = c * jnp.einsum("gii->", inverse) - (ye * y).sum()
    if not varies:
        return jnp.zeros_like(zz), jnp.zeros_like(inputs[1]), of_chol, of_variance
    ly, lye = chol @ y, chol @ ye
    of_zz = c * chol @ inverse @ chol.T - lye @ jnp.swapaxes(ly, 1, 2)
    return jnp.moveaxis(of_zz, 0, 2), 2 * jnp.moveaxis(lye, 0, 2), of_chol, of_variance


def _sum_of_products(a, b):
    """``sum_g a_g b_g'`` of (n_levels, q, c) each."""
    return jnp.einsum("gac,gic->ai", a, b)


_sums.defvjp(_sums_forward, _sums_backward)
