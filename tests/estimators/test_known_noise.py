"""Rows whose noise is known: densities and moments against covariances of all rows."""

import pickle

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from known_noise_cases import MODELS, PRIOR, Oracle, columns_of, make_table, mixture_cdf, model_of
from numpy.testing import assert_allclose
from scipy import stats
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skhier import HierarchicalSlopesRegressor, Prior, frames
from skhier.calibration import simulation_based_calibration
from skhier.plotting import FittedLinesDisplay, GroupCoefDisplay, PosteriorPredictiveDisplay

NATS = 0.01  # what the weighted points know an evidence to
ALL = np.arange(14)


@pytest.fixture(scope="module")
def table():
    return make_table()


@pytest.fixture(scope="module", params=list(MODELS))
def case(request, table):
    """Name, X, y and the fit; do not modify."""
    X, y = table
    X = columns_of(request.param, X)
    return request.param, X, y, model_of(request.param).fit(X, y)


@pytest.fixture(scope="module")
def fit(table):
    """Varying intercepts; do not modify."""
    X, y = table
    return model_of("intercepts").fit(columns_of("intercepts", X), y)


@pytest.fixture(scope="module")
def rows(table):
    return columns_of("intercepts", table[0])


def test_evidence_is_that_of_dense_normals(case, table):
    name, _, y, model = case
    assert abs(model.log_evidence_ - Oracle.of(name, table[0]).log_evidence(y)) < NATS
    assert model.diagnostics_["engine"] == "marginal"


def assert_within_error(pointwise, exact):
    """Four of the Monte Carlo errors that the weights report, and what evidences are known to."""
    off = np.abs(pointwise["elpd"] - exact)
    assert (off < NATS + 4 * pointwise["mcse"]).all(), off
    assert pointwise["mcse"].max() < 0.1


def test_loo_is_a_difference_of_evidences(case, table):
    name, _, y, model = case
    oracle = Oracle.of(name, table[0])
    whole = oracle.log_evidence(y)
    exact = [whole - oracle.log_evidence(y, np.delete(ALL, i)) for i in ALL]
    assert_within_error(model.loo().pointwise, exact)


@pytest.mark.parametrize("name", ["intercepts", "slopes"])
def test_logo_is_a_difference_of_evidences(name, table):
    X, y = table
    oracle, model = Oracle.of(name, X), model_of(name).fit(columns_of(name, X), y)
    whole, logo = oracle.log_evidence(y), model.logo().pointwise
    exact = [
        whole - oracle.log_evidence(y, np.flatnonzero(X["g"] != level)) for level in logo.index
    ]
    assert_within_error(logo, exact)
    assert logo["n_rows"].tolist() == [3, 3, 3, 4, 1]
    read = pickle.loads(pickle.dumps(model))  # which has no rows
    assert_allclose(read.logo().pointwise["elpd"], logo["elpd"], rtol=1e-10)


def test_predictions_are_those_of_dense_normals(case, table):
    name, X, y, model = case
    new = table[0].iloc[[0, 4, 9, 13]].copy()
    new["se"], new["x"] = [0.05, 0.5, 1.0, 3.0], [0.3, -2.0, 1.0, 0.0]
    new.loc[new.index[-1], ["g", "h"]] = ["g9", "h9"]
    oracle = Oracle.of(name, pd.concat([table[0], new]))
    weights, line, variance = oracle.lines(np.append(y, np.zeros(4)), ALL, np.arange(14, 18))
    mean = weights @ line
    sd_of_line = np.sqrt(weights @ (variance + (line - mean) ** 2))
    sd = np.hypot(sd_of_line, new["se"])
    unseen = () if name == "no groups" else (pytest.warns(UserWarning, match="unseen"),)
    of_model = new[X.columns]

    def ask(method, *args, **kwargs):
        if not unseen:
            return getattr(model, method)(of_model, *args, **kwargs)
        with pytest.warns(UserWarning, match="unseen"):
            return getattr(model, method)(of_model, *args, **kwargs)

    ours, ours_sd = ask("predict", return_std=True)
    assert np.abs((ours - mean) / sd_of_line).max() < 0.03
    assert_allclose(ours_sd, sd, rtol=0.03)
    both = np.sqrt(variance + new["se"].to_numpy() ** 2)
    for q, end in zip([0.05, 0.95], ask("predict_interval").T, strict=True):
        assert_allclose(mixture_cdf(end, weights, line, both), q, atol=0.005)
    for q, end in zip([0.05, 0.95], ask("predict_interval", kind="mean").T, strict=True):
        assert_allclose(mixture_cdf(end, weights, line, np.sqrt(variance)), q, atol=0.005)
    y_new = mean + 0.7 * sd
    density = np.log(weights @ stats.norm.pdf(y_new, line, both))
    assert_allclose(ask("log_predictive_density", y_new), density, atol=2 * NATS)
    drawn = ask("sample_y", n_samples=4000, random_state=0)
    assert np.abs((drawn.mean(1) - mean) / sd).max() < 5 / np.sqrt(4000)
    assert_allclose(drawn.std(1), sd, rtol=0.12)  # tails are heavier than a normal's


