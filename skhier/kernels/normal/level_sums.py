"""What the levels of a factor explain: sums over levels, and their gradient in closed form.

With ``M = L'AL + sigma^2 I``, ``K = L M^-1 L'`` and ``Sigma = L L'`` these are ``sum D'K D`` and
``sum log|M|``. Few effects are written out; of more, levels are products of matrices, by the root
``M = R R'``. Of many, and a regular Sigma, ``P = A + sigma^2 Sigma^-1`` takes M's place: ``K`` is
its inverse and ``log|M| = log|P| + log|Sigma|``, which is half the work. Where Sigma is singular,
or so near to it that its inverse would cost digits, it is M after all.

The gradient, with ``Y = M^-1 L'D``, ``B = K D``, E the cotangent of ``D'K D`` and c that of the log
determinants:

    dA = c K - B E B',    dD = 2 B E
    by M:  dL = 2 sum (D - A L Y) E Y' + c A L M^-1,    dsigma^2 = sum c tr M^-1 - tr Y E Y'
    by P:  dL = 2 sigma^2 Sigma^-1 S L'^-1 + 2 c sum L'^-1,    dsigma^2 = - tr Sigma^-1 S,
           S = sum B E B' - c K
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from skhier.kernels.cholesky import inverse_by_columns, inverse_cholesky, inverse_of_lower

__all__ = ["FEW", "MANY", "SOME", "inverse_roots", "sums"]

FEW, SOME, MANY = "written out", "by M", "by P"  # how levels of so many effects are worked with
MAX_INFLATION = 1e6  # of an effect's variance by its correlations: ten digits of K are left
MAX_PRECISION = 1e8  # in units of the noise's: of a smaller effect the gradient would lose digits


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2, 3))
def sums(w, slots, varies, way, zz, d, chol, variance):
    """``sum D'K D`` without the first w columns, ``sum log|M|``, and the first w rows of ``D'K D``,
    a sum for each so many slots.

    Their gradient in closed form compiles and runs several times faster than that of the code.

    Parameters
    ----------
    w, slots : int
        Static, as are the next two.
    varies : bool
        Whether A and D have a gradient.
    way : {FEW, SOME, MANY}
    zz : array of shape (q, q, n_levels)
        A
    d : array of shape (q, c, n_levels)
        D
    chol : array of shape (q, q)
        L, lower triangular; may be singular.
    variance : scalar
        sigma^2
    """
    return _forward(w, slots, varies, way, zz, d, chol, variance)[0]


def _forward(w, slots, varies, way, zz, d, chol, variance):
    if way == FEW:
        explained, kept = _unrolled(zz, d, chol, variance, w, slots), None
    else:
        explained, kept = _factorised(zz, d, chol, variance, w, slots, way)
    return explained, (zz, d, chol, variance, kept)


def _backward(w, slots, varies, way, inputs, cotangents):
    """See the module."""
    zz, d, chol, variance, kept = inputs
    of_gram, c, of_rows = cotangents
    if kept is None:
        kept = _factorised(zz, d, chol, variance, w, slots, way)[1]
    e = jnp.pad(of_gram, (w, 0))
    if w:
        by_row = jnp.repeat(jnp.moveaxis(of_rows, 2, 0), slots, 0)
        e = e + jnp.pad(by_row, ((0, 0), (0, len(of_gram)), (0, 0)))
    e = (e + jnp.swapaxes(e, -1, -2)) / 2
    inverse, wide = kept
    numbers = zz, d, chol, variance, inverse, wide, e, c
    if way == MANY:
        precision, is_regular = _precision(chol, variance)
        by_p, by_m = partial(_backward_by_p, varies), partial(_backward_by_m, varies)
        gradients = jax.lax.cond(is_regular, by_p, by_m, *numbers, precision)
    else:
        gradients = _backward_by_m(varies, *numbers, None)
    return gradients if varies else (jnp.zeros_like(zz), jnp.zeros_like(d), *gradients)


sums.defvjp(_forward, _backward)


def _backward_by_m(varies, zz, d, chol, variance, inverse, wide, e, c, precision):
    """Gradients of A and D if they vary, of L and of sigma^2, from R^-1 and R^-1 L'D."""
    d, al = jnp.moveaxis(d, 2, 0), jnp.moveaxis(zz, 2, 0) @ chol
    half = jnp.swapaxes(inverse, 1, 2)
    y, of_m = half @ wide, half @ inverse
    ye = y @ e
    of_chol = 2 * (_sum_of_products(d - al @ y, ye) + c * _sum_of_products(al, of_m))
    of_variance = c * jnp.einsum("gii->", of_m) - (ye * y).sum()
    if not varies:
        return of_chol, of_variance
    ly, lye = chol @ y, chol @ ye
    of_zz = c * chol @ of_m @ chol.T - lye @ jnp.swapaxes(ly, 1, 2)
    return jnp.moveaxis(of_zz, 0, 2), 2 * jnp.moveaxis(lye, 0, 2), of_chol, of_variance


