"""Folds of a search: containers, weights, groups, folds that no score or no fit is defined for."""

import numpy as np
import pandas as pd
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from packaging.version import Version
from runs import slow
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.metrics import get_scorer, make_scorer, r2_score
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    GroupShuffleSplit,
    KFold,
    LeaveOneGroupOut,
    LeaveOneOut,
    LeavePGroupsOut,
    StratifiedGroupKFold,
)

from skhier import HierarchicalSlopesRegressor, HierarchicalSlopesRegressorCV
from skhier.estimators._scoring import r2
from skhier.estimators._splits import split
from skhier.metrics import PredictiveScorer

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:.*unseen group"),
]

R2_ERROR = 0.005  # of a fold of 10 rows: 4 seeds of the plain estimator differ by less


def table(n=30):
    rng = np.random.default_rng(0)
    codes = np.arange(n) % 5
    x = rng.normal(size=n)
    y = 1 + 2 * x + rng.normal(size=5)[codes] + 0.3 * rng.normal(size=n)
    return pd.DataFrame({"x": x, "g": np.array(list("abcde"))[codes]}), y


def search(cv=3, grid=None, **params):
    grid = grid or {"prior__group_scale": [0.1, 1.0]}
    return HierarchicalSlopesRegressorCV(
        "g", slopes=None, cv=cv, param_grid=grid, n_draws=100, random_state=0, **params
    )


def squared_error(model, X, y):
    return -np.mean((model.predict(X) - np.asarray(y, dtype=float)) ** 2)


def to_polars(X, y):
    polars = pytest.importorskip("polars")
    return polars.DataFrame(X.to_dict("list")), polars.Series(y)


def to_pyarrow(X, y):
    pyarrow = pytest.importorskip("pyarrow")
    return pyarrow.table(X.to_dict("list")), pyarrow.chunked_array([y])


def to_lists(X, y):
    return X.to_numpy().tolist(), list(y)


def to_array(X, y):
    return X.to_numpy(), y


@pytest.mark.parametrize("container", [to_polars, to_pyarrow, to_lists, to_array])
@pytest.mark.parametrize("scoring", [squared_error, "neg_mean_squared_error"])
def test_scorers_get_rows_of_every_container(container, scoring):
    X, y = table()
    expected = search(scoring=scoring).fit(X, y)
    model = search(scoring=scoring)
    if container in (to_lists, to_array):
        model.set_params(groups=1)
    found = model.fit(*container(X, y))
    assert_allclose(found.scores_, expected.scores_, rtol=1e-6)


def test_scorers_get_y_in_its_own_container():
    X, y = table()
    seen = []

    def scorer(model, X, y):
        seen.append((type(X), type(y), list(y.index)))
        return squared_error(model, X, y)

    index = np.arange(30) + 100
    search(scoring=scorer).fit(X.set_axis(index), pd.Series(y, index=index))
    assert seen[0] == (pd.DataFrame, pd.Series, list(range(100, 110)))


@pytest.mark.parametrize("scoring", ["r2", make_scorer(r2_score)])
def test_a_scorer_of_r2_is_the_default_with_weights(scoring):
    X, y = table()
    weights = np.arange(30) % 4.0
    default = search().fit(X, y, sample_weight=weights)
    assert_allclose(search(scoring=scoring).fit(X, y, weights).scores_, default.scores_, atol=0.002)
    plain = search().fit(X[weights > 0], y[weights > 0])
    assert np.abs(default.scores_ - plain.scores_).max() > 0.01


def test_skhiers_scorers_get_weights():
    X, y = table()
    weights = np.arange(30) % 4.0
    default = search(scoring="log_predictive_density").fit(X, y, sample_weight=weights)
    scorer = PredictiveScorer("log_predictive_density")
    assert_allclose(search(scoring=scorer).fit(X, y, weights).scores_, default.scores_)


def test_scores_with_weights_are_those_of_grid_search():
    X, y = table()
    weights = np.arange(30) % 4.0
    cv = KFold(3, shuffle=True, random_state=0)
    plain = HierarchicalSlopesRegressor("g", slopes=None, random_state=1)
    grid = {"prior__group_scale": [0.1, 1.0]}
    found = search(cv, grid, scoring="r2").fit(X, y, sample_weight=weights)
    with sklearn.config_context(enable_metadata_routing=True):
        scorer = get_scorer("r2").set_score_request(sample_weight=True)
        plain.set_fit_request(sample_weight=True)
        expected = GridSearchCV(plain, grid, cv=cv, scoring=scorer)
        expected.fit(X, y, sample_weight=weights)
    mean = expected.cv_results_["mean_test_score"]
    assert_allclose(found.cv_results_["mean_test_score"], mean, atol=R2_ERROR)


