"""Bad data: a clear error in fit and in predict, and never half a fit."""

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
from numpy.testing import assert_allclose, assert_array_equal
from runs import SHORT
from sklearn.base import clone
from sklearn.exceptions import DataConversionWarning, NotFittedError

from skhier import HierarchicalSlopesRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

ROW, COLUMN = 3, "x"


def with_cell(X, value, column=COLUMN, rows=(ROW,)):
    """X with some cells of one column replaced, whatever their type."""
    cells = np.empty(len(X), object)
    cells[:] = X[column].to_list()
    for row in rows:
        cells[row] = value
    return X.assign(**{column: pd.Series(cells, dtype=object, index=X.index)})


def replaced(y, value):
    cells = y.astype(object)
    cells[ROW] = value
    return cells


# what is done to X alone: wrong in fit and in predict
BAD_X = {
    "nan": (lambda X: with_cell(X, np.nan), ValueError, "Input X contains NaN"),  # 1
    "none": (lambda X: with_cell(X, None), ValueError, "Input X contains NaN"),
    "inf": (lambda X: with_cell(X, np.inf), ValueError, "Input X contains infinity"),  # 2
    "-inf": (lambda X: with_cell(X, -np.inf), ValueError, "Input X contains infinity"),
    "1-D": (lambda X: X["x"].to_numpy(), ValueError, "(?s)Expected 2D array, got 1D.*Reshape"),  # 3
    "3-D": (lambda X: X[["x"]].to_numpy()[None], ValueError, "Found array with dim 3"),  # 4
    "no rows": (lambda X: X.iloc[:0], ValueError, r"0 sample\(s\)"),  # 5, 34
    "no rows, polars": (lambda X: pl.from_pandas(X)[:0], ValueError, r"0 sample\(s\)"),
    "no columns": (
        lambda X: np.empty((12, 0)),
        ValueError,
        r"0 feature\(s\) \(shape=\(\d*, 0\)\) while a minimum of",
    ),  # 6
    "sparse": (
        lambda X: scipy.sparse.csr_array(np.ones((80, 2))),
        TypeError,
        "Sparse data was passed.* but dense data is required",
    ),  # 9
    "complex": (lambda X: X[["x"]].to_numpy() + 1j, ValueError, "Complex data not supported"),  # 10
    "dict": (lambda X: with_cell(X, {"k": 1}), TypeError, "argument must be .* string.* number"),
    "words": (lambda X: with_cell(X, "w"), ValueError, "could not convert string to float: 'w'"),
    "word named": (
        lambda X: with_cell(X, "w"),
        ValueError,
        r"Column 'x' of X .*'w'.*OneHotEncoder.*TargetEncoder",
    ),
    "digits": (
        lambda X: X.assign(x=X["x"].astype(str)),
        ValueError,
        r"Column 'x' of X holds strings with 80 distinct values, such as '0\.12.*astype\(float\)",
    ),
    "a digit": (lambda X: with_cell(X, "7"), ValueError, "holds strings in 1 of 80 rows.*'7'"),
    "category": (
        lambda X: X.assign(x=pd.Categorical(np.arange(80) % 3)),
        ValueError,
        "Column 'x' of X is categorical: its labels, such as 0.*OneHotEncoder, OrdinalEncoder or",
    ),
    "category, polars": (
        lambda X: pl.from_pandas(X.assign(x=(np.arange(80) % 3).astype(str))).cast(
            {"x": pl.Categorical}
        ),
        ValueError,
        "Column 'x' of X is categorical: its labels, such as '0'",
    ),
    "nan named": (
        lambda X: with_cell(X, np.nan, rows=(3, 5)),
        ValueError,
        r"Input X contains NaN in 2 rows of 80, the first at row 3\. Columns: 'x' \(2 rows\)",
    ),
    "datetime": (
        lambda X: X.assign(x=pd.date_range("2020", periods=80)),
        TypeError,
        "Column 'x' of X holds datetime",
    ),  # 21
    "datetime, polars": (
        lambda X: pl.from_pandas(X.assign(x=pd.date_range("2020", periods=80))),
        TypeError,
        "Column 'x' of X holds datetime",
    ),
    "NA": (
        lambda X: X.assign(x=pd.array([pd.NA] + [1] * 79, dtype="Int64")),
        ValueError,
        "Input X contains NaN",
    ),  # 24
    "mixed names": (
        lambda X: X.rename(columns={"x": 1}),
        TypeError,
        "Feature names are only supported if all input features have string names",
    ),  # 29
    "twice the name": (
        lambda X: pd.concat([X, X[["x"]]], axis=1),
        ValueError,
        "more than one column named 'x'",
    ),
    "masked": (
        lambda X: np.ma.masked_greater(X[["x"]].to_numpy(), 0),
        ValueError,
        "X has .* masked values",
    ),
    "too large": (lambda X: with_cell(X, 1e200), ValueError, "'x' of X is too large.*1e.200"),
    "lazy": (lambda X: pl.from_pandas(X).lazy(), TypeError, "X is a lazy (Polars frame|LazyFrame)"),
    "labels missing": (
        lambda X: with_cell(X, None, "subject", range(5)),
        ValueError,
        r"groups contains 5 missing labels \(first at row 0\)",
    ),  # 70
    "labels NaN": (
        lambda X: with_cell(X, np.nan, "subject"),
        ValueError,
        r"groups contains 1 missing labels \(first at row 3\)",
    ),
    "labels NA": (lambda X: with_cell(X, pd.NA, "subject"), ValueError, "1 missing labels"),
    "labels NaT": (lambda X: with_cell(X, pd.NaT, "subject"), ValueError, "1 missing labels"),
    "labels null, polars": (
        lambda X: pl.from_pandas(with_cell(X, None, "subject")),
        ValueError,
        "1 missing labels",
    ),
    "labels mixed": (
        lambda X: with_cell(X, 1, "subject"),
        TypeError,
        "groups mixes label types: int, str",
    ),  # 73
    "labels lists": (lambda X: with_cell(X, [1], "subject"), TypeError, "must be hashable"),  # 88
}

