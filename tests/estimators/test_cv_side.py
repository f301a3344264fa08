"""Searches of models with exposure, known noise, or noise by level: against GridSearchCV, grids."""

import numpy as np
import pandas as pd
import pytest
from known_noise_cases import PRIOR, Oracle, columns_of, make_table
from numpy.testing import assert_allclose
from runs import slow
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, PredefinedSplit

from skhier import HierarchicalSlopesRegressor, HierarchicalSlopesRegressorCV
from skhier.metrics import get_scorer

FEW = {"groups": "g", "slopes": None, "n_chains": 2, "n_draws": 500, "random_state": 0}
GRID = {"prior__group_scale": [0.2, 1.0]}
FOLDS = np.arange(60) % 3
DENSITY = "log_predictive_density"
# of a fold's mean score; exposures and noises by level have the same points in both
ERROR = {"exposure": 1e-6, "known_noise": 0.005, "noise_by": 1e-6}


def make_cases():
    """Per parameter: X, y of ten levels with six rows, and the estimator's parameters."""
    rng = np.random.default_rng(0)
    code, x = np.repeat(np.arange(10), 6), rng.normal(size=60)
    time, se = np.exp(rng.uniform(-1, 2, 60)), np.exp(rng.uniform(-2, 0.5, 60))
    line = 0.3 + 0.4 * x + rng.normal(0, 0.6, 10)[code]
    sd = np.exp(rng.normal(-1, 0.6, 10))[code]
    X = pd.DataFrame({"x": x, "g": [f"g{c}" for c in code]})
    counts = rng.poisson(time * np.exp(line)).astype(float)
    return {
        "exposure": (X.assign(time=time), counts, {"response": "poisson", "exposure": "time"}),
        "known_noise": (X.assign(se=se), line + se * rng.normal(size=60), {"known_noise": "se"}),
        "noise_by": (X, line + sd * rng.normal(size=60), {"noise_by": "g"}),
    }


CASES = make_cases()
of_each = pytest.mark.parametrize("name", list(CASES))


def search_of(name, **params):
    settings = {"param_grid": GRID} | FEW | CASES[name][2] | params
    return HierarchicalSlopesRegressorCV(**settings)


def plain_of(name, **params):
    return HierarchicalSlopesRegressor(**FEW | CASES[name][2]).set_params(**params)


def assert_scores_are_those_of_grid_search(name, cv, scoring):
    X, y, _ = CASES[name]
    search = search_of(name, cv=cv, scoring=scoring).fit(X, y)
    scorer = get_scorer(DENSITY) if scoring == DENSITY else scoring
    results = GridSearchCV(plain_of(name), GRID, cv=cv, scoring=scorer).fit(X, y).cv_results_
    for k in range(search.n_splits_):
        expected = results[f"split{k}_test_score"]
        assert_allclose(search.scores_[:, k], expected, rtol=ERROR[name], atol=ERROR[name])


@pytest.mark.parametrize("name", ["exposure", *slow("known_noise", "noise_by")])
@pytest.mark.parametrize("scoring", [DENSITY, pytest.param(None, marks=pytest.mark.slow)])
def test_scores_are_those_of_grid_search(name, scoring):
    assert_scores_are_those_of_grid_search(name, KFold(3, shuffle=True, random_state=0), scoring)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*unseen group")
@of_each
def test_groups_left_out_are_new_ones(name):
    X, y, _ = CASES[name]
    folds = list(GroupKFold(2).split(X, y, X["g"]))
    assert_scores_are_those_of_grid_search(name, folds, DENSITY)


@of_each
@pytest.mark.parametrize(
    "cv", ["logo", *(pytest.param(cv, marks=pytest.mark.slow) for cv in ("loo", "evidence"))]
)
def test_scores_of_one_fit_are_those_of_plain_fits(name, cv):
    X, y, _ = CASES[name]
    search = search_of(name, cv=cv).fit(X, y)
    for params, score in zip(search.cv_results_["params"], search.scores_[:, 0], strict=True):
        plain = plain_of(name, **params).fit(X, y)
        expected = plain.log_evidence_ if cv == "evidence" else getattr(plain, cv)().elpd
        assert_allclose(score, expected, atol=0.05)


