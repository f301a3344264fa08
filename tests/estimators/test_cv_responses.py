"""Searches where y is not normal: against GridSearchCV, every way to call them, few programs."""

import pickle

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    LeaveOneGroupOut,
    StratifiedKFold,
)
from sklearn.utils.estimator_checks import parametrize_with_checks

from skhier import (
    HierarchicalSlopesClassifier,
    HierarchicalSlopesClassifierCV,
    HierarchicalSlopesRegressor,
    HierarchicalSlopesRegressorCV,
    Prior,
)
from skhier.metrics import get_scorer
from skhier.responses import NegativeBinomial, Poisson

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:.*unseen group"),
    pytest.mark.filterwarnings("ignore:X has rank"),
]

FOLDS = StratifiedKFold(3, shuffle=True, random_state=0)  # every level in each: one program
FEW = {"n_chains": 2, "n_draws": 200, "random_state": 0}
GRID = {"eta": [2.0], "prior__coef": [0.05, 2.5]}
# of a fold's mean score: 8 seeds of the plain estimators' fits on these folds differ by less
LPD_ERROR, MEAN_ERROR = 0.005, 0.005


def slow(value):
    """A case of ``make test-slow``."""
    return pytest.param(value, marks=pytest.mark.slow)


@pytest.fixture(scope="module")
def table():
    """X (x, g) of ten levels with eight rows, and a line that both determine."""
    rng = np.random.default_rng(3)
    code = np.repeat(np.arange(10), 8)
    x = rng.normal(size=80)
    line = 0.3 + rng.normal(0, 0.7, 10)[code] + x * (0.8 + rng.normal(0, 0.3, 10)[code])
    return pd.DataFrame({"x": x, "g": [f"g{c}" for c in code]}), line


@pytest.fixture(scope="module")
def answers(table):
    X, line = table
    return X, np.where(np.random.default_rng(4).random(80) < expit(line), "yes", "no")


@pytest.fixture(scope="module")
def counts(table):
    X, line = table
    return X, np.random.default_rng(5).poisson(np.exp(line)).astype(float)


def log_predictive_density(model, X, y):
    return model.log_predictive_density(X, y).mean()


@pytest.mark.parametrize("slopes", [None, slow("all")])
@pytest.mark.parametrize("scoring", ["roc_auc", *map(slow, ["neg_log_loss", None])])
def test_classifier_scores_are_those_of_grid_search(answers, scoring, slopes):
    X, y = answers
    params = {"slopes": slopes, **FEW}
    search = HierarchicalSlopesClassifierCV(
        "g", param_grid=GRID, cv=FOLDS, scoring=scoring, **params
    )
    found = search.fit(X, y)
    plain = HierarchicalSlopesClassifier("g", **params)
    expected = GridSearchCV(plain, GRID, cv=FOLDS, scoring=scoring).fit(X, y)
    # accuracy may count a row of a probability near 1/2 the other way
    atol = 1.5 / 26 if scoring is None else MEAN_ERROR
    for k in range(3):
        name = f"split{k}_test_score"
        assert_allclose(found.cv_results_[name], expected.cv_results_[name], atol=atol)
    assert found.cv_results_["params"] == expected.cv_results_["params"]
    assert set(found.cv_results_) <= set(expected.cv_results_)


@pytest.mark.parametrize("scoring", [slow("log_predictive_density"), slow(None)])
def test_counts_scores_are_those_of_grid_search(counts, scoring):
    cv = KFold(3, shuffle=True, random_state=0)
    search = HierarchicalSlopesRegressorCV(
        "g", param_grid=GRID, cv=cv, scoring=scoring, response="poisson", **FEW
    )
    found = search.fit(*counts)
    plain = HierarchicalSlopesRegressor("g", response="poisson", **FEW)
    scorer = scoring and log_predictive_density
    expected = GridSearchCV(plain, GRID, cv=cv, scoring=scorer).fit(*counts)
    atol = LPD_ERROR if scoring else MEAN_ERROR
    assert_allclose(found.scores_.mean(1), expected.cv_results_["mean_test_score"], atol=atol)
    assert found.best_params_ == expected.best_params_


@pytest.mark.parametrize("response", [slow("poisson"), slow("lognormal")])
def test_groups_left_out_are_new_ones(counts, response):
    """Their levels are known by name and have no rows: as GridSearchCV's unseen ones."""
    X, y = counts
    y = y if response == "poisson" else y + 0.5
    folds = list(GroupKFold(2).split(X, y, X["g"]))
    params = {"slopes": None, "response": response, **FEW}
    search = HierarchicalSlopesRegressorCV(
        "g", param_grid={"eta": [2.0]}, cv=GroupKFold(2), scoring="log_predictive_density", **params
    )
    found = search.fit(X, y)
    for k, (train, test) in enumerate(folds):
        plain = HierarchicalSlopesRegressor("g", **params).fit(X.iloc[train], y[train])
        expected = log_predictive_density(plain, X.iloc[test], y[test])
        assert_allclose(found.scores_[0, k], expected, atol=2 * LPD_ERROR)


