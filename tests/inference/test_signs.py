"""Signed scales: the same posterior in coordinates without an edge at 0."""

from dataclasses import replace

import numpy as np
import numpyro.distributions as dist
import pytest
import thetas
from numpy.testing import assert_allclose

from skhier import DecovPrior, Prior
from skhier.inference import engines, runtime
from skhier.inference.importance import importance
from skhier.inference.mode import Laplace
from skhier.inference.reach import reach


@pytest.fixture(autouse=True)
def in_float64():
    with runtime.precisely_on(None):
        yield


def theta_of(monkeypatch, n_features=1, n_factors=1, **settings):
    return thetas.theta_of(monkeypatch, *thetas.table(n_features, n_factors), **settings)


def all_signs(theta):
    return theta.signs(np.ones(theta.size, bool))


@pytest.mark.parametrize(
    "settings",
    [
        {"n_features": 2},
        {"n_features": 2, "correlated": False},
        {"n_features": 2, "prior": "mcelreath"},  # at X = 0
        {"n_features": 1, "n_factors": 2},
    ],
    ids=["correlated", "independent", "at zero", "two factors"],
)
def test_density_does_not_depend_on_signs(settings, monkeypatch):
    # diag(v) Omega diag(v) and the LKJ prior stay if v_j and row and column j of Omega change sign
    theta, rng = theta_of(monkeypatch, **settings), np.random.default_rng(0)
    signs = all_signs(theta)
    points = 0.5 * rng.standard_normal((16, theta.size))
    flipped = signs.flipped(points, rng)
    assert (flipped != points).any(0)[signs.flips.any(1)].all()
    density = signs.density(theta.log_densities)
    assert_allclose(density(flipped), density(points), rtol=1e-11)
    # and the scales are the absolute values
    scales = np.exp(signs.to_theta(points)[:, signs.signed])
    assert_allclose(scales, np.abs(points[:, signs.signed]), rtol=1e-12)


def test_density_is_smooth_through_zero(monkeypatch):
    theta = theta_of(monkeypatch, prior=Prior(group_scale=dist.HalfNormal(1.0)))
    signs = all_signs(theta)
    (entry,) = np.flatnonzero(signs.signed)[:1]
    points = np.zeros((5, theta.size)) + np.where(signs.signed, 0.3, 0.1)
    points[:, entry] = [-2e-3, -1e-3, 1e-9, 1e-3, 2e-3]
    at = signs.density(theta.log_densities)(points)
    # a quadratic: second differences at two distances agree
    assert_allclose(at[0] + at[4] - 2 * at[2], 4 * (at[1] + at[3] - 2 * at[2]), rtol=1e-3)


@pytest.mark.parametrize(
    ("family", "can"),
    [
        (dist.HalfNormal(1.0), True),
        (dist.Exponential(1.0), True),
        (dist.HalfCauchy(1.0), True),
        (dist.Gamma(2.0, 1.0), False),  # density 0 at 0
        (dist.Gamma(0.5, 1.0), False),  # without bound there
        (dist.LogNormal(0.0, 1.0), False),
        (dist.Uniform(0.0, 3.0), False),  # theta is no logarithm
        (dist.TruncatedNormal(0.0, 1.0, low=0.1), False),  # never 0
    ],
    ids=lambda value: type(value).__name__,
)
def test_only_scales_that_may_be_zero_get_a_sign(family, can, monkeypatch):
    theta = theta_of(monkeypatch, prior=Prior(group_scale=family))
    assert all_signs(theta).signed.sum() == 2 * can


def test_decov_shares_have_no_sign(monkeypatch):
    # tau_j^2 is a share: the density of tau_j at 0 is 0
    assert not all_signs(theta_of(monkeypatch, prior=DecovPrior())).signed.any()


@pytest.mark.parametrize("correlated", [True, False])
def test_signed_and_plain_coordinates_agree(correlated, monkeypatch):
    """Two effects: what rounds in theta itself find is the oracle."""
    theta = theta_of(monkeypatch, correlated=correlated)
    rng = np.random.default_rng(0)
    modes = engines._search(theta, 2**12, rng)
    plain = importance(theta.log_densities, modes, 2**14, rng)
    theta.budget = replace(theta.budget, importance=replace(theta.budget.importance, plain_size=0))
    reached = reach(theta, modes, 2**14, 400.0, rng)
    signed = reached.weighted
    assert reached.coordinates.signed.sum() == 1  # the slope's
    assert signed.k_hat < 0.5
    assert signed.ess > 1000
    assert abs(signed.log_evidence - plain.log_evidence) < 0.02
    for power in (1, 2):
        thetas.assert_means_agree(signed, plain, lambda points, k=power: np.exp(k * points[:, 1:3]))


def test_even_moments_are_averages_over_signs(monkeypatch):
    theta = theta_of(monkeypatch, n_features=2)
    signs, rng = all_signs(theta), np.random.default_rng(1)
    root = rng.normal(size=(theta.size, theta.size))
    normal = Laplace(rng.normal(size=theta.size), root)
    even = signs.even(normal)
    second = np.zeros_like(root)
    combinations = np.array(np.meshgrid(*[[0, 1]] * 3)).reshape(3, -1).T
    for negative in combinations:
        flip = np.ones(theta.size)
        for entry, is_negative in zip(np.flatnonzero(signs.signed), negative, strict=True):
            flip = flip * (1 - 2 * is_negative * signs.flips[:, entry])
        mean = flip * normal.mean
        cov = flip[:, None] * (root @ root.T) * flip
        second += (cov + np.outer(mean, mean)) / len(combinations)
        # what does not change sign keeps its mean
        assert_allclose(even.mean[flip_free(signs)], normal.mean[flip_free(signs)])
    assert_allclose(even.mean[~flip_free(signs)], 0)
    assert_allclose(even.root @ even.root.T + np.outer(even.mean, even.mean), second, atol=1e-10)


def flip_free(signs):
    return ~signs.flips.any(1)