@pytest.mark.parametrize("cv", ["loo", "logo"])
def test_rows_of_known_noise_are_refitted_without(cv):
    """The last level is one row, which is far from what the others say of it."""
    X, y = make_table()
    y = y + 15.0 * (np.arange(14) == 13)
    search = HierarchicalSlopesRegressorCV(
        "g", slopes=None, known_noise="se", prior=PRIOR, param_grid={"eta": [2.0]}, cv=cv
    )
    found = search.set_params(random_state=0).fit(columns_of("intercepts", X), y)
    oracle, every = Oracle.of("intercepts", X), np.arange(len(y))
    left = X.index if cv == "loo" else X["g"].unique()
    rests = [every[(X.index if cv == "loo" else X["g"]) != one] for one in left]
    exact = [oracle.log_evidence(y) - oracle.log_evidence(y, rest) for rest in rests]
    assert found.cv_results_["n_refits"][0] > 0
    assert len(found.cv_results_["unreliable"][0]) == 0
    # a refit's Monte Carlo error is some 0.1 so far out
    assert_allclose(found.scores_[0, 0], sum(exact), atol=0.4)


@of_each
def test_it_becomes_the_best_model(name):
    X, y, params = CASES[name]
    search = search_of(name, cv="evidence").fit(X, y)
    seed = np.random.RandomState(0).randint(2**31 - 1)
    plain = plain_of(name, **search.best_params_, random_state=seed).fit(X, y)
    assert_allclose(search.predict(X), plain.predict(X))
    assert_allclose(search.predict_interval(X), plain.predict_interval(X))
    assert search.get_params()[next(iter(params))] == next(iter(params.values()))
    if name == "noise_by":
        assert search.noise_spread_ == plain.noise_spread_
        assert search.group_noise_["g"].equals(plain.group_noise_["g"])


def test_noise_by_level_is_searched_in_statistics_of_folds():
    X, y, _ = CASES["noise_by"]
    rows = HierarchicalSlopesRegressor("g", slopes=None)
    parts = [rows.summarise(X[k == FOLDS], y[k == FOLDS]) for k in range(3)]
    grid = {"param_grid": {"noise_by": ["g", None]}}
    by_sums = search_of("noise_by", **grid).fit_statistics(parts)
    by_rows = search_of("noise_by", cv=PredefinedSplit(FOLDS), **grid).fit(X, y)
    for one, noise_by in zip(by_rows.scores_, ("g", None), strict=True):
        alone = search_of("noise_by", cv=PredefinedSplit(FOLDS), param_grid={"eta": [2.0]})
        assert_allclose(one, alone.set_params(noise_by=noise_by).fit(X, y).scores_[0], atol=1e-6)
    assert_allclose(by_sums.scores_, by_rows.scores_, atol=1e-6)
    assert by_sums.best_params_ == by_rows.best_params_


@pytest.mark.parametrize("name", ["exposure", "known_noise"])
def test_statistics_of_folds_say_what_they_do_not_hold(name):
    X, y, _ = CASES["noise_by"]
    part = HierarchicalSlopesRegressor("g", slopes=None).summarise(X, y)
    message = {"exposure": "not so of 'poisson'", "known_noise": "do not hold their known noise"}
    with pytest.raises(ValueError, match=message[name]):
        search_of(name).fit_statistics([part, part])


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("exposure", {"exposure": "hours"}, "`exposure='hours'` is not a column of X"),
        ("exposure", {"exposure": "g"}, "is a grouping column too"),
        ("exposure", {"slopes": ["time"]}, "the column of `exposure`, which is no feature"),
        ("exposure", {"response": "student_t"}, "has no line that is the log"),
        ("known_noise", {"known_noise": "SE"}, "Did you mean 'se'"),
        ("known_noise", {"group_means": "all"}, "has no `group_means`"),
        ("known_noise", {"param_grid": {"response": ["gamma"]}}, "which response='gamma' has not"),
        ("known_noise", {"noise_by": "g"}, "exclude each other"),
        ("noise_by", {"noise_by": "x"}, "is not a grouping factor of this model"),
        ("noise_by", {"param_grid": {"response": ["poisson"]}}, "noise_by is for response="),
    ],
)
@pytest.mark.parametrize("cv", [3, "evidence"])
def test_wrong_columns_are_the_errors_of_a_fit(name, params, message, cv):
    X, y, _ = CASES[name]
    with pytest.raises(ValueError, match=message):
        search_of(name, cv=cv).set_params(**params).fit(X, np.abs(np.round(y)))


def test_bad_numbers_name_the_rows():
    X, y, _ = CASES["exposure"]
    wrong = X.assign(time=np.where(np.arange(60) == 7, -1.0, X["time"]))
    with pytest.raises(ValueError, match=r"row 7: -1\)\. Correct them"):
        search_of("exposure", cv=3).fit(wrong, y)
