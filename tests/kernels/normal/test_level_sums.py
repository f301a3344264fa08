"""What levels explain, by either matrix: M of any covariance, P of one that is regular."""

from functools import partial

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose

from skhier.inference import runtime
from skhier.kernels.normal.level_sums import MANY, SOME, sums

Q, COLUMNS, LEVELS = 3, 5, 4
W, SLOTS = 2, 2


@pytest.fixture(autouse=True)
def precisely():
    with runtime.precisely_on(None):
        yield


def products(seed=0):
    """A and D of levels of 10 rows; of the last none, as of those that fill a row of slots up."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((LEVELS, 10, Q))
    columns = rng.standard_normal((LEVELS, 10, COLUMNS))
    a, d = np.einsum("gni,gnj->ijg", z, z), np.einsum("gni,gnc->icg", z, columns)
    a[..., -1] = d[..., -1] = 0.0
    return a, d


def root(correlation=0.5, scale=1.0):
    """Of effects of which the first two have that correlation, and the third such a scale."""
    chol = np.tril(0.3 * np.random.default_rng(1).standard_normal((Q, Q)), -1) + np.eye(Q)
    chol[1, :2] = correlation, np.sqrt(1 - correlation**2)
    chol[2] *= scale
    return chol


def score(way, a, d, chol, variance):
    """A number in which all that ``sums`` returns has a weight of its own."""
    gram, log_det, by_row = sums(W, SLOTS, True, way, a, d, chol, variance)
    weights = np.random.default_rng(2).standard_normal((gram.size + by_row.size,))
    of_gram, of_rows = np.split(weights, [gram.size])
    return of_gram @ gram.ravel() + 0.7 * log_det + of_rows @ by_row.ravel()


value_and_gradient = jax.jit(jax.value_and_grad(score, (1, 2, 3, 4)), static_argnums=0)
of_many = jax.jit(jax.vmap(partial(score, MANY), (None, None, 0, 0)))

ROOTS = {
    "regular": root(),
    "hardly regular": root(1 - 2e-6),
    "nearly singular": root(1 - 1e-12),
    "perfect correlation": root(1.0),
    "small scale": root(scale=2e-4),
    "tiny scale": root(scale=1e-40),
    "scale that has no inverse": root(scale=1e-200),
    "no scale": root(scale=0.0),
}


def test_sums_are_those_of_dense_matrices():
    a, d = products()
    chol, variance = root(), 0.7
    of_levels = jax.jit(partial(sums, W, SLOTS, True, MANY))
    gram, log_det, by_row = of_levels(a, d, chol, np.array(variance))
    k = [np.linalg.inv(a[..., g] + variance * np.linalg.inv(chol @ chol.T)) for g in range(LEVELS)]
    explained = np.array([d[..., g].T @ k[g] @ d[..., g] for g in range(LEVELS)])
    assert_allclose(gram, explained.sum(0)[W:, W:], rtol=1e-12)
    assert_allclose(by_row, np.moveaxis(explained.reshape(2, 2, COLUMNS, -1).sum(1), 0, 2)[:W])
    dets = [
        np.linalg.slogdet(chol.T @ a[..., g] @ chol + variance * np.eye(Q))[1]
        for g in range(LEVELS)
    ]
    assert_allclose(log_det, sum(dets), rtol=1e-13)


@pytest.mark.parametrize("kind", ROOTS)
def test_both_matrices_give_the_same(kind):
    at = (*products(), ROOTS[kind], np.array(0.7))
    (value, gradients), (expected, others) = (value_and_gradient(way, *at) for way in (MANY, SOME))
    assert_allclose(value, expected, rtol=1e-10)
    for many, some in zip(gradients, others, strict=True):
        many, some = (np.tril(g) if g.shape == (Q, Q) else np.asarray(g) for g in (many, some))
        assert_allclose(many, some, rtol=1e-8, atol=1e-8 * np.abs(some).max())


@pytest.mark.parametrize("last", ["hardly regular", "nearly singular", "no scale"])
def test_points_together_have_the_values_of_each(last):
    a, d = products()
    chols, variances = np.array([ROOTS["regular"], ROOTS[last]]), np.array([0.1, 2.0])
    points = zip(chols, variances, strict=True)
    each = [value_and_gradient(SOME, a, d, *point)[0] for point in points]
    assert_allclose(of_many(a, d, chols, variances), each, rtol=1e-10)


def test_points_may_have_one_root():
    a, d = products()
    at = jax.jit(jax.vmap(partial(score, MANY), (None, None, None, 0)))
    each = [value_and_gradient(SOME, a, d, root(), np.array(v))[0] for v in (0.1, 2.0)]
    assert_allclose(at(a, d, root(), np.array([0.1, 2.0])), each, rtol=1e-10)
