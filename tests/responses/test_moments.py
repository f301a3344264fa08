"""Moments and draws of every response against SciPy, quadrature and its distribution function."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from response_cases import LINE, of_continuous, of_discrete, of_each
from scipy import integrate, special, stats

from skhier.responses import Bernoulli, Binomial, Poisson


@of_each
def test_moments_are_scipys(each):
    assert_allclose(each.response.mean(LINE, each.own), each.law(LINE).mean(), rtol=1e-13)
    assert_allclose(each.response.variance(LINE, each.own), each.law(LINE).var(), rtol=1e-12)


def test_variance_over_a_very_wide_line_is_no_nan():
    """``0 e^(4 sd^2)`` is 0, however large the second factor."""
    assert Poisson().variance_over(0.0, 40.0, {}) == np.inf
    assert_allclose(Poisson().variance_over(0.3, 0.0, {}), np.exp(0.3))


@pytest.mark.parametrize("sd", [0.0, 0.1, 0.7, 1.9, 2.1, 6.0])
@of_each
def test_moments_over_lines_are_those_of_quadrature(each, sd):
    response, own = each.response, each.own
    # (nodes for the logit with an sd near 2 are good to 1e-5)
    tolerance = {"rtol": 2e-5} if response.link == "logit" else {"rtol": 1e-8}
    sd = sd if response.link in ("logit", "probit") else sd / 3
    for mean in LINE:

        def average(function, mean=mean):
            if sd == 0:
                return function(mean)
            # e^(2 line) shifts the mass by 2 sd^2
            ends = mean - 12 * sd, mean + 12 * sd + 2 * sd**2
            at = {"limit": 400, "epsabs": 1e-13, "points": [mean, 0.0]}
            return integrate.quad(lambda t: function(t) * stats.norm.pdf(t, mean, sd), *ends, **at)[
                0
            ]

        first = average(lambda t: response.mean(t, own))
        second = average(lambda t: response.mean(t, own) ** 2 + response.variance(t, own))
        assert_allclose(response.mean_over(mean, sd, own), first, **tolerance)
        variance = response.variance_over(mean, sd, own)
        assert_allclose(variance, second - first**2, rtol=10 * tolerance["rtol"])
        both = response.over_lines(mean, sd, own)
        # a conjugate response is normal about the line, the lognormal on the scale of log y
        normal = (mean, np.hypot(sd, own["noise_scale"])) if response.conjugate else None
        assert_allclose(both, normal or (first, np.sqrt(variance)), **tolerance)


@pytest.mark.parametrize("link", ["logit", "probit"])
@pytest.mark.parametrize("sd", [0.5, 3.0])
def test_shares_over_lines_have_the_spread_of_trials_and_lines(link, sd):
    response, mean, trials = Binomial(link), 0.8, 7

    def average(function):
        density = stats.norm(mean, sd).pdf
        return integrate.quad(
            lambda t: function(response.mean(t, {})) * density(t), -40, 40, limit=400
        )[0]

    spread = average(lambda p: p * (1 - p) / trials)
    spread += average(np.square) - average(lambda p: p) ** 2
    assert_allclose(response.variance_over(mean, sd, {}, weights=trials), spread, rtol=1e-5)


@of_continuous
def test_draws_have_the_distribution_function(each):
    line = np.full(4000, 0.4)
    draws = each.response.draw(line, each.own, np.random.default_rng(3))
    uniform = each.response.cdf(draws, line, each.own)
    assert stats.kstest(uniform, "uniform").pvalue > 1e-3


@of_discrete
def test_draws_have_the_probabilities(each):
    n = 20_000
    draws = each.response.draw(np.full(n, 0.4), each.own, np.random.default_rng(3))
    values = np.arange(draws.max() + 1)
    expected = n * np.exp(each.response.log_density(values, 0.4, each.own))
    common = expected > 5
    observed = np.array([np.sum(draws == value) for value in values])
    chi_square = np.sum((observed - expected)[common] ** 2 / expected[common])
    assert stats.chi2.sf(chi_square, common.sum() - 1) > 1e-3


def test_binomial_rows_are_scipys_with_trials():
    trials, events = np.array([3.0, 1.0, 20.0, 5.0]), np.array([0.0, 1.0, 7.0, 5.0])
    share, response, p = events / trials, Binomial(), special.expit(LINE)
    density = trials * response.log_density(share, LINE, {})
    truth = stats.binom(trials, p)
    rows = density + response.row_normaliser(share, trials)
    assert_allclose(rows, truth.logpmf(events), rtol=1e-12)
    assert_allclose(response.log_normaliser(share, trials), np.sum(truth.logpmf(events) - density))
    assert_allclose(response.cdf(share, LINE, {}, trials), truth.cdf(events), rtol=1e-12)
    assert_allclose(response.cdf(share - 1e-3, LINE, {}, trials), truth.cdf(events - 1), rtol=1e-12)
    assert_allclose(response.variance(LINE, {}, trials), truth.var() / trials**2)
    assert_array_equal(response.support_step(trials), 1 / trials)
    draws = response.draw(np.broadcast_to(LINE, (5000, 4)), {}, np.random.default_rng(0), trials)
    error = np.sqrt(truth.var() / trials**2 / 5000)
    assert np.all(np.abs(draws.mean(0) - p) < 5 * error)


@pytest.mark.parametrize("link", ["logit", "probit"])
@pytest.mark.parametrize("sd", [0.0, 0.2, 0.5, 0.9, 1.9, 2.5])
def test_densities_of_classes_over_lines_are_those_of_quadrature(link, sd):
    response = Bernoulli(link=link)
    lines = np.array([-12.0, -8.0, -3.0, 0.0, 2.0])
    nodes, weights = np.polynomial.hermite_e.hermegauss(200)
    log_shares = np.log(weights / weights.sum())[:, None]
    for y in (0.0, 1.0):
        at_nodes = response.log_density(y, lines + sd * nodes[:, None], {}) + log_shares
        exact = special.logsumexp(at_nodes, axis=0)
        assert_allclose(
            response.log_density_over(np.full(5, y), lines, np.full(5, sd), {}), exact, atol=3e-3
        )


def test_densities_of_classes_far_out_are_finite():
    far = Bernoulli().log_density_over(np.array([1.0, 0.0]), np.array([-800.0, 800.0]), 0.5, {})
    assert_allclose(far, -800 + 0.5**2 / 2, rtol=1e-9)
