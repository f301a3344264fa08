"""Quantiles of responses, whose distribution function is all that is known of them."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from skhier.posterior.reached import reached


def quantile(family, level, start, width=1.0, **kind):
    levels, starts = np.full(2, level), np.full(2, start)
    return reached(lambda y, rows: family.cdf(y), levels, starts, np.full(2, width), **kind)


@pytest.mark.parametrize("centre", [-1e3, -2.0, 0.0, 1e3])
@pytest.mark.parametrize("level", [0.01, 0.5, 0.99])
def test_quantiles_are_reached_on_every_side_of_zero(centre, level):
    family = stats.t(4, centre, 50.0)
    for start in (centre, 0.0, 1e5):
        at = quantile(family, level, start, discrete=False)
        assert_allclose(at, family.ppf(level), atol=1e-6)


@pytest.mark.parametrize("mean", [1e-3, 0.5, 8.0, 1e3, 1e7])
@pytest.mark.parametrize("level", [1e-6, 0.01, 0.5, 0.99])
def test_counts_are_the_smallest_that_reach_a_level(mean, level):
    family = stats.poisson(mean)
    for start in (mean, 0.0, 1e9):
        at = quantile(family, level, start, discrete=True, least=-1.0)
        assert_array_equal(at, family.ppf(level))


def test_rows_have_levels_and_distributions_of_their_own():
    mean, levels = np.array([0.1, 5.0, 300.0]), np.array([0.99, 0.5, 0.05])
    at = reached(
        lambda y, rows: stats.poisson.cdf(y, mean[rows]),
        levels,
        np.ones(3),
        np.ones(3),
        discrete=True,
        least=-1.0,
    )
    assert_array_equal(at, stats.poisson.ppf(levels, mean))
