"""Levels with a noise of their own where every parameter is sampled: Student t, several factors."""

import pickle
import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from runs import SHORT
from scipy import stats

from skhier import HierarchicalSlopesRegressor, HierarchicalSlopesRegressorCV
from skhier.calibration import simulation_based_calibration
from skhier.inference import runtime
from skhier.inference.noise_target import LEVELS
from skhier.inference.prior import PriorSetting
from skhier.inference.quadrature_target import Joint
from skhier.inference.row_engines import engine_rows
from skhier.inference.row_target import ROWS
from skhier.inference.statement import model_spec, prior_dists
from skhier.kernels.rows.models import JointRows
from skhier.metrics import get_scorer
from skhier.responses import StudentT
from skhier.responses.by_level import NormalByLevel, StudentTByLevel
from skhier.statistics.level_roots import level_roots
from skhier.statistics.problem import reduce_rows
from skhier.utils.table import read_table
from skhier.utils.training import read_training

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:.*unseen group"),
]

N_SHOPS, N_CLERKS = 15, 8
SCALE, SPREAD = 0.7, 0.7
LONG = {"n_chains": 4, "n_warmup": 500, "n_draws": 1000, "random_state": 0}


def crossed(n, n_clerks=N_CLERKS, seed=0):
    """X, y and the true sds of the clerks' noises."""
    rng = np.random.default_rng(seed)
    shop, clerk = rng.integers(N_SHOPS, size=n), rng.integers(n_clerks, size=n)
    x, sd = rng.normal(size=n), SCALE * np.exp(SPREAD * rng.normal(size=n_clerks))
    y = 1 + rng.normal(size=N_SHOPS)[shop] + 0.5 * rng.normal(size=n_clerks)[clerk] + 2 * x
    y += sd[clerk] * rng.normal(size=n)
    return pd.DataFrame({"x": x, "shop": shop, "clerk": clerk}), y, sd


X, Y, SD = crossed(240)
NEW = pd.concat([X[::40], X[:2].assign(clerk=99), X[:1].assign(shop=99)])


def model(response="normal", **params):
    groups = {"shop": None, "clerk": None}
    settings = {"noise_by": "clerk", "response": response, **SHORT, **params}
    return HierarchicalSlopesRegressor(groups, **settings)


@pytest.fixture(
    scope="module", params=[pytest.param("normal", marks=pytest.mark.slow), "student_t"]
)
def short(request):
    """Do not modify."""
    return model(request.param).fit(X, Y)


def test_rows_have_the_density_of_levels():
    """At any point the joint model of rows is that of the levels' roots; a t's of huge df too."""
    table = X.drop(columns="shop")
    design, training = read_training(read_table(table), Y, None, "clerk", "all")
    problem, one = reduce_rows(design, training), HierarchicalSlopesRegressor("clerk")
    x, codes, y, weights, offset = engine_rows(problem.units, training)
    present = tuple((f.zz[-1, -1] > 0).astype(float) for f in problem.stats.factors)
    rows = JointRows(x, y, weights, offset, codes.astype(np.int32), present)
    levels = level_roots(training, problem.units, problem.slopes[0], N_CLERKS)
    values = []
    for response, program, data, fixed in (
        (NormalByLevel(), LEVELS, levels, ()),
        (NormalByLevel(), ROWS, rows, ({},)),
        (StudentTByLevel(1e9), ROWS, rows, ({"df": 1e9},)),
    ):
        setting = PriorSetting.of(one, problem.scales, design, response, 0)
        choice = setting.resolve()
        target = Joint(program, model_spec(problem, choice, response, True, True, noise_by=0))
        data = (data, problem.units, prior_dists(choice, 2.0), *fixed)
        with runtime.precisely_on(None):
            size = len(jax.eval_shape(lambda: jnp.zeros(target.size(data))))  # noqa: B023
            points = np.random.default_rng(0).normal(size=(3, size), scale=0.5)
            density = jax.jit(partial(target.log_density, data))
            values.append([float(density(point)) for point in points])
    assert_allclose(values[1], values[0], rtol=1e-10)
    assert_allclose(values[2], values[0], rtol=1e-6)


