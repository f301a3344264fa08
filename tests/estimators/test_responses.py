"""The regressor with responses other than the normal: exact integration, refits, brute force."""

import pickle

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from counts_on_grid import CountsOnGrid
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from scipy.special import logsumexp
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, cross_val_score

from skhier import (
    HierarchicalSlopesClassifier,
    HierarchicalSlopesRegressor,
    Prior,
)
from skhier.inference.row_theta import RowTheta
from skhier.metrics import get_scorer
from skhier.plotting import PredictiveCalibrationDisplay, ShrinkageDisplay
from skhier.responses import NegativeBinomial

PRIOR = Prior(
    intercept=dist.Normal(0.0, 2.0),
    coef={"x": dist.Normal(0.0, 1.0)},
    group_scale=dist.Exponential(1.0),
)
EVEN, ODD = np.arange(0, 60, 2), np.arange(1, 60, 2)
FOLDS = [(EVEN, ODD), (ODD, EVEN)]  # every level in each
FEW = {"n_chains": 2, "n_draws": 100, "random_state": 0}


def model_of(response, groups="g", **params):
    settings = {"slopes": None, "prior": PRIOR, "random_state": 0} | params
    return HierarchicalSlopesRegressor(groups, response=response, **settings)


@pytest.fixture(scope="module")
def table():
    """Sixty rows, ten levels: x, g, and the line."""
    rng = np.random.default_rng(0)
    code = np.repeat(np.arange(10), 6)
    x = rng.normal(size=60)
    line = 0.8 + 0.4 * x + rng.normal(0, 0.6, 10)[code]
    return pd.DataFrame({"x": x, "g": [f"g{c}" for c in code]}), line, rng


@pytest.fixture(scope="module")
def counts(table):
    X, line, _ = table
    return X, np.random.default_rng(1).poisson(np.exp(line)).astype(float)


@pytest.fixture(scope="module")
def poisson(counts):
    """Do not modify."""
    return model_of("poisson").fit(*counts)


def on_grid(log_likelihood, n=240):
    """Log evidence, means and sds of (intercept, coef) by the trapezoidal rule."""
    a, b = np.meshgrid(np.linspace(-4, 4, n), np.linspace(-3, 3, n), indexing="ij")
    log_p = stats.norm.logpdf(a, 0, 2) + stats.norm.logpdf(b, 0, 1) + log_likelihood(a, b)
    log_p = log_p + np.log(8 / (n - 1)) + np.log(6 / (n - 1))
    evidence = logsumexp(log_p)
    share = np.exp(log_p - evidence)
    mean = np.array([(share * a).sum(), (share * b).sum()])
    sd = np.sqrt([(share * (v - m) ** 2).sum() for v, m in zip((a, b), mean, strict=True)])
    return evidence, mean, sd


@pytest.mark.parametrize("name", ["logit", "poisson"])
def test_without_groups_the_posterior_is_that_of_a_grid(table, name):
    X, line, _ = table
    x, rng = X["x"].to_numpy(), np.random.default_rng(2)
    if name == "logit":
        y = (rng.random(60) < 1 / (1 + np.exp(-line))).astype(float)
        model = HierarchicalSlopesClassifier(prior=PRIOR, random_state=0)

        def density(eta, y):
            return y * eta - np.logaddexp(0, eta)
    else:
        y = rng.poisson(np.exp(line)).astype(float)
        model = model_of("poisson", None, slopes="all")

        def density(eta, y):
            return stats.poisson.logpmf(y, np.exp(eta))

    model.fit(X[["x"]], y)
    evidence, mean, sd = on_grid(
        lambda a, b: sum(density(a + b * x_i, y_i) for x_i, y_i in zip(x, y, strict=True))
    )
    assert abs(model.log_evidence_ - evidence) < 0.01
    ours = np.array([model.intercept_, model.coef_[0]])
    assert np.abs((ours - mean) / sd).max() < 0.02
    draws = np.stack([model.posterior_["intercept"], model.posterior_["coef"][..., 0]])
    assert_allclose(draws.std((1, 2)), sd, rtol=0.06)  # 4,000 independent draws


