"""Batches of small matrices, the batch on the last axes."""

import numpy as np

__all__ = ["cholesky", "inverse_root", "matmul"]

UNROLL_UP_TO = 8


def inverse_root(m, least=0.0):
    """``R^-1`` of ``m = R R'``, R lower triangular.

    Unrolled over the rows for small matrices, so that every operation runs over the whole batch.

    Parameters
    ----------
    m : array of shape (q, q, ...)
        Symmetric positive definite: a semidefinite matrix and ``least`` on its diagonal. Only the
        lower triangle is read; not checked.
    least : array that broadcasts to the batch
        No pivot of such a sum is smaller, whatever rounding says: with little noise and many rows
        the first part swallows it.

    Returns
    -------
    array of shape (q, q, ...)
    """
    if len(m) > UNROLL_UP_TO:
        root = cholesky(np.moveaxis(m, (0, 1), (-2, -1)), least)
        return np.moveaxis(np.linalg.inv(root), (-2, -1), (0, 1))
    return _invert_lower(_unrolled_cholesky(m, least))


def cholesky(m, least):
    """LAPACK's factors of ``m`` (..., q, q), with eigenvalues no smaller than ``least`` (...)."""
    try:
        return np.linalg.cholesky(m)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(m)
        half = vectors * np.sqrt(np.maximum(values, np.asarray(least)[..., None]))[..., None, :]
        upper = np.linalg.qr(np.swapaxes(half, -2, -1), mode="r")
        signs = np.sign(np.diagonal(upper, axis1=-2, axis2=-1))
        return np.swapaxes(signs[..., None] * upper, -2, -1)


def matmul(a, b):
    """Products of small matrices, (i, j, ...) and (j, k, ...), the batches broadcast.

    Entry by entry for small ones, so that every operation runs over the whole batch. Of large ones
    the batch comes first in memory, for BLAS: what is made of one product goes into the next as it
    is.
    """
    (n, inner), k = a.shape[:2], b.shape[1]
    if min(n, inner) > UNROLL_UP_TO:
        first, second = (np.ascontiguousarray(np.moveaxis(m, (0, 1), (-2, -1))) for m in (a, b))
        return np.moveaxis(first @ second, (-2, -1), (0, 1))
    if max(n, inner, k) > UNROLL_UP_TO:
        return np.einsum("ij...,jk...->ik...", a, b)
    out = np.empty((n, k, *np.broadcast_shapes(a.shape[2:], b.shape[2:])))
    for r in range(n):
        for c in range(k):
            np.multiply(a[r, 0], b[0, c], out=out[r, c])
            for j in range(1, inner):
                out[r, c] += a[r, j] * b[j, c]
    return out


def _unrolled_cholesky(m, least):
    q = len(m)
    root = np.zeros_like(m)
    for j in range(q):
        root[j, j] = np.sqrt(np.maximum(m[j, j] - (root[j, :j] ** 2).sum(0), least))
        for i in range(j + 1, q):
            root[i, j] = (m[i, j] - (root[i, :j] * root[j, :j]).sum(0)) / root[j, j]
    return root


def _invert_lower(root):
    q = len(root)
    inverse = np.zeros_like(root)
    for i in range(q):
        inverse[i, i] = 1 / root[i, i]
        for j in range(i):
            inverse[i, j] = -inverse[i, i] * (root[i, j:i] * inverse[j:i, j]).sum(0)
    return inverse
