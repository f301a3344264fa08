"""Level means as predictors: against columns added by hand, and what a new level's mean is."""

import pickle
import re
import warnings

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skhier import HierarchicalSlopesRegressor, HierarchicalSlopesRegressorCV, Prior
from skhier.calibration import simulation_based_calibration

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:.*unseen group"),
]

ROUNDING = 1e-6  # 1e-14 of a log density over the square of a step: Hessians are differences
SETTINGS = {"n_chains": 2, "n_draws": 200, "random_state": 0}
GROUPS = {
    "one": {"person": ["exp"]},
    "crossed": {"person": ["exp"], "firm": None},
    "nested": {"town": None, ("town", "person"): ["exp"]},
}


def panel(n=400, between=-1.5, seed=0):
    """Wages: the effect of exp is 1 within persons and ``1 + between`` between them."""
    rng = np.random.default_rng(seed)
    person = np.append(np.arange(40), rng.integers(40, size=n - 40))
    firm = rng.integers(6, size=n)
    exp = 10 + rng.normal(size=40)[person] + rng.normal(size=n)
    age = 40 + 3 * rng.normal(size=n)
    mean = (np.bincount(person, exp) / np.bincount(person))[person]
    y = 2 + exp + between * mean + 0.1 * age + 0.3 * rng.normal(size=40)[person]
    y += 0.5 * rng.normal(size=6)[firm] + 0.5 * rng.normal(size=n)
    X = pd.DataFrame({"exp": exp, "age": age, "person": person, "firm": firm})
    return X.assign(town=person // 8), y


def columns_of(groups):
    keys = [key if isinstance(key, tuple) else (key,) for key in groups]
    return sorted({column for key in keys for column in key})


def with_means(X, groups, weights=None):
    """Columns by hand: of every feature, factor by factor."""
    weights = pd.Series(np.ones(len(X)) if weights is None else weights, X.index)
    means = {}
    for key in groups:
        by = [X[column] for column in (key if isinstance(key, tuple) else (key,))]
        total = weights.groupby(by).transform("sum")
        for name in ("exp", "age"):
            of_name = (weights * X[name]).groupby(by).transform("sum") / total
            means[f"{name} by {key}"] = of_name
    features = X[["exp", "age"]].assign(**means)
    return pd.concat([features, X[columns_of(groups)]], axis=1)


def both_fits(groups, weights=None, **params):
    X, y = panel()
    X = X[["exp", "age", *columns_of(groups)]]
    params = SETTINGS | params
    model = HierarchicalSlopesRegressor(groups, group_means="all", **params)
    by_hand = HierarchicalSlopesRegressor(groups, **params)
    X_by_hand = with_means(X, groups, weights)
    return model.fit(X, y, weights), X, by_hand.fit(X_by_hand, y, weights), X_by_hand, y


@pytest.fixture(scope="module")
def fits():
    return both_fits(GROUPS["one"])


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("groups", GROUPS)
def test_fit_is_that_of_columns_added_by_hand(groups, weighted):
    weights = np.random.default_rng(1).integers(1, 4, 400) if weighted else None
    model, X, by_hand, X_by_hand, _ = both_fits(GROUPS[groups], weights)
    assert_allclose(model.coef_, by_hand.coef_, rtol=1e-8, atol=1e-8)
    assert_allclose(model.intercept_, by_hand.intercept_, atol=ROUNDING)
    assert_allclose(model.log_evidence_, by_hand.log_evidence_, atol=ROUNDING)
    for one, other in zip(
        model.predict(X, return_std=True), by_hand.predict(X_by_hand, return_std=True), strict=True
    ):
        assert_allclose(one, other, atol=ROUNDING)


def test_every_answer_is_that_of_columns_added_by_hand(fits):
    model, X, by_hand, X_by_hand, y = fits
    assert_allclose(model.predict_interval(X), by_hand.predict_interval(X_by_hand), rtol=1e-6)
    assert_allclose(
        model.log_predictive_density(X, y), by_hand.log_predictive_density(X_by_hand, y), rtol=1e-6
    )
    draws = [
        one.sample_y(table, 3, random_state=1) for one, table in ((model, X), (by_hand, X_by_hand))
    ]
    assert_allclose(*draws, atol=10 * ROUNDING)
    assert_allclose(model.loo().elpd, by_hand.loo().elpd, rtol=1e-8)
    assert_allclose(model.logo().elpd, by_hand.logo().elpd, rtol=1e-8)
    assert_allclose(model.summary()["mean"], by_hand.summary()["mean"], rtol=1e-6)
    assert_allclose(
        model.prior_sensitivity()["prior"], by_hand.prior_sensitivity()["prior"], rtol=1e-4
    )
    assert_allclose(model.r_squared()["mean"], by_hand.r_squared()["mean"], rtol=1e-8)
    assert_allclose(
        model.predict(X, level="population"), by_hand.predict(X_by_hand, level="population")
    )


def test_names_and_tables_have_the_means(fits):
    model, X, *_ = fits
    names = ["exp", "age", "mean(exp | person)", "mean(age | person)"]
    assert model.coef_names_ == names
    assert model.coef_.shape == (4,)
    assert model.posterior_["coef"].shape == (2, 200, 4)
    assert list(model.group_coef_["person"].columns) == ["intercept", "exp"]
    assert model.n_features_in_ == 3
    for name in names:
        assert f"coef[{name}]" in model.summary().index
        assert f"coef[{name}]" in model.prior_summary().index
    assert model.to_arviz().posterior["coef"].shape == (2, 200, 4)
    assert model.sample_prior(X, 5).shape == (400, 5)


def test_prior_of_a_mean_scales_by_its_own_sd():
    X, y = panel()
    X = X[["exp", "person"]]
    model = HierarchicalSlopesRegressor("person", slopes=None, group_means=["exp"], **SETTINGS)
    rows = model.fit(X, y).prior_summary()
    sd = X.groupby("person")["exp"].transform("mean").std(ddof=1)
    assert f"scale={2.5 * y.std(ddof=1) / sd:.5g})" in rows.loc["coef[mean(exp | person)]", "prior"]
    tight = Prior(coef={"mean(exp | person)": dist.Normal(7.0, 1e-6)})
    told = clone(model).set_params(prior=tight).fit(X, y)
    assert_allclose(told.coef_[1], 7.0, atol=1e-4)


@pytest.mark.parametrize("prior", ["mcelreath", "brms"])
def test_presets_take_level_means(prior):
    X, y = panel(120)
    model = HierarchicalSlopesRegressor(
        "person", slopes=None, group_means=["exp"], prior=prior, **SETTINGS
    )
    assert len(model.fit(X[["exp", "person"]], y).coef_) == 2


def test_panel_recovers_effects_within_and_between():
    X, y = panel(4000)
    X = X[["exp", "age", "person"]]
    model = HierarchicalSlopesRegressor("person", slopes=None, group_means=["exp"], **SETTINGS)
    table = model.fit(X, y).summary()
    for name, truth in {"exp": 1.0, "age": 0.1, "mean(exp | person)": -1.5}.items():
        row = table.loc[f"coef[{name}]"]
        assert abs(row["mean"] - truth) < 4 * row["sd"]
        assert row["sd"] < 0.15


def test_known_levels_predict_with_the_means_of_fit(fits):
    model, X, *_ = fits
    expected = model.predict(X)
    assert_allclose(model.predict(X.iloc[:1]), expected[:1], rtol=1e-12)
    assert_allclose(pickle.loads(pickle.dumps(model)).predict(X), expected, rtol=1e-12)


def test_new_level_has_the_mean_of_its_rows_in_the_call(fits):
    model, *_ = fits
    new = pd.DataFrame({"exp": [8.0, 11.0, 2.0], "age": 40.0, "person": [99, 99, 100]})
    mean = np.array([9.5, 9.5, 2.0])
    line = (
        model.intercept_ + np.column_stack([new["exp"], new["age"], mean, new["age"]]) @ model.coef_
    )
    assert_allclose(model.predict(new), line)
    # alone, a row is its own mean
    alone = model.intercept_ + (model.coef_[0] + model.coef_[2]) * 8.0
    alone += (model.coef_[1] + model.coef_[3]) * 40.0
    assert_allclose(model.predict(new.iloc[:1]), alone)


def test_population_line_takes_the_means_of_the_labels_that_are_there(fits):
    model, X, *_ = fits
    known = X.groupby("person")[["exp", "age"]].transform("mean").to_numpy()
    own = X[["exp", "age"]].to_numpy()

    def line(means):
        return model.intercept_ + np.column_stack([own, means]) @ model.coef_

    assert_allclose(model.predict(X, level="population"), line(known))
    lacking = X.drop(columns="person")
    assert_allclose(model.predict(lacking, level="population"), line(own))
    some = X.assign(person=X["person"].astype(float).where(np.arange(400) % 2 == 0))
    at = (np.arange(400) % 2 == 0)[:, None]
    assert_allclose(model.predict(some, level="population"), line(np.where(at, known, own)))


def test_effects_of_other_factors_leave_the_means():
    model, X, by_hand, X_by_hand, _ = both_fits(GROUPS["crossed"])
    for level in (["firm"], ["person"], "population"):
        assert_allclose(
            model.predict(X, level=level), by_hand.predict(X_by_hand, level=level), atol=ROUNDING
        )


def test_row_left_out_keeps_the_mean_of_fit(fits):
    model, _, by_hand, X_by_hand, y = fits
    rest = np.arange(1, 400)
    density = by_hand.loo().pointwise["elpd"][0]
    refit = clone(by_hand).fit(X_by_hand.iloc[rest], y[rest])
    expected = refit.log_predictive_density(X_by_hand.iloc[:1], y[:1])[0]
    assert_allclose(model.loo().pointwise["elpd"][0], density, rtol=1e-8)
    assert_allclose(density, expected, atol=0.05)


@pytest.mark.parametrize(
    ("group_means", "names"),
    [
        (["age"], ["mean(age | person)", "mean(age | firm)"]),
        ({"firm": ["exp"]}, ["mean(exp | firm)"]),
        ({"firm": "all", "person": None}, ["mean(exp | firm)", "mean(age | firm)"]),
        ({2: [0]}, ["mean(exp | person)"]),
    ],
)
def test_group_means_by_factor(group_means, names):
    X, y = panel(200, between=0.0)
    model = HierarchicalSlopesRegressor(
        ["person", "firm"], slopes=None, group_means=group_means, **SETTINGS
    )
    model.fit(X.drop(columns="town"), y)
    assert model.coef_names_[2:] == names


@pytest.mark.parametrize(
    ("groups", "group_means", "message"),
    [
        ("person", ["expp"], "`group_means='expp'` is not a column of X. Did you mean 'exp'"),
        ("person", ["person"], "`group_means` names 'person', the grouping column"),
        ("person", ["exp", "exp"], "`group_means` names column 'exp' more than once"),
        ("person", "exp", "`group_means` must be 'all', None or a list of columns. Got 'exp'"),
        ("person", {"exp": "all"}, "`group_means` has the key 'exp', which is not a factor"),
        ("person", {"firm": "all"}, "`group_means='firm'` is not a column of X"),
        (None, "all", "groups=None has none"),
    ],
)
def test_group_means_that_are_wrong_say_how(groups, group_means, message):
    X, y = panel(100)
    X = X[["exp", "age", "person"]]
    with pytest.raises(ValueError, match=re.escape(message)):
        HierarchicalSlopesRegressor(groups, group_means=group_means).fit(X, y)


def test_features_without_a_mean_of_their_own_are_told():
    X, y = panel(200)
    X = X[["exp", "person"]].assign(flat=X["person"] % 7)
    model = HierarchicalSlopesRegressor("person", slopes=["exp"], group_means="all", **SETTINGS)
    model.fit(X, y)
    assert model.coef_names_ == ["exp", "flat", "mean(exp | person)"]
    assert model.diagnostics_["group_means_left_out"] == {"person": ["flat"]}
    assert "'flat'" in model.summary().attrs["notes"][-1]
    model.set_params(group_means=["exp", "flat"])
    with pytest.warns(UserWarning, match="`group_means` names columns that can have no mean"):
        model.fit(X, y)
    assert model.coef_names_ == ["exp", "flat", "mean(exp | person)"]


def test_search_chooses_group_means():
    X, y = panel()
    X = X[["exp", "age", "person"]]
    search = HierarchicalSlopesRegressorCV(
        "person",
        slopes=None,
        param_grid={"group_means": [None, ["exp"]]},
        cv=GroupKFold(4),
        **SETTINGS,
    ).fit(X, y)
    assert search.best_params_ == {"group_means": ["exp"]}
    assert search.coef_names_[-1] == "mean(exp | person)"
    plain = HierarchicalSlopesRegressor("person", slopes=None, **SETTINGS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        grid = GridSearchCV(plain, search.param_grid, cv=GroupKFold(4))
        grid.fit(X, y, groups=X["person"])
    assert_allclose(
        search.scores_,
        [[grid.cv_results_[f"split{k}_test_score"][i] for k in range(4)] for i in range(2)],
        atol=0.005,
    )  # of a fold: seeds differ by less, see test_cv_folds


@pytest.mark.parametrize("scoring", ["log_predictive_density", "neg_mean_squared_error"])
def test_scores_of_folds_take_the_means_of_their_training_rows(scoring):
    X, y = panel(160)
    X = X[["exp", "person"]]
    search = HierarchicalSlopesRegressorCV(
        "person",
        slopes=None,
        param_grid={"group_means": ["all"]},
        cv=KFold(3),
        scoring=scoring,
        **SETTINGS,
    )
    search.fit(X, y)
    model = HierarchicalSlopesRegressor("person", slopes=None, group_means="all", **SETTINGS)
    for k, (train, test) in enumerate(KFold(3).split(X)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(X.iloc[train], y[train])
            if scoring == "log_predictive_density":
                expected = model.log_predictive_density(X.iloc[test], y[test]).mean()
            else:
                expected = -np.mean((model.predict(X.iloc[test]) - y[test]) ** 2)
        assert_allclose(search.scores_[0, k], expected, rtol=0.02)


@pytest.mark.parametrize("cv", ["loo", "logo", "evidence"])
def test_search_by_one_fit_chooses_group_means(cv):
    X, y = panel(200)
    search = HierarchicalSlopesRegressorCV(
        "person", slopes=None, param_grid={"group_means": [None, ["exp"]]}, cv=cv, **SETTINGS
    )
    search.fit(X[["exp", "age", "person"]], y)
    assert search.best_params_ == {"group_means": ["exp"]}


def test_pipeline_passes_group_means():
    X, y = panel(200)
    X = X[["exp", "age", "person"]]
    double = FunctionTransformer(lambda table: table.assign(exp=table["exp"] * 2))
    model = HierarchicalSlopesRegressor("person", slopes=None, group_means=["exp"], **SETTINGS)
    piped = make_pipeline(double, clone(model)).fit(X, y)
    assert_allclose(piped.predict(X), model.fit(X, y).predict(X), rtol=1e-6)
    numbers = clone(model).set_params(groups=-1, group_means=[0]).fit(X.to_numpy(), y)
    assert_array_equal(numbers.coef_names_, ["x0", "x1", "mean(x0 | x2)"])
    assert_allclose(numbers.coef_, model.coef_, rtol=1e-10)
    assert_allclose(numbers.predict(X.to_numpy()), model.predict(X), rtol=1e-10)


def test_joint_model_takes_group_means():
    X, y = panel(120)
    settings = SETTINGS | {"n_warmup": 50, "n_draws": 50}
    model = HierarchicalSlopesRegressor(
        "person", slopes=None, group_means=["exp"], inference="nuts", **settings
    )
    assert model.fit(X[["exp", "person"]], y).coef_names_ == ["exp", "mean(exp | person)"]


@pytest.mark.slow
def test_calibration_with_group_means():
    X, _ = panel(60)
    X = X[["exp", "person"]].assign(exp=X["exp"] - 10, person=X["person"] % 8)
    prior = Prior(
        dist.Normal(0, 1),
        dist.Normal(0, 1),
        group_scale=dist.HalfNormal(1),
        noise_scale=dist.Exponential(1),
    )
    model = HierarchicalSlopesRegressor(
        "person", slopes=None, group_means=["exp"], prior=prior, n_chains=1, n_draws=200
    )
    report = simulation_based_calibration(model, X, n_simulations=200, random_state=0)
    assert "coef[mean(exp | person)]" in report.ranks
    ranks = report.ranks["coef[mean(exp | person)]"]
    counts = np.bincount(np.minimum(ranks // 20, 4), minlength=5)
    assert ((counts - 40) ** 2 / 40).sum() < 23  # chi-squared of 4, 1 in 10,000