@pytest.mark.slow
@pytest.mark.parametrize("response", ["bernoulli", "poisson"])
def test_engines_agree(response):
    rng = np.random.default_rng(3)
    code = np.repeat(np.arange(12), 15)
    x = rng.normal(size=180)
    effects = rng.normal(0, [0.7, 0.5], (12, 2))[code]
    line = 0.2 + effects[:, 0] + (0.5 + effects[:, 1]) * x
    X = pd.DataFrame({"x": x, "g": code})
    p = 1 / (1 + np.exp(-line))
    y = rng.poisson(np.exp(line)) if response == "poisson" else (rng.random(180) < p) * 1
    kwargs = {"prior": PRIOR, "random_state": 0}
    fits = [
        HierarchicalSlopesRegressor("g", response="poisson", inference=engine, **kwargs)
        if response == "poisson"
        else HierarchicalSlopesClassifier("g", inference=engine, **kwargs)
        for engine in ("marginal", "nuts")
    ]
    tables = [fit.fit(X, y).summary(True) for fit in fits]
    assert [fit.diagnostics_["engine"] for fit in fits] == ["marginal", "nuts"]
    off = (tables[0]["mean"] - tables[1]["mean"]).abs()
    error = np.hypot(tables[0]["mcse"], tables[1]["mcse"])
    assert (off < 5 * error + 0.03 * tables[1]["sd"]).all()
    assert_allclose(tables[0]["sd"], tables[1]["sd"], rtol=0.12)


def test_lognormal_is_the_normal_fit_of_the_logarithm(table):
    X, line, rng = table
    y = np.exp(line + 0.5 * rng.normal(size=60))
    prior = Prior(
        intercept=dist.Normal(0.0, 2.0),
        coef={"x": dist.Normal(0.0, 1.0)},
        group_scale=dist.Exponential(1.0),
        noise_scale=dist.Exponential(1.0),
    )
    ours = model_of("lognormal", prior=prior).fit(X, y)
    normal = model_of("normal", prior=prior).fit(X, np.log(y))
    assert_allclose(ours.coef_, normal.coef_, rtol=1e-8)
    assert_allclose(ours.noise_scale_, normal.noise_scale_, rtol=1e-8)
    assert_allclose(ours.log_evidence_, normal.log_evidence_ - np.log(y).sum(), rtol=1e-8)
    assert_allclose(
        ours.predict_quantiles(X, [0.1, 0.5, 0.9]),
        np.exp(normal.predict_quantiles(X, [0.1, 0.5, 0.9])),
        rtol=1e-6,
    )
    assert_allclose(
        ours.log_predictive_density(X, y),
        normal.log_predictive_density(X, np.log(y)) - np.log(y),
        rtol=1e-8,
    )
    # E y = E exp(m + s^2 / 2) over the components
    exact = np.empty(60)
    for rows, mean, sd in normal._fitted.posterior.response_mixture(
        X[["x"]].to_numpy(), np.repeat(np.arange(10), 6)[:, None]
    ):
        exact[rows] = normal._fitted.posterior.rule.weights @ np.exp(mean + sd**2 / 2)
    assert_allclose(ours.predict(X), exact, rtol=5e-3)


def test_loo_and_logo_are_differences_of_evidence(counts, poisson):
    """log p(y_i | y_-i) = log p(y) - log p(y_-i), of every row and level."""
    exact, loo, logo = CountsOnGrid(*counts, rate=1.0), poisson.loo(), poisson.logo()
    assert len(loo.pointwise) == 60
    assert logo.pointwise.index.tolist() == [f"g{c}" for c in range(10)]
    for scores, expected in ((loo.pointwise, exact.loo()), (logo.pointwise, exact.logo())):
        off = np.abs(scores["elpd"] - expected)
        assert (off < 0.01 + 4 * scores["mcse"]).all()
        assert off.max() < 0.05


def test_new_levels_average_over_effects(counts, poisson):
    """No count, and a small rate, in a level that nobody saw; its mean rate need not be finite."""
    exact, ess = CountsOnGrid(*counts, rate=1.0), poisson.diagnostics_["ess_importance"]
    new = pd.DataFrame({"x": [-1.0, 1.0], "g": "new"})
    with pytest.warns(UserWarning, match="unseen group"):
        none = np.exp(poisson.log_predictive_density(new, np.zeros(2)))
    with pytest.warns(UserWarning, match="unseen group"):
        quantiles = poisson.predict_quantiles(new, [0.1, 0.5, 0.9], kind="mean")
    for x, of_x, ends in zip(new["x"], none, quantiles, strict=True):
        mean, sd = exact.of_new_level(lambda a, c, b, x=x: np.exp(-np.exp(a + c * x + b)))
        assert abs(of_x - mean) < 5 * sd / np.sqrt(ess)
        for q, end in zip([0.1, 0.5, 0.9], ends, strict=True):
            below, sd = exact.of_new_level(
                lambda a, c, b, x=x, end=end: a + c * x + b <= np.log(end)
            )
            assert abs(below - q) < 5 * sd / np.sqrt(ess)


