"""Levels with a noise of their own: the joint model's chains, the model without, every answer."""

import pickle
import warnings

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from runs import budget
from scipy import stats
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, KFold

from skhier import HierarchicalSlopesRegressor, Prior
from skhier.calibration import simulation_based_calibration
from skhier.metrics import get_scorer

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:.*unseen group"),
]

N_LEVELS, N_ROWS = 24, 8
SCALE, SPREAD = 0.7, 0.6
# of a mixture over some 2000 effective points: 5 standard errors of its means and quantiles
OF_POINTS = 5 / np.sqrt(1000)


def panel(n_levels=N_LEVELS, n_rows=N_ROWS, seed=0):
    """X, y and the true sds of the noises."""
    rng = np.random.default_rng(seed)
    code, x = np.repeat(np.arange(n_levels), n_rows), rng.normal(size=n_levels * n_rows)
    effects = rng.normal(size=(n_levels, 2)) * [1.0, 0.5]
    sd = SCALE * np.exp(SPREAD * rng.normal(size=n_levels))
    y = 3 + effects[code, 0] + (2 + effects[code, 1]) * x + sd[code] * rng.normal(size=len(x))
    return pd.DataFrame({"x": x, "person": [f"p{c:02d}" for c in code]}), y, sd


X, Y, SD = panel()
# which does not depend on the rows
PRIOR = Prior(
    intercept=dist.Normal(3.0, 5.0),
    coef=dist.Normal(0.0, 5.0),
    noise_scale=dist.Exponential(0.5),
    group_scale=dist.HalfNormal(2.0),
)


def model(**params):
    settings = {"noise_by": "person", "random_state": 0, **params}
    return HierarchicalSlopesRegressor("person", **settings)


@pytest.fixture(scope="module")
def fitted():
    """Do not modify."""
    return model().fit(X, Y)


QUICK = model(n_draws=250)


@pytest.fixture(scope="module")
def quick():
    """Of few points; do not modify."""
    return clone(QUICK).fit(X, Y)


@pytest.fixture(scope="module")
def chains():
    """Every parameter sampled by NUTS."""
    return model(inference="nuts").fit(X, Y)


@pytest.fixture(scope="module")
def nearly_equal():
    """The spread of noises held near 0."""
    return model(prior=Prior(noise_spread=1e-4)).fit(X, Y)


@pytest.fixture(scope="module")
def equal():
    return model(noise_by=None).fit(X, Y)


@pytest.mark.slow
def test_posterior_is_that_of_the_joint_model(fitted, chains):
    ours, theirs = fitted.summary(), chains.summary()
    assert chains.diagnostics_["engine"] == "nuts"
    assert (theirs["ess_bulk"] > 400).all()
    error = np.hypot(ours["mcse"], theirs["mcse"])
    assert (np.abs(ours["mean"] - theirs["mean"]) < 5 * error).all()
    assert_allclose(ours["sd"], theirs["sd"], rtol=0.15)


@pytest.mark.slow
def test_levels_are_those_of_the_joint_model(fitted, chains):
    ours, theirs = fitted.group_noise_["person"], chains.group_noise_["person"]
    assert_allclose(ours["mean"], theirs["mean"], rtol=0.03)
    assert_allclose(ours["sd"], theirs["sd"], rtol=0.1)
    off = fitted.group_coef_["person"] - chains.group_coef_["person"]
    assert (np.abs(off) < 0.1 * fitted.group_coef_std_["person"]).all(axis=None)


def test_variance_of_the_noise_is_that_of_drawn_noises(fitted):
    """Averaged over rows, of which all levels have as many."""
    posterior = fitted._fitted.posterior
    drawn = (posterior.noise_draws(np.arange(N_LEVELS)) ** 2).mean(1)
    ours = posterior.observation_variance()
    assert_allclose(ours.mean(), drawn.mean(), rtol=0, atol=OF_POINTS * drawn.std())
    # the sd of n draws has the relative error sqrt((kurtosis - 1) / 4 n)
    error = OF_POINTS * np.sqrt((stats.kurtosis(drawn, fisher=False) - 1) / 4)
    assert_allclose(ours.std(), drawn.std(), rtol=error)


