"""The normal response against scipy, differences and simulation."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from skhier.responses.known_noise import KnownNoise
from skhier.responses.normal import Normal

OWN = {"noise_scale": 1.7}
Y, LINE = np.array([-3.0, 0.0, 2.5, 40.0]), np.array([-1.0, 0.3, 2.5, 4.0])
STEP = 1e-4


def test_density_is_scipys():
    assert_allclose(Normal().log_density(Y, LINE, OWN), stats.norm.logpdf(Y, LINE, 1.7))


def test_score_and_curvature_are_derivatives_in_the_line():
    def density(shift):
        return Normal().log_density(Y, LINE + shift, OWN)

    slope = (density(STEP) - density(-STEP)) / (2 * STEP)
    bend = (density(STEP) - 2 * density(0) + density(-STEP)) / STEP**2
    assert_allclose(Normal().score(Y, LINE, OWN), slope, rtol=1e-6)
    assert_allclose(Normal().curvature(Y, LINE, OWN), -bend, rtol=1e-4)


def test_density_is_the_same_in_jax():
    import jax.numpy as jnp

    found = Normal().log_density(jnp.array(Y), jnp.array(LINE), OWN, xp=jnp)
    assert_allclose(found, Normal().log_density(Y, LINE, OWN), rtol=1e-5)


def test_draws_have_the_moments():
    n = 20_000
    line = np.broadcast_to(LINE, (n, 4))
    draws = Normal().draw(line, OWN, np.random.default_rng(0))
    mean, variance = Normal().mean(LINE, OWN), Normal().variance(LINE, OWN)
    assert np.all(np.abs(draws.mean(0) - mean) < 5 * np.sqrt(variance / n))
    assert np.all(np.abs(draws.var(0) / variance - 1) < 5 * np.sqrt(2 / n))


@pytest.mark.parametrize("sd", [0.0, 0.4])
def test_moments_over_lines_are_those_of_lines_and_noise(sd):
    mean, total = Normal().over_lines(LINE, sd, OWN)
    assert_allclose(mean, LINE)
    assert_allclose(total**2, sd**2 + 1.7**2)


def test_parameters_broadcast_over_draws():
    own = {"noise_scale": np.array([[1.0], [2.0]])}
    found = Normal().log_density(Y, LINE, own)
    assert_allclose(found[1], stats.norm.logpdf(Y, LINE, 2.0))


def test_known_noise_is_the_rows_own():
    response, se = KnownNoise(scale=2.0), np.array([0.5, 1.0, 2.0, 4.0])
    line, own = response.at_rows(LINE, {}, se)
    assert_allclose(response.log_density(Y, line, own), stats.norm.logpdf(Y, LINE, se))
    assert_allclose(response.variance(line, own), se**2)
    assert (dict(response.parameters), response.sampled) == ({}, ())
    assert response.scaled({"noise_scale": 1.0}, 3.0) == {}  # none of the draws that are kept
    assert response.kind.response().kind == response.kind
    assert (response.latent_variance({}, 0.0), response.spread({})) == (4.0, 2.0)