def test_counts_have_the_quantiles_and_moments_of_draws(counts, poisson):
    X, _ = counts
    drawn = poisson.sample_y(X, 20_000, random_state=0)
    assert_array_equal(drawn, np.floor(drawn))
    mean, sd = poisson.predict(X, return_std=True)
    # 4,000 posterior draws, five responses each
    assert np.abs((drawn.mean(1) - mean) / sd).max() < 5 / np.sqrt(4000)
    assert_allclose(drawn.std(1), sd, rtol=0.1)
    probabilities = np.array([0.05, 0.5, 0.95])
    quantiles = poisson.predict_quantiles(X, probabilities)
    assert_array_equal(quantiles[:, [0, 2]], poisson.predict_interval(X, 0.9))
    for j, p in enumerate(probabilities):  # the smallest count with so much up to it
        up_to = (drawn <= quantiles[:, [j]]).mean(1)
        below = (drawn <= quantiles[:, [j]] - 1).mean(1)
        assert np.all((up_to > p - 0.03) & (below < p + 0.03))


def test_points_without_weight_need_not_be_possible(counts, poisson, monkeypatch):
    """Moments of effects are no numbers where tau is beyond all data, nor is the density."""
    log_densities, moments = RowTheta.rough_log_densities, RowTheta.moments

    def without_one(self, points, n_kept=0):
        values = np.array(log_densities(self, points, n_kept))
        if n_kept:
            values[5] = np.nan
        return values

    def impossible(self, points):
        levels = moments(self, points)
        arrays = [np.array(a) for a in levels]
        for a in arrays:
            a[5] = np.nan
        return type(levels)(*arrays)

    monkeypatch.setattr(RowTheta, "rough_log_densities", without_one)
    monkeypatch.setattr(RowTheta, "moments", impossible)
    model = model_of("poisson").fit(*counts)
    assert (model._fitted.components.weights > 0).all()
    assert_allclose(model.group_coef_["g"], poisson.group_coef_["g"], atol=0.02)
    assert np.isfinite(model.predict(counts[0])).all()
    assert_allclose(model.logo().elpd, poisson.logo().elpd, atol=0.1)


def test_interval_of_the_mean_is_that_of_the_line(counts, poisson):
    X, _ = counts
    low, high = poisson.predict_interval(X, 0.9, kind="mean").T
    effects = poisson.sample_group_effects("g")[:, :, 0][:, np.repeat(np.arange(10), 6)]
    draws = poisson.posterior_
    line = draws["intercept"].reshape(-1, 1) + draws["coef"].reshape(-1, 1) * X["x"].to_numpy()
    by_draws = np.exp(np.quantile(line + effects, [0.05, 0.95], axis=0))
    assert_allclose(np.log([low, high]), np.log(by_draws), atol=0.08)


def test_loo_of_rows_that_decide_their_level_is_a_difference_of_evidence(counts):
    X, y = counts
    y = y.copy()
    y[8] = 20.0  # of a mean near 1
    model = model_of("poisson").fit(X, y)
    score = model.loo().pointwise.iloc[8]
    assert score["p"] > 5  # nats that the row's density falls by
    rest = model_of("poisson").fit(X.drop(index=8), np.delete(y, 8))
    exact = model.log_evidence_ - rest.log_evidence_
    assert abs(score["elpd"] - exact) < 0.05 + 4 * score["mcse"]
    assert score["mcse"] < 0.2


def test_loo_of_a_share_leaves_all_its_trials_out(table):
    X, line, _ = table
    rng = np.random.default_rng(5)
    trials = rng.integers(1, 9, 60)
    events = rng.binomial(trials, 1 / (1 + np.exp(-line)))
    shares = events / trials
    model = model_of("binomial").fit(X, shares, sample_weight=trials)
    scores = model.loo()
    assert_allclose(scores.elpd, scores.pointwise["elpd"].sum())
    for row in np.argsort(-trials)[:3]:
        others = np.arange(60) != row
        rest = model_of("binomial").fit(X[others], shares[others], sample_weight=trials[others])
        exact = model.log_evidence_ - rest.log_evidence_
        score = scores.pointwise.iloc[row]
        assert abs(score["elpd"] - exact) < 0.05 + 4 * score["mcse"]