def test_auto_samples_them_all(short):
    assert short.diagnostics_["engine"] == "nuts"
    assert list(short.group_noise_) == ["clerk"]
    assert list(short.group_noise_["clerk"].index) == list(range(N_CLERKS))
    draws = short._fitted.posterior.noise_draws(np.arange(N_CLERKS))
    assert_allclose(short.group_noise_["clerk"], np.stack([draws.mean(0), draws.std(0)], axis=1))
    every = short.summary(group_effects=True)
    assert_allclose(every.loc["group_noise[clerk, 3]", "mean"], draws[:, 3].mean())
    assert {"noise_scale", "noise_spread"} <= set(short.posterior_)
    assert short.noise_spread_ == pytest.approx(short.posterior_["noise_spread"].mean())


def test_predictions_are_mixtures_of_draws(short):
    """To the error of the draws of new levels' effects and noises, as many as there are draws.

    Means are told from lines: those of y, whose noise in a new level has tails of powers, do not
    settle in any number of draws.
    """
    posterior, rows = short._fitted.posterior, short._rows_of(NEW, "group")
    n = posterior.n_draws
    mean = short.predict(NEW)
    lines = posterior.sample_lines(rows.x, rows.codes, np.arange(n), 1)
    assert (np.abs(lines.mean(0) - mean) < 5 * lines.std(0) / np.sqrt(n)).all()
    draws = short.sample_y(NEW, 4000, random_state=1)
    q = np.array([0.1, 0.5, 0.9])
    at = short.predict_quantiles(NEW, q)
    for j, level in enumerate(q):
        below = (draws < at[:, [j]]).mean(1)
        assert (np.abs(below - level) < 5 * np.sqrt(level * (1 - level) / n)).all()


def test_densities_are_derivatives_of_distribution_functions(short):
    def below(y):
        rows = short._rows_of(NEW, "group")
        return short._fitted.posterior.distribution_function(rows.x, rows.codes, y)

    y, step = short.predict(NEW) + 0.3, 1e-3
    density = np.exp(short.log_predictive_density(NEW, y))
    assert_allclose(density, (below(y + step) - below(y - step)) / (2 * step), rtol=1e-3)


def test_intervals_follow_each_levels_noise(short):
    rows = X.drop_duplicates("clerk").sort_values("clerk").assign(x=0.0, shop=0)
    widths = np.ptp(short.predict_interval(rows), axis=1)
    assert stats.spearmanr(widths, short.group_noise_["clerk"]["mean"]).statistic > 0.9


def test_new_levels_mix_the_population_of_noises(short):
    posterior = short._fitted.posterior
    sds = np.concatenate([posterior.noise_draws(np.array([N_CLERKS]), seed=s) for s in range(20)])
    own = (np.tile(short.posterior_[k].ravel(), 20) for k in ("noise_scale", "noise_spread"))
    scale, spread = own
    assert stats.kstest(np.log(sds[:, 0] / scale) / spread, "norm").pvalue > 1e-3


def test_densities_of_rows_are_those_of_the_drawn_parameters(short):
    """The definition: intercepts, slope and each level's noise, of every draw."""
    posterior, draws = short._fitted.posterior, short.posterior_
    line = draws["intercept"].reshape(-1, 1) + draws["coef"].reshape(-1, 1) * X["x"].to_numpy()
    for k, name in enumerate(("shop", "clerk")):
        line = line + posterior.group_draws(k, np.arange(X[name].max() + 1))[:, X[name], 0]
    noise = posterior.noise_draws(np.arange(N_CLERKS))[:, X["clerk"]]
    family = stats.t(draws["df"].reshape(-1, 1)) if "df" in draws else stats.norm
    exact = family.logpdf((Y - line) / noise) - np.log(noise)
    rows = short._rows_of(X, "group")
    assert_allclose(posterior.row_log_densities(rows.x, rows.codes, Y), exact, rtol=1e-8)
    loo = short.loo()
    assert loo.kind == "conditional loo"
    assert loo.elpd < np.log(np.exp(exact).mean(0)).sum()


