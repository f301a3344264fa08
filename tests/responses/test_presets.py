"""Priors of other packages by family, all numbers of a model at once, as their documents say.

Written from the packages' own documents and code, with NumPy's moments: Bambi, ``priors/scaler.py``
and ``defaults/families.py``; brms, ``def_scale_prior`` (brms 2.23) and ``?set_prior``; rstanarm,
"Prior distributions for rstanarm models" and ``?stan_glmer``.
"""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from skhier import HierarchicalSlopesClassifier, HierarchicalSlopesRegressor
from skhier.posterior.prior_draws import prior_without_fit

AT = np.array([0.3, 1.2, 4.0])
RNG = np.random.default_rng(0)
X = pd.DataFrame({"x": 3.0 + 2.0 * RNG.normal(size=31), "g": np.arange(31) % 5})
COUNTS = RNG.poisson(3.0, 31).astype(float)
COUNTS[:4] = 0.0
TARGETS = {
    "bernoulli": np.where(RNG.random(31) < 0.4, "yes", "no"),
    "binomial": RNG.binomial(1, 0.4, 31).astype(float),
    "poisson": COUNTS,
    "negative_binomial": COUNTS,
    "gamma": RNG.gamma(2.0, 3.0, 31),
    "lognormal": np.exp(1.0 + 4.0 * RNG.normal(size=31)),
    "student_t": 10.0 + 7.0 * RNG.standard_t(4, 31),
}
LINKED = ("bernoulli", "binomial", "poisson", "negative_binomial", "gamma")
COUNTED = ("poisson", "negative_binomial", "gamma")


def resolved(family, preset):
    """The prior's choice of distributions for these rows."""
    if family == "bernoulli":
        model = HierarchicalSlopesClassifier("g", prior=preset)
    else:
        model = HierarchicalSlopesRegressor("g", prior=preset, response=family)
    return prior_without_fit(model, X, TARGETS[family])[0].resolve()


def log_prob(prior, at=AT):
    import jax

    with jax.enable_x64(True):
        return np.asarray(prior.log_prob(at))


def assert_is(prior, law, at=AT):
    assert_allclose(np.ravel(log_prob(prior, at)), law(at), rtol=1e-9)


def half(law):
    """A symmetric law folded at 0."""
    return lambda x: np.log(2.0) + law(x)


def line_target(family):
    """Y as the package sees it: of a lognormal its logarithm."""
    return np.log(TARGETS["lognormal"]) if family == "lognormal" else TARGETS[family]


@pytest.mark.parametrize("family", LINKED)
def test_rstanarm_by_family(family):
    """No family but the Gaussian looks at y: N(0, 2.5), N(0, 2.5 / sd(x)), decov(1, 1, 1, 1)."""
    choice = resolved(family, "rstanarm")
    assert choice.intercept_at_mean
    assert_is(choice.intercept, stats.norm(0, 2.5).logpdf)
    ((_, slope),) = choice.coef
    assert_is(slope, stats.norm(0, 2.5 / X["x"].std(ddof=1)).logpdf, AT[:1])
    assert choice.groups[0].decov == (1.0, 1.0, 1.0)
    for prior in choice.own.values():  # reciprocal_dispersion, shape
        assert_is(prior, stats.expon.logpdf)


@pytest.mark.parametrize("family", [*LINKED, "student_t"])
def test_bambi_by_family(family):
    """Moments with divisor n; no family but the Gaussian and Student's t looks at y."""
    choice = resolved(family, "bambi")
    y = TARGETS[family] if family == "student_t" else np.array([-1.0, 1.0])  # mean 0, sd 1
    slope_sd = 2.5 * y.std() / X["x"].std(ddof=0)
    intercept_sd = np.sqrt((2.5 * y.std()) ** 2 + slope_sd**2 * X["x"].mean() ** 2)
    assert_is(choice.intercept, stats.norm(y.mean(), intercept_sd).logpdf)
    ((_, slope),) = choice.coef
    assert_is(slope, stats.norm(0, slope_sd).logpdf, AT[:1])
    assert not choice.groups[0].at_mean
    ((at, both),) = choice.groups[0].scales
    sds = np.array([slope_sd, intercept_sd])[list(at)]  # the varying intercept is effect 1
    expected = stats.halfnorm.logpdf(AT[:2], 0, sds)
    assert_allclose(log_prob(both, AT[:2]).sum(), expected.sum(), rtol=1e-9)
    if family == "student_t":
        assert_is(choice.own["noise_scale"], half(stats.t(4, 0, y.std()).logpdf))
        assert_is(choice.own["df"], stats.gamma(2, scale=10).logpdf)
    elif family in ("negative_binomial", "gamma"):
        (prior,) = choice.own.values()
        assert_is(prior, stats.halfcauchy.logpdf)