def test_trials_are_rows_of_one_trial(table):
    X, line = table[0].iloc[EVEN], table[1][EVEN]
    rng = np.random.default_rng(4)
    trials = rng.integers(1, 6, 30)
    events = rng.binomial(trials, 1 / (1 + np.exp(-line)))
    shares = model_of("binomial").fit(X, events / trials, sample_weight=trials)
    both = pd.concat([X, X], ignore_index=True)
    y = np.repeat([1.0, 0.0], 30)
    weights = np.concatenate([events, trials - events])
    rows = model_of("binomial").fit(both, y, sample_weight=weights)
    assert np.abs(shares.coef_ - rows.coef_).max() < 0.01
    assert_allclose(shares.group_scale_["g"], rows.group_scale_["g"], atol=0.02)
    classes = HierarchicalSlopesClassifier("g", slopes=None, prior=PRIOR, random_state=0)
    classes.fit(both, y, sample_weight=weights)
    assert_allclose(classes.log_evidence_, rows.log_evidence_, atol=0.02)
    coefficients = stats.binom.logpmf(events, trials, 0.5) + trials * np.log(2)
    assert abs(shares.log_evidence_ - coefficients.sum() - rows.log_evidence_) < 0.02
    ours, theirs = shares.logo().pointwise, rows.logo().pointwise
    of_levels = np.bincount(np.repeat(np.arange(10), 3), coefficients)
    off = np.abs(ours["elpd"] - of_levels - theirs["elpd"])
    assert (off < 0.01 + 4 * np.hypot(ours["mcse"], theirs["mcse"])).all()


@pytest.mark.parametrize(
    "response", ["poisson", pytest.param("negative_binomial", marks=pytest.mark.slow)]
)
def test_zeros_and_huge_counts_are_finite_and_quiet(table, response):
    X, line, _ = table
    for y in (np.zeros(60), np.round(1e6 * np.exp(0.1 * line))):
        model = HierarchicalSlopesRegressor("g", slopes=None, response=response, **FEW)
        model.fit(X, y)  # a warning would be an error
        assert np.isfinite([model.intercept_, *model.coef_, model.log_evidence_]).all()
        assert np.isfinite(model.predict(X)).all()
        assert np.isfinite(model.predict_interval(X)).all()


@pytest.mark.parametrize(
    ("response", "y"),
    [
        ("gamma", np.exp),
        pytest.param("student_t", lambda line: line, marks=pytest.mark.slow),
    ],
    ids=["gamma", "student_t"],
)
def test_positive_amounts_and_heavy_tails_are_fitted(table, response, y):
    X, line, _ = table
    noise = np.random.default_rng(5).normal(size=60)
    values = y(line + 0.3 * noise)
    model = HierarchicalSlopesRegressor("g", slopes=None, response=response, **FEW).fit(X, values)
    assert abs(model.coef_[0] - 0.4) < 0.3
    assert np.corrcoef(model.predict(X), values)[0, 1] > 0.7
    low, high = model.predict_interval(X).T
    assert 0.7 < np.mean((low < values) & (values < high)) <= 1
    for name in model._response.sampled:  # its own parameters, none of which is fixed
        assert getattr(model, f"{name}_") > 0
        assert np.ptp(model.posterior_[name]) > 0
    if response == "student_t":
        assert model.df_ > 1


def test_levels_of_zeros_have_the_means_of_exact_effects(table):
    X, *_ = table
    y = np.random.default_rng(7).poisson(3.0, 60) * (np.arange(60) >= 30.0)
    model = model_of("poisson").fit(X, y)
    effects, components = model._fitted.posterior.effects, model._fitted.posterior.rule
    u = np.linspace(-9, 9, 2001)
    for row in (3, 20, 45):
        level = np.repeat(np.arange(10), 6) == row // 6
        means, zeros = [], []
        for s in range(0, len(components.weights), 16):
            root = components.group_root[0][s, 0, 0]
            units = model._fitted.posterior.units
            line = (X["x"].to_numpy() - units.x_mean) / units.x_scale * components.coef[s, 0]
            eta = line[level, None] + components.coef[s, 1] + root * u
            log_p = stats.poisson.logpmf(y[level, None], np.exp(eta)).sum(0) - u**2 / 2
            share = np.exp(log_p - logsumexp(log_p))
            rate = np.exp(line[row] + components.coef[s, 1] + root * u)
            means.append(share @ rate)
            zeros.append(share @ np.exp(-rate))
        weights = components.weights[::16] / components.weights[::16].sum()
        exact, none = weights @ means, weights @ zeros
        # a sixteenth of the components stands for all of them
        assert abs(model.predict(X.iloc[[row]])[0] / exact - 1) < 0.15
        density = model.log_predictive_density(X.iloc[[row]], [0.0])[0]
        assert abs(np.exp(density) - none) < 0.02
    assert np.isfinite(effects.stretch[0]).all()


