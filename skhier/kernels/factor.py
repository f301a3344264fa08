"""Cholesky factors of many small matrices, in plain array operations.

Not LAPACK: jaxlib 0.10 runs its batched calls on a pool of as many threads as there are cores and
waits for them on the same threads, so that two such calls at once can wait for each other for ever.
"""

import jax
import jax.numpy as jnp

__all__ = ["inverse_cholesky", "log_det_and_schur", "times"]

LEAF = 16  # rows above which a matrix is split in two


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


@jax.custom_vjp
def log_det_and_schur(system):
    """``log|P|`` and the Schur complement ``c - k' P^-1 k`` of ``[P k; k' c]``; and ``R^-1``.

    ``P = R R'``. The last has no gradient.
    """
    return _solved(system)[0]


def _solved(system):
    k = len(system) - 1
    inverse = inverse_cholesky(system[:k, :k])
    half = inverse @ system[:k, k]
    log_det = -2 * jnp.log(jnp.diagonal(inverse)).sum()
    return (log_det, system[k, k] - half @ half, inverse), (inverse, half)


def _solved_backward(kept, cotangents):
    """Of log|P|: P^-1; with v = (-P^-1 k, 1) of the complement: v v'."""
    inverse, half = kept
    of_log_det, of_schur, _ = cotangents
    v = jnp.append(-(half @ inverse), 1.0)
    gradient = of_schur * jnp.outer(v, v)
    return (gradient + of_log_det * jnp.pad(inverse.T @ inverse, (0, 1)),)


log_det_and_schur.defvjp(_solved, _solved_backward)
