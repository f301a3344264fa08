"""The likelihood with group effects and normal coefficients integrated out (normal response).

With ``Sigma = L L'``, ``M_g = L' A_g L + sigma^2 I`` and ``D_g = [B_g c_g]``, where
``A_g, B_g, c_g`` are the group's cross-products ``zz, zx, zy``:

    [X y]' V^-1 [X y] = ([X y]'[X y] - sum_g D_g' L M_g^-1 L' D_g) / sigma^2
    log|V| = (n - G q) log sigma^2 + sum_g log|M_g|

The cost does not depend on the number of rows. Valid for singular L, and for groups with fewer rows
than effects or with none. Lai, Sheldon and Domke (2024); Bates et al. (2015), sec. 3.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from skhier.kernels.factor import inverse_cholesky, log_det_and_schur, times
from skhier.kernels.types import MIN_VARIANCE, CoefPrior, GroupStats

__all__ = [
    "ROUNDING",
    "Collapsed",
    "collapse",
    "log_marginal",
    "marginal_and_conditional",
    "points_at_once",
]

ROUNDING = 1e-15
ABSURD = 1e-50  # a noise_scale that no prior means
UNROLL_UP_TO, UNROLL_COLUMNS = 4, 32  # effects, columns of X
CHUNK, CHUNK_FACTORISED = 1024, 64  # groups at a time, which keeps them in cache
ENTRIES_ON_CPU, ENTRIES_ON_GPU = 2**18, 2**26  # of the arrays over points and groups


class Collapsed(NamedTuple):
    """What the group effects leave behind once integrated out.

    ``gram`` (p + 1, p + 1): ``sigma^2 [X y]' V^-1 [X y]``; ``log_det``: ``log|V|``.
    """

    gram: Any
    log_det: Any


def log_marginal(stats: GroupStats, chol, sigma, prior: CoefPrior):
    """Log density of the rows given the variance parameters, internal coordinates.

    Parameters
    ----------
    stats : GroupStats
    chol : array of shape (q, q)
        Lower triangular square root of Sigma, the intercept at the mean of x. May be singular.
    sigma : scalar
    prior : CoefPrior
        Of the coefficients that are integrated out, and the values of the others.
    """
    return marginal_and_conditional(stats, chol, sigma, prior)[0]


def marginal_and_conditional(stats: GroupStats, chol, sigma, prior: CoefPrior):
    """:func:`log_marginal`, and the coefficients' normal distribution given those parameters.

    Returns
    -------
    log_density : scalar
    mean : array of shape (p,)
    root : array of shape (p, k)
        The covariance is ``root root'``; k coefficients are integrated out, the others fixed.
    """
    possible = sigma > ABSURD
    sigma = jnp.maximum(sigma, MIN_VARIANCE**0.5)
    collapsed = collapse(stats, chol, sigma)
    k = prior.basis.shape[1]
    system = _system(collapsed.gram / sigma**2, prior)
    of_coefs, quadratic, inverse = log_det_and_schur(system)
    # never below its rounding error: a perfect fit would leave the density without a bound
    quadratic = jnp.maximum(quadratic, ROUNDING * stats.n / sigma**2)
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


def collapse(stats: GroupStats, chol, sigma) -> Collapsed:
    """Integrate the group effects out; a chunk of groups at a time, so that it stays in cache."""
    total = jnp.block([[stats.xx, stats.xy[:, None]], [stats.xy[None], stats.yy[None, None]]])
    q, n_groups = stats.zy.shape
    if q == 0:
        return Collapsed(total, stats.n * jnp.log(sigma**2))
    d = jnp.concatenate([stats.zx, stats.zy[:, None]], axis=1)
    size = _chunk(q, len(stats.xy), n_groups)

    @jax.checkpoint
    def add(sums, chunk):
        return jax.tree.map(jnp.add, sums, _sums(*chunk, chol, sigma**2)), None

    if size == n_groups:
        explained, log_det = _sums(stats.zz, d, chol, sigma**2)
    else:
        chunks = tuple(_split(a, size) for a in (stats.zz, d))
        zero = (jnp.zeros_like(total), jnp.zeros_like(sigma))
        (explained, log_det), _ = jax.lax.scan(add, zero, chunks)
    log_det = log_det + (stats.n - n_groups * q) * jnp.log(sigma**2)
    return Collapsed(total - explained, log_det)


def points_at_once(q: int, p: int, n_groups: int, on_cpu: bool) -> int:
    """How many points of the variance parameters to evaluate together; a power of two."""
    per_group = 4 if _is_small(q, p) else q * (2 * q + p + 1)
    entries = (ENTRIES_ON_CPU if on_cpu else ENTRIES_ON_GPU) // per_group
    low, high = (64, 1024) if _is_small(q, p) else (8, 128)
    return min(high, max(low, 2 ** int(np.log2(max(entries // max(n_groups, 1), 1)))))


def _is_small(q, p):
    return q <= UNROLL_UP_TO and p <= UNROLL_COLUMNS


def _chunk(q, p, n_groups):
    """All groups if they are few, else a power of two that divides their (padded) number."""
    size = CHUNK if _is_small(q, p) else CHUNK_FACTORISED
    return n_groups if n_groups <= 2 * size else min(size, n_groups & -n_groups)


def _split(a, size):
    """Chunks of the last axis, first."""
    return jnp.moveaxis(a.reshape(*a.shape[:-1], -1, size), -2, 0)


def _unrolled(zz, d, chol, variance):
    """``sum_g D_g' K_g D_g`` and ``sum_g log|M_g|``, ``K_g = L M_g^-1 L'``.

    Entry by entry, so that each operation is one over the groups and the compiler fuses them all.
    The sum is a product of the entries of K with those of ``D_g D_g'``.
    """
    q, r = len(zz), d.shape[1]
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
    row, col = np.tril_indices(r)
    where = np.zeros((r, r), int)
    where[row, col] = where[col, row] = np.arange(len(row))
    total = jnp.zeros(len(row))
    for a, b in k:
        products = d[a][row] * d[b][col]
        if a != b:
            products = products + d[b][row] * d[a][col]
        total = total + products @ k[a, b]
    return total[where], jnp.log(pivots).sum()


def _factorised(zz, d, chol, variance):
    """The same by a factorisation of each ``M_g``."""
    half = _inverse_factor(zz, chol, variance)
    w = times(half, jnp.einsum("ai,acg->icg", chol, d))
    log_det = -2 * jnp.log(jnp.diagonal(half)).sum()
    return jnp.einsum("icg,idg->cd", w, w), log_det


def _inverse_factor(zz, chol, variance):
    """``R_g^-1``, ``M_g = R_g R_g'``."""
    al = jnp.einsum("abg,bj->ajg", zz, chol)
    return inverse_cholesky(
        jnp.einsum("ai,ajg->ijg", chol, al) + variance * jnp.eye(len(zz))[:, :, None]
    )


