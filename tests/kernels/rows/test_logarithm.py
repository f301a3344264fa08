"""The logarithm of a row at a node, against NumPy's."""

import jax
import numpy as np
from numpy.testing import assert_allclose, assert_array_equal

from skhier.kernels.rows.logarithm import log, log1p


def test_logarithm_is_numpys_to_the_last_places():
    rng = np.random.default_rng(0)
    tiny = np.finfo(float).tiny
    edges = [1.0, 2.0, 0.5, np.sqrt(0.5), np.sqrt(2.0), tiny, np.finfo(float).max]
    near_one = 1 + rng.normal(size=1000) * 10.0 ** rng.uniform(-16, -1, 1000)
    x = np.concatenate([edges, near_one, np.exp(rng.uniform(np.log(tiny) + 1, 709, 10_000))])
    x = np.concatenate([x, np.nextafter(x, 0)[1:], np.nextafter(x, 2)])
    x = x[x >= tiny]
    with jax.enable_x64(True):
        ours = np.asarray(jax.jit(log)(x))
        apart = np.asarray(jax.jit(log)(np.array([np.inf, np.nan])))
    # of an x near 1 the last place of 1 + f counts, not that of the logarithm
    assert_allclose(ours, np.log(x), rtol=4e-16, atol=2**-54)
    assert_array_equal(apart, [np.inf, np.nan])


def test_logarithm_of_a_sum_is_numpys_however_small_the_rest():
    rng = np.random.default_rng(0)
    x = np.concatenate([[0.0, np.inf, np.nan], np.exp(rng.uniform(-700, 709, 20_000))])
    with jax.enable_x64(True):
        ours = np.asarray(jax.jit(log1p)(x))
    assert_allclose(ours, np.log1p(x), rtol=4e-16)
