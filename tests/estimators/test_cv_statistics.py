"""Searches whose folds a column says, a hash, or statistics: the numbers of the rows in memory."""

import numpy as np
import pandas as pd
import pytest
from lazy_frames import LAZY, collected, lazy
from numpy.testing import assert_allclose, assert_array_equal
from runs import slow
from sklearn.base import clone
from sklearn.model_selection import PredefinedSplit

from skhier import HierarchicalSlopesRegressor, HierarchicalSlopesRegressorCV
from skhier.statistics.hashed_folds import FOLD, with_hashed_fold
from skhier.utils.lazy_engines import lazy_engine

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

SEARCHES = {
    "one": {"groups": "g", "param_grid": {"eta": [1.0, 4.0], "group_means": [None, "all"]}},
    "crossed": {"groups": ["g", "h"], "param_grid": {"slopes": ["all", None]}},
    "nested": {"groups": ["h", ("h", "g")], "slopes": None},
    "none": {"groups": None, "param_grid": {"prior__coef": [0.1, 1.0]}},
}


def rows_of(name, n=240):
    """Calendar years, weights of 0, folds that do not hold every level."""
    rng = np.random.default_rng(8)
    fold = rng.integers(0, 3, n)
    g, h = rng.integers(0, 8, n) + 2 * fold, rng.integers(0, 3, n)
    x = rng.integers(1990, 2020, n)
    y = 1e3 + g + h + (1 + 0.3 * g) * (x - 2000) / 10 + rng.normal(size=n)
    names = np.array(["north", "south", "west"])[fold]
    # predict has no weights: of a level that is new to it, rows count once in the level's mean
    w = rng.integers(0, 2 if name == "one" else 3, n)
    rows = pd.DataFrame({"g": g, "x": x, "h": h, "y": y, "w": w, "fold": names})
    return rows.drop(columns={"one": ["h"], "none": ["g", "h"]}.get(name, []))


def search(name, **more):
    return HierarchicalSlopesRegressorCV(**{"random_state": 0, **SEARCHES[name], **more})


def of_rows(name, rows, **more):
    """The search with scikit-learn's splitter; its folds are the sorted names."""
    cv = PredefinedSplit(pd.factorize(rows["fold"], sort=True)[0])
    X = rows.drop(columns=["y", "w", "fold"])
    return search(name, cv=cv, **more).fit(X, rows["y"], rows["w"])


def assert_same_search(found, expected):
    assert_allclose(found.scores_, expected.scores_, rtol=1e-9)
    assert found.best_params_ == expected.best_params_
    assert found.n_splits_ == expected.n_splits_
    assert_allclose(found.coef_, expected.coef_, rtol=1e-9)
    assert_array_equal(found.feature_names_in_, expected.feature_names_in_)
    assert found.diagnostics_["n_rows"] == expected.diagnostics_["n_rows"]


@pytest.mark.parametrize("name", ["nested", "none", *slow("one", "crossed")])
def test_column_of_a_frame_in_memory_says_the_folds(name):
    rows = rows_of(name)
    model = search(name, cv="fold").fit(rows, "y", "w")
    assert_same_search(model, of_rows(name, rows))
    assert model.cv == "fold"
    X = rows.drop(columns=["y", "w"])
    assert_array_equal(search(name, cv="fold").fit(X, rows["y"], rows["w"]).scores_, model.scores_)


@pytest.mark.parametrize("engine", LAZY)
@pytest.mark.parametrize("name", ["one", *slow("crossed")])
def test_column_of_a_lazy_frame_says_the_folds(name, engine):
    rows = rows_of(name)
    model = search(name, cv="fold").fit(lazy(rows, engine), "y", "w")
    assert_same_search(model, of_rows(name, rows))
    assert model.cv == "fold"


@pytest.mark.parametrize("name", ["one", "nested", "none", *slow("crossed")])
@pytest.mark.parametrize("scoring", [*slow("r2"), "neg_mean_squared_error"])
def test_statistics_of_each_fold_score_as_rows_do(name, scoring):
    rows = rows_of(name)
    every = {"slopes": "all"} if name == "crossed" else {"slopes": None}
    plain = HierarchicalSlopesRegressor(SEARCHES[name]["groups"], **every)
    if name in ("one", "none"):
        plain.set_params(slopes="all")
    folds = {
        label: plain.summarise(part.drop(columns="fold"), "y", "w")
        for label, part in rows.groupby("fold")
    }
    expected = of_rows(name, rows, scoring=scoring)
    assert_same_search(search(name, scoring=scoring).fit_statistics(folds), expected)
    assert_same_search(search(name, scoring=scoring).fit_statistics([*folds.values()]), expected)


