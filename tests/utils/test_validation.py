"""Targets, weights and parameters: what scikit-learn's validators let pass is refused here."""

import datetime

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse
from numpy.testing import assert_array_equal
from sklearn.exceptions import DataConversionWarning

from skhier.utils.cells import relative_spacing
from skhier.utils.training import weighted_median
from skhier.utils.validation import (
    check_choice,
    check_flag,
    check_number,
    check_scales,
    check_target,
    check_weights,
    coarse_numbers,
)

X = np.zeros((4, 1))
Y = [1.0, -2.5, 300.0, 0.0]


@pytest.mark.parametrize(
    "y",
    [
        Y,
        tuple(Y),
        np.array(Y, "f2"),
        np.array(Y, np.longdouble),
        np.array(Y, object),
        np.ma.masked_array(Y, mask=False),
        pd.Series(Y, index=[9, 9, 1, 0]),
        pd.Series(Y, dtype="Float64"),
        pl.Series(Y),
        pa.array(Y),
        pa.chunked_array([Y[:1], Y[1:]]),
    ],
    ids=lambda y: f"{type(y).__name__}-{getattr(y, 'dtype', '')}",
)
def test_target_of_every_container_is_float64(y):
    # case 25
    checked = check_target(y, X)
    assert checked.dtype == np.float64
    assert_array_equal(checked, Y)


@pytest.mark.parametrize(
    "y",
    [np.array(Y)[:, None], pd.DataFrame({"y": Y}), pl.DataFrame({"y": Y})],
    ids=lambda y: type(y).__module__,
)
def test_target_column_vector_warns_once(y):
    # case 41
    with pytest.warns(DataConversionWarning, match="A column-vector y was passed") as caught:
        assert_array_equal(check_target(y, X), Y)
    assert len(caught) == 1


@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        ([np.nan, 1, 2, 3], ValueError, "Input y contains NaN"),
        ([np.inf, 1, 2, 3], ValueError, "Input y contains infinity"),
        ([-np.inf, 1, 2, 3], ValueError, "Input y contains infinity"),
        (np.array([1, None, 2, 3], object), ValueError, "Input y contains NaN"),
        ([1, pd.NA, 2, 3], ValueError, "Input y contains NaN"),
        (pd.Series([1, pd.NA, 2, 3], dtype="Int64"), ValueError, "Input y contains NaN"),
        (pl.Series([1, None, 2, 3]), ValueError, "Input y contains NaN"),
        (pa.array([1, None, 2, 3]), ValueError, "Input y contains NaN"),
        (list("abcd"), ValueError, "could not convert string to float: 'a'"),
        (np.array(["1", "2", "3", "4"]), ValueError, "y holds strings, such as '1'"),
        ([1, 2, "3", 4], ValueError, "y holds strings, such as '3'"),
        (pd.Series(["a"] * 4, dtype="category"), ValueError, "y is categorical"),
        (pd.Series([1, 2, 3, 4], dtype="category"), ValueError, "y is categorical"),
        (pd.date_range("2020", periods=4), TypeError, "y holds datetime values"),
        (pd.Series(pd.date_range("2020", periods=4, tz="UTC")), TypeError, "datetime"),
        (pd.Series(pd.timedelta_range("1D", periods=4)), TypeError, "datetime"),
        (pd.DataFrame({"y": pd.date_range("2020", periods=4)}), TypeError, "datetime"),
        (np.zeros(4, "M8[D]"), TypeError, "datetime"),
        ([datetime.date(2020, 1, 1)] * 4, TypeError, "datetime"),
        ([1.0, 2.0, 3.0, np.datetime64("2020")], TypeError, "datetime"),
        (pl.Series([datetime.date(2020, 1, 1)] * 4), TypeError, "datetime"),
        (np.ma.masked_greater(Y, 2), ValueError, "y has 1 masked values"),
        (np.array(Y) + 1j, ValueError, "Complex data not supported"),
        ([1, 2, 3, {}], TypeError, "argument must be .* string.* number"),
        ([1, 2, 3, [4]], ValueError, "setting an array element with a sequence"),
        (np.zeros((4, 2)), ValueError, r"y should be a 1d array, got an array of shape \(4, 2\)"),
        (scipy.sparse.csr_array(np.eye(4)), TypeError, "Sparse data was passed"),
        (None, ValueError, "y should be a 1d array"),
        (set(Y), ValueError, "y should be a 1d array"),
        ([], ValueError, r"0 sample\(s\)"),
        (Y[:3], ValueError, r"inconsistent numbers of samples: \[4, 3\]"),
        ([1e308, 0, 0, 0], ValueError, r"y is too large.*1e\+308"),
        ([10**400, 0, 0, 0], ValueError, "Input y contains infinity or a value too large"),
        (np.array(Y, np.longdouble) * np.longdouble("1e400"), ValueError, "too large"),
    ],
)
def test_bad_targets_are_refused(y, error, message):
    # cases 35 to 44, 50
    with pytest.raises(error, match=message):
        check_target(y, X)