@pytest.mark.slow
def test_nuts_agrees(table, fit, rows):
    _, y = table
    chains = model_of("intercepts", inference="nuts").fit(rows, y)
    ours, theirs = fit.summary(group_effects=True), chains.summary(group_effects=True)
    assert chains.diagnostics_["engine"] == "nuts"
    error = np.hypot(ours["mcse"], theirs["mcse"])
    assert (np.abs(ours["mean"] - theirs["mean"]) < 5 * error).all()
    assert_allclose(ours["sd"], theirs["sd"], rtol=0.15)


def test_weight_of_two_is_the_row_twice(table):
    X, y = table
    weights = np.ones(14)
    weights[[2, 9]] = 2
    again = np.append(ALL, [2, 9])
    X = columns_of("intercepts", X)
    weighted = model_of("intercepts").fit(X, y, sample_weight=weights)
    repeated = model_of("intercepts").fit(X.iloc[again], y[again])
    for name in ("log_evidence_", "intercept_", "coef_"):
        assert_allclose(getattr(weighted, name), getattr(repeated, name), rtol=1e-6)
    loo = weighted.loo()
    assert_allclose(loo.elpd, repeated.loo().elpd, rtol=1e-6)
    oracle = Oracle.of("intercepts", table[0].iloc[again])
    assert abs(weighted.log_evidence_ - oracle.log_evidence(y[again])) < NATS
    logo = weighted.logo().pointwise
    assert_allclose(logo["elpd"], repeated.logo().pointwise["elpd"], rtol=1e-6)
    assert logo["n_rows"].tolist() == [4, 3, 3, 5, 1]


def test_units_of_y_change_nothing(table, rows):
    _, y = table
    default = {"prior": None, "slopes": None, "groups": "g", "random_state": 0}
    model = HierarchicalSlopesRegressor(known_noise="se", **default).fit(rows, y)
    scale = 1e7
    large = HierarchicalSlopesRegressor(known_noise="se", **default)
    large.fit(rows.assign(se=scale * rows["se"]), scale * y + 1e9)
    assert_allclose(large.coef_, scale * model.coef_, rtol=1e-5)
    assert_allclose(large.log_evidence_, model.log_evidence_ - 14 * np.log(scale), atol=1e-4)
    assert_allclose(large.loo().elpd, model.loo().elpd - 14 * np.log(scale), atol=1e-3)


def test_no_noise_scale_is_learned(fit):
    with pytest.raises(AttributeError, match="each row's noise is known"):
        _ = fit.noise_scale_
    assert "noise_scale" not in fit.posterior_
    assert not [name for name in fit.prior_summary().index if "noise" in name]
    assert "noise_scale" not in fit.summary().index
    assert not [text for text in fit.diagnostics_["warnings"] if "noise" in text]
    residual = fit.variance_components().query("factor == 'residual' and parameter == 'sd'")
    typical = np.sqrt(1 / np.mean(1 / make_table()[0]["se"] ** 2))
    assert_allclose(residual["mean"], typical)


def test_log_likelihood_of_draws_is_the_normal_density(table, fit, rows):
    pytest.importorskip("arviz")
    _, y = table
    exchange = fit.to_arviz()
    effects = fit.sample_group_effects("g").reshape(4, 1000, 5)
    codes = rows["g"].str[1:].astype(int)
    draws = fit.posterior_
    line = draws["intercept"][..., None] + draws["coef"] * rows["x"].to_numpy()
    line = line + effects[..., codes]
    exact = stats.norm.logpdf(y, line, rows["se"])
    assert_allclose(exchange["log_likelihood"]["y"].values, exact, atol=1e-8)


def test_constant_y_of_known_noise_is_no_point(rows):
    model = model_of("intercepts").fit(rows, np.full(14, 2.0))
    X, _ = make_table()
    exact = Oracle.of("intercepts", X).log_evidence(np.full(14, 2.0))
    assert abs(model.log_evidence_ - exact) < NATS
    assert model.diagnostics_["engine"] == "marginal"