def test_a_scorer_without_weights_is_warned_of():
    X, y = table()
    with pytest.warns(UserWarning, match="takes no sample_weight"):
        search(scoring=squared_error).fit(X, y, sample_weight=1 + np.arange(30) % 2)
    search(scoring=squared_error).fit(X, y, sample_weight=2 * (np.arange(30) % 2))


def test_metadata_routing_decides_about_weights():
    X, y = table()
    weights = np.arange(30) % 4.0
    weighted = search(scoring="r2").fit(X, y, sample_weight=weights).scores_
    r2_scorer = get_scorer("r2")
    with sklearn.config_context(enable_metadata_routing=True):
        wanted = search(scoring=r2_scorer.set_score_request(sample_weight=True))
        assert_allclose(wanted.fit(X, y, sample_weight=weights).scores_, weighted)
        unwanted = search(scoring=get_scorer("r2").set_score_request(sample_weight=False))
        found = unwanted.fit(X, y, sample_weight=weights).scores_
        if Version(sklearn.__version__) >= Version("1.7"):  # whose scorers look for themselves
            with pytest.raises(UnsetMetadataPassedError, match="sample_weight"):
                search(scoring="r2").fit(X, y, sample_weight=weights)
        search(scoring="r2").fit(X, y)
        assert_allclose(search().fit(X, y, sample_weight=weights).scores_, weighted, atol=0.002)
    assert np.abs(found - weighted).max() > 0.01
    kept = np.flatnonzero(weights)
    folds = [
        (np.setdiff1d(kept, part), np.intersect1d(kept, part))
        for part in np.split(np.arange(30), 3)
    ]
    unweighted = search(folds, scoring=lambda m, X, y: r2_score(y, m.predict(X)))
    with pytest.warns(UserWarning, match="takes no sample_weight"):
        unweighted.fit(X, y, sample_weight=weights)
    assert_allclose(found, unweighted.scores_)


SPLITTERS = [
    LeaveOneGroupOut(),
    *slow(LeavePGroupsOut(2)),
    GroupKFold(3),
    GroupShuffleSplit(3, random_state=0),
    *slow(StratifiedGroupKFold(2)),
]


@pytest.mark.parametrize("cv", SPLITTERS, ids=lambda cv: type(cv).__name__)
def test_group_splitters_see_the_groups_of_rows_without_weight(cv):
    X, y = table()
    y = (y > np.median(y)).astype(float)  # stratified
    weights = np.where(X["g"] == "b", 0.0, np.arange(30) % 3)
    found = search(cv, {"eta": [2.0]}, scoring="log_predictive_density").fit(X, y, weights)
    place = np.cumsum(weights > 0) - 1
    rows = np.flatnonzero(weights)
    folds, messages = split(cv, X, y, rows, lambda: X["g"])
    expected = [
        [place[part[weights[part] > 0]] for part in parts] for parts in cv.split(X, y, X["g"])
    ]
    expected = [parts for parts in expected if len(parts[1])]
    assert messages == []
    for fold, parts in zip(folds, expected, strict=True):
        assert_array_equal(fold.train, parts[0])
        assert_array_equal(fold.test, parts[1])
    kept = [(rows[train], rows[test]) for train, test in folds]
    same = search(kept, {"eta": [2.0]}, scoring="log_predictive_density").fit(X, y, weights)
    assert_array_equal(found.scores_, same.scores_)


def test_a_level_without_weight_is_no_level():
    X, y = table()
    weights = np.where(X["g"] == "b", 0.0, 1.0)
    found = search(LeaveOneGroupOut()).fit(X, y, sample_weight=weights)
    without = search(LeaveOneGroupOut()).fit(X[weights > 0], y[weights > 0])
    assert found.n_splits_ == 4
    assert_array_equal(found.scores_, without.scores_)


def test_a_fold_without_weight_is_left_out_with_a_warning():
    X, y = table()
    weights = np.where(np.arange(30) < 10, 0.0, 1.0)
    with pytest.warns(UserWarning, match="1 of 3 folds of cv have no test row"):
        found = search(KFold(3)).fit(X, y, sample_weight=weights)
    assert found.n_splits_ == 2
    with pytest.raises(ValueError, match="no fold with a test row"):
        search([(np.arange(10, 30), np.arange(10))]).fit(X, y, sample_weight=weights)