def test_noises_are_found(fitted):
    noise = fitted.group_noise_["person"]
    assert list(noise.index) == list(fitted.group_levels_["person"])
    assert list(noise.columns) == ["mean", "sd"]
    z = np.log(noise["mean"] / SD) / (noise["sd"] / noise["mean"])
    assert np.abs(z).max() < 4
    assert np.corrcoef(np.log(noise["mean"]), np.log(SD))[0, 1] > 0.8
    assert fitted.noise_spread_ == pytest.approx(SPREAD, abs=0.3)
    assert fitted.noise_scale_ == pytest.approx(SCALE, abs=0.3)


def test_without_spread_it_is_the_model_without(nearly_equal, equal):
    ours, theirs = nearly_equal.summary().drop("noise_spread"), equal.summary()
    error = np.hypot(ours["mcse"], theirs["mcse"])
    assert (np.abs(ours["mean"] - theirs["mean"]) < 5 * error).all()
    assert_allclose(ours["sd"], theirs["sd"], rtol=0.15)
    # the weights' spread over 2000 points, twice
    assert nearly_equal.log_evidence_ == pytest.approx(equal.log_evidence_, abs=0.15)
    off = nearly_equal.group_coef_["person"] - equal.group_coef_["person"]
    assert (np.abs(off) < 0.1 * equal.group_coef_std_["person"]).all(axis=None)
    assert_allclose(nearly_equal.group_coef_std_["person"], equal.group_coef_std_["person"], 0.05)


@pytest.mark.parametrize("level", ["group", "population"])
@pytest.mark.parametrize("kind", ["response", "mean"])
def test_without_spread_intervals_are_those_of_the_model_without(nearly_equal, equal, level, kind):
    new = pd.concat([X[::5], X[:3].assign(person="new")])
    ours, theirs = (m.predict_interval(new, kind=kind, level=level) for m in (nearly_equal, equal))
    sd = (theirs[:, 1] - theirs[:, 0])[:, None] / 3.29
    assert (np.abs(ours - theirs) / sd).max() < OF_POINTS


def test_without_spread_scores_are_those_of_the_model_without(nearly_equal, equal):
    for score in ("loo", "logo"):
        ours, theirs = (getattr(m, score)() for m in (nearly_equal, equal))
        error = np.sqrt((ours.pointwise["mcse"] ** 2 + theirs.pointwise["mcse"] ** 2).sum())
        assert abs(ours.elpd - theirs.elpd) < 5 * error
        assert ours.n_bad == 0


def test_evidence_prefers_the_noise_that_is_there(fitted, equal):
    assert fitted.log_evidence_ > equal.log_evidence_ + 10


def test_predictions_are_mixtures_of_draws(fitted):
    new = pd.concat([X[::20], X[:2].assign(person="new")])
    mean, sd = fitted.predict(new, return_std=True)
    draws = fitted.sample_y(new, 4000, random_state=1)
    assert (np.abs(draws.mean(1) - mean) < 5 * sd / np.sqrt(2000)).all()
    assert_allclose(draws.std(1), sd, rtol=0.1)
    q = np.array([0.05, 0.5, 0.95])
    found = fitted.predict_quantiles(new, q)
    for j, level in enumerate(q):
        below = (draws < found[:, [j]]).mean(1)
        assert (np.abs(below - level) < 5 * np.sqrt(level * (1 - level) / 2000)).all()


def test_densities_are_derivatives_of_distribution_functions(fitted):
    new, y = X[::20], Y[::20]
    step = 1e-3
    below, above = (_below(fitted, new, y + side * step) for side in (-1, 1))
    density = np.exp(fitted.log_predictive_density(new, y))
    assert_allclose(density, (above - below) / (2 * step), rtol=1e-4)


