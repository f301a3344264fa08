"""Quantiles and densities of mixtures of normals against root finding and log-sum-exp."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import brentq
from scipy.special import logsumexp
from scipy.stats import norm

from skhier.posterior.mixture import (
    mixture_cdf,
    mixture_log_density,
    mixture_moments,
    mixture_quantiles,
    total_moments,
    without_lightest,
)

Q = np.array([1e-6, 0.05, 0.5, 0.9, 1 - 1e-6])

MIXTURES = {
    "one component": ([[2.0]], [[3.0]]),
    "like a posterior": (
        np.random.default_rng(0).normal(size=(400, 3)),
        np.random.default_rng(1).gamma(3, size=(400, 3)),
    ),
    "two far modes": ([[0.0], [1e6]], [[1.0], [1.0]]),
    "very unequal widths": ([[0.0], [0.0]], [[1e-6], [1e6]]),
    "far from zero": ([[1e9], [1e9 + 1]], [[0.5], [2.0]]),
    "needles": (np.random.default_rng(47).normal(size=(100, 1)), np.full((100, 1), 9.5e-8)),
    "tiny": ([[5e-200], [1e-200]], [[1e-200], [3e-200]]),
}


@pytest.mark.parametrize("mean_sd", MIXTURES.values(), ids=MIXTURES)
def test_quantiles_invert_the_distribution_function(mean_sd):
    mean, sd = map(np.asarray, mean_sd)
    found = mixture_quantiles(mean, sd, Q)
    assert found.shape == (mean.shape[1], len(Q))
    for i in range(mean.shape[1]):
        spread = np.sqrt(np.mean(sd[:, i] ** 2) + np.var(mean[:, i]))
        if spread == 0:  # the squares underflow
            spread = np.ptp(mean[:, i]) + sd[:, i].max()
        for q, at in zip(Q, found[i], strict=True):

            def off(t, i=i, q=q):
                return norm.cdf(t, mean[:, i], sd[:, i]).mean() - q

            ends = mean[:, i].min() - 10 * sd[:, i].max(), mean[:, i].max() + 10 * sd[:, i].max()
            exact = brentq(off, *ends, xtol=1e-300, rtol=1e-15)
            # between far modes the function is flat and any point has the probability
            near = 1e-9 * spread + 4 * np.spacing(abs(exact))
            assert abs(at - exact) < near or abs(off(at)) < 1e-15


def test_quantiles_increase_with_their_level():
    mean, sd = MIXTURES["like a posterior"]
    assert np.all(np.diff(mixture_quantiles(mean, sd, np.linspace(0.01, 0.99, 50))) > 0)


def test_quantiles_without_spread_are_those_of_the_draws():
    mean = np.random.default_rng(0).normal(size=(101, 2))
    found = mixture_quantiles(mean, np.zeros_like(mean), np.array([0.25, 0.5]))
    assert_array_equal(found, np.quantile(mean, [0.25, 0.5], axis=0).T)


def test_quantiles_of_a_row_do_not_depend_on_the_others():
    rng = np.random.default_rng(4)
    mean, sd = rng.normal(size=(1001, 6)), rng.gamma(2, size=(1001, 6))
    sd[:, 1] = 0
    sd[::3, 2] = 0
    mean[:, 3] = 7.0
    sd[:, 3] = 0
    mean[:, 4], sd[:, 4] = 1e9 + 1e-3 * mean[:, 4], 1e-5 * sd[:, 4]
    together = mixture_quantiles(mean, sd, Q)
    for rows in ([0], [1], [2], [3], [4], [5], [1, 3], [0, 1], [5, 2, 1], [4, 4, 0]):
        for order in "CF":
            alone = (np.asarray(a[:, rows], order=order) for a in (mean, sd))
            assert_array_equal(mixture_quantiles(*alone, Q), together[rows])
    assert_array_equal(together[1], np.quantile(mean[:, 1], Q))
    assert_array_equal(together[3], 7.0)


@pytest.mark.parametrize("scale", [1e-200, 1e-12, 1.0, 1e200])
def test_quantiles_of_points_among_normals_are_those_of_the_step(scale):
    # F(t) = (1{t >= 0} + Phi(t - 1)) / 2: a step of 1/2 at 0, from 0.0793 to 0.5793
    mean, sd = scale * np.array([[0.0], [1.0]]), scale * np.array([[0.0], [1.0]])
    levels = np.array([0.05, 0.1, 0.3, 0.5, 0.57, 0.6, 0.9])
    exact = np.where(
        levels < 0.5 * norm.cdf(-1),
        1 + norm.ppf(np.minimum(2 * levels, 0.99)),
        1 + norm.ppf(np.maximum(2 * levels - 1, 0.01)),
    )
    exact[(levels > 0.5 * norm.cdf(-1)) & (levels < 0.5 + 0.5 * norm.cdf(-1))] = 0
    found = mixture_quantiles(mean, sd, levels)[0]
    assert_allclose(found / scale, exact, rtol=1e-9, atol=2e-10)


@pytest.mark.parametrize("narrow", [0.0, 1e-300, 1e-160, 1e-20])
def test_quantiles_of_narrow_components_warn_of_nothing(narrow):
    # half the mass at 3, the rest normal: the median of a symmetric mixture
    mean, sd = np.full((4, 1), 3.0), np.array([[narrow], [1.0], [narrow], [1.0]])
    with warnings.catch_warnings(), np.errstate(over="raise", invalid="raise", divide="raise"):
        warnings.simplefilter("error")
        found = mixture_quantiles(mean, sd, np.array([0.1, 0.4, 0.5, 0.9]))[0]
    assert_allclose(found, 3 + np.array([norm.ppf(0.2), 0, 0, norm.ppf(0.8)]), atol=1e-9)


def test_quantiles_of_a_point_are_the_point():
    # case 45: the posterior of a constant y
    mean, sd = np.full((10, 1), 5.0), np.full((10, 1), 1e-15)
    assert_allclose(mixture_quantiles(mean, sd, Q), 5.0, rtol=1e-14)
    some = np.where(np.arange(10)[:, None] % 2, sd, 0.0)
    assert_allclose(mixture_quantiles(mean, some, Q), 5.0, rtol=1e-14)


def test_log_density_is_that_of_the_mixture():
    rng = np.random.default_rng(2)
    y, mean, sd = rng.normal(size=3), rng.normal(size=(50, 3)), rng.gamma(2, size=(50, 3))
    exact = logsumexp(norm.logpdf(y, mean, sd), axis=0) - np.log(50)
    assert_allclose(mixture_log_density(y, mean, sd), exact, rtol=1e-12)


def test_log_density_far_away_is_finite():
    # case 62
    assert_allclose(
        mixture_log_density(np.array([1e6]), np.zeros((1, 1)), np.ones((1, 1))), norm.logpdf(1e6)
    )


def test_cdf_is_the_average_of_the_components():
    rng = np.random.default_rng(3)
    y, mean, sd = rng.normal(size=3), rng.normal(size=(50, 3)), rng.gamma(2, size=(50, 3))
    assert_allclose(mixture_cdf(y, mean, sd), norm.cdf(y, mean, sd).mean(0), rtol=1e-12)


def test_cdf_of_points_counts_them():
    mean = np.array([[1.0], [2.0], [2.0], [3.0]])
    assert_allclose(mixture_cdf(np.array([2.0]), mean, np.zeros((4, 1))), 0.5)
    assert_allclose(mixture_cdf(np.array([2.5]), mean, np.zeros((4, 1))), 0.75)


def test_weights_are_repetitions():
    rng = np.random.default_rng(8)
    times = rng.integers(1, 5, 9)
    weights = times / times.sum()
    mean, sd = rng.normal(size=(9, 6)), rng.uniform(0.2, 2, size=(9, 6))
    every = np.repeat(mean, times, axis=0), np.repeat(sd, times, axis=0)
    y = rng.normal(size=6)
    assert_allclose(mixture_cdf(y, mean, sd, weights), mixture_cdf(y, *every), rtol=1e-12)
    assert_allclose(
        mixture_log_density(y, mean, sd, weights), mixture_log_density(y, *every), rtol=1e-12
    )
    assert_allclose(
        mixture_quantiles(mean, sd, Q, weights), mixture_quantiles(*every, Q), rtol=0, atol=1e-9
    )
    centre, variance = mixture_moments(mean, sd, weights)
    assert_allclose(centre, every[0].mean(0), rtol=1e-12)
    assert_allclose(variance, (every[1] ** 2).mean(0) + every[0].var(0), rtol=1e-12)


def test_quantiles_of_weighted_points_are_linear_between_them():
    mean = np.array([[3.0], [1.0], [2.0]])
    equal = mixture_quantiles(mean, np.zeros_like(mean), np.array([0.25, 0.5]), np.full(3, 1 / 3))
    assert_allclose(equal, [[1.5, 2.0]], rtol=1e-12)
    mostly = mixture_quantiles(
        mean, np.zeros_like(mean), np.array([0.5]), np.array([0.98, 0.01, 0.01])
    )
    assert 2.9 < mostly.item() <= 3.0


def test_rows_may_have_weights_of_their_own():
    rng = np.random.default_rng(7)
    mean, sd = rng.normal(size=(5, 4)), rng.uniform(0.2, 1.0, (5, 4))
    weights = rng.dirichlet(np.ones(5), 4).T
    y, q = rng.normal(size=4), np.array([0.1, 0.6])
    for row in range(4):
        one = mean[:, [row]], sd[:, [row]]
        of_row = [mixture_quantiles(*one, q, weights[:, row])[0]]
        of_row.append(mixture_cdf(y[[row]], *one, weights[:, row])[0])
        of_row.append(mixture_log_density(y[[row]], *one, weights[:, row])[0])
        every = [mixture_quantiles(mean, sd, q, weights)[row]]
        every.append(mixture_cdf(y, mean, sd, weights)[row])
        every.append(mixture_log_density(y, mean, sd, weights)[row])
        for ours, theirs in zip(every, of_row, strict=True):
            assert_allclose(ours, theirs, rtol=1e-9)
    points = mixture_quantiles(mean, np.zeros_like(sd), q, weights)
    alone = mixture_quantiles(mean[:, [2]], np.zeros((5, 1)), q, weights[:, 2])
    assert_allclose(points[2], alone[0])


def test_variances_that_no_number_holds_are_infinite():
    mean = np.array([[1.0, 1e200, np.finfo(float).max], [3.0, 2e200, 1.0], [9.0, 1.0, 1.0]])
    variance = np.array([[1.0, np.inf, 1.0], [1.0, 1.0, 1.0], [np.inf, 1.0, 1.0]])
    centre, total = total_moments(mean, variance, np.array([0.5, 0.5, 0.0]))
    assert_allclose(centre, [2.0, 1.5e200, np.finfo(float).max / 2])
    assert_array_equal(total, [2.0, np.inf, np.inf])


@pytest.mark.parametrize("width", [1e8, 1e30, 1e66, 1e200])
@pytest.mark.parametrize("rows_have_weights", [False, True])
def test_few_wide_components_hide_no_quantile(width, rows_have_weights):
    rng = np.random.default_rng(0)
    mean, sd = rng.normal(size=(60, 3)), rng.uniform(0.2, 1.0, (60, 3))
    mean[7], sd[7], sd[20, :2] = 0.3 * width, 0.1 * width, width
    weights = rng.dirichlet(np.ones(60))
    weights[[7, 20]] = 1e-6, 1e-9
    weights /= weights.sum()
    levels = np.array([0.05, 0.5, 0.95])
    each = np.tile(weights[:, None], 3) if rows_have_weights else weights
    ends = mixture_quantiles(mean, sd, levels, each)
    for row, of_row in enumerate(ends):
        for level, end in zip(levels, of_row, strict=True):

            def off(y, row=row, level=level):
                return weights @ norm.cdf(y, mean[:, row], sd[:, row]) - level

            assert_allclose(end, brentq(off, -9, 9, xtol=1e-12), atol=2e-4)


def test_the_lightest_components_lose_their_weight():
    weights = np.array([0.5, 3e-6, 0.3, 6e-6, 0.2, 2e-6])
    kept = without_lightest(weights / weights.sum())
    assert_array_equal(kept > 0, [True, False, True, True, True, False])
    assert_allclose(kept.sum(), 1, rtol=1e-12)
    assert_allclose(kept[3] / kept[0], 6e-6 / 0.5, rtol=1e-12)
