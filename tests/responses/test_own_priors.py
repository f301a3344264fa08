"""Priors of the responses' own parameters, and what other priors see of the data."""

import pickle

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from skhier import DecovPrior, HierarchicalSlopesClassifier, HierarchicalSlopesRegressor, Prior
from skhier.priors import DataScales, describe
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
from skhier.utils.training import Training

AT = np.array([1.2, 4.0, 30.0])
ABOVE_ONE = stats.gamma(2, scale=10)
SCALES = DataScales(50.0, np.zeros(1), np.ones(1), 3.0, 2.0, 4.0, 1.5)


def of(response, **params):
    return HierarchicalSlopesRegressor("g", slopes=["x"], response=response, **params)


def log_prob(prior):
    import jax

    with jax.enable_x64(True):
        return np.asarray(prior.log_prob(AT))


@pytest.mark.parametrize(
    ("response", "preset", "truth"),
    [
        (NegativeBinomial(), "default", stats.invgamma(1).logpdf),  # 1/phi ~ Exponential(1)
        (NegativeBinomial(), "mcelreath", stats.invgamma(1).logpdf),
        (NegativeBinomial(), "bambi", stats.halfcauchy.logpdf),
        (NegativeBinomial(), "brms", stats.gamma(0.01, scale=100).logpdf),
        (NegativeBinomial(), "rstanarm", stats.expon.logpdf),
        (Gamma(), "default", ABOVE_ONE.logpdf),
        (Gamma(), "bambi", stats.halfcauchy.logpdf),
        (Gamma(), "brms", stats.gamma(0.01, scale=100).logpdf),
        (Gamma(), "rstanarm", stats.expon.logpdf),
        (StudentT(), "default", lambda x: ABOVE_ONE.logpdf(x) - ABOVE_ONE.logsf(1)),
        (StudentT(), "brms", lambda x: ABOVE_ONE.logpdf(x) - ABOVE_ONE.logsf(1)),
        (StudentT(), "bambi", ABOVE_ONE.logpdf),
    ],
)
def test_own_priors_are_the_documented_ones(response, preset, truth):
    (prior,) = response.own_priors(preset).values()
    assert_allclose(log_prob(prior), truth(AT), rtol=1e-12)
    assert_allclose(log_prob(pickle.loads(pickle.dumps(prior))), truth(AT), rtol=1e-12)


def test_draws_of_degrees_of_freedom_are_above_one():
    import jax

    (prior,) = StudentT().own_priors().values()
    with jax.enable_x64(True):
        draws = np.asarray(prior.sample(jax.random.PRNGKey(0), (4000,)))

    def cdf(x):
        return (ABOVE_ONE.cdf(x) - ABOVE_ONE.cdf(1)) / ABOVE_ONE.sf(1)

    assert stats.kstest(draws, cdf).pvalue > 1e-3
    assert float(prior.support.lower_bound) == 1
    assert describe(prior) == "Gamma(concentration=2., rate=0.1) above 1"


@pytest.mark.parametrize("response", [Bernoulli(), Binomial(), Poisson(), LogNormal(), Normal()])
def test_the_noise_scale_has_the_prior_of_Prior(response):
    assert response.own_priors() == {}
    assert response.fixed == {}


def test_numbers_fix_a_parameter_and_only_kind_tells_it():
    one, other = StudentT(df=4), StudentT(df=5.0)
    assert one.fixed == {"df": 4.0}
    assert one.sampled == ("noise_scale",)
    assert one.own_priors() == {}
    assert one.kind == other.kind != StudentT().kind
    assert Bernoulli().kind != Bernoulli("probit").kind


def test_a_distribution_is_taken_in_float64_and_pickled_without_jax():
    import jax.numpy as jnp

    response = Gamma(shape=dist.Gamma(jnp.array(3.0), jnp.array(0.5)))
    assert response.sampled == ("shape",)
    assert_allclose(log_prob(response.own_priors()["shape"]), stats.gamma(3, scale=2).logpdf(AT))
    copy = pickle.loads(pickle.dumps(response))
    assert type(copy.shape.rate) is np.ndarray


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (StudentT(df=0.5), "`df` of a student_t response must be a finite number of at least 1"),
        (Gamma(shape=-1.0), r"`shape` of a gamma response must be positive.*-1\.0"),
        (NegativeBinomial(dispersion=True), "`dispersion`.*True"),
        (NegativeBinomial(dispersion=np.inf), "`dispersion`.*inf"),
        (Gamma(shape=dist.Normal(0.0, 1.0)), "`shape` must live on positive numbers"),
        (Gamma(shape=dist.Gamma(np.ones(2), 1.0)), "`shape` must be scalar"),
        (Bernoulli(link="cloglog"), "`link` of a bernoulli response.*'logit', 'probit'.*'cloglog'"),
    ],
)
def test_impossible_parameters_are_named(response, message):
    with pytest.raises(ValueError, match=message):
        (response.kind, response.own_priors())


