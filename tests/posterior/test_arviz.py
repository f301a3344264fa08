"""The posterior in ArviZ's container, with the ArviZ that is installed, before or after 1.0."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from runs import budget

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

SAMPLE_STATS = {
    "lp",
    "energy",
    "acceptance_rate",
    "n_steps",
    "tree_depth",
    "diverging",
    "step_size",
}


@pytest.fixture(scope="module")
def exchanged(sleepstudy_fit):
    return sleepstudy_fit.to_arviz()


def group_names(exchanged):
    """Names of the groups, whatever the version calls the way to ask."""
    names = exchanged.groups() if callable(exchanged.groups) else exchanged.groups
    return {name.strip("/") for name in names} - {""}


def test_arviz_holds_the_four_groups(exchanged):
    assert group_names(exchanged) == {
        "posterior",
        "sample_stats",
        "observed_data",
        "log_likelihood",
    }


def test_arviz_posterior_is_the_estimators(exchanged, sleepstudy_fit):
    found, draws = exchanged.posterior, sleepstudy_fit.posterior_
    assert_array_equal(found["intercept"], draws["intercept"])
    assert_array_equal(found["coef"], draws["coef"])
    assert_array_equal(found["noise_scale"], draws["noise_scale"])
    assert_array_equal(found["group_scale_Subject"], draws["group_scale"]["Subject"])
    assert_array_equal(found["group_corr_Subject"], draws["group_corr"]["Subject"])


def test_arviz_coordinates_are_named(exchanged, sleepstudy_fit):
    found = exchanged.posterior
    assert found["coef"].dims == ("chain", "draw", "feature")
    assert list(found["feature"].values) == ["Days"]
    effects = ("chain", "draw", "Subject", "Subject_effect")
    assert found["group_effects_Subject"].dims == effects
    assert list(found["Subject"].values) == list(sleepstudy_fit.group_levels_["Subject"])
    assert list(found["Subject_effect"].values) == ["intercept", "Days"]
    draws = sleepstudy_fit.posterior_
    slope = found["group_scale_Subject"].sel(Subject_effect="Days")
    assert_array_equal(slope, draws["group_scale"]["Subject"][..., 1])
    corr = found["group_corr_Subject"].sel(Subject_effect="Days", Subject_effect_bis="intercept")
    assert_array_equal(corr, draws["group_corr"]["Subject"][..., 1, 0])


def test_arviz_group_effects_are_the_estimators_draws(exchanged, sleepstudy_fit):
    draws = sleepstudy_fit.sample_group_effects("Subject").reshape(4, 1000, 18, 2)
    assert_array_equal(exchanged.posterior["group_effects_Subject"], draws)


def test_arviz_observed_data_are_the_response(exchanged, sleepstudy):
    assert_array_equal(exchanged.observed_data["y"], sleepstudy[1])


def test_arviz_log_likelihood_is_the_normal_density_of_its_own_draws(exchanged, sleepstudy):
    X, y = sleepstudy
    draws = exchanged.posterior
    b = draws["group_effects_Subject"].sel(Subject=X["Subject"].to_numpy()).values
    days = X["Days"].to_numpy()
    line = draws["intercept"].values[..., None] + draws["coef"].values * days
    line = line + b[..., 0] + b[..., 1] * days
    sigma = draws["noise_scale"].values[..., None]
    # log Normal(y | line, sigma^2)
    expected = -0.5 * ((y.to_numpy() - line) / sigma) ** 2 - np.log(sigma * np.sqrt(2 * np.pi))
    assert exchanged.log_likelihood["y"].shape == (4, 1000, 180)
    assert_allclose(exchanged.log_likelihood["y"], expected, rtol=1e-9, atol=1e-9)


def test_arviz_sample_stats_of_weighted_points_are_their_log_density(exchanged):
    assert set(exchanged.sample_stats.data_vars) == {"lp"}
    assert exchanged.sample_stats["lp"].shape == (4, 1000)


def test_arviz_sample_stats_have_arvizs_names(people, short_run):
    model = short_run(inference="nuts").fit(*people)
    stats = model.to_arviz().sample_stats
    assert set(stats.data_vars) == SAMPLE_STATS
    assert all(stats[name].shape == (2, 50) for name in SAMPLE_STATS)
    assert stats["diverging"].dtype == bool
    assert int(stats["diverging"].sum()) == model.diagnostics_["divergences"]
    assert int(stats["n_steps"].sum()) == model.diagnostics_["evaluations"]
    # a tree of depth d has up to 2^d - 1 steps (Hoffman & Gelman 2014)
    steps, depth = stats["n_steps"].values, stats["tree_depth"].values
    assert np.all(steps <= 2**depth - 1)
    assert np.all(steps >= 2 ** (depth - 1))


@pytest.mark.filterwarnings("ignore:Estimated shape parameter of Pareto")
def test_arviz_computes_on_it(exchanged, sleepstudy_fit):
    import arviz as az

    table = sleepstudy_fit.summary()
    variables = ["intercept", "coef", "noise_scale"]
    rhat = az.rhat(exchanged, var_names=variables)
    rhat = getattr(rhat, "posterior", rhat)  # a tree after 1.0
    for name, row in (("intercept", "intercept"), ("noise_scale", "noise_scale")):
        assert float(rhat[name]) == pytest.approx(table.loc[row, "r_hat"], abs=1e-6)
    loo = az.loo(exchanged)
    elpd = loo.elpd_loo if hasattr(loo, "elpd_loo") else loo.elpd
    assert -900 < elpd < -850  # brms and rstanarm agree on -861 +- 22 for this model


def test_arviz_without_group_effects_is_smaller(sleepstudy_fit):
    found = sleepstudy_fit.to_arviz(group_effects=False)
    assert "group_effects_Subject" not in found.posterior
    assert "Subject" not in found.posterior.coords
    assert found.log_likelihood["y"].shape == (4, 1000, 180)


def test_arviz_without_log_likelihood_keeps_the_data(sleepstudy_fit, exchanged):
    found = sleepstudy_fit.to_arviz(log_likelihood=False)
    assert group_names(found) == {"posterior", "sample_stats", "observed_data"}
    assert_array_equal(found.observed_data["y"], exchanged.observed_data["y"])
    effects = "group_effects_Subject"
    assert_array_equal(found.posterior[effects], exchanged.posterior[effects])


@pytest.mark.parametrize("fit", ["sleepstudy_fit", "crossed_fit", "nested_fit"])
def test_arviz_log_likelihood_does_not_depend_on_slices(monkeypatch, request, fit):
    model = request.getfixturevalue(fit)
    whole = model.to_arviz(group_effects=False).log_likelihood["y"]
    monkeypatch.setattr(model._fitted.posterior, "budget", budget(temporary=2**16))
    sliced = model.to_arviz(group_effects=False).log_likelihood["y"]
    assert_allclose(sliced, whole, rtol=1e-10, atol=1e-10)


def test_arviz_after_a_pickle_has_no_rows(sleepstudy_fit, exchanged):
    again = pickle.loads(pickle.dumps(sleepstudy_fit)).to_arviz()
    assert group_names(again) == {"posterior", "sample_stats"}
    effects = "group_effects_Subject"
    assert_array_equal(again.posterior[effects], exchanged.posterior[effects])


def test_arviz_without_groups_has_population_parameters_only(people, short_run):
    X, y = people
    found = short_run(groups=None).fit(X[["x"]], y).to_arviz()
    assert set(found.posterior.data_vars) == {"intercept", "coef", "noise_scale"}
    assert found.log_likelihood["y"].shape == (2, 50, 80)


def test_arviz_log_likelihood_counts_weights(people, short_run):
    X, y = people
    weights = np.tile([0.0, 1.0, 2.0, 1.0], 20)
    weighted = short_run().fit(X, y, sample_weight=weights).to_arviz()
    repeated = np.repeat(np.arange(80), weights.astype(int))
    rows = short_run().fit(X.iloc[repeated], y[repeated]).to_arviz()
    assert weighted.log_likelihood["y"].shape[-1] == 60  # a weight of 0 is no row
    total = weighted.log_likelihood["y"].sum("row")
    assert_allclose(total, rows.log_likelihood["y"].sum("row"), rtol=1e-9)


@pytest.mark.parametrize("name", ["feature", "row", "chain", "draw", "y", "intercept", "a/b"])
def test_arviz_takes_any_name_of_a_factor(people, short_run, name):
    X, y = people
    model = short_run(groups=name).fit(X.rename(columns={"subject": name}), y)
    found = model.to_arviz()
    effects = found.posterior[f"group_effects_{name.replace('/', '_')}"]
    assert_array_equal(effects.values.reshape(100, 10, 2), model.sample_group_effects(name))
    assert list(effects[effects.dims[2]].values) == list(model.group_levels_[name])
    for parameter in ("intercept", "coef", "noise_scale"):
        assert_array_equal(found.posterior[parameter], model.posterior_[parameter])
    assert found.log_likelihood["y"].shape == (2, 50, 80)


def test_arviz_takes_any_label(people, short_run):
    X, y = people
    odd = ["a[b],c=1", "\n", "", "x" * 10_000, "é", "0", "nan", "None", " ", "a/b"]
    labels = X["subject"].map(dict(zip(X["subject"].unique(), odd, strict=True)))
    model = short_run().fit(X.assign(subject=labels), y)
    levels = model.to_arviz().posterior["subject"].values
    assert sorted(levels) == sorted(odd)
    assert list(levels) == list(model.group_levels_["subject"])


def test_arviz_of_an_unfitted_estimator_is_an_error(short_run):
    from sklearn.exceptions import NotFittedError

    with pytest.raises(NotFittedError):
        short_run().to_arviz()