def test_column_is_read_only_for_responses(fit, rows):
    without, missing = rows.drop(columns="se"), rows.assign(se=np.nan)
    for X in (without, missing):
        assert_allclose(fit.predict(X), fit.predict(rows), rtol=1e-12)
        ends = fit.predict_interval(X, kind="mean")
        assert_allclose(ends, fit.predict_interval(rows, kind="mean"), rtol=1e-12)
        fit.predict(X, level="population")
    with pytest.raises(ValueError, match=r"- se\b"):
        fit.predict(without, return_std=True)
    with pytest.raises(ValueError, match="14 of 14 rows"):
        fit.predict_interval(missing)
    with pytest.raises(ValueError, match="14 of 14 rows"):
        fit.sample_y(missing)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_bad_errors_name_the_rows(bad, table, fit, rows):
    _, y = table
    X = rows.copy()
    X.loc[[1, 3], "se"] = bad
    message = "Column 'se' of X, named by `known_noise`, .* known standard error; 2 of 14 rows"
    with pytest.raises(ValueError, match=message):
        clone(fit).fit(X, y)
    with pytest.raises(ValueError, match=message):
        fit.predict(X, return_std=True)


def test_errors_too_small_for_the_others_are_refused(table, fit, rows):
    X = rows.copy()
    X.loc[2, "se"] = 1e-9
    with pytest.raises(ValueError, match="down to 1e-09 are too small"):
        clone(fit).fit(X, table[1])


def test_one_precise_row_leaves_the_others_their_noise(table):
    X, y = table
    X = X.copy()
    X.loc[2, "se"] = 1e-4
    model = model_of("intercepts").fit(columns_of("intercepts", X), y)
    assert abs(model.log_evidence_ - Oracle.of("intercepts", X).log_evidence(y)) < NATS


@pytest.mark.parametrize("preset", ["mcelreath", "bambi", "brms", "rstanarm"])
def test_presets_have_priors_for_the_rest(preset, table, rows):
    model = model_of("intercepts", prior=preset).fit(rows, table[1])
    assert np.isfinite(model.group_coef_["g"].to_numpy()).all()
    assert not [name for name in model.prior_summary().index if "noise_scale" in name]


@pytest.mark.parametrize(
    "cells", [list("abcdefghijklmn"), pd.date_range("2020", periods=14), pd.Categorical([1] * 14)]
)
def test_what_is_no_number_is_refused(cells, table, fit, rows):
    with pytest.raises((ValueError, TypeError), match="named by `known_noise`"):
        clone(fit).fit(rows.assign(se=cells), table[1])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"response": "poisson"}, "which response='poisson' has not"),
        ({"group_means": "all"}, "has no `group_means`"),
        ({"known_noise": "g"}, "is a grouping column too"),
        ({"known_noise": "SE"}, "Did you mean 'se'"),
        ({"known_noise": lambda X: ["x", "se"]}, "must pick one column"),
        ({"slopes": ["se"]}, "the column of `known_noise`, which is no feature"),
    ],
)
def test_what_cannot_be_is_said(params, message, table, fit, rows):
    with pytest.raises(ValueError, match=message):
        clone(fit).set_params(**params).fit(rows, np.abs(np.round(table[1])))


@pytest.mark.parametrize("column", [2, -1, lambda X: [list(X.columns).index("se")]])
def test_column_by_position(column, table, fit, rows):
    model = clone(fit).set_params(known_noise=column).fit(rows, table[1])
    assert_allclose(model.coef_, fit.coef_)
    assert model.coef_names_ == ["x"]
    array = rows.assign(g=rows["g"].str[1:].astype(int)).to_numpy(dtype=float)
    prior = Prior(dist.Normal(0.0, 3.0), dist.Normal(0.0, 1.0), dist.Exponential(1.0))
    plain = HierarchicalSlopesRegressor(1, slopes=None, known_noise=-1, prior=prior, random_state=0)
    assert_allclose(plain.fit(array, table[1]).coef_, fit.coef_, rtol=1e-6)


def test_statistics_say_what_they_do_not_hold(table, fit, rows):
    _, y = table
    for call in (clone(fit).partial_fit, clone(fit).summarise):
        with pytest.raises(ValueError, match="do not hold their known noise"):
            call(rows, y)
    polars = pytest.importorskip("polars")
    lazy = polars.from_pandas(rows.assign(y=y)).lazy()
    with pytest.raises(ValueError, match="do not hold their known noise"):
        clone(fit).fit(lazy, "y")
    with pytest.raises((ValueError, AttributeError), match="known noise"):
        _ = fit.statistics_