# wrong in fit only, of X: groups that are not where `groups` says
NOT_GROUPS = {
    "in the index": ("subject", lambda X: X.set_index("subject"), r"row index.*X\.reset_index\(\)"),
    "not named": (
        None,
        lambda X: X,
        "Column 'subject' of X holds strings with 10 distinct values.*pass groups='subject'",
    ),
    "digits, not named": (
        None,
        lambda X: X.assign(subject=X["subject"].str[1:]),
        "Column 'subject' of X holds strings with 10 distinct .* grouping factor, pass groups='sub",
    ),
    "one of two": (
        "subject",
        lambda X: X.assign(area="a"),
        "Column 'area' of X holds strings with 1 distinct .* add 'area' to `groups`",
    ),
    "not named, array": (None, lambda X: X.to_numpy(object), "'x1' of X holds.*pass groups=1"),
}

# wrong in fit only: what is done to (X, y, sample_weight)
BAD_FIT = {
    "one row": (lambda X, y: (X[:1], y[:1], None), ValueError, "n_samples=1"),  # 7
    "one row with a weight": (
        lambda X, y: (X, y, np.arange(80) == 0),
        ValueError,
        "n_samples=1",
    ),
    "y nan": (
        lambda X, y: (X, replaced(y, np.nan), None),
        ValueError,
        "Input y contains NaN",
    ),  # 35
    "y inf": (
        lambda X, y: (X, replaced(y, np.inf), None),
        ValueError,
        "Input y contains infinity",
    ),  # 36
    "y none": (lambda X, y: (X, replaced(y, None), None), ValueError, "Input y contains NaN"),  # 37
    "y words": (
        lambda X, y: (X, replaced(y, "w"), None),
        ValueError,
        "could not convert string to float: 'w'",
    ),  # 39
    "y digits": (lambda X, y: (X, y.astype(str), None), ValueError, "y holds strings, such as"),
    "y category": (
        lambda X, y: (X, pd.Series(y > 0).astype("category"), None),
        ValueError,
        "y is categorical",
    ),  # 40
    "y datetime": (
        lambda X, y: (X, pd.date_range("2020", periods=80), None),
        TypeError,
        "y holds datetime",
    ),
    "no y": (
        lambda X, y: (X, None, None),
        ValueError,
        "requires y to be passed, but the target y is None",
    ),  # 43
    "y short": (
        lambda X, y: (X, y[:-1], None),
        ValueError,
        r"inconsistent numbers of samples: \[80, 79\]",
    ),  # 44
    "y wide": (lambda X, y: (X, np.c_[y, y], None), ValueError, "y should be a 1d array"),
    "y too large": (lambda X, y: (X, y * 1e307, None), ValueError, "y is too large"),  # 50
    "x too small": (
        lambda X, y: (X.assign(x=X.x * 1e-200), y, None),
        ValueError,
        "standard deviation of column 'x' of X, .*e-201, is too small",
    ),
    "weight negative": (
        lambda X, y: (X, y, np.where(np.arange(80) == ROW, -1, 1)),
        ValueError,
        "Negative values in data passed to .sample_weight",
    ),  # 89
    "weights zero": (
        lambda X, y: (X, y, np.zeros(80)),
        ValueError,
        "Sample weights must contain at least one non-zero",
    ),  # 90
    "weight nan": (
        lambda X, y: (X, y, replaced(y, np.nan)),
        ValueError,
        "Input sample_weight contains NaN",
    ),  # 93
    "weight inf": (
        lambda X, y: (X, y, replaced(y, np.inf)),
        ValueError,
        "Input sample_weight contains infinity",
    ),
    "weights long": (lambda X, y: (X, y, np.ones(160)), ValueError, r"sample_weight.shape"),  # 94
    "weights wide": (
        lambda X, y: (X, y, np.ones((80, 2))),
        ValueError,
        "Sample weights must be 1D",
    ),
    "weights sum to 1": (
        lambda X, y: (X, y, np.full(80, 1 / 80)),
        ValueError,
        "sample_weight sums to 1",
    ),
}