class Halves:
    """A splitter of somebody else, which looks at X, y and the groups."""

    def get_n_splits(self, X=None, y=None, groups=None):
        return 1

    def split(self, X, y=None, groups=None):
        assert list(X.columns) == ["x", "g"]
        assert len(y) == 30
        yield (
            np.flatnonzero(np.isin(groups, list("abc"))),
            np.flatnonzero(np.isin(groups, ["d", "e"])),
        )


def test_other_splitters_get_what_grid_search_gives():
    X, y = table()
    known = X["g"].isin(["a", "b", "c"]).to_numpy()
    folds = [(np.flatnonzero(known), np.flatnonzero(~known))]
    assert_array_equal(search(Halves()).fit(X, y).scores_, search(folds).fit(X, y).scores_)


def one_row_folds(rows=(3, 8, 20)):
    return [(np.delete(np.arange(30), i), np.array([i])) for i in rows]


@pytest.mark.parametrize("scoring", [None, "r2", make_scorer(r2_score)])
def test_r2_of_one_row_is_an_error_that_names_it(scoring):
    X, y = table()
    message = (
        r"R\^2 is not defined for one test row, and 1 of 2 .*\(fold 1\).*log_predictive_density"
    )
    with pytest.raises(ValueError, match=message):
        search([*KFold(3).split(X)][:1] + one_row_folds([3]), scoring=scoring).fit(X, y)
    with pytest.raises(ValueError, match=r"30 of 30 folds.*and 25 more"):
        search(LeaveOneOut(), scoring=scoring).fit(X, y)


@pytest.mark.parametrize("scoring", ["log_predictive_density", "neg_mean_squared_error"])
def test_one_row_is_scored_by_what_it_defines(scoring):
    X, y = table()
    found = search(one_row_folds(), {"eta": [2.0]}, scoring=scoring).fit(X, y)
    for k, (train, test) in enumerate(one_row_folds()):
        model = HierarchicalSlopesRegressor("g", slopes=None, random_state=1)
        model.fit(X.iloc[train], y[train])
        density = model.log_predictive_density(X.iloc[test], y[test])[0]
        error = (model.predict(X.iloc[test])[0] - y[test[0]]) ** 2
        expected = density if scoring == "log_predictive_density" else -error
        assert_allclose(found.scores_[0, k], expected, atol=0.05)


@pytest.mark.parametrize("values", [[0.1, 0.1, 0.1], [1e9, 1e9 + 1], [1e-170, 3e-170], [2, 5, 9]])
def test_r2_is_that_of_scikit_learn(values):
    y, weights = np.array(values, dtype=float), np.array([1.0, 3.0, 2.0])[: len(values)]
    size = np.abs(y).max()
    for mean in (y, y + 0.25 * size, y[::-1]):
        scaled = r2_score(y / size, mean / size, sample_weight=weights)
        expected = float(np.array_equal(y, mean)) if y.min() == y.max() else scaled
        assert_allclose(r2(y, mean, weights), expected, rtol=1e-6)


def test_a_constant_test_fold_has_the_r2_of_scikit_learn():
    X, y = table()
    y[:10] = 0.1
    found = search().fit(X, y)
    assert_array_equal(found.scores_[:, 0], [0, 0])
    assert np.isfinite(found.scores_).all()


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        (
            [(range(20), range(20, 30)), ([3], [4, 5])],
            "Fold 1 of cv has too few training rows.* 1: ",
        ),
        (
            [(range(20), range(20, 30)), ([], [4, 5])],
            "Fold 1 of cv has too few training rows.* 0: ",
        ),
        (
            [(range(10, 30), range(10)), (range(10), range(10, 30))],
            r"constant \(0.1\) in the 10 .*fold 1",
        ),
    ],
)
def test_a_fold_that_cannot_be_fitted_is_named(folds, message):
    X, y = table()
    y[:10] = 0.1
    folds = [tuple(np.array(part, dtype=int) for part in parts) for parts in folds]
    with pytest.raises(ValueError, match=message):
        search(folds).fit(X, y)


