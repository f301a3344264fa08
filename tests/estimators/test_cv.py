"""Cross-validation from merged statistics: against GridSearchCV, and every way to call it."""

import pickle

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from runs import slow
from sklearn.base import clone
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    LeaveOneGroupOut,
    RepeatedKFold,
    ShuffleSplit,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks

from skhier import HierarchicalSlopesRegressor, HierarchicalSlopesRegressorCV, Prior
from skhier.datasets import load_sleepstudy
from skhier.inference import target as targets

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:.*unseen group"),
    pytest.mark.filterwarnings("ignore:X has rank"),
]

GRID = {"eta": [1.0, 8.0], "prior__group_scale": [0.1, 1.0]}
# of a fold's mean score: 8 seeds of the plain estimator's fits on these folds differ by less
R2_ERROR, LPD_ERROR = 0.002, 0.01


@pytest.fixture(scope="module")
def sleepstudy():
    return load_sleepstudy(return_X_y=True, as_frame=True)


def search(cv, grid=GRID, **params):
    return HierarchicalSlopesRegressorCV(
        "Subject", param_grid=grid, cv=cv, random_state=0, **params
    )


def log_predictive_density(model, X, y):
    return model.log_predictive_density(X, y).mean()


@pytest.mark.parametrize(
    "cv",
    [
        KFold(5, shuffle=True, random_state=0),
        *slow(
            RepeatedKFold(n_splits=3, n_repeats=2, random_state=0),
            ShuffleSplit(4, random_state=0),
        ),
    ],
)
def test_scores_are_those_of_grid_search(sleepstudy, cv):
    found = search(cv).fit(*sleepstudy)
    expected = GridSearchCV(
        HierarchicalSlopesRegressor("Subject", random_state=1), GRID, cv=cv
    ).fit(*sleepstudy)
    for k in range(found.n_splits_):
        name = f"split{k}_test_score"
        assert_allclose(found.cv_results_[name], expected.cv_results_[name], atol=3 * R2_ERROR)
    mean = expected.cv_results_["mean_test_score"]
    assert_allclose(found.cv_results_["mean_test_score"], mean, atol=R2_ERROR)
    assert found.cv_results_["params"] == expected.cv_results_["params"]
    assert mean[found.best_index_] >= mean.max() - 2 * R2_ERROR


@pytest.mark.slow
@pytest.mark.parametrize("scoring", ["log_predictive_density", log_predictive_density])
def test_log_density_scores_are_those_of_grid_search(sleepstudy, scoring):
    cv = KFold(3, shuffle=True, random_state=0)
    found = search(cv, scoring=scoring).fit(*sleepstudy)
    expected = GridSearchCV(
        HierarchicalSlopesRegressor("Subject", random_state=1),
        GRID,
        cv=cv,
        scoring=log_predictive_density,
    ).fit(*sleepstudy)
    mean = expected.cv_results_["mean_test_score"]
    assert_allclose(found.cv_results_["mean_test_score"], mean, atol=LPD_ERROR)


def test_groups_reach_the_splitter(sleepstudy):
    X, y = sleepstudy
    found = search(GroupKFold(3), scoring="log_predictive_density").fit(X, y)
    folds = list(GroupKFold(3).split(X, y, X["Subject"]))
    same = search(folds, scoring="log_predictive_density").fit(X, y)
    assert_array_equal(found.scores_, same.scores_)
    every = search(LeaveOneGroupOut(), {"eta": [2.0]}).fit(X, y)
    assert every.n_splits_ == 18


@pytest.mark.parametrize(
    "grid",
    [
        {"slopes": [None, "all"], "correlated": [True, False]},
        *slow(
            [
                {"prior": ["default", "brms", "mcelreath"]},
                {"prior": [Prior(coef=1.0)], "eta": [1.0]},
            ]
        ),
    ],
)
def test_structures_and_priors_compete(sleepstudy, grid):
    cv = KFold(3, shuffle=True, random_state=0)
    found = search(cv, grid).fit(*sleepstudy)
    expected = GridSearchCV(
        HierarchicalSlopesRegressor("Subject", random_state=1), grid, cv=cv
    ).fit(*sleepstudy)
    mean = expected.cv_results_["mean_test_score"]
    assert_allclose(found.cv_results_["mean_test_score"], mean, atol=R2_ERROR)


def test_it_becomes_the_best_model(sleepstudy):
    X, y = sleepstudy
    found = search("evidence").fit(X, y)
    plain = HierarchicalSlopesRegressor("Subject").set_params(**found.best_params_)
    plain = plain.set_params(random_state=np.random.RandomState(0).randint(2**31 - 1)).fit(X, y)
    assert_array_equal(found.predict(X), plain.predict(X))
    assert found.log_evidence_ == plain.log_evidence_
    assert found.eta == 2.0  # parameters stay as they were given
    assert_array_equal(pickle.loads(pickle.dumps(found)).predict(X), plain.predict(X))
    assert_allclose(found.loo().elpd, plain.loo().elpd)