@pytest.mark.slow
def test_means_of_groups_left_out_are_those_of_new_ones(counts):
    """Under a prior of the scale for which the mean of ``e^b`` over a new level exists."""
    X, y = counts
    prior = Prior(group_scale=dist.HalfNormal(0.4))
    params = {"slopes": None, "response": "poisson", "prior": prior, **FEW}
    every = {"cv": list(GroupKFold(2).split(X, y, X["g"])), "scoring": "neg_mean_squared_error"}
    search = HierarchicalSlopesRegressorCV("g", param_grid={"eta": [2.0]}, **every, **params)
    grid = GridSearchCV(HierarchicalSlopesRegressor("g", **params), {"eta": [2.0]}, **every)
    results = grid.fit(X, y).cv_results_
    expected = [results["split0_test_score"], results["split1_test_score"]]
    assert_allclose(search.fit(X, y).scores_.T, expected, rtol=0.02)


@pytest.mark.parametrize("slopes", [None, slow("all")])
@pytest.mark.parametrize("cv", ["loo", "logo", "evidence"])
def test_scores_of_one_fit(answers, cv, slopes):
    every = {"slopes": slopes, **FEW}
    search = HierarchicalSlopesClassifierCV("g", param_grid=GRID, cv=cv, **every).fit(*answers)
    for params, score in zip(search.cv_results_["params"], search.scores_[:, 0], strict=True):
        plain = HierarchicalSlopesClassifier("g", **every).set_params(**params).fit(*answers)
        expected = plain.log_evidence_ if cv == "evidence" else getattr(plain, cv)().elpd
        assert_allclose(score, expected, atol=0.3 if cv != "evidence" else 0.05)
    assert search.best_score_ == search.scores_.max()


def test_lognormal_scores_are_of_y_and_not_of_its_logarithm(counts):
    X, y = counts
    y = y + 0.5
    for cv in ("loo", "evidence"):
        search = HierarchicalSlopesRegressorCV(
            "g", param_grid={"eta": [2.0]}, cv=cv, response="lognormal", **FEW
        ).fit(X, y)
        plain = HierarchicalSlopesRegressor("g", response="lognormal", **FEW).fit(X, y)
        expected = plain.log_evidence_ if cv == "evidence" else plain.loo().elpd
        assert_allclose(search.best_score_, expected, atol=0.3)


def test_classifier_becomes_the_best_model(answers):
    X, y = answers
    grid = {"link": ["logit", "probit"], "slopes": [None]}
    search = HierarchicalSlopesClassifierCV("g", param_grid=grid, cv="evidence", **FEW).fit(X, y)
    plain = HierarchicalSlopesClassifier("g", **FEW).set_params(**search.best_params_)
    plain = plain.set_params(random_state=np.random.RandomState(0).randint(2**31 - 1)).fit(X, y)
    assert_array_equal(search.classes_, ["no", "yes"])
    assert_array_equal(search.predict_proba(X), plain.predict_proba(X))
    assert_array_equal(search.predict(X), plain.predict(X))
    assert search.log_evidence_ == plain.log_evidence_
    assert search.link == "logit"  # parameters stay as they were given
    read = pickle.loads(pickle.dumps(search))
    assert_array_equal(read.predict_proba(X), plain.predict_proba(X))


@pytest.mark.slow
def test_responses_and_their_own_parameters_compete(table):
    X, line = table
    y = line + 0.5 * np.random.default_rng(6).standard_t(3, 80)
    grid = [{"response__df": [3.0, 200.0]}, {"response": ["normal"]}]
    search = HierarchicalSlopesRegressorCV(
        "g", slopes=None, param_grid=grid, cv="evidence", response="student_t", **FEW
    ).fit(X, y)
    assert search.best_params_ == {"response__df": 3.0}
    heavy, nearly, normal = search.scores_[:, 0]
    assert abs(nearly - normal) < 1.0  # Student's t of 200 degrees of freedom is nearly the normal
    assert heavy > normal
    assert search.df_ == 3.0
    assert search.response == "student_t"


@pytest.mark.slow
def test_counts_choose_their_dispersion(counts):
    X, y = counts
    grid = {"response": [Poisson(), NegativeBinomial(dispersion=0.5)]}
    search = HierarchicalSlopesRegressorCV(
        "g", slopes=None, param_grid=grid, cv=3, scoring="log_predictive_density", **FEW
    ).fit(X, y)
    assert isinstance(search.best_params_["response"], Poisson)
    assert search.predict(X).min() > 0


