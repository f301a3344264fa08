"""Crossed and nested factors: how to name them, what fit says of them, scores and calibration."""

import warnings

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from runs import budget, slow, spending
from scipy.stats import binom
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import Pipeline, make_pipeline

from skhier import (
    HierarchicalSlopesRegressor,
    HierarchicalSlopesRegressorCV,
    Prior,
    compare,
)
from skhier.calibration import simulation_based_calibration
from skhier.datasets import make_hierarchical
from skhier.inference import engines as _engines
from skhier.utils.diagnostics import ess_bulk, mcse_mean, mcse_sd

LIGHT = {"n_chains": 2, "n_draws": 500, "random_state": 0}  # the same points every time
ROUNDING = 1e-6  # of fits whose sums are in another order
# explicit, so that a refit without some rows has the same
PRIOR = Prior(
    intercept=dist.Normal(0.0, 2.0),
    coef=dist.Normal(0.0, 1.0),
    group_scale={"a": dist.HalfNormal(1.0), "b": dist.HalfNormal(1.0)},
    noise_scale=dist.LogNormal(-0.5, 0.5),
)


def light(groups, X, y, **params):
    return HierarchicalSlopesRegressor(groups, **LIGHT | params).fit(X, y)


def varying(effects, X):
    """Design of a factor's effects, intercept first."""
    slopes = [X[name].to_numpy() for name in effects if name != "intercept"]
    return np.column_stack([np.ones(len(X)), *slopes])


def scale_cov(model, factor):
    """Sigma of each draw, (n_chains, n_draws, q, q)."""
    tau = model.posterior_["group_scale"][factor]
    return tau[..., :, None] * model.posterior_["group_corr"][factor] * tau[..., None, :]