# what is done to X; right in fit of the changed X, wrong in predict after another fit
BAD_PREDICT = {
    "reordered": (lambda X: X[["subject", "x"]], "must be in the same order"),  # 30
    "extra": (lambda X: X.assign(z=1.0), "unseen at fit time"),  # 31
    "missing": (lambda X: X[["subject"]], "seen at fit time, yet now missing"),
    "array too wide": (
        lambda X: X.assign(z=1.0).to_numpy(),
        r"X has \d+ features, but .* is expecting 2",
    ),
    "integers for strings": (
        lambda X: X.assign(subject=np.arange(80) % 10),
        "of kind number .*but were of kind string .*in fit",
    ),
    "booleans for strings": (
        lambda X: X.assign(subject=np.arange(80) % 2 == 0),
        "of kind boolean .*but were of kind string .*in fit",
    ),
}


@pytest.mark.parametrize("case", BAD_X)
def test_bad_x_is_refused_in_fit_and_predict(case, fitted, people):
    change, error, message = BAD_X[case]
    X, y = people
    refuses(fitted, change(X), y, None, error, message)
    refuses_to_predict(fitted, change(X), error, message)


def refuses_to_predict(fitted, X, error, message):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "X does not have valid feature names")
        with pytest.raises(error, match=message):
            fitted.predict(X)


@pytest.mark.parametrize("case", BAD_FIT)
def test_bad_training_data_is_refused(case, fitted, people):
    change, error, message = BAD_FIT[case]
    refuses(fitted, *change(*people), error, message)


def refuses(fitted, X, y, weights, error, message):
    """A bad fit raises and leaves a fitted and an unfitted estimator as they were."""
    for model in (fitted, clone(fitted)):
        before = dict(vars(model))
        with pytest.raises(error, match=message):
            model.fit(X, y, sample_weight=weights)
        assert vars(model).keys() == before.keys()
        assert all(vars(model)[name] is before[name] for name in before)


@pytest.mark.parametrize("case", NOT_GROUPS)
def test_groups_that_are_not_found_are_hinted_at(case, fitted, people):
    groups, change, message = NOT_GROUPS[case]
    model = clone(fitted).set_params(groups=groups)
    with pytest.raises(ValueError, match=message):
        model.fit(change(people[0]), people[1])
    assert not hasattr(model, "n_features_in_")


@pytest.mark.parametrize("case", BAD_PREDICT)
def test_other_columns_and_labels_are_refused_in_predict(case, fitted, people):
    change, message = BAD_PREDICT[case]
    refuses_to_predict(fitted, change(people[0]), ValueError, message)


def test_strings_for_integers_are_refused_in_predict(people):
    X, y = people
    codes = np.arange(80) // 8
    model = HierarchicalSlopesRegressor("subject", **SHORT).fit(X.assign(subject=codes), y)
    with pytest.raises(ValueError, match=r"of kind string .*but were of kind number"):
        model.predict(X.assign(subject=codes.astype(str)))
    assert_array_equal(
        model.predict(X.assign(subject=codes.astype(float))),
        model.predict(X.assign(subject=codes)),
    )


def test_array_after_frame_warns_and_predicts_the_same(fitted, people):
    # case 32
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        mean = fitted.predict(people[0].to_numpy(object))
    assert_array_equal(mean, fitted.predict(people[0]))


