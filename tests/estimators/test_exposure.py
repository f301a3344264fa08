"""Exposure, an offset of the line: what it must equal, worked out without it."""

import pickle

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from counts_on_grid import CountsOnGrid
from numpy.testing import assert_allclose
from scipy import stats
from scipy.special import logsumexp
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skhier import HierarchicalSlopesClassifier, HierarchicalSlopesRegressor, Prior, frames
from skhier.calibration import simulation_based_calibration
from skhier.plotting import GroupCoefDisplay
from skhier.responses import Gamma, NegativeBinomial

PRIOR = Prior(
    intercept=dist.Normal(0.0, 2.0),
    coef={"x": dist.Normal(0.0, 1.0)},
    group_scale=dist.Exponential(1.0),
)
WEIGHTS = np.arange(60) % 3
NATS = 0.01  # what the weighted points know an evidence to


def model_of(response="poisson", groups="g", exposure="time", **params):
    settings = {"slopes": None, "prior": PRIOR, "random_state": 0} | params
    return HierarchicalSlopesRegressor(groups, response=response, exposure=exposure, **settings)


@pytest.fixture(scope="module")
def table():
    """Sixty rows of ten levels: x, g, time, and counts in that time."""
    rng = np.random.default_rng(0)
    code = np.repeat(np.arange(10), 6)
    x, time = rng.normal(size=60), np.exp(rng.uniform(-1, 2, 60))
    line = 0.3 + 0.4 * x + rng.normal(0, 0.6, 10)[code]
    X = pd.DataFrame({"x": x, "g": [f"g{c}" for c in code], "time": time})
    return X, rng.poisson(time * np.exp(line)).astype(float)


@pytest.fixture(scope="module")
def fit(table):
    """Do not modify."""
    return model_of().fit(*table)


def assert_same_posterior(one, other, shift=0.0):
    """The same but for the intercept, within 5 Monte Carlo errors and a twentieth of a sd."""
    ours, theirs = one.summary(group_effects=True), other.summary(group_effects=True)
    off = ours["mean"] - theirs["mean"]
    off["intercept"] -= shift
    error = 5 * np.hypot(ours["mcse"], theirs["mcse"])
    assert (off.abs() < np.minimum(error, 0.05 * theirs["sd"]) + 1e-9).all(), off
    assert_allclose(ours["sd"], theirs["sd"], rtol=0.1)


def test_without_groups_the_posterior_is_that_of_a_grid(table):
    X, y = table
    model = model_of(groups=None).fit(X[["x", "time"]], y)
    a, b = np.meshgrid(np.linspace(-2, 2, 300), np.linspace(-1.5, 1.5, 300), indexing="ij")
    log_p = stats.norm.logpdf(a, 0, 2) + stats.norm.logpdf(b, 0, 1) + np.log(4 * 3 / 299**2)
    for x, time, count in zip(X["x"], X["time"], y, strict=True):
        log_p += stats.poisson.logpmf(count, time * np.exp(a + b * x))
    evidence = logsumexp(log_p)
    share = np.exp(log_p - evidence)
    assert abs(model.log_evidence_ - evidence) < NATS
    for ours, values in ((model.intercept_, a), (model.coef_[0], b)):
        mean = (share * values).sum()
        assert abs(ours - mean) < 0.02 * np.sqrt((share * (values - mean) ** 2).sum())


@pytest.mark.parametrize("engine", ["auto", pytest.param("nuts", marks=pytest.mark.slow)])
def test_split_exposures_are_one(engine, table):
    """Counts of two parts of the time are, given their sum, binomial: nothing of the rates."""
    X, y = table[0].iloc[::2], table[1][::2]
    fit = model_of().fit(X, y)
    first = np.random.default_rng(1).binomial(y.astype(int), 0.3).astype(float)
    parts = pd.concat([X.assign(time=0.3 * X["time"]), X.assign(time=0.7 * X["time"])])
    split = model_of(inference=engine).fit(parts, np.append(first, y - first))
    if engine == "auto":
        constant = stats.binom.logpmf(first, y, 0.3).sum()
        assert abs(split.log_evidence_ - fit.log_evidence_ - constant) < NATS
        assert_same_posterior(split, fit)
        return
    ours, theirs = split.summary(group_effects=True), fit.summary(group_effects=True)
    assert split.diagnostics_["engine"] == "nuts"
    off, error = (ours["mean"] - theirs["mean"]).abs(), np.hypot(ours["mcse"], theirs["mcse"])
    assert (off < 5 * error + 0.03 * theirs["sd"]).all()
    assert_allclose(ours["sd"], theirs["sd"], rtol=0.12)


