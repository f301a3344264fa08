"""Tables: what is read, what is refused, whatever the container."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse
from numpy.testing import assert_array_equal

from skhier.utils.features import read_features
from skhier.utils.frames import (
    as_table,
    column_names,
    columns_of,
    index_names,
    labels_of,
    with_columns_of_fit,
)

NUMBERS = [1.5, -2.0, 300.0]


def read(table, positions=(0,), names=("a",)):
    x, _ = read_features(columns_of(as_table(table)), 3, positions, names)
    return x


def label_column(table, position):
    return labels_of(columns_of(as_table(table))(position))


@pytest.mark.parametrize(
    "table",
    [
        pd.DataFrame({"a": NUMBERS, "g": list("xyz")}),
        pl.DataFrame({"a": NUMBERS, "g": list("xyz")}),
        pa.table({"a": NUMBERS, "g": list("xyz")}),
        [[a, g] for a, g in zip(NUMBERS, "xyz", strict=True)],
        np.array([NUMBERS, list("xyz")], object).T,
        np.array([NUMBERS, list("xyz")]).T,
    ],
    ids=["pandas", "polars", "pyarrow", "lists", "object", "strings"],
)
def test_tables_give_their_numbers_and_labels(table):
    # cases 11, 25, 79
    assert_array_equal(read(table)[:, 0], NUMBERS)
    assert_array_equal(label_column(table, 1), list("xyz"))


@pytest.mark.parametrize("dtype", ["M8[D]", "m8[s]", [("a", float)]])
def test_arrays_of_no_numbers_are_refused(dtype):
    # case 21
    with pytest.raises(TypeError, match="X has dtype"):
        as_table(np.zeros((3, 1), dtype))


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (np.arange(3.0), ValueError, "(?s)Expected 2D array, got 1D array.*Reshape your data"),
        (np.zeros((1, 2, 3)), ValueError, "Found array with dim 3"),
        (np.empty((0, 3)), ValueError, r"0 sample\(s\)"),
        (pd.DataFrame({"a": []}), ValueError, r"0 sample\(s\) \(shape=\(0, 1\)\)"),
        (pl.DataFrame({"a": []}), ValueError, r"0 sample\(s\)"),
        (np.empty((12, 0)), ValueError, r"0 feature\(s\) \(shape=\(\d*, 0\)\) while a minimum of"),
        (
            pd.DataFrame(index=range(12)),
            ValueError,
            r"0 feature\(s\) \(shape=\(\d*, 0\)\) while a minimum of",
        ),
        (scipy.sparse.csr_array(np.eye(3)), TypeError, "Sparse data was passed.*dense data is"),
        (np.eye(3) + 1j, ValueError, "Complex data not supported"),
        (np.full((3, 1), np.nan), ValueError, "Input X contains NaN"),
        (np.full((3, 1), np.inf), ValueError, "Input X contains infinity"),
        (np.array([[-np.inf], [np.inf]]), ValueError, "Input X contains infinity"),
        (np.ma.masked_greater(np.eye(3), 0.5), ValueError, "X has 3 masked values"),
        (pl.DataFrame({"a": NUMBERS}).lazy(), TypeError, "X is a lazy LazyFrame; collect it"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), ValueError, "more than one column named 'a'"),
        (3.0, ValueError, "Expected 2D array, got scalar array"),
        (None, ValueError, "Expected 2D array, got scalar array"),
    ],
)
def test_bad_tables_are_refused(X, error, message):
    # cases 1 to 6, 9, 10
    with pytest.raises(error, match=message):
        as_table(X)


def test_mask_without_masked_values_is_no_matter():
    X = np.ma.masked_array(np.eye(3), mask=False)
    assert_array_equal(read(X), np.eye(3)[:, :1])


def test_no_feature_columns_give_an_empty_block():
    # case 63
    assert read(pd.DataFrame({"g": list("xyz")}), (), ()).shape == (3, 0)
    assert read(np.eye(3), (), ()).shape == (3, 0)


@pytest.mark.parametrize(
    "column",
    [
        pd.Series(["u", "v", "u"], dtype=object),
        pd.Series(["u", "v", "u"]),
        pd.Series(["u", "v", "u"], dtype="string"),
        pd.Series(["u", "v", "u"], dtype=pd.ArrowDtype(pa.string())),
        pd.Series(["u", "v", "u"], dtype=pd.CategoricalDtype(["w", "v", "u"])),
        pl.Series(["u", "v", "u"]),
        pl.Series(["u", "v", "u"], dtype=pl.Categorical),
        pl.Series(["u", "v", "u"], dtype=pl.Enum(["w", "v", "u"])),
        pa.array(["u", "v", "u"]).dictionary_encode(),
    ],
    ids=lambda column: str(getattr(column, "dtype", "dictionary"))[:20],
)
def test_label_column_gives_the_values_of_every_string_type(column):
    # cases 77, 79
    frames = {"polars": pl.DataFrame, "pyarrow": pa.table}
    make = frames.get(type(column).__module__.split(".")[0], pd.DataFrame)
    labels = label_column(make({"g": column}), 0)
    assert labels.shape == (3,)
    assert labels.tolist() == ["u", "v", "u"]


def test_array_with_nan_names_its_columns():
    X = np.ones((4, 8))
    X[2, 1:] = np.nan
    X[3, 1] = np.inf
    message = r"contains NaN in 1 row of 4, the first at row 2. Columns: 'x1' \(1 row\).*and 2 more"
    for kind in (float, "f4", np.longdouble):
        with pytest.raises(ValueError, match=message):
            as_table(X.astype(kind))
    with pytest.raises(ValueError, match=r"contains infinity.*'x1' \(1 row\)\. Drop"):
        as_table(X[3:])


def test_columns_that_are_not_read_may_hold_anything():
    X = np.eye(3)
    X[:, 1] = [np.nan, np.inf, 1]
    assert as_table(X, [1])[0, 0] == 1
    X[0, 2] = np.nan
    with pytest.raises(ValueError, match=r"Input X contains NaN.*'x2'"):
        as_table(X, [1])


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table])
def test_columns_that_are_not_read_are_filled(make):
    names = ["g", "a", "h", "b", "i"]
    table = make({"a": NUMBERS, "b": NUMBERS})
    assert column_names(with_columns_of_fit(table, names, [4, 0, 2])) == names
    filled = with_columns_of_fit(table, names, [0, 2])
    assert column_names(filled) == names[:4]
    assert_array_equal(read(filled, (1, 3), "ab"), np.c_[NUMBERS, NUMBERS])
    assert type(filled) is type(table)
    for same in ([], [1], [3]):
        assert with_columns_of_fit(table, names, same) is table
    assert with_columns_of_fit(table, None, [0]) is table


def test_filled_columns_keep_the_index():
    table = pd.DataFrame({"a": NUMBERS}, index=list("zyx"))
    filled = with_columns_of_fit(table, ["g", "a"], [0])
    assert filled.index.tolist() == list("zyx")
    assert filled["a"].tolist() == NUMBERS


def test_index_names_are_those_of_pandas():
    table = pd.DataFrame({"a": NUMBERS})
    assert index_names(table) == index_names(np.eye(2)) == index_names(pl.from_pandas(table)) == []
    assert index_names(table.rename_axis("g")) == ["g"]
    assert index_names(None) == []