@jax.custom_vjp
def _sums(zz, d, chol, variance):
    """Whichever of the two is faster.

    Their gradient in closed form compiles and runs several times faster than that of the code.
    """
    small = _is_small(len(zz), d.shape[1] - 1)
    return (_unrolled if small else _factorised)(zz, d, chol, variance)


def _sums_backward(inputs, cotangents):
    """With ``U_g = M_g^-1 L'``, ``K_g = L U_g`` and ``T_g`` the cotangent of ``K_g``:

    d/dL = 2 sum_g ((I - A_g K_g) T_g + c A_g) U_g',
    d/dsigma^2 = sum_g c tr M_g^-1 - tr U_g T_g U_g',  c the cotangent of the log determinants.
    """
    zz, d, chol, variance = inputs
    of_gram, c = cotangents
    half = _inverse_factor(zz, chol, variance)
    inverse = times(jnp.swapaxes(half, 0, 1), half)
    u = jnp.einsum("ijg,aj->iag", inverse, chol)
    td = jnp.einsum("acg,cd->adg", d, (of_gram + of_gram.T) / 2)
    t = times(td, jnp.swapaxes(d, 0, 1))
    ut = times(u, t)
    inner = t - times(zz, jnp.einsum("ab,bcg->acg", chol, ut)) + c * zz
    of_chol = jnp.einsum("abg,jbg->aj", inner, u)
    of_variance = c * jnp.einsum("iig->", inverse) - (ut * u).sum()
    return jnp.zeros_like(zz), jnp.zeros_like(d), 2 * of_chol, of_variance


_sums.defvjp(lambda *inputs: (_sums(*inputs), inputs), _sums_backward)