@pytest.mark.parametrize("engine", LAZY)
def test_hash_splits_rows_evenly_and_equal_rows_together(engine):
    rows = rows_of("one", 3000).drop(columns="fold")
    rows = pd.concat([rows, rows[:500]], ignore_index=True)
    source = lazy(rows, engine)
    split = with_hashed_fold(source, lazy_engine(source), 4)
    found = collected(split)
    sizes = found.drop_duplicates()[FOLD].value_counts()
    assert sorted(sizes.index) == [0, 1, 2, 3]
    # a binomial count's sd is 24 of the 3,000
    assert np.abs(sizes - sizes.sum() / 4).max() < 6 * 24
    assert (found.groupby(list(rows))[FOLD].nunique() == 1).all()


def test_number_of_folds_of_a_lazy_frame_is_a_hash():
    rows = rows_of("one").drop(columns="fold")
    source = lazy(rows, "polars")
    model = search("one", cv=3).fit(source, "y", "w")
    labels = with_hashed_fold(source, "Polars", 3).collect()[FOLD].to_numpy()
    assert_same_search(model, of_rows("one", rows.assign(fold=labels)))
    assert clone(model).set_params(cv=None).fit(source, "y", "w").n_splits_ == 5


@pytest.mark.parametrize("engine", ["polars", "dask"])
def test_evidence_needs_no_folds(engine):
    rows = rows_of("one").drop(columns="fold")
    found = search("one", cv="evidence").fit(lazy(rows, engine), "y", "w")
    X = rows.drop(columns=["y", "w"])
    expected = search("one", cv="evidence").fit(X, rows["y"], rows["w"])
    assert_same_search(found, expected)
    plain = HierarchicalSlopesRegressor("g")
    parts = [plain.summarise(part, "y", "w") for part in (rows[:50], rows[50:])]
    assert_same_search(search("one", cv="evidence").fit_statistics(parts), expected)


def test_what_folds_of_sums_cannot_do_is_named():
    rows = rows_of("one")
    source = lazy(rows, "polars")
    for cv in ("loo", "logo"):
        with pytest.raises(ValueError, match=f"cv='{cv}' needs rows in memory: name a column"):
            search("one", cv=cv).fit(source, "y", "w")
    with pytest.raises(TypeError, match="cv must be the name of a column"):
        search("one", cv=PredefinedSplit([0, 1])).fit(source, "y", "w")
    for scoring in ("log_predictive_density", lambda model, X, y: 0.0):
        with pytest.raises(ValueError, match="Of sums over rows, scoring may be one of None, 'r2'"):
            search("one", cv="fold", scoring=scoring).fit(source, "y", "w")
    with pytest.raises(ValueError, match="`cv='site'` is not a column of X"):
        search("one", cv="site").fit(source, "y", "w")
    with pytest.raises(ValueError, match="the name of a column of X or one of"):
        search("one", cv="site").fit(rows, "y", "w")
    with pytest.raises(ValueError, match="y and cv are both 'y'"):
        search("one", cv="y").fit(source, "y", "w")
    with pytest.raises(ValueError, match=r"missing"):
        search("one", cv="fold").fit(lazy(rows.assign(fold=None), "polars"), "y", "w")
    with pytest.raises(ValueError, match="takes two folds or more"):
        search("one", cv="fold").fit(lazy(rows.assign(fold="a"), "polars"), "y", "w")
    alone = rows.assign(fold=np.where(rows.index == 1, "alone", rows["fold"]), w=1)
    with pytest.raises(ValueError, match=r"R.2 is not defined for one row, and folds .*: 'alone'"):
        search("one", cv="fold").fit(lazy(alone, "polars"), "y", "w")
    with pytest.raises(ValueError, match="rows of groups that the others lack"):
        search("one", cv="fold", handle_unknown="error").fit(source, "y", "w")
    model = search("one", cv="fold")
    with pytest.raises(ValueError, match="the folds, so that `cv` must be None or 'evidence'"):
        model.fit_statistics([])
    with pytest.raises(TypeError, match="takes a list of GroupStatistics, one for each fold"):
        model.fit_statistics(rows)