def _below(fitted, new, y):
    rows = fitted._rows_of(new, "group")
    return fitted._fitted.posterior.distribution_function(rows.x, rows.codes, y)


def test_intervals_follow_each_levels_noise(fitted):
    widths = np.ptp(fitted.predict_interval(X.drop_duplicates("person").assign(x=0.0)), axis=1)
    assert stats.spearmanr(widths, fitted.group_noise_["person"]["mean"]).statistic > 0.95


def test_new_levels_beside_few_have_an_interval():
    """Eight levels' noises hardly bound how much those of others differ."""
    table, y, _ = panel(n_levels=8, n_rows=20, seed=4)
    few = model(n_chains=2, n_draws=300).fit(table, y)
    of_new = table.head(40).assign(person=["new"] * 40)
    low, high = few.predict_interval(of_new, coverage=0.9).T
    draws = few.sample_y(of_new, 2000, random_state=0)
    inside = ((draws > low[:, None]) & (draws < high[:, None])).mean()
    assert abs(inside - 0.9) < 4.5 * np.sqrt(0.9 * 0.1 / 2000)  # draws of one new level
    sd = few.predict(of_new, return_std=True)[1]
    assert np.all(sd < 20 * draws.std(1))
    assert np.all(few.predict_quantiles(of_new, [0.01, 0.5, 0.99])[:, 1] < high)


def test_new_levels_mix_the_population_of_noises(fitted):
    new = X[:1].assign(person="new")
    draws = fitted.sample_y(new, 4000, random_state=0)[0]
    assert stats.kurtosis(draws) > 0  # of normals of different sds
    sds = fitted._fitted.posterior.noise_draws(np.array([N_LEVELS]))[:, 0]
    own = fitted.posterior_["noise_scale"].ravel(), fitted.posterior_["noise_spread"].ravel()
    z = np.log(sds / own[0]) / own[1]
    assert stats.kstest(z, "norm").pvalue > 1e-3


@pytest.mark.slow
def test_loo_is_that_of_fits_without_the_row():
    scores = model(prior=PRIOR).fit(X, Y).loo().pointwise["elpd"].to_numpy()
    for row in (0, 150):
        kept = np.arange(len(Y)) != row
        rest = model(prior=PRIOR).fit(X[kept], Y[kept])
        exact = rest.log_predictive_density(X.iloc[[row]], Y[[row]])[0]
        assert scores[row] == pytest.approx(exact, abs=0.1)


def test_loo_of_few_rows_at_a_time_is_loo(fitted, monkeypatch):
    whole = fitted.loo().pointwise
    monkeypatch.setattr(fitted._fitted.posterior, "budget", budget(at_once=50_000))
    assert_allclose(fitted.loo().pointwise, whole, rtol=1e-10)


def test_precisions_are_those_of_drawn_noises(fitted):
    posterior = fitted._fitted.posterior
    drawn = (posterior.units.y_scale / posterior.noise_draws(np.arange(N_LEVELS))) ** 2
    error = drawn.std(0) / np.sqrt(fitted._fitted.max_ess / 2)
    assert (np.abs(posterior.moments.precision - drawn.mean(0)) < 5 * error).all()


@pytest.mark.parametrize("how", ["statistics", "blocks"])
def test_statistics_are_all_that_a_fit_needs(quick, how):
    if how == "statistics":
        other = clone(QUICK).fit_statistics(QUICK.summarise(X, Y))
    else:
        other = clone(QUICK).partial_fit(X[:90], Y[:90]).partial_fit(X[90:], Y[90:])
    assert_allclose(other.coef_, quick.coef_, rtol=1e-5)
    assert_allclose(other.noise_spread_, quick.noise_spread_, rtol=1e-5)
    ours, theirs = (m.group_noise_["person"] for m in (other, quick))
    assert_allclose(ours, theirs, rtol=1e-5)
    assert_allclose(other.log_evidence_, quick.log_evidence_, atol=1e-5)
    assert_allclose(other.logo().elpd, quick.logo().elpd, atol=1e-4)