@pytest.mark.parametrize("family", TARGETS)
def test_brms_by_family(family):
    """Location and scale from y on the link's scale where it is log or identity, else 0 and 2.5."""
    choice = resolved(family, "brms")
    if family in COUNTED:
        y = np.log(np.where(TARGETS[family] == 0, 0.1, TARGETS[family]))
    else:
        y = None if family in ("bernoulli", "binomial") else line_target(family)
    location, scale = 0.0, 2.5
    if y is not None:
        location = round(np.median(y), 1)
        scale = max(2.5, round(1.4826 * np.median(np.abs(y - np.median(y))), 1))
    assert_is(choice.intercept, stats.t(3, location, scale).logpdf)
    ((_, both),) = choice.groups[0].scales
    expected = half(stats.t(3, 0, scale).logpdf)(AT[:2])
    assert_allclose(log_prob(both, AT[:2]).sum(), expected.sum(), rtol=1e-9)
    if "noise_scale" in choice.own:
        assert_is(choice.own["noise_scale"], half(stats.t(3, 0, scale).logpdf))
    if family in ("negative_binomial", "gamma"):
        (prior,) = choice.own.values()
        assert_is(prior, stats.gamma(0.01, scale=100).logpdf)


def test_brms_sees_wide_lognormals_on_the_scale_of_their_logarithm():
    choice = resolved("lognormal", "brms")
    assert float(choice.intercept.scale) > 2.5


def test_rstanarm_and_brms_of_the_student_t_family():
    """rstanarm has no such family: the numbers of its Gaussian, and df as by default."""
    choice = resolved("student_t", "rstanarm")
    y = TARGETS["student_t"]
    assert_is(choice.intercept, stats.norm(y.mean(), 2.5 * y.std(ddof=1)).logpdf)
    above_one = stats.gamma(2, scale=10)
    for preset in ("rstanarm", "brms"):
        prior = resolved("student_t", preset).own["df"]
        assert_is(prior, lambda x: above_one.logpdf(x) - above_one.logsf(1), AT[1:])


def test_brms_counts_a_row_of_weight_two_twice():
    model = HierarchicalSlopesRegressor("g", slopes=None, prior="brms", response="poisson")
    y, weights = np.array([1.0, 1, 2, 9, 20, 30]), np.array([1, 1, 1, 1, 9, 9])
    rows = pd.DataFrame({"x": np.arange(6.0), "g": np.arange(6) % 2})
    model.set_params(random_state=0).fit(rows, y, sample_weight=weights)
    words = model.prior_summary().loc["intercept", "prior"]
    assert round(float(np.median(np.log(np.repeat(y, weights)))), 1) == 3.0
    assert words == "StudentT(df=3., loc=3., scale=2.5)"


def test_brms_takes_the_mean_of_an_offset_off():
    """``location - mean(offset)``, after rounding (``def_scale_prior``)."""
    exposure = np.random.default_rng(1).uniform(1e4, 1e6, 31)
    rows = X.assign(people=exposure)
    model = HierarchicalSlopesRegressor("g", prior="brms", response="poisson", exposure="people")
    choice = prior_without_fit(model, rows, COUNTS)[0].resolve()
    location = round(np.median(np.log(np.where(COUNTS == 0, 0.1, COUNTS))), 1)
    location -= np.log(exposure).mean()
    assert_is(choice.intercept, stats.t(3, location, 2.5).logpdf)


@pytest.mark.parametrize("family", ["poisson", "student_t"])
def test_sds_of_decov_are_over_the_noise_where_there_is_one(family):
    model = HierarchicalSlopesRegressor("g", prior="rstanarm", response=family, random_state=0)
    words = model.fit(X, TARGETS[family]).prior_summary().loc["group_scale[g]", "on"]
    assert ("over noise_scale" in words) == (family == "student_t")
