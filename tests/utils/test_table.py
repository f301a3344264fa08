"""Tables: what is read, what is refused, whatever the container."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse
from numpy.testing import assert_array_equal

from skhier.utils.features import read_features
from skhier.utils.table import read_table, table_of

NUMBERS = [1.5, -2.0, 300.0]


def read(table, positions=(0,), names=("a",)):
    x, _ = read_features(read_table(table), positions, names)
    return x


def label_column(table, position):
    return read_table(table).column(position).labels


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
        read_table(np.zeros((3, 1), dtype))


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
        read_table(X)


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
            read_table(X.astype(kind))
    with pytest.raises(ValueError, match=r"contains infinity.*'x1' \(1 row\)\. Drop"):
        read_table(X[3:])


def test_columns_that_are_not_read_may_hold_anything():
    X = np.eye(3)
    X[:, 1] = [np.nan, np.inf, 1]
    assert read_table(X, [1]).native[0, 0] == 1
    X[0, 2] = np.nan
    with pytest.raises(ValueError, match=r"Input X contains NaN.*'x2'"):
        read_table(X, [1])


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table])
def test_columns_that_are_not_read_are_filled(make):
    names = ["g", "a", "h", "b", "i"]
    table = read_table(make({"a": NUMBERS, "b": NUMBERS}))
    every = table.with_columns_of_fit(names, [4, 0, 2])
    assert every.columns == list(table_of(every.native).columns) == names
    assert (every.n_rows, every.n_columns, every.lacking) == (3, 5, (0, 2, 4))
    filled = table.with_columns_of_fit(names, [0, 2])
    assert filled.columns == names[:4]
    assert_array_equal(read(filled.native, (1, 3), "ab"), np.c_[NUMBERS, NUMBERS])
    assert type(filled.native) is type(table.native)
    for same in ([], [1], [3]):
        assert table.with_columns_of_fit(names, same) is table
    assert table.with_columns_of_fit(None, [0]) is table


def test_filled_columns_keep_the_index():
    table = pd.DataFrame({"a": NUMBERS}, index=list("zyx"))
    filled = read_table(table).with_columns_of_fit(["g", "a"], [0]).native
    assert filled.index.tolist() == list("zyx")
    assert filled["a"].tolist() == NUMBERS


def test_index_names_are_those_of_pandas():
    table = pd.DataFrame({"a": NUMBERS})
    for unnamed in (table, np.eye(2), pl.from_pandas(table)):
        assert read_table(unnamed).index == []
    assert read_table(table.rename_axis("g")).index == ["g"]
