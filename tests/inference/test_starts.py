"""Where a search for modes begins: every way to share out the variance, whatever the priors."""

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy.special import expit

from skhier import HierarchicalSlopesRegressor, Prior
from skhier.inference import engines as _engines
from skhier.inference import runtime
from skhier.inference.starts import LARGE_SCALE, SMALL_SCALE, structured_starts
from skhier.inference.theta import Theta
from skhier.kernels import distributions

RNG = np.random.default_rng(0)
CODE = np.arange(60) % 6
X = pd.DataFrame({"x": RNG.normal(size=60), "g": [f"g{c}" for c in CODE]})
Y = X["x"].to_numpy() + RNG.normal(size=6)[CODE] + RNG.normal(size=60)


@pytest.fixture(autouse=True)
def in_float64():
    with runtime.precisely_on(None):
        yield


def theta_of(monkeypatch, table=X, groups="g", **params):
    """The posterior that fit would sample."""
    made = []

    class Stop(Exception):
        pass

    def keep(spec, data, batch, *_):
        made.append(Theta(spec, data, batch, lambda: None))
        raise Stop

    monkeypatch.setattr(_engines, "Theta", keep)
    with pytest.raises(Stop):
        HierarchicalSlopesRegressor(groups, **params).fit(table, Y)
    return made[0]


def starts_of(theta):
    stats, units, _ = theta.data
    return structured_starts(theta.spec, units, stats.total, theta.priors)


def entries(theta, pattern):
    return [j for name, at in theta.priors.sites.items() if name.startswith(pattern) for j in at]


def test_every_scale_is_tried_large_and_small(monkeypatch):
    theta = theta_of(monkeypatch)
    starts = starts_of(theta)
    scales = [*entries(theta, "noise_scale"), *entries(theta, "group_scale")]
    assert len(scales) == 3
    for j in scales:
        others = np.setdiff1d(scales, [j])
        small = np.isclose(starts[:, j], SMALL_SCALE, atol=0.1)
        assert np.any(small & (starts[:, others] > LARGE_SCALE - 0.8).all(1))
    groups = scales[1:]
    for j in groups:
        (other,) = np.setdiff1d(groups, [j])
        assert np.any(
            (starts[:, j] > LARGE_SCALE - 0.8) & np.isclose(starts[:, other], SMALL_SCALE)
        )


@pytest.mark.parametrize(
    ("prior", "mode"),
    [
        (dist.HalfCauchy(1e-4), np.log(1e-4)),  # log tau has its mode where tau p(tau) has
        (dist.Exponential(1e3), np.log(1e-3)),
        (dist.LogNormal(-8.0, 0.5), -8.0),
        (dist.InverseGamma(3.0, 3e-3), np.log(1e-3)),
    ],
)
def test_scales_are_tried_where_their_prior_has_its_mode(prior, mode, monkeypatch):
    theta = theta_of(monkeypatch, prior=Prior(group_scale=prior), slopes=None)
    (at,) = entries(theta, "group_scale")
    size = np.log(theta.data[1].y_scale)
    assert np.abs(starts_of(theta)[:, at] + size - mode).min() < 0.13  # the grid's half step


def test_mode_of_a_bounded_prior_is_met(monkeypatch):
    """Uniform on (0, 3): the logit of a uniform variable has its mode at 1/2."""
    theta = theta_of(monkeypatch, prior=Prior(group_scale=dist.Uniform(0.0, 3.0)), slopes=None)
    (at,) = entries(theta, "group_scale")
    assert np.abs(expit(starts_of(theta)[:, at]) - 0.5).min() < 0.17  # starts keep a distance


def test_both_modes_of_a_prior_are_tried(monkeypatch):
    parts = dist.LogNormal(np.array([-8.0, -1.0]), np.array([0.3, 0.3]))
    prior = dist.MixtureSameFamily(dist.Categorical(np.array([0.5, 0.5])), parts)
    theta = theta_of(monkeypatch, prior=Prior(group_scale=prior), slopes=None)
    (at,) = entries(theta, "group_scale")
    size = np.log(theta.data[1].y_scale)
    for mode in (-8.0, -1.0):
        assert np.abs(starts_of(theta)[:, at] + size - mode).min() < 0.8


@pytest.mark.parametrize(("loc", "scale"), [(0.0, 1e-4), (1.2345, 1e-3), (-3.0, 2.0)])
def test_coefficients_are_tried_at_their_prior_and_at_least_squares(loc, scale, monkeypatch):
    theta = theta_of(monkeypatch, prior=Prior(coef=dist.StudentT(2.0, loc, scale)))
    (at,) = entries(theta, "coef")
    units = theta.data[1]
    unit = units.y_scale / units.x_scale[0]
    tried = starts_of(theta)[:, at] * unit
    assert np.abs(tried - loc).min() < 0.01 * scale
    assert np.abs(tried - np.polyfit(X["x"], Y, 1)[0]).min() < 1e-10
    # half a nat below the top: (1 + t^2 / 2)^(-3/2) = exp(-1/2)
    width = scale / unit * np.sqrt(2 * (np.exp(1 / 3) - 1))
    assert_allclose(theta.priors.widths[at], min(width, 1.0), rtol=0.15)
    assert theta.steps[at] <= width / 15


def test_effects_far_from_the_origin_are_uncorrelated_at_the_mean(monkeypatch):
    """By the model's own map from theta to the effects' covariance at the mean."""
    prior = Prior(group_scale=dist.HalfNormal(np.array([100.0, 1.0])))
    theta = theta_of(monkeypatch, X.assign(x=X["x"] + 50), prior=prior)
    starts = starts_of(theta)
    (_, given), *_ = theta.conditionals(starts)
    chol = given.population.group_root[0]
    cov = chol @ np.swapaxes(chol, 1, 2)
    sds = np.sqrt(np.diagonal(cov, axis1=1, axis2=2))
    uncorrelated = np.abs(cov[:, 0, 1]) < 1e-3 * sds.prod(1)
    assert np.any(uncorrelated & np.isclose(sds, np.exp(LARGE_SCALE)).all(1))


def test_start_of_no_groups(monkeypatch):
    theta = theta_of(monkeypatch, X[["x"]], groups=None)
    assert starts_of(theta).shape[1] == 1


def test_data_are_not_taken_apart_at_each_call(monkeypatch):
    theta, taken = theta_of(monkeypatch), []
    points = np.zeros((3, theta.size))
    expected = theta.log_densities(points)
    monkeypatch.setattr(distributions, "_taken_apart", taken.append)
    assert_allclose(theta.log_densities(points), expected, rtol=1e-15)
    assert taken == []
