"""Where the intercept sits: moving the origin of a feature changes nothing but rounding."""

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from runs import slow

from skhier import HierarchicalSlopesRegressor, HierarchicalSlopesRegressorCV, Prior

GROUPS = {
    "one": "a",
    "crossed": ["a", "b"],
    "nested": ["a", ("a", "b")],
    "own slopes": {"a": ["t"], "b": ["u"]},
}


@pytest.fixture(scope="module")
def panel():
    """X (t, u, a, b) and y: two features, two factors, slopes of t that vary by a.

    A power of two of rows and multiples of 1/4: means are exact here and 2000 further on, else
    their rounding would return, a million times larger, in the differences behind the Hessian.
    """
    rng = np.random.default_rng(5)
    n = 128
    X = pd.DataFrame({"t": rng.integers(0, 12, n), "u": rng.integers(-8, 8, n) / 4.0})
    X["a"], b = np.repeat(list("pqrstvwx"), n // 8), rng.integers(0, 5, n)
    X["b"] = [f"b{code}" for code in b]
    slope = rng.normal(2.0, 1.0, 8).repeat(n // 8)
    y = 5.0 + slope * X["t"] + X["u"] + rng.normal(size=5)[b] + rng.normal(size=n)
    return X, y.to_numpy()


@pytest.fixture(scope="module")
def one(panel):
    """The same without the factor b."""
    X, y = panel
    return X.drop(columns="b"), y


def moved(X, by):
    return X.assign(t=X["t"] + by, u=X["u"] + 3 * by)


def assert_same_posterior(near, far, by, rtol):
    """Slopes, scales at the mean, evidence and predictions alike; intercepts moved."""
    assert_allclose(far.log_evidence_, near.log_evidence_, rtol=rtol)
    assert_allclose(far.coef_, near.coef_, rtol=rtol)
    assert_allclose(far.noise_scale_, near.noise_scale_, rtol=rtol)
    at_zero = near.intercept_ - near.coef_ @ [by, 3 * by]
    assert_allclose(far.intercept_, at_zero, rtol=rtol)
    for factor, table in near.group_coef_.items():
        other = far.group_coef_[factor]
        slopes = [name for name in table.columns if name != "intercept"]
        assert_allclose(other[slopes], table[slopes], rtol=rtol)
        shift = table.reindex(columns=["t", "u"]).fillna(
            dict(zip(("t", "u"), near.coef_, strict=True))
        )
        expected = table["intercept"] - shift @ [by, 3 * by]
        assert_allclose(other["intercept"], expected, rtol=rtol, atol=1e-6)
        assert_allclose(far.group_scale_[factor][slopes], near.group_scale_[factor][slopes], rtol)


@pytest.mark.parametrize("correlated", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("groups", ["one", *slow("crossed", "nested", "own slopes")])
def test_origin_of_a_feature_does_not_matter(panel, groups, correlated):
    X, y = panel
    if groups == "one":
        X = X.drop(columns="b")
    weights = np.where(np.arange(len(y)) % 2, 1.0, 3.0)  # 256 rows
    params = {"correlated": correlated, "random_state": 0}
    model = HierarchicalSlopesRegressor(GROUPS[groups], **params)
    near = model.fit(X, y, weights)
    far = HierarchicalSlopesRegressor(GROUPS[groups], **params).fit(moved(X, 2000), y, weights)
    assert_same_posterior(near, far, 2000, rtol=1e-9)
    for given, other in zip(
        near.predict(X, return_std=True), far.predict(moved(X, 2000), return_std=True), strict=True
    ):
        assert_allclose(other, given, rtol=1e-9)
    assert_allclose(far.loo().elpd, near.loo().elpd, rtol=1e-9)
    new = X.assign(**dict.fromkeys(X.columns[2:], "unseen"))
    with pytest.warns(UserWarning, match="unseen"):
        expected = near.predict(new, return_std=True)[1]
    with pytest.warns(UserWarning, match="unseen"):
        assert_allclose(far.predict(moved(new, 2000), return_std=True)[1], expected, rtol=1e-9)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("noncentered", [*slow(True), False])
def test_origin_does_not_matter_to_the_joint_engine(one, noncentered):
    """Statistics are the same to the last bit, so the chains are the same chains."""
    X, y = one
    model = HierarchicalSlopesRegressor(
        "a",
        inference="nuts",
        noncentered=noncentered,
        n_chains=1,
        n_warmup=100,
        n_draws=50,
        random_state=0,
    )
    near = model.fit(X, y).predict(X)
    assert_allclose(model.fit(moved(X, 2000), y).predict(moved(X, 2000)), near, rtol=1e-9)


@pytest.mark.parametrize("prior", [None, "mcelreath", Prior(group_scale=0.5)])
def test_slope_sd_is_near_reml_at_any_origin(sleepstudy, prior):
    """lme4's REML estimate is 5.92 at any origin; the posterior is skewed to the right of it."""
    X, y = sleepstudy
    scales = [
        HierarchicalSlopesRegressor("Subject", prior=prior, random_state=0)
        .fit(X.assign(Days=X["Days"] + off), y)
        .group_scale_["Subject"]["Days"]
        for off in (0, 60, 130, 2000)
    ]
    assert_allclose(scales, scales[0], rtol=1e-6)
    assert 5.0 < scales[0] < 7.5


def test_independent_effects_are_independent_at_the_mean(one):
    """Reported at X = 0: tau_0^2 = tau_m^2 + mean^2 tau_t^2, corr = -mean tau_t / tau_0."""
    X, y = one
    model = HierarchicalSlopesRegressor("a", slopes=["t"], correlated=False, random_state=0)
    model.fit(X, y)
    scale, corr = model.posterior_["group_scale"]["a"], model.posterior_["group_corr"]["a"]
    mean = X["t"].mean()
    assert_allclose(corr[..., 0, 1], -mean * scale[..., 1] / scale[..., 0], rtol=1e-9)


def test_prior_says_where_it_sits(panel):
    X, y = panel
    explicit = {"a": {"t": dist.HalfNormal(1.0)}, "b": 2.0}
    model = HierarchicalSlopesRegressor(
        ["a", "b"], prior=Prior(group_scale=explicit), random_state=0
    )
    on = model.fit(X, y).prior_summary()["on"]
    assert on["group_scale[a, intercept]"].endswith("intercept at X = 0")
    assert on["group_corr[a]"].endswith("intercept at X = 0")
    assert on["group_scale[b, intercept]"].endswith("intercept at the mean of X")
    assert on["group_corr[b]"].endswith("intercept at the mean of X")


@pytest.mark.parametrize(
    "prior", ["bambi", *slow("brms", "rstanarm"), Prior(group_scale={"t": dist.HalfNormal(2.0)})]
)
def test_prior_at_zero_far_from_the_data_warns(one, prior):
    X, y = one
    model = HierarchicalSlopesRegressor("a", prior=prior, slopes=["t"], random_state=0)
    with pytest.warns(UserWarning, match=r"X = 0 .* far from the data of 't' \(mean 20\d\d"):
        model.fit(moved(X, 2000), y)
    assert any("far from the data" in message for message in model.diagnostics_["warnings"])
    centred = moved(X, 2000).assign(t=lambda table: table["t"] - table["t"].mean())
    model.fit(centred, y)
    assert not model.diagnostics_["warnings"]


def test_prior_at_zero_of_a_slope_that_does_not_vary_is_silent(one):
    X, y = one
    far = X.assign(t=X["t"] + 2000)
    model = HierarchicalSlopesRegressor("a", prior="brms", slopes=["u"], random_state=0)
    model.fit(far, y)
    assert not model.diagnostics_["warnings"]


def test_sensitivity_and_prior_draws_do_not_depend_on_the_origin(one):
    X, y = one
    params = {"slopes": ["t"], "random_state": 0}
    near = HierarchicalSlopesRegressor("a", **params).fit(X, y)
    far = HierarchicalSlopesRegressor("a", **params).fit(moved(X, 2000), y)
    kept = ["coef[t]", "coef[u]", "noise_scale", "group_scale[a, t]"]
    columns = ["prior", "likelihood", "pareto_k"]
    expected = near.prior_sensitivity().loc[kept, columns]
    # by rounding a draw may be resampled from a neighbour of its point, one of 4000
    assert_allclose(far.prior_sensitivity().loc[kept, columns], expected, atol=1e-3)
    expected = near.sample_prior(X, 20, 0)
    assert_allclose(far.sample_prior(moved(X, 2000), 20, 0), expected, rtol=1e-9)


@pytest.mark.slow
def test_cross_validation_does_not_depend_on_the_origin(one):
    X, y = one
    grid = {"prior__group_scale": [0.3, 1.0], "correlated": [True, False]}

    def scores(table):
        model = HierarchicalSlopesRegressorCV("a", param_grid=grid, cv=3, random_state=0)
        return model.fit(table, y).scores_

    assert_allclose(scores(moved(X, 2000)), scores(X), rtol=1e-6)  # folds' means are rounded