def test_reports_and_pickles(short):
    loaded = pickle.loads(pickle.dumps(short))
    assert_array_equal(loaded.predict_interval(NEW), short.predict_interval(NEW))
    assert_array_equal(
        loaded.sample_y(NEW, 3, random_state=0), short.sample_y(NEW, 3, random_state=0)
    )
    pd.testing.assert_frame_equal(loaded.group_noise_["clerk"], short.group_noise_["clerk"])
    residual = short.variance_components().query("factor == 'residual'")["mean"].iloc[0]
    assert residual >= 0.7 * np.sqrt((SD**2).mean())
    assert short.diagnostics_["within_between"] == {"shop": {}, "clerk": {}}
    for answer in (short.prior_sensitivity, lambda: short.logo("clerk")):
        with pytest.raises(ValueError, match=r"grouping factor|group effects"):
            answer()


def test_arviz_has_the_noises(short):
    pytest.importorskip("arviz")
    data = short.to_arviz()
    assert data["posterior"]["group_noise_clerk"].dims == ("chain", "draw", "clerk")
    assert "group_noise_shop" not in data["posterior"]
    assert data["log_likelihood"]["y"].shape == (2, 50, len(Y))


def test_crps_of_normal_noise_is_that_of_draws(short):
    scorer = get_scorer("neg_crps")
    if short.response != "normal":
        with pytest.raises(ValueError, match="has none"):
            scorer(short, X, Y)
        return
    draws = short.sample_y(X, 2000, random_state=0)
    half = np.abs(draws[:, :1000] - draws[:, 1000:]).mean(1) / 2
    exact = (np.abs(draws - Y[:, None]).mean(1) - half).mean()
    assert -scorer(short, X, Y) == pytest.approx(exact, rel=0.05)


def test_what_needs_the_rows_says_so(short):
    with pytest.raises(ValueError, match="fit the rows themselves"):
        pickle.loads(pickle.dumps(short)).partial_fit(X, Y)
    with pytest.raises(AttributeError, match="fit the rows themselves"):
        short.statistics_  # noqa: B018
    added = model().partial_fit(X, Y)
    with pytest.raises(ValueError, match="several grouping factors needs the rows"):
        added.coef_  # noqa: B018


def test_searches_know_what_is_sampled():
    search = HierarchicalSlopesRegressorCV(
        ["shop", "clerk"], slopes=None, noise_by="clerk", param_grid={"eta": [2.0]}, **SHORT
    )
    with pytest.raises(ValueError, match="needs the levels' noises integrated out"):
        search.set_params(cv="evidence").fit(X, Y)


@pytest.mark.slow
def test_searches_by_folds_sample():
    grid = {"noise_by": [None, "clerk"]}
    search = HierarchicalSlopesRegressorCV(
        ["shop", "clerk"],
        slopes=None,
        param_grid=grid,
        cv=2,
        scoring="log_predictive_density",
        **SHORT,
    )
    assert search.fit(X, Y).best_params_ == {"noise_by": "clerk"}


@pytest.mark.parametrize("response", ["normal", "student_t"])
def test_marginal_inference_is_refused(response):
    with pytest.raises(ValueError, match="a normal response with one grouping factor"):
        model(response, inference="marginal").fit(X, Y)


def test_constant_target_is_a_point():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        assert model("student_t").fit(X, np.full(len(X), 2.0)).predict(X) == pytest.approx(2.0)


