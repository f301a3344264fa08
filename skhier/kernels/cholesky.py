"""Cholesky factors of many small matrices, in plain array operations.

Not LAPACK: jaxlib 0.10 runs its batched calls on a pool of as many threads as there are cores and
waits for them on the same threads, so that two such calls at once can wait for each other for ever.
Large matrices go to LAPACK one at a time.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular

from skhier.utils.budget import USUAL

__all__ = [
    "inverse_by_columns",
    "inverse_cholesky",
    "inverse_cholesky_of_one",
    "inverse_of_lower",
    "log_det_and_schur",
]

# rows above which a matrix is split in two; those of the last splits
HALVED_ABOVE, ROWS_WRITTEN_OUT = 8, 4
LOOP = 16  # the same of a single matrix


def inverse_cholesky(m):
    """``R^-1`` of ``m = R R'``, R lower triangular.

    Halves of halves: nearly all of it are products of matrices. The small ones at the end are
    written out, each operation one over the whole batch, which then comes last.

    Parameters
    ----------
    m : array of shape (..., q, q)
        Symmetric positive definite. Not checked: NaN where it is not.

    Returns
    -------
    array of shape (..., q, q)
    """
    if m.shape[-1] <= HALVED_ABOVE:
        return jnp.moveaxis(_batch_last(jnp.moveaxis(m, (-2, -1), (0, 1))), (0, 1), (-2, -1))
    return _by_halves(m, HALVED_ABOVE, inverse_cholesky, jnp.matmul, (-2, -1))


def _batch_last(m):
    if len(m) <= ROWS_WRITTEN_OUT:
        return _written_out(m) if len(m) else m
    return _by_halves(m, ROWS_WRITTEN_OUT, _batch_last, _times, (0, 1))


def _by_halves(m, leaf, inverse, times, axes):
    """Of ``[a b'; b c]``; the half above is a whole number of leaves."""
    q = m.shape[axes[0]]
    h = -(-q // (2 * leaf)) * leaf
    (a, _), (c, d) = (jnp.split(rows, [h], axes[1]) for rows in jnp.split(m, [h], axes[0]))
    first = inverse(a)
    below = times(c, jnp.swapaxes(first, *axes))
    second = inverse(d - times(below, jnp.swapaxes(below, *axes)))
    corner = -times(second, times(below, first))
    top = jnp.concatenate([first, jnp.zeros_like(jnp.swapaxes(corner, *axes))], axes[1])
    return jnp.concatenate([top, jnp.concatenate([corner, second], axes[1])], axes[0])


def _times(a, b):
    """Products of small matrices (i, j, ...) and (j, k, ...)."""
    return sum(a[:, j, None] * b[None, j] for j in range(len(b)))


def _written_out(m):
    q = len(m)
    root: dict[tuple[int, int], Any] = {}
    inverse: dict[tuple[int, int], Any] = {}
    for j in range(q):
        pivot = m[j, j] - sum(root[j, k] ** 2 for k in range(j))
        inverse[j, j] = 1 / jnp.sqrt(pivot)
        for i in range(j + 1, q):
            rest = m[i, j] - sum(root[i, k] * root[j, k] for k in range(j))
            root[i, j] = rest * inverse[j, j]
            inverse[j, i] = jnp.zeros_like(pivot)
    for j in range(q):
        for i in range(j + 1, q):
            inverse[i, j] = -inverse[i, i] * sum(root[i, k] * inverse[k, j] for k in range(j, i))
    return jnp.stack([jnp.stack([inverse[i, j] for j in range(q)]) for i in range(q)])


@jax.custom_jvp
def inverse_cholesky_of_one(m):
    """What :func:`inverse_cholesky` gives, of one matrix (q, q): a short program, and a gradient.

    Both triangles of ``m`` count in the gradient as they do in a symmetric change of it.
    """
    return _inverse_of_one(m)


@inverse_cholesky_of_one.defjvp
def _inverse_moved(primals, tangents):
    """Of R: ``R Phi(R^-1 dm R^-T)``, Phi the lower triangle and half of the diagonal."""
    ((m,), (dm,)) = primals, tangents
    inverse = inverse_cholesky_of_one(m)
    white = inverse @ dm @ inverse.T
    lower = jnp.tril(white) - jnp.diag(jnp.diagonal(white)) / 2
    return inverse, -lower @ inverse


def _inverse_of_one(m):
    """Of a single matrix: loops over columns, of which the program is short."""
    q = len(m)
    if not q:
        return m
    if q > LOOP:
        return _by_halves(m, LOOP, _inverse_of_one, jnp.matmul, (0, 1))
    return inverse_by_columns(m)


def inverse_by_columns(m):
    """What :func:`inverse_cholesky` gives, of one matrix: a longer way, and a short program."""
    q = len(m)
    rows = jnp.arange(q)[:, None]

    def step(j, a):
        """Elimination on ``[m I]``."""
        row = jax.lax.dynamic_index_in_dim(a, j, 0, keepdims=False)
        scale = 1 / jnp.sqrt(jax.lax.dynamic_index_in_dim(row, j, 0, keepdims=False))
        row = row * scale
        column = jax.lax.dynamic_index_in_dim(a, j, 1) * scale
        a = a - jnp.where(rows > j, column, 0.0) * row
        return jax.lax.dynamic_update_index_in_dim(a, row, j, 0)

    return jax.lax.fori_loop(0, q, step, jnp.concatenate([m, jnp.eye(q)], axis=1))[:, q:]


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def log_det_and_schur(system, k, lapack_rows=USUAL.kernels.lapack_rows):
    """``log|P|`` and the Schur complement ``C - D' P^-1 D`` of ``[P D; D' C]``, P (k, k); and R^-1.

    ``P = R R'``. The last has no gradient. LAPACK factorises more than ``lapack_rows`` rows.
    """
    return _solved(system, k, lapack_rows)[0]


def _solved(system, k, lapack_rows):
    if k > lapack_rows:
        root, half = _cholesky_and_half(system[:k])
        log_det = 2 * jnp.log(jnp.diagonal(root)).sum()
        inverse = inverse_of_lower(root)  # where nobody asks for it the compiler leaves it out
    else:
        inverse = _inverse_of_one(system[:k, :k])
        half = inverse @ system[:k, k:]
        log_det = -2 * jnp.log(jnp.diagonal(inverse)).sum()
    return (log_det, system[k:, k:] - half.T @ half, inverse), (inverse, half)


@jax.custom_batching.sequential_vmap
def _cholesky_and_half(rows):
    """R and ``R^-1 D`` of ``[P D]``, by LAPACK: never more than one at a time."""
    k = len(rows)
    root = jnp.linalg.cholesky(rows[:, :k])
    return root, solve_triangular(root, rows[:, k:], lower=True)


@jax.custom_batching.sequential_vmap
def inverse_of_lower(root):
    """``R^-1`` of a lower triangular R (q, q), by LAPACK; not finite where R is singular."""
    return solve_triangular(root, jnp.eye(len(root)), lower=True)


def _solved_backward(k, lapack_rows, kept, cotangents):
    """Of log|P|: P^-1; with V = (-P^-1 D, I) of the complement: V c V'."""
    inverse, half = kept
    of_log_det, of_schur, _ = cotangents
    v = jnp.concatenate([-(inverse.T @ half), jnp.eye(half.shape[1])])
    gradient = v @ of_schur @ v.T
    return (gradient.at[:k, :k].add(of_log_det * inverse.T @ inverse),)


log_det_and_schur.defvjp(_solved, _solved_backward)
