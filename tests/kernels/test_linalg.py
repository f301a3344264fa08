"""Batches of small matrices."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from skhier.kernels.linalg import cholesky, inverse_root, matmul


def semidefinite(q, rank, batch, seed=0):
    """Matrices (q, q, batch) of some rank."""
    a = np.random.default_rng(seed).standard_normal((q, rank, batch))
    return np.einsum("irg,jrg->ijg", a, a)


@pytest.mark.parametrize("q", [2, 3, 9])
def test_no_pivot_is_below_what_was_added_to_the_diagonal(q):
    # a a' + least I, one part 1e25 of the other: rounding leaves pivots of either sign
    least = np.full(200, 1e-25)
    m = semidefinite(q, 1, 200) + least * np.eye(q)[..., None]
    inverse = inverse_root(m, least)
    assert np.isfinite(inverse).all()
    diagonal = np.abs(np.einsum("iig->ig", inverse))
    assert np.all(diagonal <= 1.001e12 * np.sqrt(10))
    # where a is: a'(a a' + least I)^-1 a = 1 to rounding over least
    assert np.all(diagonal[0] * np.sqrt(m[0, 0]) == pytest.approx(1))


def test_cholesky_of_a_matrix_that_rounding_made_indefinite():
    m = np.array([[1.0, 1.0], [1.0, 1.0 - 1e-16]]) - np.diag([0, 2e-16])
    with pytest.raises(np.linalg.LinAlgError):
        np.linalg.cholesky(m)
    root = cholesky(np.stack([m, np.eye(2)]), np.array([1e-20, 1.0]))
    assert_allclose(root @ np.swapaxes(root, 1, 2), np.stack([m, np.eye(2)]), atol=1e-15)
    assert_allclose(root, np.tril(root))
    assert np.all(np.diagonal(root, axis1=1, axis2=2) > 0)


@pytest.mark.parametrize("shape", [(2, 3, 4), (9, 10, 1), (9, 3, 12), (11, 12, 10)])
@pytest.mark.parametrize("batches", [((4, 5), (4, 5)), ((1, 5), (4, 1))])
def test_products_are_those_of_each_matrix(shape, batches):
    n, inner, k = shape
    rng = np.random.default_rng(0)
    a, b = (
        rng.standard_normal((n, inner, *batches[0])),
        rng.standard_normal((inner, k, *batches[1])),
    )
    products = matmul(a, b)
    assert products.shape == (n, k, 4, 5)
    whole = np.broadcast_to(a, (n, inner, 4, 5)), np.broadcast_to(b, (inner, k, 4, 5))
    for i, j in np.ndindex(4, 5):
        assert_allclose(products[..., i, j], whole[0][..., i, j] @ whole[1][..., i, j], atol=1e-13)