def test_response_parameters_reach_the_levels():
    of_df = model(StudentT(df=4.0))
    assert of_df._response.fixed == {"df": 4.0}
    drawn = of_df.sample_prior(X, 3, random_state=0, y=Y)
    assert drawn.shape == (len(X), 3)


@pytest.mark.slow
def test_one_factor_is_that_of_the_marginal_engine():
    """A t with huge df samples rows; the normal response integrates from statistics."""
    rng = np.random.default_rng(0)
    code, x = np.repeat(np.arange(24), 8), rng.normal(size=192)
    effects, sd = rng.normal(size=(24, 2)) * [1.0, 0.5], SCALE * np.exp(0.6 * rng.normal(size=24))
    y = 3 + effects[code, 0] + (2 + effects[code, 1]) * x + sd[code] * rng.normal(size=192)
    table = pd.DataFrame({"x": x, "person": code})
    settings = {**LONG, "noise_by": "person"}
    ours = HierarchicalSlopesRegressor("person", response=StudentT(df=1e6), **settings)
    ours, theirs = (
        one.fit(table, y) for one in (ours, HierarchicalSlopesRegressor("person", **settings))
    )
    one, other = ours.summary(), theirs.summary()
    assert (one["ess_bulk"] > 400).all()
    assert (np.abs(one["mean"] - other["mean"]) < 5 * np.hypot(one["mcse"], other["mcse"])).all()
    assert_allclose(one["sd"], other["sd"], rtol=0.15)
    one, other = (fit.group_noise_["person"] for fit in (ours, theirs))
    assert_allclose(one["mean"], other["mean"], rtol=0.05)
    assert_allclose(one["sd"], other["sd"], rtol=0.15)
    off = ours.group_coef_["person"] - theirs.group_coef_["person"]
    assert (np.abs(off) < 0.1 * theirs.group_coef_std_["person"]).all(axis=None)


@pytest.mark.slow
@pytest.mark.parametrize("response", ["normal", "student_t"])
def test_noises_of_a_crossed_table_are_found(response):
    table, y, sd = crossed(1500, 20, seed=1)
    settings = {"n_chains": 2, "n_warmup": 300, "n_draws": 400}
    fit = model(response, **settings).fit(table, y)
    noise = fit.group_noise_["clerk"]
    z = np.log(noise["mean"] / sd) / (noise["sd"] / noise["mean"])
    assert np.abs(z).max() < 4
    assert np.corrcoef(np.log(noise["mean"]), np.log(sd))[0, 1] > 0.98
    assert fit.noise_spread_ == pytest.approx(SPREAD, abs=0.35)
    plain = model(response, noise_by=None, **settings).fit(table, y)
    assert fit.loo().elpd > plain.loo(conditional=True).elpd + 50


@pytest.mark.slow
def test_posterior_is_calibrated():
    import numpyro.distributions as dist

    from skhier import Prior

    rng = np.random.default_rng(0)
    table = pd.DataFrame({"x": rng.normal(size=72), "g": np.repeat(np.arange(12), 6)})
    table["h"] = np.arange(72) % 6
    prior = Prior(
        intercept=dist.Normal(0.0, 1.0),
        coef=dist.Normal(0.0, 1.0),
        group_scale=dist.HalfNormal(1.0),
        noise_scale=dist.LogNormal(0.0, 0.5),
        noise_spread=dist.Gamma(4.0, 8.0),
    )
    calibrated = HierarchicalSlopesRegressor(
        {"g": None, "h": None},
        prior=prior,
        noise_by="g",
        response=StudentT(df=5.0),
        n_chains=2,
        n_warmup=300,
        n_draws=300,
    )
    report = simulation_based_calibration(calibrated, table, 60, random_state=0)
    assert {"noise_spread", "group_noise[g, 0]", "group_noise[g, 11]"} <= set(report.ranks)
    assert report.p_value > 1e-3, report
