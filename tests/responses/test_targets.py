"""What responses say of y, of themselves, and of the scale of the line."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from response_cases import LINE, of_each
from scipy import special, stats
from sklearn.base import clone

from skhier.responses import (
    Bernoulli,
    Binomial,
    Gamma,
    LogNormal,
    NegativeBinomial,
    Normal,
    Poisson,
    StudentT,
)

BAD = {
    "bernoulli": (Bernoulli(), [0, 1, 2, 0.5], r"0 or 1; 2 of 4 rows are not \(row 2: 2, row 3"),
    "poisson": (Poisson(), [0, -1, 2, 0.5], r"counts .*; 2 of 4 rows are not \(row 1: -1, row 3"),
    "negative": (NegativeBinomial(), [0, 0.5], r"negative_binomial response must be counts"),
    "gamma": (Gamma(), [1, 0, -2], r"positive; 2 of 3 rows are not \(row 1: 0, row 2: -2\)"),
    "lognormal": (LogNormal(), [1, 0], r"positive; 1 of 2 rows"),
    "binomial": (Binomial(), [0, 1.5], r"shares in \[0, 1\]; 1 of 2 rows are not \(row 1: 1\.5"),
}


@pytest.mark.parametrize(("response", "y", "message"), BAD.values(), ids=list(BAD))
def test_impossible_targets_are_named(response, y, message):
    with pytest.raises(ValueError, match=message):
        response.check_target(np.array(y, float))


def test_binomial_asks_for_whole_trials_and_events():
    y = np.array([1 / 3, 0.5])
    Binomial().check_target(y, np.array([3.0, 2.0]))
    Binomial().check_target(y.astype(np.float32).astype(float), np.array([3000.0, 2.0]))
    with pytest.raises(ValueError, match=r"trials and must be whole.*1 of 2.*2\.5 in row 1"):
        Binomial().check_target(y, np.array([3.0, 2.5]))
    with pytest.raises(ValueError, match=r"whole number of events.*row 0: 0\.333"):
        Binomial().check_target(y, np.array([4.0, 2.0]))


@of_each
def test_possible_targets_pass(each):
    each.response.check_target(each.y, np.ones(4))
    each.response.check_target(np.ones(3))  # one class, say: the prior's work


@of_each
def test_responses_are_parameter_objects(each):
    response = each.response
    copy = clone(response)
    assert type(copy) is type(response)
    assert copy.get_params() == response.get_params()
    assert copy.kind == response.kind
    assert hash(copy.kind) == hash(response.kind)
    assert type(pickle.loads(pickle.dumps(response))) is type(response)
    rebuilt = response.kind.response()
    assert_array_equal(
        rebuilt.log_density(each.y, LINE, each.own), response.log_density(each.y, LINE, each.own)
    )
    assert set(response.parameters) == set(each.own)
    assert response.sampled == tuple(response.parameters)


def test_starts_are_finite_for_zeros_and_one_class():
    zeros, ones = np.zeros(10), np.ones(10)
    for response in (Bernoulli(), Bernoulli("probit"), Binomial()):
        assert response.start(zeros) == pytest.approx(-response.start(ones))
        assert np.isfinite(response.start(zeros))
    for response in (Poisson(), NegativeBinomial()):
        assert response.start(zeros) == pytest.approx(np.log(0.05))
    y, weights = np.array([1.0, 2.0, 6.0]), np.array([1.0, 1.0, 2.0])
    assert Poisson().start(y, weights) == pytest.approx(np.log(15 / 4))
    assert Gamma().start(y, weights) == pytest.approx(np.log(15 / 4))
    assert Normal().start(y, weights) == pytest.approx(15 / 4)
    assert LogNormal().start(y) == pytest.approx(np.log(12) / 3)
    assert StudentT().start(np.array([1e9, 3.0, 1.0])) == 3.0


@of_each
def test_link_of_the_mean_is_the_line(each):
    if each.response.name == "lognormal":  # the line is that of the median
        return
    assert_allclose(each.response.link_of(each.response.mean(LINE, each.own)), LINE, rtol=1e-12)
    assert np.all(np.isfinite(each.response.link_of(np.array([0.0, 1.0]))))


def test_latent_variances_are_those_of_the_paper():
    """Nakagawa, Johnson & Schielzeth (2017); log of a gamma has variance trigamma(shape)."""
    assert Bernoulli().latent_variance({}, 0.3) == pytest.approx(np.pi**2 / 3)
    assert Bernoulli("probit").latent_variance({}, 0.3) == 1
    logs = np.log(stats.gamma(2.6).rvs(200_000, random_state=1))
    gamma = Gamma().latent_variance({"shape": 2.6}, 1.0)
    assert gamma == pytest.approx(logs.var(), abs=5 * gamma * np.sqrt(5 / 200_000))
    assert Poisson().latent_variance({}, 2.0) == pytest.approx(special.zeta(2, 2.0))
    negative = NegativeBinomial().latent_variance({"dispersion": 1.5}, 2.0)
    assert negative == pytest.approx(special.zeta(2, 1 / (1 / 2 + 1 / 1.5)))
    assert Normal().latent_variance({"noise_scale": 2.0}, 0.0) == 4
    assert LogNormal().latent_variance({"noise_scale": 2.0}, 3.0) == 4
    heavy = StudentT().latent_variance({"noise_scale": 2.0, "df": 4.0}, 0.0)
    assert heavy == pytest.approx(stats.t(4, scale=2).var())


def test_scales_follow_y_where_the_line_does():
    own = {"noise_scale": 2.0, "df": 4.0}
    assert StudentT().scaled(own, 10.0) == {"noise_scale": 20.0, "df": 4.0}
    assert Gamma().scaled({"shape": 3.0}, 10.0) == {"shape": 3.0}
    assert StudentT().spread(own) == 2.0
    assert Poisson().spread({}) == 1.0
