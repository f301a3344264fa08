"""Rows whose grouping columns do not count: they may be missing, or hold anything."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import clone

from skhier import HierarchicalSlopesRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

CONTAINERS = [pd.DataFrame, pl.from_pandas, pa.Table.from_pandas]
METHODS = {
    "predict": lambda m, X, level: m.predict(X, level=level),
    "std": lambda m, X, level: m.predict(X, return_std=True, level=level)[1],
    "interval": lambda m, X, level: m.predict_interval(X, level=level),
    "quantiles": lambda m, X, level: m.predict_quantiles(X, [0.5], level=level),
    "sample_y": lambda m, X, level: m.sample_y(X, 3, random_state=0, level=level),
}


@pytest.fixture(scope="module")
def areas(people):
    """The subject stands between the features, the area last."""
    X, y = people
    X = X.assign(z=np.sin(np.arange(80)), area=np.arange(80) // 20)
    return X[["x", "subject", "z", "area"]], y


@pytest.fixture(scope="module")
def area_fit(areas):
    model = HierarchicalSlopesRegressor(
        ["area", ("area", "subject")], slopes=["x"], n_chains=2, n_draws=50, random_state=0
    )
    return model.fit(*areas)


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("method", METHODS)
def test_population_needs_no_grouping_column(area_fit, areas, method, container):
    X, _ = areas
    expected = METHODS[method](area_fit, X, "population")
    for missing in (["subject", "area"], ["subject"], ["area"]):
        table = container(X.drop(columns=missing))
        assert_array_equal(METHODS[method](area_fit, table, "population"), expected)


@pytest.mark.parametrize("container", CONTAINERS)
def test_factors_that_do_not_count_need_no_column(area_fit, areas, container):
    X, _ = areas
    expected = area_fit.predict(X, level=["area"])
    table = container(X.drop(columns="subject"))
    assert_array_equal(area_fit.predict(table, level=["area"]), expected)
    with pytest.raises(ValueError, match=r"(?s)now missing:\n- area\n"):
        area_fit.predict(container(X.drop(columns="area")), level=["area"])
    # the nesting needs both of its columns
    with pytest.raises(ValueError, match=r"(?s)now missing:\n- area\n"):
        area_fit.predict(container(X.drop(columns="area")), level=["area:subject"])


@pytest.mark.parametrize(
    "labels",
    [
        [None] * 80,
        [np.nan] * 80,
        pd.array([pd.NA] * 80, dtype="string"),
        [np.inf] * 80,
        np.arange(80),
        ["new"] * 80,
        pd.date_range("2020", periods=80),
        [["list"]] * 80,
    ],
    ids=lambda labels: str(labels[0]),
)
def test_labels_that_do_not_count_may_be_anything(area_fit, areas, labels):
    X, _ = areas
    other = X.assign(subject=labels)
    for level in ("population", ["area"]):
        assert_array_equal(area_fit.predict(other, level=level), area_fit.predict(X, level=level))
    strict = clone(area_fit).set_params(handle_unknown="error").fit(*areas)
    assert_array_equal(strict.predict(other, level=["area"]), area_fit.predict(X, level=["area"]))


def test_missing_labels_still_matter_where_the_factor_counts(area_fit, areas):
    X, _ = areas
    for column, level in (("area", ["area"]), ("subject", "group"), ("area", ["area:subject"])):
        with pytest.raises(ValueError, match=f"missing labels.*'{column}'"):
            area_fit.predict(X.assign(**{column: None}), level=level)


@pytest.mark.parametrize("kind", [float, object])
def test_array_has_all_columns_and_any_labels(people, short_run, kind):
    X, y = people
    table = np.column_stack([np.arange(80) // 8, X["x"]]).astype(kind)
    model = short_run(0).fit(table, y)
    other = table.copy()
    other[:, 0] = np.nan
    expected = model.predict(table, level="population")
    assert_array_equal(model.predict(other, level="population"), expected)
    other[:, 0] = np.inf
    assert_array_equal(model.predict(other, level="population"), expected)
    with pytest.raises(ValueError, match=r"X has 1 features, but .* is expecting 2"):
        model.predict(table[:, 1:], level="population")
    other[3, 1] = np.nan
    with pytest.raises(ValueError, match=r"Input X contains NaN.*'x1'"):
        model.predict(other, level="population")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X: X[["z", "x"]], "must be in the same order"),
        (lambda X: X[["x"]], r"(?s)yet now missing:\n- z\n$"),
        (lambda X: X[["x", "z"]].assign(w=1.0), r"(?s)unseen at fit time:\n- w"),
        (lambda X: X[["x", "z", "subject"]], "must be in the same order"),
    ],
)
def test_other_columns_are_checked_as_ever(area_fit, areas, change, message):
    with pytest.raises(ValueError, match=message):
        area_fit.predict(change(areas[0]), level="population")


def test_missing_grouping_column_says_what_to_do(area_fit, areas):
    X, _ = areas
    with pytest.raises(
        ValueError, match=r"- subject\nTo predict without 'subject', pass level=\['a"
    ):
        area_fit.predict(X.drop(columns="subject"))
    with pytest.raises(ValueError, match="without 'area', 'subject', pass level='population'"):
        area_fit.score(X.drop(columns=["subject", "area"]), X["x"])
    with pytest.raises(ValueError, match=r"X has 'subject' in its row index.*X.reset_index\(\)"):
        area_fit.predict(X.set_index("subject"))


def test_index_of_rows_is_kept_out_of_it(area_fit, areas):
    X, _ = areas
    table = X.drop(columns="subject").set_index(np.arange(80)[::-1])
    assert_array_equal(
        area_fit.predict(table, level="population"), area_fit.predict(X, level="population")
    )


def test_model_of_intercepts_alone_needs_rows_only(people, short_run):
    X, y = people
    model = short_run().fit(X[["subject"]], y)
    empty = pd.DataFrame(index=[7, 8, 9])
    assert_array_equal(model.predict(empty, level="population"), [model.intercept_] * 3)
    with pytest.raises(ValueError, match=r"0 feature\(s\)"):
        model.predict(empty)
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        model.predict(empty[:0], level="population")