@pytest.mark.parametrize(
    "weights",
    [None, 1, 1.0, [1] * 4, np.ones(4, "f4"), pd.Series([1] * 4), pl.Series([1] * 4), [True] * 4],
    ids=lambda weights: f"{type(weights).__name__}",
)
def test_weights_of_one_are_ones(weights):
    # case 95
    assert_array_equal(check_weights(weights, X), np.ones(4))


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        ([-1, 1, 1, 1], ValueError, "Negative values in data passed to .sample_weight"),
        ([0, 0, 0, 0], ValueError, "Sample weights must contain at least one non-zero"),
        ([np.nan, 1, 1, 1], ValueError, "Input sample_weight contains NaN"),
        ([None, 1, 1, 1], ValueError, "Input sample_weight contains NaN"),
        ([pd.NA, 1, 1, 1], ValueError, "Input sample_weight contains NaN"),
        ([np.inf, 1, 1, 1], ValueError, "Input sample_weight contains infinity"),
        (np.ones(8), ValueError, r"sample_weight.shape == \(8,\), expected \(4,\)"),
        (np.ones((4, 2)), ValueError, "Sample weights must be 1D array or scalar"),
        (np.ones((4, 1)), ValueError, "Sample weights must be 1D array or scalar"),
        (["1"] * 4, ValueError, "sample_weight holds strings, such as '1'"),
        ("abc", ValueError, "sample_weight holds strings"),
        (np.ones(4, "m8[s]"), TypeError, "sample_weight holds datetime values"),
        (pd.Series([1] * 4, dtype="category"), ValueError, "sample_weight is categorical"),
        (np.ma.masked_array(np.ones(4), [1, 0, 0, 0]), ValueError, "has 1 masked values"),
        (np.ones(4) + 0j, ValueError, "Complex data not supported"),
        (np.full(4, 0.25), ValueError, "sample_weight sums to 1: a weight of 2 is the row twice"),
        (np.full(4, 1e300), ValueError, r"sample_weight sums to 4e\+300"),
        (np.full(4, 1e308), ValueError, "sample_weight sums to inf"),
    ],
)
def test_bad_weights_are_refused(weights, error, message):
    # cases 89, 90, 93, 94
    with pytest.raises(error, match=message):
        check_weights(weights, X)


@pytest.mark.parametrize(
    ("options", "good", "bad"),
    [
        (
            {"low": 1, "integer": True},
            [1, 10**6, np.int32(3)],
            [0, -1, 1.5, 1.0, "a", None, True, np.nan, [1]],
        ),
        (
            {"low": 0, "high": 1, "open_ends": True},
            [0.5, np.float32(0.1)],
            [0, 1, 1.0, -0.1, "0.5", np.nan, np.inf, True],
        ),
        ({"low": 0, "open_ends": True}, [1, 2.5], [0, -1, np.inf, np.nan]),
        ({"low": 1, "high": 20, "integer": True}, [1, 20], [0, 21]),
    ],
    ids=str,
)
def test_numbers_out_of_range_are_refused(options, good, bad):
    # case 98
    for value in good:
        check_number("name", value, **options)
    for value in bad:
        with pytest.raises(ValueError, match=r"'name' parameter must be an? (int|float) in the ra"):
            check_number("name", value, **options)