@pytest.mark.slow
def test_a_fit_takes_more_rows(quick):
    more = clone(QUICK).fit(X[:90], Y[:90]).partial_fit(X[90:], Y[90:])
    assert more.noise_spread_ == pytest.approx(quick.noise_spread_, rel=1e-5)


def test_lazy_frames_are_fitted(quick):
    pl = pytest.importorskip("polars")
    lazy = clone(QUICK).fit(pl.DataFrame(X.assign(y=Y).to_dict("list")).lazy(), "y")
    assert lazy.noise_spread_ == pytest.approx(quick.noise_spread_, rel=1e-5)


def test_weight_two_is_the_row_twice():
    twice = clone(QUICK).fit(pd.concat([X, X]), np.append(Y, Y))
    weighted = clone(QUICK).fit(X, Y, sample_weight=np.full(len(Y), 2.0))
    assert_allclose(weighted.noise_spread_, twice.noise_spread_, rtol=1e-8)
    assert_allclose(weighted.log_evidence_, twice.log_evidence_, rtol=1e-10)


def test_units_of_y_change_nothing_but_units(quick):
    other = clone(QUICK).fit(X, 1000 + 4 * Y)
    assert_allclose(other.noise_scale_, 4 * quick.noise_scale_, rtol=1e-6)
    assert_allclose(other.noise_spread_, quick.noise_spread_, rtol=1e-6)
    noises = [m.group_noise_["person"] for m in (quick, other)]
    assert_allclose(noises[1], 4 * noises[0], rtol=1e-6)
    assert other.log_evidence_ == pytest.approx(quick.log_evidence_ - len(Y) * np.log(4), abs=1e-4)


def test_pickles_answer_the_same(fitted):
    loaded = pickle.loads(pickle.dumps(fitted))
    new = pd.concat([X[::20], X[:2].assign(person="new")])
    assert_array_equal(loaded.predict_interval(new), fitted.predict_interval(new))
    assert_array_equal(
        loaded.sample_y(new, 5, random_state=0), fitted.sample_y(new, 5, random_state=0)
    )
    pd.testing.assert_frame_equal(loaded.group_noise_["person"], fitted.group_noise_["person"])
    assert loaded.logo().elpd == fitted.logo().elpd
    with pytest.raises(ValueError, match="loo needs the rows of fit"):
        loaded.loo()


def test_reports_have_the_noises(fitted):
    assert {"noise_scale", "noise_spread"} <= set(fitted.summary().index)
    every = fitted.summary(group_effects=True)
    noise = fitted.group_noise_["person"]
    drawn = every.loc["group_noise[person, p03]"]
    assert drawn["mean"] == pytest.approx(noise.loc["p03", "mean"], rel=0.05)
    assert drawn["sd"] == pytest.approx(noise.loc["p03", "sd"], rel=0.15)
    assert fitted.prior_summary().loc["noise_spread", "prior"] == "Exponential(rate=1.)"
    assert "noise_spread" in fitted.prior_sensitivity().index
    assert set(fitted.posterior_) >= {"noise_scale", "noise_spread"}
    residual = fitted.variance_components().query("factor == 'residual'")["mean"]
    assert residual.iloc[0] == pytest.approx(np.sqrt((SD**2).mean()), rel=0.25)


def test_arviz_has_the_noises(fitted):
    pytest.importorskip("arviz")
    data = fitted.to_arviz()
    noise = data["posterior"]["group_noise_person"]
    assert noise.dims == ("chain", "draw", "person")
    assert data["log_likelihood"]["y"].shape == (4, 1000, len(Y))
    conditional = fitted.loo(conditional=True)
    assert conditional.kind == "conditional loo"