def test_gamma_of_an_exposure_is_that_of_the_quotient(table):
    X, _ = table
    rng = np.random.default_rng(2)
    y = X["time"].to_numpy() * rng.gamma(3.0, np.exp(0.5 * X["x"]) / 3.0)
    response = Gamma(shape=3.0)
    ours = model_of(response).fit(X, y)
    quotient = model_of(response, exposure=None).fit(X.drop(columns="time"), y / X["time"])
    assert_same_posterior(ours, quotient)
    jacobian = -np.log(X["time"]).sum()
    assert abs(ours.log_evidence_ - quotient.log_evidence_ - jacobian) < NATS


@pytest.mark.parametrize(
    "response",
    [NegativeBinomial(dispersion=3.0), pytest.param("negative_binomial", marks=pytest.mark.slow)],
)
def test_one_exposure_moves_the_intercept(response, table):
    X, y = table
    moved = Prior(**PRIOR.get_params(deep=False) | {"intercept": dist.Normal(-np.log(2.5), 2.0)})
    ours = model_of(response, prior=moved).fit(X.assign(time=2.5), y)
    plain = model_of(response, exposure=None).fit(X.drop(columns="time"), y)
    assert_same_posterior(ours, plain, shift=-np.log(2.5))
    assert abs(ours.log_evidence_ - plain.log_evidence_) < NATS


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.* transitions diverged")  # a few do no harm
def test_several_factors_by_nuts(table):
    X, y = table
    X = X.assign(h=np.arange(60) % 4)
    moved = Prior(**PRIOR.get_params(deep=False) | {"intercept": dist.Normal(-np.log(2.5), 2.0)})
    crossed = {"groups": ["g", "h"], "target_accept": 0.95}
    ours = model_of(**crossed, prior=moved).fit(X.assign(time=2.5), y)
    plain = model_of(**crossed, exposure=None).fit(X.drop(columns="time"), y)
    one, other = ours.summary(group_effects=True), plain.summary(group_effects=True)
    off = one["mean"] - other["mean"]
    off["intercept"] += np.log(2.5)
    assert (off.abs() < 5 * np.hypot(one["mcse"], other["mcse"])).all()
    assert ours.diagnostics_["engine"] == "nuts"
    doubled = ours.predict(X.assign(time=5.0)) / ours.predict(X.assign(time=2.5))
    assert_allclose(doubled, 2.0)
    # 5 Monte Carlo errors of the means of 4,000 draws of this spread
    mean, drawn = ours.predict(X), ours.sample_y(X, 4000, random_state=0)
    assert (np.abs(drawn.mean(1) - mean) < 5 * drawn.std(1) / np.sqrt(1000)).all()


def test_predictions_are_per_exposure(table, fit):
    X, _ = table
    new = X.iloc[::7].assign(time=1.0)
    unit, (_, sd) = fit.predict(new), fit.predict(new, return_std=True)
    for time in (0.01, 4.0, 300.0):
        mean, of_time = fit.predict(new.assign(time=time), return_std=True)
        assert_allclose(mean, time * unit, rtol=1e-10)
        # Var y = E rate time + Var rate time^2
        of_rate = sd**2 - unit
        assert_allclose(of_time, np.sqrt(unit * time + of_rate * time**2), rtol=1e-8)
        ends = fit.predict_interval(new.assign(time=time), kind="mean")
        assert_allclose(ends, time * fit.predict_interval(new, kind="mean"), rtol=1e-10)
    population = fit.predict(new.assign(time=3.0), level="population")
    assert_allclose(population, 3 * fit.predict(new, level="population"), rtol=1e-10)


def test_quantiles_densities_and_draws_agree(table, fit):
    X, _ = table
    new = X.iloc[::18].assign(time=[0.2, 1.0, 5.0, 20.0])
    counts = np.arange(400.0)
    for i in range(4):
        row = new.iloc[[i] * 400]
        density = np.exp(fit.log_predictive_density(row, counts))
        assert_allclose(density.sum(), 1.0, atol=1e-6)
        below = np.cumsum(density)
        for q, end in zip(
            [0.05, 0.5, 0.95], fit.predict_quantiles(row[:1], [0.05, 0.5, 0.95])[0], strict=True
        ):
            at = int(end)  # the smallest count with so much below, to the rule's accuracy
            assert below[at] > q - 0.01
            assert at == 0 or below[at - 1] < q + 0.01
        assert_allclose(density @ counts, fit.predict(row[:1])[0], rtol=0.02)
    drawn = fit.sample_y(new, 4000, random_state=0)
    mean, sd = fit.predict(new, return_std=True)
    assert (np.abs(drawn.mean(1) - mean) < 5 * sd / np.sqrt(4000) + 0.01 * mean).all()
    assert_allclose(drawn.std(1), sd, rtol=0.1)