@pytest.mark.parametrize(
    "call",
    [
        lambda m, X: m.predict(X),
        lambda m, X: m.predict_interval(X),
        lambda m, X: m.predict_quantiles(X, [0.5]),
        lambda m, X: m.sample_y(X),
        lambda m, X: m.log_predictive_density(X, X["x"]),
        lambda m, X: m.summary(),
        lambda m, X: m.to_arviz(),
        lambda m, X: m.prior_summary(),
        lambda m, X: m.variance_components(),
        lambda m, X: m.sample_group_effects("subject"),
    ],
)
def test_methods_need_a_fit(call, people):
    # case 33
    with pytest.raises(NotFittedError):
        call(HierarchicalSlopesRegressor("subject"), people[0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, X: m.predict(X, level="person"), "'level' parameter must be one of"),
        (lambda m, X: m.predict_interval(X, coverage=1), r"'coverage' .* range \(0, 1\). Got 1"),
        (lambda m, X: m.predict_interval(X, kind="noise"), "'kind' parameter must be one of"),
        (lambda m, X: m.predict_quantiles(X, 0), "`q` must be numbers between 0 and 1"),
        (lambda m, X: m.predict_quantiles(X, []), "`q` must be numbers between 0 and 1"),
        (lambda m, X: m.predict_quantiles(X, [0.5, np.nan]), "`q` must be numbers between 0 and"),
        (lambda m, X: m.sample_y(X, 0), r"'n_samples' .* range \[1, inf\). Got 0"),
        (lambda m, X: m.sample_y(X, random_state="a"), "cannot be used to seed"),
        (lambda m, X: m.log_predictive_density(X, [1.0]), r"numbers of samples: \[80, 1\]"),
        (lambda m, X: m.log_predictive_density(X, ["a"] * 80), "could not convert string"),
        (lambda m, X: m.sample_group_effects("x"), "'x' is not a grouping factor.*'subject'"),
        (lambda m, X: m.sample_group_effects("subject", ["z"]), "not seen in fit: 'z'"),
        (lambda m, X: m.sample_group_effects("subject", n_draws=0), "'n_draws'.*Got 0"),
    ],
)
def test_bad_arguments_of_methods_are_refused(call, message, fitted, people):
    with pytest.raises(ValueError, match=message):
        call(fitted, people[0])


def test_unseen_level_is_the_population_line(fitted, people):
    # case 72
    X = people[0].head(6).assign(subject=[f"zz{i}" for i in range(6)])
    with pytest.warns(UserWarning, match="6 unseen group.*'subject'.*'zz4' and 1 more") as caught:
        mean, sd = fitted.predict(X, return_std=True)
    assert len(caught) == 1
    line = fitted.intercept_ + X["x"] * fitted.coef_[0]
    assert_allclose(mean, line, rtol=1e-9)
    assert_array_equal(mean, fitted.predict(X, level="population"))  # where levels do not matter
    last = X.assign(subject=fitted.group_levels_["subject"][-1])
    last_mean, last_sd = fitted.predict(last, return_std=True)
    assert np.all(np.abs(mean - last_mean) > 1e-3)
    assert np.all(sd > last_sd)


def test_unseen_level_leaves_rows_of_known_levels_alone(fitted, people):
    X = people[0].copy()
    X.loc[::2, "subject"] = "zz"
    with pytest.warns(UserWarning, match="1 unseen group.*'zz'"):
        mean = fitted.predict(X)
    assert_array_equal(mean[1::2], fitted.predict(people[0])[1::2])


def test_unseen_level_is_an_error_if_asked_for(fitted, people):
    # case 72
    model = clone(fitted).set_params(handle_unknown="error").fit(*people)
    X = people[0].assign(subject="zz")
    for call in (model.predict, model.predict_interval, model.sample_y):
        with pytest.raises(ValueError, match=r"1 unseen group.*'zz'\. Set handle_unknown"):
            call(X)
    assert_array_equal(model.predict(people[0]), fitted.predict(people[0]))


def test_column_vector_y_warns_once_and_fits_the_same(fitted, people):
    # case 41
    X, y = people
    with pytest.warns(DataConversionWarning, match="A column-vector y was passed") as caught:
        model = clone(fitted).fit(X, y[:, None])
    assert sum(w.category is DataConversionWarning for w in caught) == 1
    assert_array_equal(model.predict(X), fitted.predict(X))
