"""Normals that stand for a skewed variable, against SciPy's skew normal distribution."""

from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import optimize, stats

from skhier.posterior.skewed import MEANS, SDS, in_parts, skewed_noise


def parts_of(skew):
    """Means and sds (3,) that stand for mean 0, variance 1."""
    one = np.ones((1, 1))
    return (a[:, 0] for a in in_parts(0 * one, one, skew * one))


def test_thirds_of_a_half_normal_have_their_moments():
    ends = stats.halfnorm.ppf(np.arange(4) / 3)
    thirds = [stats.truncnorm(*pair) for pair in pairwise(ends)]
    assert_allclose(MEANS, [third.mean() for third in thirds], rtol=1e-7)
    assert_allclose(SDS, [third.std() for third in thirds], rtol=1e-6)


@pytest.mark.parametrize("shape", [-6.0, -2.3, 0.0, 1.2, 3.0])
def test_parts_are_near_a_skew_normal(shape):
    law = stats.skewnorm(shape)
    centre, variance, skew = law.stats("mvs")
    means, sds = parts_of(skew)
    assert_allclose(means.mean(), 0, atol=1e-7)
    assert_allclose((means**2 + sds**2).mean(), 1, rtol=1e-6)
    for level in (0.05, 0.5, 0.95):

        def above(t, level=level):
            return stats.norm.cdf(t, means, sds).mean() - level

        exact = (law.ppf(level) - centre) / np.sqrt(variance)
        # of sd; a normal distribution is off by up to 0.36
        assert abs(optimize.brentq(above, -6, 6) - exact) < 0.045


@pytest.mark.parametrize("skew", [-0.9, 0.0, 0.4])
def test_draws_have_the_moments_asked_for(skew):
    u, v = np.random.default_rng(0).standard_normal((2, 200_000))
    draws = skewed_noise(np.array(skew), u, v)
    # five standard errors: the variance of a sample skewness is some 15 / n
    assert abs(draws.mean()) < 5 / np.sqrt(2e5)
    assert abs(draws.var() - 1) < 5 * np.sqrt(3 / 2e5)
    assert abs(stats.skew(draws) - skew) < 5 * np.sqrt(15 / 2e5)


def test_a_line_without_spread_stays_where_it_is():
    mean, sd = in_parts(np.ones((2, 1)), np.zeros((2, 1)), np.zeros((2, 1)))
    assert_allclose(mean, 1)
    assert_allclose(sd, 0)