def test_loo_and_logo_are_differences_of_evidence(table, fit):
    X, y = table
    loo, logo = fit.loo().pointwise, fit.logo().pointwise
    exact = CountsOnGrid(X, y, rate=1.0, exposure=X["time"])
    for scores, expected in ((loo, exact.loo()), (logo, exact.logo())):
        off = np.abs(scores["elpd"] - expected)
        assert (off < 0.01 + 4 * scores["mcse"]).all()
        assert off.max() < 0.05
    conditional = fit.loo(conditional=True)
    assert abs(conditional.elpd - loo["elpd"].sum()) < 1.0


def test_log_likelihood_of_draws_is_poisson_s(table, fit):
    pytest.importorskip("arviz")
    X, y = table
    exchange = fit.to_arviz()
    effects = fit.sample_group_effects("g").reshape(4, 1000, 10)
    draws, codes = fit.posterior_, X["g"].str[1:].astype(int)
    line = draws["intercept"][..., None] + draws["coef"] * X["x"].to_numpy() + effects[..., codes]
    exact = stats.poisson.logpmf(y, X["time"].to_numpy() * np.exp(line))
    assert_allclose(exchange["log_likelihood"]["y"].values, exact, atol=1e-8)


def test_default_intercept_sits_at_the_rate(table):
    X, y = table
    model = model_of(prior=None).fit(X, y, sample_weight=WEIGHTS)
    rate = WEIGHTS @ y / (WEIGHTS @ X["time"])
    described = model.prior_summary().loc["intercept", "prior"]
    assert f"loc={np.log(rate):.4g}"[:9] in described, described
    hours = model_of(prior=None).fit(X.assign(time=3600 * X["time"]), y, sample_weight=WEIGHTS)
    assert_allclose(hours.intercept_, model.intercept_ - np.log(3600), atol=0.01)
    assert abs(hours.log_evidence_ - model.log_evidence_) < NATS
    drawn = [
        model_of(prior=None).sample_prior(X, 50, random_state=0, y=y),
        model_of(prior=None).sample_prior(X.assign(time=3600 * X["time"]), 50, random_state=0, y=y),
    ]
    assert_allclose(np.log1p(drawn[0]), np.log1p(drawn[1]), atol=1e-6)


def test_prior_draws_are_per_exposure(table):
    X, _ = table
    drawn = [
        model_of().sample_prior(X.assign(time=time), 4000, random_state=0, y=np.ones(60))
        for time in (1e4, 2e4)  # so that a count's own noise hardly shows
    ]
    halves = np.median(np.log(drawn[1] + 1), axis=1) - np.median(np.log(drawn[0] + 1), axis=1)
    assert_allclose(halves, np.log(2), atol=0.05)


@pytest.mark.parametrize("bad", [0, -2.0, np.nan, np.inf])
def test_bad_exposures_name_the_rows(bad, table, fit):
    X, y = table
    wrong = X.astype({"time": float})
    wrong.loc[[4, 7, 11], "time"] = bad
    message = "Column 'time' of X, named by `exposure`, .* each row's exposure; 3 of 60 rows"
    with pytest.raises(ValueError, match=message):
        clone(fit).fit(wrong, y)
    for level in ("group", "population"):
        with pytest.raises(ValueError, match=message):
            fit.predict(wrong, level=level)


@pytest.mark.parametrize(
    "cells", [["long"] * 60, pd.date_range("2020", periods=60), pd.Categorical([1, 2] * 30)]
)
def test_what_is_no_number_is_refused(cells, table, fit):
    X, y = table
    for call in (lambda X: clone(fit).fit(X, y), fit.predict):
        with pytest.raises((ValueError, TypeError), match="named by `exposure`"):
            call(X.assign(time=cells))


def test_missing_column_is_named(table, fit):
    with pytest.raises(ValueError, match=r"- time\b"):
        fit.predict(table[0].drop(columns="time"))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"response": "normal"}, "response='normal' has no line that is the log"),
        ({"response": "lognormal"}, "y divided by the exposure is as good a lognormal y"),
        ({"response": "student_t"}, "Use response='poisson', 'negative_binomial' or 'gamma'"),
        ({"exposure": "g"}, "is a grouping column too"),
        ({"exposure": "hours"}, "`exposure='hours'` is not a column of X"),
        ({"exposure": 3}, "out of range"),
        ({"slopes": ["time"]}, "the column of `exposure`, which is no feature"),
        ({"group_means": ["time"]}, "`group_means` names 'time', the column of `exposure`"),
        ({"known_noise": "time"}, "`known_noise='time'` names the standard errors of a normal y"),
    ],
)
def test_what_cannot_be_is_said(params, message, table, fit):
    with pytest.raises(ValueError, match=message):
        clone(fit).set_params(**params).fit(*table)