@pytest.mark.filterwarnings("ignore:X contains")
def test_scikit_learn_s_tools(table, fit, rows):
    _, y = table
    grid = {"prior__group_scale": [0.5, 1.0]}
    search = GridSearchCV(clone(fit).set_params(n_draws=100), grid, cv=2).fit(rows, y)
    assert search.best_estimator_.posterior_["intercept"].shape == (4, 100)
    scores = cross_val_score(clone(fit), rows, y, cv=2, scoring="r2")
    assert np.isfinite(scores).all()
    scaled = make_column_transformer((StandardScaler(), ["x"]), remainder="passthrough")
    scaled.set_output(transform="pandas")
    renamed = make_pipeline(scaled, clone(fit).set_params(groups="remainder__g", prior=None))
    with pytest.raises(ValueError, match="Did you mean 'remainder__se'"):
        renamed.fit(rows, y)
    read = pickle.loads(pickle.dumps(fit))
    assert_allclose(read.predict(rows, return_std=True)[1], fit.predict(rows, return_std=True)[1])


def test_reports_frames_and_displays(table, fit, rows):
    _, y = table
    out = frames.predict(fit, rows, std=True, coverage=0.9)
    mean, sd = fit.predict(rows, return_std=True)
    assert_allclose(out["prediction"], mean)
    assert_allclose(out["prediction_std"], sd)
    assert_allclose(out[["lower", "upper"]], fit.predict_interval(rows))
    without = rows.drop(columns="se")
    assert_allclose(frames.predict(fit, without)["prediction"], mean)
    with pytest.raises(ValueError, match="lacks columns of fit: 'se'"):
        frames.predict(fit, without, std=True)
    assert np.isfinite(fit.prior_sensitivity()["prior"]).all()
    assert (fit.r_squared()["mean"] > 0).all()
    pytest.importorskip("matplotlib")
    GroupCoefDisplay.from_estimator(fit)
    FittedLinesDisplay.from_estimator(fit, rows, y)
    PosteriorPredictiveDisplay.from_estimator(fit, rows, y)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("params", [{}, {"groups": None}, {"inference": "nuts", "n_draws": 100}])
def test_files_of_skops_answer_the_same(params, table, rows):
    skops_io = pytest.importorskip("skops.io")
    settings = {"groups": "g", "slopes": None, "random_state": 0} | params
    X = rows if settings["groups"] else rows.drop(columns="g")
    model = HierarchicalSlopesRegressor(known_noise="se", **settings).fit(X, table[1])
    stored = skops_io.dumps(model)
    types = skops_io.get_untrusted_types(data=stored)
    assert {each.split(".")[0] for each in types} == {"skhier"}
    again = skops_io.loads(stored, trusted=types)
    for ours, theirs in zip(
        again.predict(X, return_std=True), model.predict(X, return_std=True), strict=True
    ):
        assert_allclose(ours, theirs, rtol=1e-12)
    assert_allclose(again.predict_interval(X), model.predict_interval(X), rtol=1e-12)


def test_prior_draws_have_the_rows_noise(rows):
    model = model_of("intercepts")
    drawn = model.sample_prior(rows, 4000, random_state=0, y=np.arange(14.0))
    x = np.column_stack([np.ones(14), rows["x"]])
    variance = (x**2) @ [9.0, 1.0] + 2.0 + rows["se"] ** 2  # E tau^2 = 2
    assert_allclose(drawn.std(1), np.sqrt(variance), rtol=0.1)


def test_prior_of_a_noise_that_is_known_is_not_asked_for(rows):
    """`PRIOR` says nothing of the noise scale, whose default is scaled by y."""
    y = np.arange(14.0)
    drawn = [model_of("intercepts").sample_prior(rows, 3, 0, y=y) for y in (None, y, 9 * y)]
    for other in drawn[1:]:
        assert_allclose(other, drawn[0])
    with pytest.raises(ValueError, match="Some priors are scaled by y"):
        model_of("intercepts", prior=None).sample_prior(rows)
    wrong = clone(PRIOR).set_params(noise_scale=-1.0)  # of no use, and wrong all the same
    with pytest.raises(ValueError, match="The prior of `noise_scale` must be a positive"):
        model_of("intercepts", prior=wrong).sample_prior(rows)


def test_calibration_runs(rows):
    model = model_of("intercepts")
    report = simulation_based_calibration(model, rows, 20, random_state=0)
    assert {"log_likelihood", "log_marginal_likelihood"} <= set(report.ranks)
    assert "noise_scale" not in report.ranks
    assert report.p_value > 1e-3


@pytest.mark.slow
def test_posterior_is_calibrated(rows):
    report = simulation_based_calibration(model_of("slopes"), rows, 300, random_state=1)
    assert report.p_value > 1e-3, report