@pytest.mark.slow
def test_own_prior_is_used():
    fixed = model(prior=Prior(noise_spread=dist.Gamma(1e4, 1e4 / 0.3)), n_draws=250).fit(X, Y)
    assert fixed.noise_spread_ == pytest.approx(0.3, rel=0.05)
    half = model(prior=Prior(noise_spread=0.5)).fit(X, Y)
    assert half.prior_summary().loc["noise_spread", "prior"] == "Exponential(rate=2.)"


def test_prior_draws_have_noises_of_levels():
    prior = Prior(
        intercept=dist.Normal(0.0, 1e-9),
        coef=dist.Normal(0.0, 1e-9),
        group_scale=dist.HalfNormal(1e-9),
        noise_scale=dist.Gamma(1e6, 1e6),
        noise_spread=dist.Gamma(1e6, 1e6),
    )
    y = model(prior=prior).sample_prior(X, 1000, random_state=0)
    logs = np.log(np.abs(y.reshape(N_LEVELS, N_ROWS, -1))).mean(1)
    within = np.pi**2 / 8 / N_ROWS  # variance of log|z| is pi^2 / 8
    assert logs.var() == pytest.approx(1 + within, rel=0.05)


@pytest.mark.parametrize(
    "slopes", [pytest.param("all", marks=pytest.mark.slow), None], ids=["varying", "fixed"]
)
def test_level_means_and_fixed_slopes_go_with_it(slopes):
    """Features without varying slopes are in the residuals."""
    of_means = {"slopes": slopes, "group_means": ["x"], "n_draws": 250}
    unequal, equal = (model(noise_by=by, **of_means).fit(X, Y) for by in ("person", None))
    assert unequal.coef_names_ == ["x", "mean(x | person)"]
    assert unequal.log_evidence_ > equal.log_evidence_
    assert np.isfinite(unequal.predict(X, return_std=True)).all()
    assert np.isfinite(unequal.predict_interval(X)).all()


@pytest.mark.slow
def test_it_can_be_searched_by_scikit_learn():
    grid = {"noise_by": [None, "person"]}
    search = GridSearchCV(
        HierarchicalSlopesRegressor("person", n_draws=250, random_state=0),
        grid,
        cv=KFold(2, shuffle=True, random_state=0),
        scoring=get_scorer("log_predictive_density"),
    ).fit(X, Y)
    assert search.best_params_ == {"noise_by": "person"}


def test_scores_of_mixtures_are_there(fitted):
    some = X[::8]  # whose components are looked at in pairs
    crps = -get_scorer("neg_crps")(fitted, some, Y[::8])
    assert 0 < crps < np.abs(Y[::8] - fitted.predict(some)).mean()


def test_refit_without_it_leaves_nothing_of_it():
    other = model(n_draws=250).fit(X, Y)
    other.set_params(noise_by=None).fit(X, Y)
    assert not hasattr(other, "group_noise_")


def test_same_seed_same_numbers(quick):
    other = clone(QUICK).fit(X, Y)
    assert_array_equal(quick.predict_interval(X), other.predict_interval(X))
    assert_array_equal(quick.group_noise_["person"], other.group_noise_["person"])


def test_arrays_name_the_factor_by_position():
    table = np.column_stack([X["x"], np.repeat(np.arange(N_LEVELS), N_ROWS)])
    for noise_by in (1, -1, "x1"):
        other = HierarchicalSlopesRegressor(1, noise_by=noise_by, n_draws=250, random_state=0)
        assert list(other.fit(table, Y).group_noise_) == ["x1"]


TABLES = {"x": X[["x"]], "person": X, "town": X.assign(town=np.arange(len(X)) % 5)}


