"""Quantiles of responses over mixtures of lines, against dense integration of each normal."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from skhier.posterior.response_quantiles import response_quantiles
from skhier.responses import Bernoulli, Gamma, NegativeBinomial, Poisson, StudentT
from skhier.responses.by_level import StudentTByLevel
from skhier.utils.budget import USUAL

LEVELS = np.array([0.01, 0.05, 0.5, 0.95, 0.99])
C = 40
CASES = {
    "small": (Poisson(), 0.0, 0.3, 0.5, {}),
    "rare": (Poisson(), -4.0, 0.3, 0.5, {}),
    "medium": (Poisson(), 4.0, 0.5, 0.2, {}),
    "wide": (Poisson(), 6.0, 1.5, 0.1, {}),
    "large": (Poisson(), 12.0, 0.5, 0.1, {}),
    "narrow": (Poisson(), 3.0, 0.02, 0.3, {}),
    "dispersed": (NegativeBinomial(), 1.5, 0.4, 0.3, {"dispersion": (2.0, 0.1)}),
    "any dispersion": (NegativeBinomial(), 2.0, 0.4, 0.3, {"dispersion": (20.0, 1.0)}),
    "gamma": (Gamma(), 0.5, 0.4, 0.3, {"shape": (3.0, 0.1)}),
    "nearly known": (Gamma(), 0.5, 0.4, 0.3, {"shape": (3000.0, 0.1)}),
    "classes": (Bernoulli(), 0.5, 2.0, 0.5, {}),
    "heavy tails": (StudentT(), 0.5, 0.4, 0.3, {"noise_scale": (0.5, 0.1), "df": (4.0, 0.2)}),
}


def mixture(centre, sd, spread, own, seed=0):
    """Five rows, each of C normals; own parameters by median and sd of the log."""
    rng = np.random.default_rng(seed)
    mean = centre + sd * 0.5 * rng.normal(size=(C, 5)) + 0.3 * rng.normal(size=5)
    sds = sd * np.exp(spread * rng.normal(size=(C, 5)))
    own = {k: m * np.exp(s * rng.normal(size=(C, 1))) for k, (m, s) in own.items()}
    return mean, sds, own, rng.dirichlet(np.full(C, 2.0))


def dense(response, mean, sd, own, weights, y):
    """P(Y <= y) of one row by the trapezoidal rule, far finer than what y says of its line."""
    u = np.linspace(-7, 7, 1501)
    mass = np.exp(-0.5 * u**2)
    below = 0.0
    for c, weight in enumerate(weights):
        here = {name: values[c] for name, values in own.items()}
        below += weight * (mass @ response.cdf(y, mean[c] + sd[c] * u, here)) / mass.sum()
    return below


@pytest.mark.parametrize("name", CASES)
def test_quantiles_are_those_of_dense_integration(name):
    response, centre, sd, spread, own = CASES[name]
    mean, sd, own, weights = mixture(centre, sd, spread, own)
    out = response_quantiles(response, mean, sd, own, weights, LEVELS, USUAL.memory)
    error = 1e-3 if response.link == "identity" else 2e-5  # nodes of each normal; points of all
    for i, j in np.ndindex(1 + (not own), len(LEVELS)):
        row = response, mean[:, i], sd[:, i], own, weights
        below = dense(*row, out[i, j])
        if not response.discrete:
            assert_allclose(below, LEVELS[j], atol=error)
            continue
        assert out[i, j] == np.round(out[i, j]) >= 0
        assert below >= LEVELS[j] - error
        assert out[i, j] == 0 or dense(*row, out[i, j] - 1) < LEVELS[j] + error


def test_quantiles_of_points_are_those_of_their_average():
    """Lines without spread: some of a row's normals, and all."""
    mean, sd, _, weights = mixture(2.0, 0.5, 0.3, {})
    for points in (slice(None), slice(0, C, 2)):
        sd[points] = 0
        out = response_quantiles(Poisson(), mean, sd, {}, weights, LEVELS, USUAL.memory)
        for i, j in np.ndindex(2, len(LEVELS)):
            row = Poisson(), mean[:, i], sd[:, i], {}, weights
            assert dense(*row, out[i, j]) >= LEVELS[j] - 1e-4
            assert out[i, j] == 0 or dense(*row, out[i, j] - 1) < LEVELS[j] + 1e-4


def test_own_parameters_of_rows_are_used():
    """A noise scale that differs between rows."""
    mean, sd, own, weights = mixture(0.0, 0.5, 0.1, {"noise_scale": (0.5, 0.1), "df": (5.0, 0.1)})
    by_row = own | {"noise_scale": own["noise_scale"] * np.array([1.0, 2.0, 3.0, 4.0, 5.0])}
    how = LEVELS, USUAL.memory
    out = response_quantiles(StudentT(), mean, sd, by_row, weights, *how)
    for i, factor in enumerate([1.0, 2.0, 3.0, 4.0, 5.0]):
        one = own | {"noise_scale": factor * own["noise_scale"]}
        alone = response_quantiles(StudentT(), mean[:, [i]], sd[:, [i]], one, weights, *how)
        assert_allclose(out[[i]], alone, rtol=1e-8)


def test_noises_of_levels_are_those_of_rows_of_such_noise():
    """How the levels' noises spread says nothing where a row's is told."""
    mean, sd, own, weights = mixture(0.0, 0.5, 0.1, {"noise_scale": (0.5, 0.1), "df": (5.0, 0.1)})
    spread = {"noise_spread": np.random.default_rng(1).gamma(20.0, 0.02, (C, 1))}
    by_level = {**own, **spread, "noise_scale": own["noise_scale"] * np.array([1, 2, 1, 4, 2.0])}
    how = weights, LEVELS, USUAL.memory
    out = response_quantiles(StudentTByLevel(), mean, sd, by_level, *how)
    for i, factor in enumerate([1, 2, 1, 4, 2]):
        one = own | {"noise_scale": factor * own["noise_scale"]}
        alone = response_quantiles(StudentT(), mean[:, [i]], sd[:, [i]], one, *how)
        assert_allclose(out[[i]], alone, rtol=1e-8)


def test_lines_beyond_all_numbers_end_the_search():
    mean = np.array([[800.0], [900.0]])
    out = response_quantiles(
        Poisson(), mean, np.full((2, 1), 0.1), {}, np.full(2, 0.5), LEVELS, USUAL.memory
    )
    assert np.all(out > 1e300)