@pytest.mark.parametrize("other", ["default", "rstanarm"])
def test_evidence_of_flat_priors_is_not_compared_in_silence(other):
    X, y = load_sleepstudy(return_X_y=True)
    few = {"groups": 1, "cv": "evidence", "random_state": 0}
    search = HierarchicalSlopesRegressorCV(param_grid={"prior": ["brms", other]}, **few)
    with pytest.warns(UserWarning, match="0 to 1 coefficients whose prior is flat"):
        search.fit(X, y)
    alike = HierarchicalSlopesRegressorCV(prior="brms", param_grid={"eta": [1, 4]}, **few)
    alike.fit(X, y)  # of which none differs


@pytest.mark.parametrize("cv", ["loo", "logo", "evidence"])
def test_scores_of_one_fit(sleepstudy, cv):
    found = search(cv).fit(*sleepstudy)
    for params, score in zip(found.cv_results_["params"], found.scores_[:, 0], strict=True):
        plain = HierarchicalSlopesRegressor("Subject", random_state=1).set_params(**params)
        plain.fit(*sleepstudy)
        expected = plain.log_evidence_ if cv == "evidence" else getattr(plain, cv)().elpd
        assert_allclose(score, expected, atol=0.5 if cv != "evidence" else 0.05)
    assert found.best_score_ == found.scores_.max()


def test_weights_count_rows(sleepstudy):
    X, y = sleepstudy
    weight = np.arange(180) % 3
    folds = np.arange(180) // 60
    twice = np.repeat(np.arange(180), weight)
    cv = [(np.flatnonzero(folds != k), np.flatnonzero(folds == k)) for k in range(3)]
    again = [
        (np.flatnonzero(folds[twice] != k), np.flatnonzero(folds[twice] == k)) for k in range(3)
    ]
    weighted = search(cv, scoring=None).fit(X, y, sample_weight=weight)
    repeated = search(again, scoring=None).fit(X.iloc[twice], y.iloc[twice])
    assert_allclose(weighted.scores_, repeated.scores_, rtol=1e-6)


def test_it_works_where_estimators_do(sleepstudy):
    X, y = sleepstudy
    chain = make_pipeline(FunctionTransformer(), search(3)).fit(X, y)
    assert chain.predict(X).shape == (180,)
    assert clone(search(3)).get_params()["param_grid"] == GRID
    without = HierarchicalSlopesRegressorCV(param_grid={"prior__coef": [0.1, 2.5]}, cv=3)
    assert without.fit(X[["Days"]], y).best_params_ == {"prior__coef": 2.5}
    array = np.column_stack([X["Days"], pd.factorize(X["Subject"])[0]])
    numbers = HierarchicalSlopesRegressorCV(-1, param_grid=GRID, cv=3, random_state=0)
    assert_allclose(
        numbers.fit(array, y.to_numpy()).scores_, search(3).fit(X, y).scores_, atol=1e-6
    )


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"cv": "aic"}, "cv must be"),
        ({"cv": "loo", "scoring": "r2"}, "scoring must be None"),
        ({"param_grid": {"n_draws": [10]}}, "param_grid may have"),
        ({"cv": "logo", "groups": None}, "has 0 grouping factors"),
        ({"cv": "evidence", "inference": "nuts"}, "no evidence"),
        ({"cv": KFold(3), "handle_unknown": "error"}, "groups that the others lack"),
    ],
)
def test_what_cannot_be_done_says_why(sleepstudy, params, message):
    X, y = sleepstudy
    model = search(3).set_params(**params)
    if params.get("groups", 0) is None:
        X = X[["Days"]]
    with pytest.raises(ValueError, match=message):
        model.fit(X, y)


# few chains, folds and candidates: rows that a line fits perfectly, as some checks have, take NUTS
SHORT = {"n_chains": 1, "n_warmup": 50, "n_draws": 20, "max_tree_depth": 6, "cv": 3}


@parametrize_with_checks([HierarchicalSlopesRegressorCV(param_grid={"eta": [1.0, 2.0]}, **SHORT)])
def test_estimator_passes_sklearn(estimator, check):
    check(estimator)


def test_every_fold_and_prior_is_the_same_program(sleepstudy):
    grid = {"eta": [1.0, 2.0], "prior__group_scale": [0.5, 1.0]}
    cv = KFold(3, shuffle=True, random_state=0)
    search(cv, {"eta": [2.0]}).fit(*sleepstudy)
    before = targets.evaluate._cache_size()
    search(cv, grid).fit(*sleepstudy)
    assert targets.evaluate._cache_size() == before