@pytest.mark.parametrize(
    ("params", "columns", "message"),
    [
        ({"noise_by": "x"}, "person", "noise_by='x' is not a grouping factor of this model"),
        ({"noise_by": "firm"}, "person", "this model, whose factors are 'person'"),
        ({"groups": None}, "x", "takes a grouping factor, and this model has none"),
        ({"response": "poisson"}, "person", "noise_by is for response='normal'"),
        ({"response": "lognormal"}, "person", "noise_by is for response='normal'"),
        ({"known_noise": "x"}, "person", "noise_by and known_noise exclude each other"),
    ],
)
def test_what_it_is_not_for_is_refused(params, columns, message):
    with pytest.raises(ValueError, match=message):
        model().set_params(**params).fit(TABLES[columns], np.exp(Y))


def test_levels_that_fit_exactly_are_named():
    y = Y.copy()
    here = (X["person"] == "p03").to_numpy()
    y[here] = 1.0 + 2 * X.loc[here, "x"]
    with pytest.warns(UserWarning, match="The rows of 1 level.* fit exactly.*'p03'"):
        exact = model(n_draws=250).fit(X, y)
    assert any("fit exactly" in message for message in exact.diagnostics_["warnings"])
    assert np.isfinite(exact.predict_interval(X)).all()


def test_constant_target_is_a_point():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        constant = model().fit(X, np.full(len(X), 2.0))
    assert constant.predict(X) == pytest.approx(2.0)


@pytest.mark.slow
def test_posterior_is_calibrated():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"x": rng.normal(size=72), "g": np.repeat(np.arange(12), 6)})
    prior = Prior(
        intercept=dist.Normal(0.0, 1.0),
        coef=dist.Normal(0.0, 1.0),
        group_scale=dist.HalfNormal(1.0),
        noise_scale=dist.LogNormal(0.0, 0.5),
        noise_spread=dist.Gamma(4.0, 8.0),
    )
    calibrated = HierarchicalSlopesRegressor("g", prior=prior, noise_by="g")
    report = simulation_based_calibration(calibrated, table, 100, random_state=0)
    assert {"noise_spread", "group_noise[g, 0]", "group_noise[g, 11]"} <= set(report.ranks)
    assert report.p_value > 1e-3, report


@pytest.mark.slow
def test_intervals_cover_whatever_a_levels_noise():
    """In every fifth of the levels by noise, where one noise for all covers 75 to 99%."""
    covered = {"person": np.zeros(5), None: np.zeros(5)}
    for seed in range(5):
        table, y, _ = panel(300, 24, seed)
        known = np.tile(np.arange(24) < 12, 300)
        fits = {by: model(noise_by=by).fit(table[known], y[known]) for by in covered}
        noise = fits["person"].group_noise_["person"]["mean"].loc[table["person"][~known]]
        fifth = pd.qcut(noise, 5, labels=False).to_numpy()
        for by, fit in fits.items():
            low, high = fit.predict_interval(table[~known]).T
            inside = (low < y[~known]) & (y[~known] < high)
            covered[by] += np.bincount(fifth, inside) / np.bincount(fifth) / 5
    assert covered["person"].min() > 0.88
    assert covered["person"].max() < 0.92
    assert covered[None].min() < 0.78
    assert covered[None].max() > 0.98


@pytest.mark.parametrize(
    ("n_levels", "n_rows"), [(2, 4), pytest.param(6, 2, marks=pytest.mark.slow)]
)
def test_few_levels_of_few_rows_stay_numbers(n_levels, n_rows):
    """The prior's tail of the spread reaches noises beyond any that y can have."""
    table, y, _ = panel(n_levels, n_rows, seed=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        few = model(n_draws=250).fit(table, y)
    new = pd.concat([table, table[:1].assign(person="new")])
    assert np.isfinite(few.predict_interval(new)).all()
    assert np.isfinite(few.predict(new, return_std=True)).all()
    assert np.isfinite(few.logo().elpd)
