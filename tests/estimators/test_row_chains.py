"""Fits of rows whose effects are sampled: against quadrature, against chains without a frame."""

import numpy as np
import pandas as pd
import pytest

from skhier import HierarchicalSlopesClassifier, HierarchicalSlopesRegressor
from skhier.inference import nuts, row_joint
from skhier.inference.row_frame_target import value_and_slope

pytestmark = [
    pytest.mark.slow,
    # usual runs of skewed posteriors warn; Monte Carlo errors, by which all is judged, know of it
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]


def table(seed=0, n=600):
    rng = np.random.default_rng(seed)
    X = pd.DataFrame({"x": rng.normal(size=n), "a": rng.integers(25, size=n)})
    X["b"] = rng.integers(8, size=n)
    line = 0.5 + 0.4 * X["x"] + rng.normal(size=25)[X["a"]] + 0.5 * rng.normal(size=8)[X["b"]]
    return X, line.to_numpy() + 0.3 * X["x"] * rng.normal(size=25)[X["a"]], rng


RESPONSES = {
    "bernoulli": lambda line, rng: (rng.random(len(line)) < 1 / (1 + np.exp(-line))).astype(float),
    "poisson": lambda line, rng: rng.poisson(np.exp(line)).astype(float),
    "negative_binomial": lambda line, rng: rng.poisson(
        rng.gamma(2.0, 0.5, len(line)) * np.exp(line)
    ).astype(float),
    "gamma": lambda line, rng: rng.gamma(2.0, 0.5, len(line)) * np.exp(line),
    "student_t": lambda line, rng: line + rng.standard_t(4, len(line)),
}


def model_of(response, groups, **params):
    if response == "bernoulli":
        return HierarchicalSlopesClassifier(groups, random_state=0, **params)
    return HierarchicalSlopesRegressor(groups, response=response, random_state=0, **params)


def assert_same(one, other):
    """Within five Monte Carlo errors and, where these allow, a tenth of an sd; effects too."""
    one, other = (model.summary(group_effects=True) for model in (one, other))
    error = np.hypot(one["mcse"], other["mcse"])
    difference = (one["mean"] - other["mean"]).abs()
    assert (difference < 5 * error + 1e-9).all()
    assert (difference < np.maximum(0.1 * other["sd"], 3 * error)).all()
    # the relative error of an sd of S effective draws is 1 / sqrt(2 S), more in heavy tails
    assert (np.abs(np.log(one["sd"] / other["sd"])) < 0.25).all()


@pytest.mark.parametrize("response", list(RESPONSES))
def test_chains_agree_with_quadrature(response):
    X, line, rng = table()
    X, y = X.drop(columns="b"), RESPONSES[response](line, rng)
    by_chains = model_of(response, "a", inference="nuts").fit(X, y)
    by_weights = model_of(response, "a").fit(X, y)
    assert by_chains.diagnostics_["engine"] == "nuts"
    assert by_weights.diagnostics_["engine"] == "marginal"
    assert_same(by_chains, by_weights)


@pytest.fixture(scope="module", params=["bernoulli"])
def crossed(request):
    """A fit, X and y. Do not modify."""
    X, line, rng = table()
    y = RESPONSES[request.param](line, rng)
    groups = {"a": ["x"], "b": None}
    return model_of(request.param, groups).fit(X, y), X, y


def test_two_factors_agree_with_chains_without_a_frame(crossed, monkeypatch):
    model, X, y = crossed
    monkeypatch.setattr(row_joint, "find_frame", lambda *args: None)
    long = type(model)(**model.get_params()).set_params(n_draws=3000).fit(X, y)
    assert_same(model, long)


def test_chains_in_a_frame_are_short_and_say_so(crossed):
    model, *_ = crossed
    diagnostics = model.diagnostics_
    assert diagnostics["sampler"] == "nuts"
    assert diagnostics["r_hat"] <= 1.01
    assert min(diagnostics["ess_bulk"], diagnostics["ess_tail"]) >= 400
    assert diagnostics["divergences"] == 0
    assert (
        diagnostics["evaluations"] < 4 * 1000 * 15
    )  # half round, and not as many as a usual run's 31
    assert diagnostics["e_bfmi"] > 0.3
    assert model.posterior_["intercept"].shape == (4, 1000)


