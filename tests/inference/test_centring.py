"""Normal approximations whose mean is the density's."""

from dataclasses import replace

import numpy as np
from numpy.testing import assert_allclose

from skhier.inference.centring import centred
from skhier.inference.mode import Laplace
from skhier.utils.budget import USUAL

SHAPE = np.array([4.0, 9.0, 30.0])


def log_gammas(x):
    """Logarithms of gamma variables: log densities (n,) and gradients."""
    return (SHAPE * x - np.exp(x)).sum(1), SHAPE - np.exp(x)


def test_mean_gradient_is_zero_there():
    # under Normal(m, s^2) the mean of SHAPE - exp(x) is 0 at m = log SHAPE - s^2 / 2
    rng, sd = np.random.default_rng(0), 1 / np.sqrt(SHAPE)
    budget = replace(USUAL.importance, centring_pairs=4096, centrings=6, near_mean=0.0)
    normal = centred(log_gammas, Laplace(np.log(SHAPE), np.diag(sd)), rng, budget)
    error = 1 / (SHAPE * np.sqrt(2 * 4096))  # that of the even part's leading term, s^4 z^2 / 2
    assert (np.abs(normal.mean - (np.log(SHAPE) - sd**2 / 2)) < 5 * error).all()
    assert_allclose(normal.root, np.diag(sd))


def test_far_away_the_curvature_is_that_of_the_mode():
    rng, sd = np.random.default_rng(0), 1 / np.sqrt(SHAPE)
    start = Laplace(np.log(SHAPE) + 1.0, np.diag(sd))
    normal = centred(log_gammas, start, rng)
    assert_allclose(normal.mean, np.log(SHAPE) - sd**2 / 2, atol=0.05)
    assert_allclose(normal.root @ normal.root.T, np.diag(sd**2), rtol=0.01, atol=1e-4)


def test_gradients_that_are_not_finite_say_nothing():
    def half(x):
        values, slopes = log_gammas(x)
        return values, np.where(x > np.log(SHAPE) + 0.1, np.nan, slopes)

    start = Laplace(np.log(SHAPE), np.diag(1 / np.sqrt(SHAPE)))
    assert np.isfinite(centred(half, start, np.random.default_rng(0)).mean).all()


def test_no_normal_is_found_where_the_mean_gradient_stays_far_from_zero():
    # a slope of 100 wherever one looks: no mean makes it 0
    def steep(x):
        return 100 * x.sum(1), np.full(x.shape, 100.0)

    assert centred(steep, Laplace(np.zeros(3), np.eye(3)), np.random.default_rng(0)) is None