def test_training_weights_must_be_rows():
    X, y = table()
    weights = np.where(np.arange(30) < 3, 0.1, 1.0)
    with pytest.raises(ValueError, match=r"fold 0 of cv have a total sample_weight of 0.3"):
        search([(np.arange(3), np.arange(3, 30))]).fit(X, y, sample_weight=weights)


def test_columns_that_do_not_vary_in_a_fold_are_named():
    X, y = table()
    X["only"] = (np.arange(30) < 5).astype(float)
    with pytest.warns(UserWarning, match=r"keep their prior: 'only' \(fold 0\)"):
        found = search().fit(X, y)
    assert np.isfinite(found.scores_).all()


def test_an_error_in_a_fold_names_it_and_the_candidate(monkeypatch):
    X, y = table()

    def broken(self, *args):
        raise RuntimeError("no valid starting point")

    monkeypatch.setattr(HierarchicalSlopesRegressor, "_sample", broken)
    with pytest.raises(RuntimeError, match=r"Fold 0 of cv, candidate {'eta': 2.0}: no valid"):
        search(grid={"eta": [2.0]}).fit(X, y)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_candidate_without_a_finite_score_is_named_and_not_chosen(bad):
    X, y = table()

    def scorer(model, X, y):
        return bad if model.eta == 1.0 and "a" in set(X["g"]) else squared_error(model, X, y)

    grid = {"eta": [1.0, 2.0, 3.0]}
    with pytest.warns(UserWarning, match=rf"1 of 3 candidates.*'eta': 1.0}}: {bad} in fold 0"):
        found = search(LeaveOneGroupOut(), grid, scoring=scorer).fit(X, y)
    assert found.best_params_ != {"eta": 1.0}
    assert np.isfinite(found.best_score_)
    assert found.cv_results_["rank_test_score"][0] == 3
    assert any("no finite score" in message for message in found.diagnostics_["warnings"])


def test_no_candidate_with_a_finite_score_is_an_error():
    X, y = table()
    with pytest.raises(ValueError, match=r"No candidate has a finite score.*nan in fold 0, nan in"):
        search(scoring=lambda model, X, y: np.nan).fit(X, y)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"scoring": lambda model, X, y: {"a": 1.0}}, "must return a number"),
        ({"scoring": lambda model, X, y: np.ones(3)}, "must return a number"),
        ({"scoring": ["r2", "neg_mean_squared_error"]}, "chooses by one score"),
        ({"param_grid": []}, "no candidate"),
        ({"cv": []}, "no fold with a test row"),
    ],
)
def test_what_cannot_be_chosen_by_says_why(params, message):
    X, y = table()
    with pytest.raises(ValueError, match=message):
        search().set_params(**params).fit(X, y)


def test_one_weight_for_all_rows_is_a_weight():
    X, y = table()
    assert_array_equal(search().fit(X, y, sample_weight=1.0).scores_, search().fit(X, y).scores_)
    with pytest.raises(ValueError, match="Negative values"):
        search(scoring="r2").fit(X, y, sample_weight=-np.ones(30))


def test_nested_groups_reach_the_splitter():
    X, y = table()
    X["h"] = np.arange(30) % 2
    nested = search(LeaveOneGroupOut(), {"eta": [2.0]}).set_params(groups=[("g", "h")])
    nested.set_params(scoring="neg_mean_squared_error")
    assert nested.fit(X, y).n_splits_ == 10
    assert_array_equal(nested.fit(X, y, sample_weight=1.0 * (X["g"] != "a")).n_splits_, 8)


def test_training_rows_need_not_be_all_others():
    X, y = table()
    rng = np.random.default_rng(0)
    tests = np.split(np.arange(30), 3)
    folds = [(rng.choice(np.setdiff1d(np.arange(30), test), 20), test) for test in tests]
    found = search(folds).fit(X, y)
    for k, fold in enumerate(folds):
        alone = search([fold]).fit(X, y)
        assert_allclose(found.scores_[:, k], alone.scores_[:, 0], atol=R2_ERROR)


@pytest.mark.parametrize("column", ["x", "y"])
def test_a_fold_keeps_its_digits_beside_rows_of_another_size(column):
    X, y = table()
    folds = [(np.arange(10, 25), np.arange(25, 30))]
    expected = search(folds).fit(X, y)
    if column == "y":
        y[0] = 1e10
    else:
        X.loc[0, "x"] = 1e10
    found = search(folds).fit(X, y)
    assert_allclose(found.scores_, expected.scores_, rtol=1e-6)
