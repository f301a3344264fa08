"""From tables to designs, and what the warnings say of them."""

import re

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

from skhier.kernels.stats import group_stats, internal_units, moments
from skhier.utils.design import design_warnings, drop_rows, fit_design, read_rows
from skhier.utils.frames import as_table

RNG = np.random.default_rng(0)
TABLE = pd.DataFrame(
    {"a": [1.0, 2.0, 3.0, 4.0], "g": list("vuvw"), "b": [0.0, 1.0, 0.0, 2.0]},
)


def fit(table, groups="g", slopes="all"):
    names = list(table.columns) if hasattr(table, "columns") else None
    return fit_design(as_table(table), names, groups, slopes)


def warnings_of(x, codes=None, weights=None):
    """Of a plain array of features and codes of groups."""
    x = np.asarray(x, dtype=float)
    table = pd.DataFrame(x, columns=[f"x{j}" for j in range(x.shape[1])])
    weights = np.ones(len(x)) if weights is None else np.asarray(weights, float)
    if codes is None:
        design, rows = fit(table, None)
    else:
        design, rows = fit(table.assign(g=codes))
    slopes = design.factor and design.factor.slopes
    n_groups = len(design.factor.levels.labels) if design.factor else 0
    y = np.arange(float(len(x)))
    of_x = moments(rows.x, weights)
    units = internal_units(of_x, moments(y[:, None], weights), slopes)
    stats = group_stats(rows.x, y, weights, rows.codes, n_groups, slopes, units)
    group_rows = stats.zz[-1, -1] if design.factor else None
    return design_warnings(design, of_x.mean / units.x_scale, stats.xx[:-1, :-1], group_rows)


def test_group_column_is_no_feature():
    design, rows = fit(TABLE)
    assert design.feature_names == ["a", "b"]
    assert design.feature_positions == [0, 2]
    assert design.effects == ["intercept", "a", "b"]
    assert_array_equal(rows.x, TABLE[["a", "b"]])
    assert_array_equal(rows.codes, [1, 0, 1, 2])


@pytest.mark.parametrize(
    ("slopes", "effects"),
    [(None, ["intercept"]), (["b"], ["intercept", "b"]), ([-1], ["intercept", "b"])],
)
def test_effects_are_named_by_feature(slopes, effects):
    # case 63
    design, _ = fit(TABLE, slopes=slopes)
    assert design.effects == effects
    assert design.feature_names == ["a", "b"]


def test_group_column_alone_leaves_no_feature():
    # case 63
    design, rows = fit(TABLE[["g"]])
    assert design.feature_names == []
    assert rows.x.shape == (4, 0)


def test_column_named_intercept_cannot_vary():
    # its effects would go by the name of the varying intercept's
    table = TABLE.rename(columns={"b": "intercept"})
    with pytest.raises(ValueError, match="Column 'intercept' of X has the name of the varying"):
        fit(table)
    assert fit(table, slopes=["a"])[0].effects == ["intercept", "a"]
    assert fit(table.drop(columns="g"), None)[0].feature_names == ["a", "intercept"]


def test_new_rows_are_read_like_those_of_fit():
    design, rows = fit(TABLE)
    again = read_rows(TABLE, design)
    assert_array_equal(again.x, rows.x)
    assert_array_equal(again.codes, rows.codes)
    new = read_rows(TABLE.assign(g=list("wzyz")), design)
    assert_array_equal(new.codes, [2, 3, 4, 3])
    assert new.unseen.tolist() == ["z", "y"]


@pytest.mark.parametrize("reader", ["fit", "read"])
def test_too_large_column_is_named(reader):
    # case 50
    design, _ = fit(TABLE)
    bad = TABLE.assign(b=[0.0, 1e200, 0.0, 0.0])
    with pytest.raises(ValueError, match=r"Column 'b' of X is too large.*1e\+200"):
        fit(bad) if reader == "fit" else read_rows(bad, design)


def test_dropped_rows_take_their_levels_along():
    # case 92
    design, rows = drop_rows(*fit(TABLE), np.array([True, False, True, True]))
    assert design.factor.levels.labels.tolist() == ["v", "w"]
    assert_array_equal(rows.codes, [0, 0, 1])
    assert_array_equal(rows.x[:, 0], [1, 3, 4])
    design, rows = drop_rows(*fit(TABLE.drop(columns="g"), None), np.arange(4) < 2)
    assert rows.x.shape == (2, 2)


X = RNG.normal(size=(40, 3))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.c_[X, 2 * X[:, 0]], "X has rank 3 of 4.*: 'x3'"),
        (np.c_[2 * X[:, 0], X], "X has rank 3 of 4.*: 'x1'"),
        (np.c_[X, X[:, 0] - 0.3 * X[:, 2]], "X has rank 3 of 4.*: 'x3'"),
        (np.c_[X, X[:, 0], X[:, 1]], "X has rank 3 of 5.*: 'x3', 'x4'"),
        (np.c_[1e12 * X[:, 0] + 1e15, X[:, 1], 1e-9 * X[:, 1]], "X has rank 2 of 3.*: 'x2'"),
        (np.c_[X, X[:, 0] + 1], "X and the intercept have rank 4 of 5.*: 'x3'"),
        (np.eye(3)[np.arange(40) % 3], "X and the intercept have rank 3 of 4.*: 'x2'"),
        (RNG.normal(size=(15, 30)), "X has rank 15 of 30.*: 'x14'.* and 11 more"),
        (np.c_[X, np.full(40, 3.0)], "Constant columns .*: 'x3'"),
        (np.c_[X, np.zeros(40)], "Constant columns .*: 'x3'"),
        (np.c_[np.full(40, 0.1), X], "Constant columns .*: 'x0'"),
    ],
)
def test_columns_without_information_are_named(x, message):
    # cases 8, 52, 53, 58
    (found,) = warnings_of(x)
    assert re.search(message, found)


@pytest.mark.parametrize(
    "x",
    [
        X,
        X + 1e8,
        X * [1e-6, 1e6, 1e12],
        np.c_[X, X[:, 0] + 1e-3 * RNG.normal(size=40)],
        np.c_[X, np.arange(40) == 0],
        np.eye(3)[np.arange(40) % 3][:, :2],
    ],
)
def test_columns_with_information_are_not_named(x):
    # cases 55, 56
    assert warnings_of(x) == []


def test_rank_agrees_with_the_singular_values():
    rng = np.random.default_rng(1)
    for _ in range(50):
        p = rng.integers(2, 8)
        rank = rng.integers(1, p)
        x = rng.normal(size=(30, rank)) @ rng.normal(size=(rank, p))
        (found,) = warnings_of(x)
        assert f"X has rank {np.linalg.matrix_rank(x)} of {p}:" in found


def test_groups_without_information_are_reported():
    # cases 65 to 67
    assert warnings_of(X, np.zeros(40, int)) == ["1 group: between-group sd is set by its prior."]
    (found,) = warnings_of(X, np.arange(40))
    assert found.startswith("Every group has one row")
    assert warnings_of(X, np.arange(40) // 20) == []
    assert warnings_of(X, np.r_[0, np.arange(39)]) == []
    # a weight of 2 is the row twice
    assert warnings_of(X, np.arange(40), np.full(40, 2)) == []