def test_pickle_without_rows_predicts_the_same(counts, poisson):
    X, _ = counts
    again = pickle.loads(pickle.dumps(poisson))
    assert_array_equal(again.predict(X), poisson.predict(X))
    assert_array_equal(again.predict_interval(X), poisson.predict_interval(X))
    assert_array_equal(again.sample_y(X, 3, random_state=0), poisson.sample_y(X, 3, 0))
    assert_allclose(again.logo().elpd, poisson.logo().elpd)
    with pytest.raises(ValueError, match="loo needs the rows of fit"):
        again.loo()
    assert again._fitted.training is None


@pytest.mark.parametrize(
    ("response", "bad", "message"),
    [
        ("poisson", -1.0, "row 3"),
        ("poisson", 0.5, r"counts.*row 3: 0\.5"),
        ("negative_binomial", -2.0, "row 3"),
        ("gamma", 0.0, "positive"),
        ("lognormal", -1.0, "positive"),
        ("binomial", 1.5, "shares"),
        ("cauchy", 1.0, "'cauchy'"),
    ],
)
def test_bad_y_is_an_error_that_names_the_row(table, response, bad, message):
    X, *_ = table
    y = np.ones(60)
    y[3] = bad
    with pytest.raises(ValueError, match=message):
        model_of(response).fit(X, y)


def test_own_parameters_may_be_fixed_or_searched(counts):
    model = model_of(NegativeBinomial(), **FEW)
    search = GridSearchCV(model, {"response__dispersion": [0.5, 30.0]}, cv=FOLDS).fit(*counts)
    best = search.best_estimator_
    assert best.dispersion_ == best.response.dispersion
    assert np.ptp(best.posterior_["dispersion"]) == 0


def test_fixed_dispersion_is_no_parameter(counts):
    X, y = counts
    wide = model_of(NegativeBinomial(dispersion=1e6), **FEW).fit(X, y)
    poisson = model_of("poisson", **FEW).fit(X, y)  # its limit
    assert abs(wide.log_evidence_ - poisson.log_evidence_) < 0.05
    assert_allclose(wide.coef_, poisson.coef_, atol=0.03)


def test_what_cannot_apply_says_so(counts, poisson):
    X, y = counts
    with pytest.raises(ValueError, match="poisson"):
        get_scorer("neg_crps")(poisson, X, y)
    with pytest.raises(ValueError, match=r"'poisson' is\s+discrete"):
        PredictiveCalibrationDisplay.from_estimator(poisson, X, y)
    with pytest.raises(ValueError, match=r"'poisson' the line is not the mean"):
        ShrinkageDisplay.from_estimator(poisson, X, y)
    with pytest.raises(ValueError, match="one factor"):
        model_of("poisson", ["g", "h"], inference="marginal").fit(X.assign(h=np.arange(60) % 5), y)


def test_scorers_of_predictive_densities_work(counts):
    X, y = counts
    scores = cross_val_score(
        model_of("poisson", **FEW), X, y, cv=FOLDS, scoring=get_scorer("log_predictive_density")
    )
    assert np.isfinite(scores).all()


@pytest.mark.slow
def test_several_factors_are_sampled(counts):
    X, y = counts
    X = X.assign(h=np.arange(60) % 5)
    model = model_of("poisson", ["g", "h"]).fit(X, y)
    assert model.diagnostics_["engine"] == "nuts"
    assert model.diagnostics_["r_hat"] < 1.01
    assert np.corrcoef(model.predict(X), y)[0, 1] > 0.5
    with pytest.raises(ValueError, match="one grouping factor"):
        model.logo()
    assert np.isfinite(model.loo().elpd)


def test_short_runs_of_chains_warn(counts):
    X, y = counts
    model = model_of("poisson", inference="nuts", n_chains=2, n_warmup=20, n_draws=20)
    with pytest.warns(ConvergenceWarning):
        model.fit(X, y)