@pytest.mark.slow
def test_scorers_of_this_package_work(answers, counts):
    scoring = get_scorer("log_predictive_density")
    for search, data in (
        (HierarchicalSlopesClassifierCV, answers),
        (HierarchicalSlopesRegressorCV, counts),
    ):
        params = {"response": "poisson"} if search is HierarchicalSlopesRegressorCV else {}
        cv = KFold(2, shuffle=True, random_state=0)
        own, by_scorer = (
            search(
                "g", slopes=None, param_grid={"eta": [2.0]}, cv=cv, scoring=s, **params, **FEW
            ).fit(*data)
            for s in ("log_predictive_density", scoring)
        )
        assert_allclose(own.scores_, by_scorer.scores_, rtol=1e-9)


def test_numbers_of_folds_are_stratified(answers):
    X, y = answers
    every = {"param_grid": {"eta": [2.0]}, "slopes": None, **FEW}
    order = np.random.default_rng(0).permutation(80)
    X, y = X.iloc[order], y[order]
    found = HierarchicalSlopesClassifierCV("g", cv=3, **every).fit(X, y)
    same = HierarchicalSlopesClassifierCV("g", cv=StratifiedKFold(3), **every).fit(X, y)
    assert_array_equal(found.scores_, same.scores_)


@pytest.mark.slow
def test_folds_of_one_class_and_of_zeros_are_fitted(answers, counts):
    X, y = answers
    order = np.argsort(y, kind="stable")
    cv = [(order[:20], order[20:]), (order[-20:], order[:-20])]  # training rows of one class
    search = HierarchicalSlopesClassifierCV(
        "g", slopes=None, param_grid={"eta": [2.0]}, cv=cv, scoring="neg_log_loss", **FEW
    )
    assert np.isfinite(search.fit(X, y).scores_).all()
    X, y = counts
    order = np.argsort(y, kind="stable")
    assert y[order[:10]].max() == 0
    search = HierarchicalSlopesRegressorCV(
        "g",
        slopes=None,
        param_grid={"eta": [2.0]},
        cv=[(order[:10], order[10:])],
        scoring="log_predictive_density",
        response="poisson",
        **FEW,
    )
    assert np.isfinite(search.fit(X, y).scores_).all()


@pytest.mark.slow
def test_weights_count_rows(answers):
    X, y = answers
    weight = np.arange(80) % 3
    folds = np.arange(80) // 4 % 2
    twice = np.repeat(np.arange(80), weight)
    cv, again = (
        [(np.flatnonzero(f != k), np.flatnonzero(f == k)) for k in range(2)]
        for f in (folds, folds[twice])
    )
    every = {"param_grid": {"eta": [2.0]}, "slopes": None, **FEW}
    scoring = "log_predictive_density"
    weighted = HierarchicalSlopesClassifierCV("g", cv=cv, scoring=scoring, **every)
    repeated = HierarchicalSlopesClassifierCV("g", cv=again, scoring=scoring, **every)
    weighted.fit(X, y, sample_weight=weight)
    repeated.fit(X.iloc[twice], y[twice])
    assert_allclose(weighted.scores_, repeated.scores_, atol=1e-3)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"cv": "aic"}, "cv must be"),
        ({"param_grid": {"response": ["poisson"]}}, "param_grid may have.*link"),
        ({"param_grid": {"link": ["cloglog"]}}, "link"),
        ({"cv": "loo", "scoring": "roc_auc"}, "scoring must be None"),
        ({"cv": LeaveOneGroupOut(), "handle_unknown": "error"}, "groups that the others lack"),
        ({"cv": "evidence", "groups": ["g", "h"]}, "for one factor"),
    ],
)
def test_what_cannot_be_done_says_why(answers, params, message):
    X, y = answers
    if isinstance(params.get("groups"), list):
        X = X.assign(h=np.arange(80) % 5)
    model = HierarchicalSlopesClassifierCV("g", slopes=None, cv=3, **FEW).set_params(**params)
    with pytest.raises(ValueError, match=message):
        model.fit(X, y)


def test_every_fold_and_prior_is_the_same_program(answers, counts):
    """Rows in chunks are padded to few sizes, so that folds of a size share a program."""
    from skhier.inference import quadrature_target

    grid = {"eta": [1.0, 2.0], "prior__group_scale": [0.5, 1.0]}
    cv = KFold(4, shuffle=True, random_state=0)
    every = {"cv": cv, "scoring": "log_predictive_density", "slopes": None}
    HierarchicalSlopesClassifierCV("g", param_grid={"eta": [2.0]}, **every, **FEW).fit(*answers)
    before = quadrature_target.evaluate._cache_size()
    HierarchicalSlopesClassifierCV("g", param_grid=grid, **every, **FEW).fit(*answers)
    assert quadrature_target.evaluate._cache_size() == before


# few candidates, folds and draws
SHORT = {"n_chains": 1, "n_warmup": 50, "n_draws": 20, "max_tree_depth": 6, "cv": 2}


@pytest.mark.slow
@parametrize_with_checks([HierarchicalSlopesClassifierCV(param_grid={"eta": [2.0]}, **SHORT)])
def test_classifier_passes_sklearn(estimator, check):
    check(estimator)