def test_number_message_shows_range_and_value():
    # case 98
    with pytest.raises(ValueError, match=r"in the range \[1, inf\). Got 0 instead"):
        check_number("n_draws", 0, low=1, integer=True)
    with pytest.raises(ValueError, match=r"in the range \(0, 1\). Got 1.0 instead"):
        check_number("target_accept", 1.0, low=0, high=1, open_ends=True)


@pytest.mark.parametrize("value", [0, 1, "yes", None])
def test_flags_are_booleans(value):
    check_flag("correlated", True)
    check_flag("correlated", np.bool_(False))
    with pytest.raises(ValueError, match=f"'correlated' .* True or False. Got {value!r}"):
        check_flag("correlated", value)


@pytest.mark.parametrize("value", ["c", None, 1, ["a"]])
def test_choices_are_listed(value):
    check_choice("level", "a", ("a", "b"))
    with pytest.raises(ValueError, match="'level' parameter must be one of 'a', 'b'"):
        check_choice("level", value, ("a", "b"))


@pytest.mark.parametrize(
    ("x_sd", "y_sd", "message"),
    [
        (1e-200, 1.0, "standard deviation of column 'a' of X, 1e-200, is too small"),
        (1.0, 1e-200, "standard deviation of y, 1e-200, is too small"),
        (1e-100, 1e100, "column 'a' of X, 1e-100, and of y, 1e.100, are too different"),
        (1e100, 1e-100, "too different"),
    ],
)
def test_scales_whose_squares_leave_float64_are_refused(x_sd, y_sd, message):
    # case 50
    with pytest.raises(ValueError, match=message):
        check_scales(["a"], np.array([x_sd]), y_sd)


@pytest.mark.parametrize(("x_sd", "y_sd"), [(0.0, 1.0), (1.0, 0.0), (1e-140, 1.0), (1e70, 1e-70)])
def test_scales_of_constants_and_of_physics_pass(x_sd, y_sd):
    check_scales(["a"], np.array([x_sd]), y_sd)


def test_weighted_median_is_the_median_of_repeated_rows():
    rng = np.random.default_rng(0)
    for n in range(1, 40):
        values, weights = rng.normal(size=n), rng.integers(1, 4, size=n)
        repeated = np.repeat(values, weights)
        assert weighted_median(values, weights.astype(float)) == np.median(repeated)


@pytest.mark.parametrize(
    ("values", "eps"),
    [
        (np.array(Y, "f4"), 2.0**-23),
        (np.array(Y, "f2"), 2.0**-10),
        (pd.Series(Y, dtype="float32"), 2.0**-23),
        (pd.Series(Y, dtype="Float32"), 2.0**-23),
        (pl.Series(Y, dtype=pl.Float32), 2.0**-23),
        (pa.array(Y, pa.float32()), 2.0**-23),
        (np.array(Y), 0.0),
        (np.array(Y, np.longdouble), 0.0),
        (Y, 0.0),
        ([np.float32(1)], 0.0),
        (np.arange(3), 0.0),
        (None, 0.0),
    ],
)
def test_relative_spacing_is_that_of_the_type(values, eps):
    assert relative_spacing(values) == eps


@pytest.mark.parametrize("mean", [1e9, -1e9, 2.0**30, 3.0, 70_000.0])
def test_coarse_numbers_are_those_whose_spacing_shows(mean):
    spacing = abs(float(np.spacing(np.float32(mean))))
    eps = 2.0**-23
    found = coarse_numbers("y", eps, mean, 29 * spacing)
    assert f"float32 numbers, which near {mean:.3g} are {spacing:.3g} apart" in found
    assert coarse_numbers("y", eps, mean, 31 * spacing) is None
    assert coarse_numbers("y", 0.0, mean, 1e-30) is None
    assert coarse_numbers("y", eps, 0.0, 1e-30) is None
    # rounding to multiples of s adds an sd of s / sqrt(12): a hundredth of the sd at the limit
    assert 1 / np.sqrt(12) / 30 < 0.01
