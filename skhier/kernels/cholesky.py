"""Cholesky factors of many small matrices, in plain array operations.

Not LAPACK: jaxlib 0.10 runs its batched calls on a pool of as many threads as there are cores and
waits for them on the same threads, so that two such calls at once can wait for each other for ever.
Large matrices go to LAPACK one at a time.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular

__all__ = ["inverse_cholesky", "log_det_and_schur", "times"]

LEAF = 16  # rows above which a matrix is split in two
LARGE = 64  # rows above which LAPACK is faster and the program it spares takes seconds to compile


def inverse_cholesky(m):
    """``R^-1`` of ``m = R R'``, R lower triangular.

    Parameters
    ----------
    m : array of shape (q, q, ...)
        Symmetric positive definite, the batch on the last axes. Not checked: NaN where it is not.

    Returns
    -------
    array of shape (q, q, ...)
    """
    q = len(m)
    if q <= LEAF:
        return _by_columns(m) if q else m
    h = q // 2
    first = inverse_cholesky(m[:h, :h])
    below = times(m[h:, :h], jnp.swapaxes(first, 0, 1))
    second = inverse_cholesky(m[h:, h:] - times(below, jnp.swapaxes(below, 0, 1)))
    corner = -times(second, times(below, first))
    top = jnp.concatenate([first, jnp.zeros_like(m[:h, h:])], axis=1)
    return jnp.concatenate([top, jnp.concatenate([corner, second], axis=1)])


def _by_columns(m):
    """Elimination on ``[m I]``."""
    q = len(m)
    batch = m.shape[2:]
    eye = jnp.eye(q).reshape(q, q, *[1] * len(batch))
    rows = jnp.arange(q).reshape(q, *[1] * len(batch))

    def step(j, a):
        row = jax.lax.dynamic_index_in_dim(a, j, 0, keepdims=False)
        scale = 1 / jnp.sqrt(jax.lax.dynamic_index_in_dim(row, j, 0, keepdims=False))
        row = row * scale
        column = jax.lax.dynamic_index_in_dim(a, j, 1, keepdims=False) * scale
        a = a - jnp.where(rows > j, column, 0.0)[:, None] * row
        return jax.lax.dynamic_update_index_in_dim(a, row, j, 0)

    augmented = jnp.concatenate([m, jnp.broadcast_to(eye, m.shape)], axis=1)
    return jax.lax.fori_loop(0, q, step, augmented)[:, q:]


def times(a, b):
    """Products of matrices (i, j, ...) and (j, k, ...), the batch on the last axes."""
    if a.ndim == 2:
        return a @ b
    return (a[:, :, None] * b[None]).sum(1)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def log_det_and_schur(system, k):
    """``log|P|`` and the Schur complement ``C - D' P^-1 D`` of ``[P D; D' C]``, P (k, k); and R^-1.

    ``P = R R'``. The last has no gradient.
    """
    return _solved(system, k)[0]


def _solved(system, k):
    if k > LARGE:
        root, half = _cholesky_and_half(system[:k])
        log_det = 2 * jnp.log(jnp.diagonal(root)).sum()
        inverse = _inverse_of_lower(root)  # where nobody asks for it the compiler leaves it out
    else:
        inverse = inverse_cholesky(system[:k, :k])
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
def _inverse_of_lower(root):
    return solve_triangular(root, jnp.eye(len(root)), lower=True)


def _solved_backward(k, kept, cotangents):
    """Of log|P|: P^-1; with V = (-P^-1 D, I) of the complement: V c V'."""
    inverse, half = kept
    of_log_det, of_schur, _ = cotangents
    v = jnp.concatenate([-(inverse.T @ half), jnp.eye(half.shape[1])])
    gradient = v @ of_schur @ v.T
    return (gradient.at[:k, :k].add(of_log_det * inverse.T @ inverse),)


log_det_and_schur.defvjp(_solved, _solved_backward)