FORMS = {
    "list": (["a", "b"], ["x0"]),
    "dict": ({"a": ["x0"], "b": ["x0"]}, "all"),
    "dict in a list": (["a", {"b": ["x0"]}], ["x0"]),
    "dicts in a list": ([{"a": ["x0"]}, {"b": ["x0"]}], "all"),
    "positions": ([2, -1], [0]),
    "callable": (lambda X: ["a", "b"], ["x0"]),
    "callable that gives a dict": (lambda X: {"a": ["x0"], "b": ["x0"]}, "all"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_groups_is_the_same_model(crossed, form):
    groups, slopes = FORMS[form]
    expected = light(["a", "b"], crossed.data, crossed.target, slopes=["x0"])
    model = light(groups, crossed.data, crossed.target, slopes=slopes)
    assert list(model.group_coef_) == ["a", "b"]
    assert model.log_evidence_ == expected.log_evidence_
    assert_allclose(model.predict(crossed.data), expected.predict(crossed.data), rtol=1e-12)


def test_arrays_name_factors_by_position(crossed):
    X, y = crossed.data, crossed.target
    array = X.assign(**{name: pd.factorize(X[name], sort=True)[0] for name in "ab"}).to_numpy()
    named = light({"a": ["x0"], "b": None}, X, y)
    model = light({2: [0], -1: None}, array, y.to_numpy())
    assert list(model.group_coef_) == ["x2", "x3"]
    assert list(model.group_coef_["x2"].columns) == ["intercept", "x0"]
    assert_allclose(model.predict(array), named.predict(X), atol=ROUNDING)
    assert_allclose(model.log_evidence_, named.log_evidence_, atol=ROUNDING)


def test_nested_array_columns_are_named_by_position(nested):
    X, y = nested.data, nested.target
    columns = {name: pd.factorize(X[name], sort=True)[0] for name in ("state", "cafe")}
    array = X.assign(**columns).to_numpy()
    model = light({1: [0], (1, 2): None}, array, y.to_numpy())
    assert list(model.group_coef_) == ["x1", "x1:x2"]
    named = light(nested.groups, X, y)
    assert_allclose(model.predict(array), named.predict(X), atol=ROUNDING)


def test_attributes_are_by_factor(crossed_fit):
    m = crossed_fit
    sizes, effects = {"a": 8, "b": 6}, {"a": ["intercept", "x0"], "b": ["intercept", "x1"]}
    for name in ("group_coef_", "group_coef_std_", "group_effects_"):
        tables = getattr(m, name)
        assert list(tables) == ["a", "b"]
        for factor, table in tables.items():
            assert list(table.columns) == effects[factor]
            assert list(table.index) == [f"{factor}_{g}" for g in range(sizes[factor])]
            assert table.index.name == factor
    for factor in sizes:
        assert list(m.group_scale_[factor].index) == effects[factor]
        assert m.group_corr_[factor].shape == (2, 2)
        assert list(m.group_levels_[factor]) == list(m.group_coef_[factor].index)
        assert m.posterior_["group_scale"][factor].shape == (4, 1000, 2)
        assert m.posterior_["group_corr"][factor].shape == (4, 1000, 2, 2)
        population = np.array([m.intercept_, m.coef_[m.coef_names_.index(effects[factor][1])]])
        deviation = m.group_coef_[factor] - m.group_effects_[factor]
        assert_allclose(deviation, np.tile(population, (sizes[factor], 1)), rtol=1e-9)
    assert m.coef_names_ == ["x0", "x1"]
    assert m.diagnostics_["n_groups"] == {"a": 8, "b": 6}
    assert m.diagnostics_["n_dense"] == 12  # b's effects, a's being eliminated one by one


def test_nested_attributes_have_a_level_per_combination(nested, nested_fit):
    m = nested_fit
    table = m.group_effects_["state:cafe"]
    assert isinstance(table.index, pd.MultiIndex)
    assert list(table.index.names) == ["state", "cafe"]
    assert list(table.index) == list(m.group_levels_["state:cafe"])
    assert list(table.columns) == ["intercept"]
    assert table.shape == (20, 1)
    assert table.loc[("state_1", "cafe_2")].shape == (1,)
    assert list(m.group_coef_["state"].columns) == ["intercept", "x0"]
    assert m.posterior_["group_scale"]["state:cafe"].shape == (4, 1000, 1)
    assert m.diagnostics_["n_groups"] == {"state": 5, "state:cafe": 20}
    assert m.diagnostics_["n_dense"] == 0  # one within the other: all eliminated
    # only combinations that occur
    few = ~((nested.data["state"] == "state_0") & (nested.data["cafe"] == "cafe_0"))
    fewer = light(nested.groups, nested.data[few], nested.target[few])
    assert ("state_0", "cafe_0") not in list(fewer.group_levels_["state:cafe"])
    assert len(fewer.group_levels_["state:cafe"]) == 19


def test_summary_names_every_parameter_once(crossed_fit, nested_fit):
    assert list(crossed_fit.summary().index) == [
        "intercept",
        "coef[x0]",
        "coef[x1]",
        "noise_scale",
        "group_scale[a, intercept]",
        "group_scale[a, x0]",
        "group_corr[a, intercept, x0]",
        "group_scale[b, intercept]",
        "group_scale[b, x1]",
        "group_corr[b, intercept, x1]",
    ]
    every = crossed_fit.summary(group_effects=True)
    assert every.index.is_unique
    assert len(every) == 10 + 8 * 2 + 6 * 2
    assert {"group_effects[a, a_7, x0]", "group_effects[b, b_0, intercept]"} <= set(every.index)
    assert every["r_hat"].max() < 1.01
    names = nested_fit.summary(group_effects=True).index
    assert names.is_unique
    assert sum("state:cafe" in name for name in names) == 1 + 20
    assert "group_effects[state:cafe, state_1:cafe_2, intercept]" in names


def test_priors_are_by_factor(nested):
    scales = {"state": 0.5, "state:cafe": {"intercept": dist.HalfNormal(3.0)}}
    prior = Prior(group_scale=scales)
    table = light(nested.groups, nested.data, nested.target, prior=prior).prior_summary()["prior"]
    default = light(nested.groups, nested.data, nested.target).prior_summary()["prior"]
    assert "HalfNormal(scale=3.)" in table["group_scale[state:cafe, intercept]"]
    rates = []
    for words in (table, default):
        of_state = words["group_scale[state, intercept]"]
        assert of_state.startswith("Exponential(rate=")
        rates.append(float(of_state.removeprefix("Exponential(rate=").removesuffix(")")))
    assert_allclose(rates[0], rates[1] / 0.5, rtol=1e-3)  # printed to four digits
    with pytest.raises(ValueError, match="cafe"):
        light(nested.groups, nested.data, nested.target, prior=Prior(group_scale={"cafe": 1.0}))


@pytest.mark.parametrize("design", [*slow("crossed"), "nested"])
def test_order_of_rows_and_names_of_levels_do_not_matter(request, design):
    sim, model = (request.getfixturevalue(name) for name in (design, f"{design}_fit"))
    X, y = sim.data, sim.target
    order = np.random.default_rng(0).permutation(len(y))
    again = HierarchicalSlopesRegressor(sim.groups, random_state=0).fit(
        X.iloc[order], y.iloc[order]
    )
    assert_allclose(again.predict(X, return_std=True), model.predict(X, return_std=True), ROUNDING)
    assert_allclose(again.log_evidence_, model.log_evidence_, rtol=ROUNDING)
    column = X.columns[-2]  # reversed order of its levels
    renamed = X.assign(**{column: [f"z{9 - int(label[-1])}" for label in X[column]]})
    other = HierarchicalSlopesRegressor(sim.groups, random_state=0).fit(renamed, y)
    assert_allclose(other.predict(renamed), model.predict(X), rtol=1e-5)
    assert_allclose(other.summary()["mean"], model.summary()["mean"], rtol=1e-5, atol=1e-6)
    assert_allclose(
        other.group_coef_std_[column].to_numpy()[::-1], model.group_coef_std_[column], rtol=1e-5
    )


def assert_same_posterior(one, other, tenth=True):
    """Population parameters and all group effects, within 5 combined Monte Carlo errors."""
    named, others = (model._fitted.named_draws(group_effects=True) for model in (one, other))
    table, table_2 = (model.summary(group_effects=True) for model in (one, other))
    assert set(table.index) == set(table_2.index)
    limits = [model.diagnostics_.get("ess_importance", np.inf) for model in (one, other)]
    for name in table.index:
        errors, sd_errors = [], []
        for draws, limit in zip((named[name], others[name]), limits, strict=True):
            ess = min(ess_bulk(draws), limit)
            assert ess > (1000 if tenth else 100), (name, ess)
            errors.append(max(mcse_mean(draws), draws.std() / np.sqrt(ess)))
            sd_errors.append(mcse_sd(draws) * np.sqrt(max(1, draws.size / ess)))
        sd = table.loc[name, "sd"]
        off = abs(table.loc[name, "mean"] - table_2.loc[name, "mean"])
        off_sd = abs(sd - table_2.loc[name, "sd"])
        assert off < 5 * np.hypot(*errors), (name, off / np.hypot(*errors))
        assert off_sd < 5 * np.hypot(*sd_errors), (name, off_sd / np.hypot(*sd_errors))
        if tenth:
            assert off < 0.1 * sd, (name, off / sd)
            assert off_sd < 0.1 * sd, (name, off_sd / sd)


def test_order_of_factors_does_not_matter(crossed, crossed_fit):
    """Random numbers meet other parameters: the same within Monte Carlo error."""
    swapped = HierarchicalSlopesRegressor({"b": ["x1"], "a": ["x0"]}, random_state=0)
    swapped.fit(crossed.data, crossed.target)
    assert list(swapped.group_coef_) == ["b", "a"]
    assert_same_posterior(swapped, crossed_fit)
    assert_allclose(swapped.log_evidence_, crossed_fit.log_evidence_, atol=0.1)


def joint(sim, **params):
    model = HierarchicalSlopesRegressor(
        sim.groups, inference="nuts", target_accept=0.9, random_state=1, **params
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # R-hat above 1.01, asserted below
        return model.fit(sim.data, sim.target)


@pytest.mark.slow
@pytest.mark.parametrize("noncentered", [True, False])
def test_short_chains_of_the_joint_model_agree(crossed, crossed_fit, noncentered):
    model = joint(crossed, noncentered=noncentered, n_chains=2, n_warmup=600, n_draws=600)
    assert model.diagnostics_["engine"] == "nuts"
    assert model.diagnostics_["r_hat"] < 1.05
    assert model.diagnostics_["divergences"] < 12
    assert_same_posterior(crossed_fit, model, tenth=False)


@pytest.mark.slow
@pytest.mark.parametrize("design", ["crossed", "nested"])
def test_long_chains_of_the_joint_model_agree(request, design):
    sim, fitted = (request.getfixturevalue(name) for name in (design, f"{design}_fit"))
    model = joint(sim, n_draws=5000)
    assert model.diagnostics_["r_hat"] < 1.01
    assert_same_posterior(fitted, model)


def test_shares_of_the_variance_are_those_of_the_draws(crossed, crossed_fit):
    """Johnson (2014): a factor's variance is the mean over rows of z' Sigma z."""
    X, m = crossed.data, crossed_fit
    variances = {}
    for factor, table in m.group_coef_.items():
        z = varying(table.columns, X)
        rows = np.einsum("ni,csij,nj->csn", z, scale_cov(m, factor), z)
        variances[factor] = rows.mean(-1)
    noise = m.posterior_["noise_scale"] ** 2
    random = variances["a"] + variances["b"]
    table = m.variance_components()
    icc = table[table["parameter"] == "icc"].set_index("factor")
    assert list(icc.index) == ["a", "b", "residual"]
    assert_allclose(icc["mean"].sum(), 1)
    for factor, variance in variances.items():
        share = variance / (random + noise)
        assert_allclose(icc.loc[factor, "mean"], share.mean(), rtol=1e-9)
        assert_allclose(icc.loc[factor, "sd"], share.std(ddof=1), rtol=1e-9)
    assert_allclose(icc.loc["residual", "mean"], (noise / (random + noise)).mean(), rtol=1e-9)
    fixed = np.var(m.posterior_["coef"] @ X[["x0", "x1"]].to_numpy().T, axis=-1)
    found = m.r_squared(return_draws=True)
    total = fixed + random + noise
    assert_allclose(found["marginal"], fixed / total, rtol=1e-9)
    assert_allclose(found["conditional"], (fixed + random) / total, rtol=1e-9)
    assert np.all(found["marginal"] < found["conditional"])
    assert_allclose(m.r_squared()["mean"], [found[k].mean() for k in ("marginal", "conditional")])


def test_a_constant_response_has_no_shares(crossed):
    with pytest.warns(UserWarning, match="constant"):
        still = HierarchicalSlopesRegressor(crossed.groups).fit(crossed.data, np.ones(150))
    with pytest.raises(ValueError, match=r"no variance to explain: y is constant\."):
        still.r_squared()
    table = still.variance_components()
    assert set(table["parameter"]) == {"sd", "corr"}
    assert np.isfinite(table.select_dtypes("number")).all(axis=None)
    assert_allclose(still.predict(crossed.data), 1)


@pytest.mark.parametrize("design", ["crossed", "nested"])
def test_sampled_group_effects_agree_with_the_tables(request, design):
    m = request.getfixturevalue(f"{design}_fit")
    population = dict(zip(m.coef_names_, np.moveaxis(m.posterior_["coef"], -1, 0), strict=True))
    population["intercept"] = m.posterior_["intercept"]
    ess = m.diagnostics_["ess_importance"]
    for factor, effects in m.group_effects_.items():
        draws = m.sample_group_effects(factor)
        assert draws.shape == (4000, *effects.shape)
        error = draws.std(0) / np.sqrt(ess)
        off = np.abs(draws.mean(0) - effects.to_numpy())
        assert np.all(off < 5 * error)
        assert np.all(off < 0.1 * draws.std(0))
        of_population = [population[name].ravel() for name in effects.columns]
        coef = draws + np.stack(of_population, axis=-1)[:, None]
        # the sd's relative error, of tails no heavier than a t distribution's with 6 degrees
        assert_allclose(coef.std(0), m.group_coef_std_[factor], rtol=5 * np.sqrt(5 / 4 / ess))
        assert_allclose(coef.std(0), m.group_coef_std_[factor], rtol=0.1)


def test_levels_of_a_nesting_are_tuples(nested_fit):
    every = nested_fit.sample_group_effects("state:cafe")
    levels = [("state_3", "cafe_1"), ("state_0", "cafe_2")]
    assert_allclose(nested_fit.sample_group_effects("state:cafe", levels), every[:, [13, 2]])
    assert nested_fit.sample_group_effects("state:cafe", levels, 7, 0).shape == (7, 2, 1)
    with pytest.raises(ValueError, match=r"\('state_3', 'cafe_9'\)"):
        nested_fit.sample_group_effects("state:cafe", [("state_3", "cafe_9")])


@pytest.mark.parametrize("design", ["crossed", "nested"])
def test_arviz_names_every_factor(request, design):
    sim, m = (request.getfixturevalue(name) for name in (design, f"{design}_fit"))
    X, y = sim.data, sim.target.to_numpy()
    exchanged = m.to_arviz()
    found, line = exchanged.posterior, m.posterior_["coef"] @ X[m.coef_names_].to_numpy().T
    line = line + m.posterior_["intercept"][..., None]
    for factor, table in m.group_effects_.items():
        effects = found[f"group_effects_{factor}"]
        assert effects.dims == ("chain", "draw", factor, f"{factor}_effect")
        labels = [":".join(label) if isinstance(label, tuple) else label for label in table.index]
        assert list(effects[factor].values) == labels
        assert list(effects[f"{factor}_effect"].values) == list(table.columns)
        assert found[f"group_scale_{factor}"].dims == ("chain", "draw", f"{factor}_effect")
        of_rows = X[factor.split(":")].agg(":".join, axis=1).to_numpy()
        b = effects.sel(**{factor: of_rows}).values
        line = line + np.einsum("csnq,nq->csn", b, varying(table.columns, X))
    sigma = m.posterior_["noise_scale"][..., None]
    # log Normal(y | line, sigma^2)
    expected = -0.5 * ((y - line) / sigma) ** 2 - np.log(sigma * np.sqrt(2 * np.pi))
    assert_allclose(exchanged.log_likelihood["y"], expected, rtol=1e-8, atol=1e-8)


def with_prior(sim, seed=0):
    return HierarchicalSlopesRegressor(sim.groups, prior=PRIOR, random_state=seed)


@pytest.mark.parametrize(("n_rows", "n_refits"), [pytest.param(6, 3, marks=pytest.mark.slow)])
def test_loo_is_the_density_that_refits_give(crossed, n_rows, n_refits):
    X, y = crossed.data, crossed.target
    found = with_prior(crossed).fit(X, y).loo().pointwise
    assert found["pareto_k"].max() < 0.7
    rows = np.random.default_rng(0).choice(150, n_rows, replace=False)
    exact = np.empty((len(rows), n_refits))
    for i, row in enumerate(rows):
        kept = np.arange(150) != row
        for seed in range(n_refits):
            refit = with_prior(crossed, seed).fit(X[kept], y[kept])
            exact[i, seed] = refit.log_predictive_density(X[~kept], y[~kept])[0]
    error = np.sqrt(exact.var(1, ddof=1).mean() / n_refits)
    off = found["elpd"].to_numpy()[rows] - exact.mean(1)
    assert error < 0.05
    assert np.abs(off / np.hypot(found["mcse"].to_numpy()[rows], error)).max() < 5


def test_parts_of_loo_add_up(crossed_fit, nested_fit):
    for model in (crossed_fit, nested_fit):
        found = model.loo()
        table = found.pointwise
        assert_allclose(found.elpd, table["elpd"].sum())
        assert_allclose(found.se, np.sqrt(150 * table["elpd"].var(ddof=0)))
        conditional = model.loo(conditional=True)
        error = np.sqrt((table["mcse"] ** 2).sum() + (conditional.pointwise["mcse"] ** 2).sum())
        assert conditional.n_bad < 8
        assert abs(conditional.elpd - found.elpd) < 5 * error + 0.2 * conditional.n_bad
        with pytest.raises(ValueError, match="logo is for one grouping factor"):
            model.logo(next(iter(model.group_levels_)))


@pytest.mark.slow
def test_a_loo_weight_of_two_is_the_row_twice(crossed):
    X, y = crossed.data, crossed.target
    weight = np.where(np.arange(150) % 3, 1, 2)
    twice = np.repeat(np.arange(150), weight)
    weighted = with_prior(crossed).fit(X, y, sample_weight=weight).loo()
    repeated = with_prior(crossed).fit(X.iloc[twice], y.iloc[twice]).loo()
    assert_allclose([weighted.elpd, weighted.p], [repeated.elpd, repeated.p], rtol=1e-7)


def test_crossed_models_compare(crossed, crossed_fit):
    X, y = crossed.data, crossed.target
    without = HierarchicalSlopesRegressor({"a": ["x0"], "b": None}, random_state=0).fit(X, y)
    table = compare({"slopes of b": crossed_fit, "levels of b": without})
    assert table.index[0] == "slopes of b"  # as simulated
    assert_allclose(table["weight"].sum(), 1)
    gain = crossed_fit.loo().elpd - without.loo().elpd
    assert_allclose(table["elpd_diff"].iloc[1], -gain)


def test_prior_draws_have_the_priors_variance(crossed):
    X = crossed.data
    model = with_prior(crossed)
    draws = model.sample_prior(X, 4000, random_state=0)
    x = X[["x0", "x1"]].to_numpy()
    # E tau^2 = 1 of each effect, E sigma^2 = exp(2 mu + 2 s^2); correlations have mean 0
    effects = (1 + x[:, 0] ** 2) + (1 + x[:, 1] ** 2)
    variance = 4 + (x**2).sum(1) + effects + np.exp(-1 + 2 * 0.25)
    square = draws**2
    error = square.std(1) / np.sqrt(4000)
    assert np.abs((square.mean(1) - variance) / error).max() < 5
    pair = np.flatnonzero((X["a"] == X["a"][0]) & (X["b"] != X["b"][0]))[0]
    product = draws[0] * draws[pair]
    shared = 4 + x[0] @ x[pair] + 1 + x[0, 0] * x[pair, 0]  # a's effects, none of b's
    assert abs(product.mean() - shared) < 5 * product.std() / np.sqrt(4000)


def test_prior_sensitivity_lists_every_parameter(crossed):
    fitted = with_prior(crossed).fit(crossed.data, crossed.target)
    table = fitted.prior_sensitivity()
    assert list(table.index) == list(fitted.summary().index)
    assert np.isfinite(table[["prior", "likelihood", "pareto_k"]]).all(axis=None)
    assert table["pareto_k"].max() < 0.7
    assert table.loc["noise_scale", "likelihood"] > table.loc["noise_scale", "prior"]


def test_too_many_crossed_effects_are_sampled_by_nuts(crossed, monkeypatch):
    few, short = budget(max_dense=11), {"n_chains": 2, "n_warmup": 50, "n_draws": 20}
    ran, run = [], _engines.run_nuts

    def after_the_warning(*args):
        ran.append([str(w.message) for w in caught])
        return run(*args)

    monkeypatch.setattr(_engines, "run_nuts", after_the_warning)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = spending(HierarchicalSlopesRegressor(crossed.groups, **LIGHT | short), few)
        model.fit(crossed.data, crossed.target)
    assert model.diagnostics_["engine"] == "nuts"
    (told,) = ran
    (message,) = [m for m in told if "crossed" in m]
    assert "12 group effects" in message
    assert "11" in message
    assert all(w.category in (UserWarning, ConvergenceWarning) for w in caught)
    assert [w.filename for w in caught if "crossed" in str(w.message)] == [__file__]
    assert message in model.diagnostics_["warnings"]
    with pytest.raises(ValueError, match="12 group effects are crossed"):
        model.set_params(inference="marginal").fit(crossed.data, crossed.target)


def test_long_run_is_announced_where_the_user_called(crossed):
    """Under the CV estimator and in a Pipeline too; once more in ``diagnostics_``."""
    few = budget(max_dense=11)
    short = {"n_chains": 1, "n_warmup": 20, "n_draws": 10, "random_state": 0}
    search = HierarchicalSlopesRegressorCV(crossed.groups, param_grid={"eta": [2.0]}, cv=2, **short)
    one = HierarchicalSlopesRegressor(crossed.groups, **short)
    models = spending(search, few), make_pipeline(spending(one, few))
    for model in models:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.fit(crossed.data, crossed.target)
        told = [w for w in caught if "minutes on a CPU" in str(w.message)]
        assert {w.filename for w in told} == {__file__}
        last = model[-1] if isinstance(model, Pipeline) else model
        assert last.diagnostics_["warnings"].count(str(told[-1].message)) == 1


CALIBRATED = {"prior": PRIOR, "n_chains": 2, "n_draws": 500}


@pytest.fixture(scope="module")
def small():
    """48 rows, a slope by a alone."""
    slopes = {"a": ["x0"], "b": None}
    return make_hierarchical(48, 1, groups={"a": 6, "b": 4}, slopes=slopes, random_state=3)


def calibrated(sim, n, seed):
    model = HierarchicalSlopesRegressor(sim.groups, **CALIBRATED)
    return simulation_based_calibration(model, sim.data, n, n_draws=99, random_state=seed)


@pytest.mark.slow
def test_crossed_posterior_is_calibrated(small):
    report = calibrated(small, 40, seed=1)
    assert {"group_scale[b, intercept]", "group_effects[a, a_5, x0]"} <= set(report.ranks)
    assert report.p_value > 1e-3, report
    assert (report.fits["ess_bulk"] > 99).all()


@pytest.mark.slow
def test_crossed_posterior_is_calibrated_in_a_thousand_fits(small):
    report = calibrated(small, 1000, seed=2)
    assert report.p_value > 1e-3, report


def drawn_from_the_prior(X, rng):
    """Parameters and y, by a program that shares nothing with the package."""
    truth = {"intercept": rng.normal(0, 2), "coef": rng.normal(0, 1)}
    truth["noise_scale"] = np.exp(rng.normal(-0.5, 0.5))
    tau_a, tau_b = np.abs(rng.normal(size=2)), abs(rng.normal())
    rho = 2 * rng.beta(2, 2) - 1  # LKJ(2) of two effects
    cov = np.outer(tau_a, tau_a) * np.array([[1, rho], [rho, 1]])
    truth |= {"tau_a": tau_a, "tau_b": tau_b, "rho": rho}
    truth["a"] = rng.multivariate_normal([0, 0], cov, 6)
    truth["b"] = rng.normal(0, tau_b, (4, 1))
    a, b = (X[name].str[-1].astype(int).to_numpy() for name in "ab")
    x = X["x0"].to_numpy()
    line = truth["intercept"] + truth["coef"] * x + truth["b"][b, 0]
    line = line + truth["a"][a, 0] + truth["a"][a, 1] * x
    return truth, line + truth["noise_scale"] * rng.normal(size=len(X))


@pytest.mark.slow
def test_intervals_cover(small):
    n, rng = 200, np.random.default_rng(4)
    of_population, of_groups = [], []
    for seed in range(n):
        truth, y = drawn_from_the_prior(small.data, rng)
        model = HierarchicalSlopesRegressor(small.groups, **CALIBRATED, random_state=seed)
        model.fit(small.data, y)
        draws = model.posterior_
        pairs = [
            (truth["intercept"], draws["intercept"]),
            (truth["coef"], draws["coef"][..., 0]),
            (truth["noise_scale"], draws["noise_scale"]),
            (truth["tau_a"][0], draws["group_scale"]["a"][..., 0]),
            (truth["tau_a"][1], draws["group_scale"]["a"][..., 1]),
            (truth["rho"], draws["group_corr"]["a"][..., 0, 1]),
            (truth["tau_b"], draws["group_scale"]["b"][..., 0]),
        ]
        held = [
            low < true < high for true, d in pairs for low, high in [np.quantile(d, [0.05, 0.95])]
        ]
        of_population.append(held)
        inside = []
        for factor in "ab":
            low, high = np.quantile(model.sample_group_effects(factor), [0.05, 0.95], axis=0)
            inside += list(((low < truth[factor]) & (truth[factor] < high)).ravel())
        of_groups.append(np.mean(inside))
    counts = np.sum(of_population, axis=0)
    low, high = binom.ppf([1e-5, 1 - 1e-5], n, 0.9)
    assert np.all((counts >= low) & (counts <= high)), counts
    # effects of one data set are dependent: the data sets are the sample
    assert abs(np.mean(of_groups) - 0.9) < 5 * np.std(of_groups) / np.sqrt(n)


def test_labels_of_a_nesting_that_hold_colons_do_not_collide():
    X = pd.DataFrame({"a": ["p:q", "p"] * 4, "b": ["r", "q:r"] * 4})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model = light([("a", "b")], X, np.arange(8.0))
    names = [name for name in model.summary(group_effects=True).index if "group_effects" in name]
    assert len(names) == 2
    labels = model.to_arviz().posterior["a:b"].to_numpy()
    assert sorted(labels) == ["'p:q':r", "p:'q:r'"]