def test_a_string_is_no_prior():
    with pytest.raises(TypeError, match="`df` must be None, a number or a NumPyro distribution"):
        StudentT(df="wide").own_priors()


def test_priors_of_identity_links_see_the_data():
    for response in (Normal(), StudentT(), LogNormal()):
        assert response.prior_scales(SCALES) is SCALES


def test_priors_of_probabilities_are_centred_at_a_half():
    for response in (Bernoulli(), Binomial("probit")):
        scales = response.prior_scales(SCALES)
        assert (scales.y_mean, scales.y_sd, scales.y_median, scales.y_mad) == (0, 1, 0, 0)
        assert scales.x_sd is SCALES.x_sd


def test_priors_of_counts_see_the_log_of_the_mean():
    scales = Poisson().prior_scales(SCALES)
    assert (scales.y_mean, scales.y_sd) == (pytest.approx(np.log(3.0)), 1.0)
    assert scales.y_median == pytest.approx(np.log(4.0))  # brms's epilepsy: student_t(3, 1.4, 2.5)
    for preset in ("bambi", "rstanarm"):
        assert Poisson().prior_scales(SCALES, preset).y_mean == 0
    zeros = SCALES._replace(y_mean=0.0, y_median=0.0)
    scales = Poisson().prior_scales(zeros)
    assert scales.y_mean == pytest.approx(np.log(0.01))
    assert scales.y_median == pytest.approx(np.log(0.1))


def test_medians_of_logs_are_brms():
    y = np.array([0.0, 1.0, 1e4, 1e9, 3.0])
    logs = np.log([0.1, 1.0, 1e4, 1e9, 3.0])
    rows = Training(np.zeros((5, 0)), np.zeros((5, 0), int), y, np.ones(5))
    scales = Poisson().prior_scales(SCALES, "brms", rows)
    assert scales.y_median == pytest.approx(np.median(logs))
    assert scales.y_mad == pytest.approx(stats.median_abs_deviation(logs, scale="normal"), rel=1e-4)


def test_importing_the_package_loads_nothing_heavy():
    import subprocess
    import sys

    code = "import sys, skhier.responses; print(sorted({n.split('.')[0] for n in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert "skhier" in loaded
    assert not any(f"'{name}'" in loaded for name in ("jax", "numpyro", "scipy", "sklearn"))


HALF = dist.HalfNormal(2.0)


@pytest.mark.parametrize(
    ("model", "prior", "message"),
    [
        (of("poisson"), Prior(noise_scale=0.5), r"`noise_scale=0.5` would not.*'poisson' has no"),
        (of("gamma"), Prior(noise_scale=HALF), r"=HalfNormal\(scale=2.\)` would not.*'gamma' has"),
        (of("negative_binomial"), DecovPrior(noise_scale=2.0), "'negative_binomial' has no such"),
        (HierarchicalSlopesClassifier("g"), Prior(noise_scale=0.5), "'bernoulli' has no such"),
        (of("poisson"), Prior(noise_spread=0.5), "`noise_spread=0.5` would not.*'poisson' has no"),
        (of("normal"), Prior(noise_spread=0.5), "without `noise_by` all levels have one noise"),
        (of("normal", known_noise="se"), Prior(noise_scale=0.5), "`known_noise` says each row's"),
    ],
)
def test_prior_of_a_noise_that_there_is_not_is_an_error(model, prior, message):
    X = pd.DataFrame({"g": list("aabbccdd"), "x": np.arange(8.0), "se": 1.0})
    y = np.array([0, 1, 1, 0, 1, 1, 0, 1]) + (model.get_params().get("response") == "gamma")
    with pytest.raises(ValueError, match=message):
        model.set_params(prior=prior).fit(X, y)
    with pytest.raises(ValueError, match=message):
        model.sample_prior(X, 10, y=y)