def test_classifier_has_no_exposure(table):
    X, y = table
    model = HierarchicalSlopesClassifier("g", exposure="time")
    with pytest.raises(ValueError, match="response='bernoulli' has no line that is the log"):
        model.fit(X, y > 2)


@pytest.mark.parametrize("column", [2, -1, lambda X: ["time"]])
def test_column_by_position(column, table, fit):
    model = clone(fit).set_params(exposure=column).fit(*table)
    assert_allclose(model.coef_, fit.coef_)
    assert model.coef_names_ == ["x"]


def test_level_means_stand_before_the_exposure(table):
    X, y = table
    model = model_of(group_means=["x"], prior=None).fit(X, y)
    assert model.coef_names_ == ["x", "mean(x | g)"]
    doubled = X.assign(time=2 * X["time"])
    assert_allclose(model.predict(doubled), 2 * model.predict(X), rtol=1e-10)


def test_scikit_learn_s_tools(table, fit):
    X, y = table
    grid = {"response__dispersion": [1.0, 100.0]}
    light = model_of(NegativeBinomial(), n_chains=2, n_draws=100)
    search = GridSearchCV(light, grid, cv=[(np.arange(0, 60, 2), np.arange(1, 60, 2))]).fit(X, y)
    assert search.best_params_ == {"response__dispersion": 100.0}
    scaled = make_column_transformer((StandardScaler(), ["x"]), remainder="passthrough")
    scaled.set_output(transform="pandas")
    named = {"groups": "remainder__g", "prior": None}
    with pytest.raises(ValueError, match="Did you mean 'remainder__time'"):
        make_pipeline(scaled, clone(fit).set_params(**named)).fit(X, y)
    renamed = clone(fit).set_params(exposure="remainder__time", **named)
    pipe = make_pipeline(scaled, renamed)
    pipe.fit(X, y, hierarchicalslopesregressor__sample_weight=WEIGHTS)
    assert np.isfinite(pipe.predict(X)).all()
    read = pickle.loads(pickle.dumps(fit))
    assert_allclose(read.predict(X), fit.predict(X))


def test_files_of_skops_answer_the_same(table):
    skops_io = pytest.importorskip("skops.io")
    X, y = table
    model = model_of(prior=None, n_draws=100).fit(X, y, sample_weight=WEIGHTS)
    stored = skops_io.dumps(model)
    again = skops_io.loads(stored, trusted=skops_io.get_untrusted_types(data=stored))
    assert_allclose(again.predict(X), model.predict(X), rtol=1e-12)
    assert_allclose(again.predict_interval(X), model.predict_interval(X), rtol=1e-12)


def test_reports_frames_and_displays(table, fit):
    X, _ = table
    out = frames.predict(fit, X, std=True, coverage=0.9)
    assert_allclose(out["prediction"], fit.predict(X))
    assert_allclose(out[["lower", "upper"]], fit.predict_interval(X))
    polars = pytest.importorskip("polars")
    lazy = frames.predict(fit, polars.from_pandas(X).lazy()).collect()
    assert_allclose(lazy["prediction"].to_numpy(), fit.predict(X))
    assert np.isfinite(fit.prior_sensitivity()["prior"]).all()
    assert (fit.r_squared()["mean"] > 0).all()
    pytest.importorskip("matplotlib")
    GroupCoefDisplay.from_estimator(fit)


def test_statistics_do_not_do(table, fit):
    X, y = table
    for call in (clone(fit).partial_fit, clone(fit).summarise):
        with pytest.raises(ValueError, match="not so of 'poisson'"):
            call(X, y)


def test_lazy_frames_keep_rows_of_different_exposure_apart(table, fit):
    polars = pytest.importorskip("polars")
    X, y = table
    few = {"prior": None, "n_draws": 100}  # the program of other weighted fits
    lazy = polars.from_pandas(X.assign(y=y)).lazy()
    model = clone(fit).set_params(**few).fit(polars.concat([lazy, lazy.head(5)]), "y")
    again = np.append(np.arange(60), np.arange(5))
    eager = clone(fit).set_params(**few).fit(X, y, sample_weight=np.bincount(again))
    assert model.coef_names_ == ["x"]
    assert abs(model.log_evidence_ - eager.log_evidence_) < NATS
    assert_allclose(model.predict(X), eager.predict(X), rtol=0.01)


@pytest.mark.slow
def test_posterior_is_calibrated(table):
    X, _ = table
    report = simulation_based_calibration(model_of(), X, 200, random_state=0)
    assert report.p_value > 1e-3, report