def test_centered_model_has_the_same_chains(crossed):
    """The frame's coordinates are neither; those asked for are those of a run without a frame."""
    model, X, y = crossed
    other = type(model)(**model.get_params()).set_params(noncentered=False).fit(X, y)
    np.testing.assert_allclose(
        other.posterior_["intercept"], model.posterior_["intercept"], rtol=1e-6
    )


def test_second_fit_traces_nothing(crossed):
    model, X, y = crossed
    programs = nuts._advance, nuts._start, value_and_slope
    type(model)(**model.get_params()).fit(X, y)
    before = [program._cache_size() for program in programs]
    rng = np.random.default_rng(5)
    other = rng.permutation(y)
    type(model)(**model.get_params()).set_params(random_state=3, n_draws=900).fit(X, other)
    assert [program._cache_size() for program in programs] == before


def test_levels_of_only_yes_are_finite():
    X, _, rng = table()
    y = np.where(X["a"] < 5, 1, rng.integers(2, size=len(X)))
    model = model_of("bernoulli", ["a", "b"], slopes=None).fit(X, y)
    assert np.isfinite(model.predict_proba(X)).all()
    assert (model.predict_proba(X)[X["a"] < 5, 1] > 0.75).all()
    assert model.diagnostics_["r_hat"] <= 1.01


def test_counts_of_a_million_are_finite():
    X, line, rng = table()
    y = rng.poisson(np.exp(13 + line)).astype(float)
    model = model_of("poisson", {"a": ["x"], "b": None}).fit(X, y)
    assert np.isfinite(model.posterior_["intercept"]).all()
    assert np.isfinite(model.predict(X)).all()


@pytest.mark.parametrize("varying", [(0.5, 0.0), (0.5, 0.3), (0.05, 0.0)])
@pytest.mark.filterwarnings("error::sklearn.exceptions.ConvergenceWarning")
def test_effects_that_hardly_vary_need_no_usual_run(varying):
    """Of an intercept and a slope; a usual run of these makes some 130,000 steps, and warns."""
    rng = np.random.default_rng(8)
    a, b = rng.integers(25, size=800), rng.integers(8, size=800)
    X = pd.DataFrame({"x": rng.normal(3, 2, 800), "a": a, "b": b})
    of_a = rng.normal(size=(2, 25)) * np.array(varying)[:, None]
    line = 0.3 + 0.15 * X["x"] + of_a[0, a] + of_a[1, a] * (X["x"] - 3)
    y = rng.poisson(np.exp(line + 0.4 * rng.normal(size=8)[b])).astype(float)
    model = model_of("poisson", {"a": ["x"], "b": None}).fit(X, y)
    assert model.diagnostics_["evaluations"] < 4 * 1200 * 15


@pytest.fixture(scope="module")
def few_levels():
    """A fit to many counts of levels of which there are three, X and y. Do not modify."""
    rng = np.random.default_rng(13)
    a, b = rng.integers(60, size=2000), rng.integers(3, size=2000)
    X = pd.DataFrame({"x": rng.normal(3, 2, 2000), "a": a, "b": b})
    of_a = rng.normal(size=(2, 60)) * np.array([[0.5], [0.1]])
    line = 0.3 + 0.15 * X["x"] + of_a[0, a] + of_a[1, a] * (X["x"] - 3)
    y = rng.poisson(np.exp(line + 0.4 * rng.normal(size=3)[b])).astype(float)
    return model_of("poisson", {"a": ["x"], "b": None}).fit(X, y), X, y


def test_few_levels_of_many_rows_need_few_steps(few_levels):
    """Their average and the intercept go together, as far as their sd lets them."""
    diagnostics = few_levels[0].diagnostics_
    assert diagnostics["r_hat"] <= 1.01
    assert min(diagnostics["ess_bulk"], diagnostics["ess_tail"]) >= 400
    assert diagnostics["divergences"] == 0
    assert diagnostics["evaluations"] < 4 * 1200 * 7


def test_few_levels_of_many_rows_agree_with_chains_without_a_frame(few_levels, monkeypatch):
    model, X, y = few_levels
    monkeypatch.setattr(row_joint, "find_frame", lambda *args: None)
    long = type(model)(**model.get_params()).set_params(n_draws=3000).fit(X, y)
    assert_same(model, long)