def _sum_of_products(a, b):
    """``sum_g a_g b_g'`` of (n_levels, q, c) each."""
    return jnp.einsum("gac,gic->ai", a, b)


def _backward_by_p(varies, zz, d, chol, variance, inverse, wide, e, c, precision):
    """The same from the inverse root of P and its product with D."""
    inverse_chol, precision = precision
    q, n_levels = len(chol), zz.shape[2]
    b = jnp.swapaxes(wide, 1, 2) @ inverse  # B'
    eb, rows = e @ b, inverse.reshape(-1, q)
    total = b.reshape(-1, q).T @ eb.reshape(-1, q) - c * rows.T @ rows
    of_chol = 2 * (variance * precision @ total + c * n_levels * jnp.eye(q)) @ inverse_chol.T
    of_variance = -(precision * total).sum()
    if not varies:
        return of_chol, of_variance
    of_zz = c * jnp.swapaxes(inverse, 1, 2) @ inverse - jnp.swapaxes(b, 1, 2) @ eb
    return jnp.moveaxis(of_zz, 0, 2), 2 * jnp.transpose(eb, (2, 1, 0)), of_chol, of_variance


def _factorised(zz, d, chol, variance, w, slots, way):
    """The sums; inverse roots of every level, and their products with the columns."""
    roots = _roots if way == MANY else partial(_roots_of_m, inverse_cholesky)
    inverse, wide, log_det = roots(zz, d, chol, variance)
    n_levels, _, columns = wide.shape
    all_rows = wide[:, :, w:].reshape(-1, columns - w)
    rows = wide.reshape(n_levels // slots, -1, columns)  # those of the levels of a row of slots
    by_row = jnp.moveaxis(jnp.swapaxes(rows[:, :, :w], 1, 2) @ rows, 0, 2)
    return (all_rows.T @ all_rows, log_det, by_row), (inverse, wide)


@jax.custom_batching.custom_vmap
def _roots(zz, d, chol, variance):
    """R^-1 (n_levels, q, q), its product with ``L'D``, and ``sum log|M|``, by M; or of P and D."""
    precision, is_regular = _precision(chol, variance)
    return jax.lax.cond(is_regular, _roots_of_p, _seldom, zz, d, chol, variance, precision)


@_roots.def_vmap
def _roots_of_points(n_points, in_batched, zz, d, chol, variance):
    """One way for all of them: ``vmap`` would go both ways for each."""
    at = [0 if is_batched else None for is_batched in in_batched]
    if not in_batched[2]:
        chol, at[2] = jnp.broadcast_to(chol, (n_points, *chol.shape)), 0
    precisions, are_regular = jax.vmap(_precision, (0, at[3]))(chol, variance)
    ways = (jax.vmap(way, (*at, 0)) for way in (_roots_of_p, _seldom))
    roots = jax.lax.cond(are_regular.all(), *ways, zz, d, chol, variance, precisions)
    return roots, (True, True, True)


def _precision(chol, variance):
    """``L^-1`` and ``Sigma^-1``; whether they are exact enough."""
    inverse = inverse_of_lower(chol)
    precision = inverse.T @ inverse
    of_effects = jnp.diagonal(precision)
    is_exact = (chol**2).sum(1) * of_effects < MAX_INFLATION
    return (inverse, precision), (is_exact & (variance * of_effects < MAX_PRECISION)).all()


def _roots_of_p(zz, d, chol, variance, precision):
    inverse = inverse_cholesky(jnp.moveaxis(zz + variance * precision[1][..., None], 2, 0))
    log_det = zz.shape[2] * jnp.log(jnp.abs(jnp.diagonal(chol))).sum()
    log_det = 2 * (log_det - jnp.log(jnp.diagonal(inverse, axis1=1, axis2=2)).sum())
    return inverse, inverse @ jnp.moveaxis(d, 2, 0), log_det


def _seldom(zz, d, chol, variance, precision):
    """By M, in a short program."""
    return _roots_of_m(jax.vmap(inverse_by_columns), zz, d, chol, variance)


def _roots_of_m(invert, zz, d, chol, variance):
    inverse = invert(_systems(zz, chol, variance))
    log_det = -2 * jnp.log(jnp.diagonal(inverse, axis1=1, axis2=2)).sum()
    return inverse, inverse @ (chol.T @ jnp.moveaxis(d, 2, 0)), log_det


def inverse_roots(zz, chol, variance):
    """``R^-1`` of every level, ``M = R R'``, (n_levels, q, q)."""
    return inverse_cholesky(_systems(zz, chol, variance))


def _systems(zz, chol, variance):
    """M"""
    return chol.T @ (jnp.moveaxis(zz, 2, 0) @ chol) + variance * jnp.eye(len(zz))


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
